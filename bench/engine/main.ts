/**
 * Images a second through one training step of ResNet-20: PyTorch eager and Octet, float and quantization-aware, taking turns in one run
 * so that a drift of the machine hits all of them.
 *
 *     npm run bench -- engine [--batch 64] [--threads 2] [--rounds 5] [--steps 12] [--python python3] [--append]
 */
import { parseArgs } from 'node:util';
import { OrtEngine } from '../../packages/quant-core/src/engine/ort/ort.js';
import { median } from '../models/inputs.js';
import { appendResults, machine, table } from '../results.js';
import { measureSteps, type StepFigures, type StepOptions } from './octet.js';
import { findPyTorch, measurePeer } from './peer.js';

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '64' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    warmup: { type: 'string', default: '3' },
    steps: { type: 'string', default: '12' },
    python: { type: 'string' },
    append: { type: 'boolean', default: false },
  },
});
const options = {
  batch: Number(values.batch),
  threads: Number(values.threads),
  warmup: Number(values.warmup),
  steps: Number(values.steps),
};
const rounds = Number(values.rounds);

const engine = new OrtEngine();
const python = findPyTorch(values.python);
if (!python) console.log('No Python with PyTorch was found (on Debian: apt-get install python3-torch); Octet is measured alone.');

interface Contender {
  name: string;
  measure: (options: StepOptions) => Promise<StepFigures>;
  quantized: boolean;
  rates: number[];
}

let peerVersion = '';
const peer = async (of: StepOptions): Promise<StepFigures> => {
  const figures = await measurePeer(python ?? '', of);
  peerVersion = figures.version;
  return figures;
};
const octet = (of: StepOptions): Promise<StepFigures> => measureSteps(engine, of);
const contenders: Contender[] = [false, true].flatMap((quantized) => [
  ...(python ? [{ name: 'PyTorch', measure: peer, quantized, rates: [] }] : []),
  { name: 'Octet', measure: octet, quantized, rates: [] },
]);

for (let round = 0; round < rounds; round++) {
  for (const contender of contenders) {
    const { imagesPerSecond } = await contender.measure({ ...options, quantized: contender.quantized });
    contender.rates.push(imagesPerSecond);
    const kind = contender.quantized ? 'QAT' : 'float';
    console.log(`round ${round + 1}/${rounds}  ${contender.name} ${kind}: ${imagesPerSecond.toFixed(0)} images/s`);
  }
}

const rate = (name: string, quantized: boolean): number | undefined => {
  const found = contenders.find((contender) => contender.name === name && contender.quantized === quantized);
  return found && median(found.rates);
};
const ratio = (over: number | undefined, under: number | undefined): string => (over && under ? (over / under).toFixed(2) : '–');
const rows = contenders.map(({ name, quantized, rates }) => [
  `${name} ${quantized ? 'QAT' : 'float'} step`,
  median(rates).toFixed(0),
  `${Math.min(...rates).toFixed(0)}–${Math.max(...rates).toFixed(0)}`,
]);
const lines = [
  table(['ResNet-20, one training step', `images/s, median of ${rounds}`, 'least–most'], rows),
  '',
  `Octet QAT ÷ PyTorch QAT (images/s): ${ratio(rate('Octet', true), rate('PyTorch', true))}. ` +
    `Time of a QAT step ÷ time of a float step: Octet ${ratio(rate('Octet', false), rate('Octet', true))}, ` +
    `PyTorch ${ratio(rate('PyTorch', false), rate('PyTorch', true))}.`,
];
console.log(`\n${lines.join('\n')}`);

if (values.append) {
  const versions = [`ONNX Runtime ${engine.version}`, ...(peerVersion ? [`${peerVersion}, eager, qnnpack, Conv+ReLU fused`] : [])];
  const command = `npm run bench -- engine --batch ${options.batch} --threads ${options.threads} --rounds ${rounds} --steps ${options.steps}`;
  appendResults({ title: 'Training step', command, machine: machine(), versions, body: lines.join('\n') });
}
