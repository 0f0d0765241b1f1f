/**
 * Wall time from a float model to an int8 model by calibration: Octet and `onnxruntime.quantization.quantize_static` of Python, same model,
 * same samples, same batches, per-channel weights, each in a process of its own and in turns.
 *
 *     npm run bench -- ptq [--network resnet20,mobilenetv2] [--samples 512] [--batch 64] [--observer minmax,entropy,percentile]
 *                          [--rounds 3] [--python python3] [--append]
 *
 * The Python that has onnxruntime and onnx is given by --python or the environment variable PYTHON.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { writeOnnx } from '../../packages/quant-core/src/formats/onnx/write.js';
import { figuresOf, figuresOfNode, pathOf } from '../children.js';
import { median } from '../models/inputs.js';
import { networkNames, networkOf } from '../models/networks.js';
import { appendResults, machine, table } from '../results.js';
import { npzOf } from '../sets.js';
import type { PtqFigures, PtqOptions } from './options.js';

const { values } = parseArgs({
  options: {
    network: { type: 'string', default: 'resnet20,mobilenetv2' },
    samples: { type: 'string', default: '512' },
    batch: { type: 'string', default: '64' },
    observer: { type: 'string', default: 'minmax,entropy,percentile' },
    rounds: { type: 'string', default: '3' },
    python: { type: 'string', default: process.env.PYTHON ?? 'python3' },
    append: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const batch = Number(values.batch);

type Measured = PtqFigures & { process: number };

/** Figures of a contender with the time of its whole process. */
async function timed(run: () => Promise<PtqFigures>): Promise<Measured> {
  const started = performance.now();
  return { ...(await run()), process: (performance.now() - started) / 1000 };
}

const imports = spawnSync(values.python, ['-c', 'import onnxruntime.quantization'], { stdio: 'ignore' });
const peer = imports.status === 0;
if (!peer)
  console.log(
    `${values.python} cannot import onnxruntime.quantization (pip install onnxruntime onnx); Octet is measured alone. --python or PYTHON names another.`,
  );

const contenders: Record<string, (options: PtqOptions) => Promise<PtqFigures>> = {
  ...(peer
    ? {
        quantize_static: (o) => {
          const given = { model: o.model, samples: o.samples, method: o.observer, batch: String(o.batch), output: o.output };
          return figuresOf(values.python, [
            pathOf('peers/ptq.py'),
            ...Object.entries(given).flatMap(([key, value]) => [`--${key}`, value]),
          ]);
        },
      }
    : {}),
  Octet: (options) => figuresOfNode('ptq/contender.ts', [JSON.stringify(options)]),
};

const versions = new Set<string>();
const rows: string[][] = [];
const directory = mkdtempSync(join(tmpdir(), 'octet-bench-'));
try {
  for (const name of networkNames(values.network)) {
    const { title, sample, build } = networkOf(name);
    const [model, samples] = [join(directory, `${name}.onnx`), join(directory, `${name}.npz`)];
    writeFileSync(model, writeOnnx(build()));
    writeFileSync(samples, npzOf(Number(values.samples), sample));
    for (const observer of values.observer.split(',') as PtqOptions['observer'][]) {
      const measured: Record<string, Measured[]> = {};
      for (let round = 0; round < rounds; round++) {
        for (const [contender, run] of Object.entries(contenders)) {
          const output = join(directory, `${contender}.onnx`);
          const figures = await timed(() => run({ model, samples, observer, batch, output }));
          measured[contender] = [...(measured[contender] ?? []), figures];
          versions.add(figures.version);
          console.log(`${name} ${observer}  round ${round + 1}/${rounds}  ${contender}: ${figures.seconds.toFixed(2)} s`);
        }
      }
      const theirs = measured.quantize_static;
      for (const [contender, all] of Object.entries(measured)) {
        const of = (pick: (one: Measured) => number) => median(all.map(pick));
        const faster =
          contender === 'Octet' && theirs
            ? `${median(theirs.map((one, round) => one.seconds / (all[round] as Measured).seconds)).toFixed(1)}×`
            : '–';
        rows.push([
          `${title}, ${observer}, ${contender}`,
          of((one) => one.seconds).toFixed(2),
          faster,
          of((one) => one.process).toFixed(2),
          of((one) => one.peakMiB).toFixed(0),
        ]);
      }
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
const head = [
  `Calibration on ${values.samples} samples`,
  `file to file, s, median of ${rounds}`,
  'faster by',
  'with the start of the process, s',
  'peak memory, MiB',
];
const body = table(head, rows);
console.log(`\n${body}`);
if (values.append) {
  const command = `npm run bench -- ptq --network ${values.network} --samples ${values.samples} --batch ${batch} --observer ${values.observer} --rounds ${rounds}`;
  appendResults({ title: 'Quantization by calibration', command, machine: machine(), versions: [...versions], body });
}
