/** Measures one contender of Octet in a process of its own and prints its figures as JSON: `contender.ts ort|tfjs '{"network": …}'`. */
import { OrtEngine } from '../../packages/quant-core/src/engine/ort/ort.js';
import { TfjsEngine } from '../../packages/quant-core/src/engine/tfjs/tfjs.js';
import { measureSteps } from './octet.js';
import type { StepOptions } from './options.js';

const [engine, options] = process.argv.slice(2) as [string, string];
const figures = await measureSteps(engine === 'tfjs' ? await TfjsEngine.create() : new OrtEngine(), JSON.parse(options) as StepOptions);
console.log(JSON.stringify(figures));
// Threads of the runtime need not hold the process open.
process.exit(0);
