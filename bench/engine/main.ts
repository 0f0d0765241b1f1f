/**
 * Images a second through one training step, and peak memory: PyTorch eager and Octet, float and quantization-aware, every contender in a
 * process of its own, taking turns in one run so that a drift of the machine hits all of them.
 *
 *     npm run bench -- engine [--network all|resnet20,mobilenetv2,mlp,vit] [--batch 32,128] [--threads 2] [--rounds 5] [--steps 12]
 *                             [--warmup 3] [--python python3] [--tfjs] [--append]
 *
 * TF.js takes part where its native backend can be loaded, and with --tfjs on whatever backend there is.
 */
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { median } from '../models/inputs.js';
import { type NetworkName, networkNames, networkOf } from '../models/networks.js';
import { appendResults, machine, table } from '../results.js';
import type { StepFigures, StepOptions } from './options.js';
import { findPyTorch, measureOctet, measurePyTorch } from './processes.js';

const { values } = parseArgs({
  options: {
    network: { type: 'string', default: 'all' },
    batch: { type: 'string', default: '32,128' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    warmup: { type: 'string', default: '3' },
    steps: { type: 'string', default: '12' },
    python: { type: 'string' },
    tfjs: { type: 'boolean', default: false },
    append: { type: 'boolean', default: false },
  },
});
const names = networkNames(values.network);
const batches = values.batch.split(',').map(Number);
const rounds = Number(values.rounds);
const shared = { threads: Number(values.threads), warmup: Number(values.warmup), steps: Number(values.steps) };

/** Whether tfjs-node and its native part can be loaded. */
function nativeTfjs(): boolean {
  try {
    createRequire(import.meta.url)('@tensorflow/tfjs-node');
    return true;
  } catch {
    return false;
  }
}

const python = findPyTorch(values.python);
if (!python) console.log('No Python with PyTorch was found (on Debian: apt-get install python3-torch); Octet is measured alone.');

type Measure = (options: StepOptions) => Promise<StepFigures>;
const measures: Record<string, Measure> = {
  ...(python ? { PyTorch: (options) => measurePyTorch(python, options) } : {}),
  Octet: (options) => measureOctet('ort', options),
  ...(values.tfjs || nativeTfjs() ? { 'Octet in TF.js': (options) => measureOctet('tfjs', options) } : {}),
};
const versions = new Set<string>();

/** Figures of one contender, one for each round. */
interface Contender {
  name: string;
  quantized: boolean;
  rounds: StepFigures[];
}

/** All rounds of one network at one batch size. */
async function contest(network: NetworkName, batch: number): Promise<Contender[]> {
  const contenders = [false, true].flatMap((quantized) =>
    Object.keys(measures).map((name): Contender => ({ name, quantized, rounds: [] })),
  );
  for (let round = 0; round < rounds; round++) {
    for (const { name, quantized, rounds: done } of contenders) {
      const figures = await (measures[name] as Measure)({ ...shared, network, batch, quantized });
      done.push(figures);
      versions.add(figures.version);
      const rate = `${figures.imagesPerSecond.toFixed(0)} images/s, ${figures.peakMiB.toFixed(0)} MiB`;
      console.log(`${network} batch ${batch}  round ${round + 1}/${rounds}  ${name} ${quantized ? 'QAT' : 'float'}: ${rate}`);
    }
  }
  return contenders;
}

const middle = (contender: Contender, of: (figures: StepFigures) => number): number => median(contender.rounds.map(of));

/** Median over the rounds of the quotient of two contenders in the same round, so that a drift of the machine cancels. */
function ratio(over: Contender | undefined, under: Contender | undefined, of: (figures: StepFigures) => number): string {
  if (!over || !under) return '–';
  return median(over.rounds.map((figures, round) => of(figures) / of(under.rounds[round] as StepFigures))).toFixed(2);
}

/** The row of one contender in the table. */
function rowOf(network: NetworkName, batch: number, contender: Contender, all: readonly Contender[]): string[] {
  const other = (name: string, quantized: boolean) => all.find((one) => one.name === name && one.quantized === quantized);
  const rates = contender.rounds.map((figures) => figures.imagesPerSecond);
  const own = contender.name === 'PyTorch' ? undefined : contender;
  return [
    `${networkOf(network).title}, batch ${batch}, ${contender.name} ${contender.quantized ? 'QAT' : 'float'}`,
    `${median(rates).toFixed(0)} (${Math.min(...rates).toFixed(0)}–${Math.max(...rates).toFixed(0)})`,
    ratio(own, other('PyTorch', contender.quantized), (figures) => figures.imagesPerSecond),
    contender.quantized ? ratio(contender, other(contender.name, false), (figures) => figures.stepMs) : '–',
    middle(contender, (figures) => figures.peakMiB).toFixed(0),
    ratio(own, other('PyTorch', contender.quantized), (figures) => figures.peakMiB),
  ];
}

const head = [
  'One training step',
  `images/s, median of ${rounds} (least–most)`,
  '÷ PyTorch',
  'QAT step ÷ float step (time)',
  'peak memory, MiB',
  '÷ PyTorch',
];
const rows: string[][] = [];
for (const network of names) {
  for (const batch of batches) {
    const contenders = await contest(network, batch);
    const added = contenders.map((contender) => rowOf(network, batch, contender, contenders));
    rows.push(...added);
    console.log(`\n${table(head, added)}\n`);
  }
}
const body = [
  table(head, rows),
  '',
  'Quotients are medians over the rounds. Peak memory is that of the whole process. PyTorch is eager, with the qconfig of qnnpack and Conv+ReLU and Linear+ReLU fused.',
].join('\n');
console.log(`\n${body}`);

if (values.append) {
  const { threads, steps, warmup } = shared;
  const command = `npm run bench -- engine --network ${values.network} --batch ${values.batch} --threads ${threads} --rounds ${rounds} --warmup ${warmup} --steps ${steps}`;
  appendResults({ title: 'Training step', command, machine: machine(), versions: [...versions], body });
}
