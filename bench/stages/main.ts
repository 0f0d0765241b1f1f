/**
 * Peak memory and seconds of every stage of a job, for networks of their published size on images of 224×224, random weights and images.
 *
 *     npm run bench -- stages [--network resnet18,mobilenetv2,mobilenetv3,vit-tiny] [--samples 320] [--batch 16] [--calibration 64] [--append]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeOnnx } from '../../packages/quant-core/src/formats/onnx/write.js';
import { defaultRecipe } from '../../packages/quant-core/src/recipe.js';
import { figuresOfNode } from '../children.js';
import { smoothImages } from '../models/inputs.js';
import { mobilenetv2, mobilenetv3, resnet18 } from '../models/photos.js';
import { vitTiny } from '../models/vit.js';
import { appendResults, machine, table } from '../results.js';
import type { StageFigures, StageOptions } from './options.js';

const networks = { resnet18, mobilenetv2, mobilenetv3, 'vit-tiny': vitTiny };
const titles = { resnet18: 'ResNet-18', mobilenetv2: 'MobileNetV2', mobilenetv3: 'MobileNetV3-Large', 'vit-tiny': 'ViT-tiny' };
type Name = keyof typeof networks;

const { values } = parseArgs({
  options: {
    network: { type: 'string', default: Object.keys(networks).join(',') },
    samples: { type: 'string', default: '320' },
    batch: { type: 'string', default: '16' },
    calibration: { type: 'string', default: '64' },
    append: { type: 'boolean', default: false },
  },
});
const base = defaultRecipe();
const recipe = {
  ...base,
  calibration: { ...base.calibration, samples: Number(values.calibration) },
  training: { ...base.training, epochs: 1, batchSize: Number(values.batch), learningRate: 0.001 },
};
const stages = ['load', 'baseline', 'calibrate', 'ptq', 'train', 'convert', 'evaluate', 'report'];

const mebibytes = (bytes: number | undefined) => (bytes === undefined ? '–' : String(Math.round(bytes / 2 ** 20)));
const rows: string[][] = [];
const versions = new Set<string>();
const directory = mkdtempSync(join(tmpdir(), 'octet-bench-'));
try {
  const dataset = join(directory, 'images.npz');
  writeFileSync(dataset, smoothImages(Number(values.samples), 224));
  for (const name of values.network.split(',') as Name[]) {
    const model = join(directory, `${name}.onnx`);
    writeFileSync(model, writeOnnx(networks[name]()));
    const options: StageOptions = { model, dataset, recipe };
    const figures = await figuresOfNode<StageFigures>('stages/contender.ts', [JSON.stringify(options)]);
    versions.add(figures.version);
    const { peakBytes, seconds, told } = figures;
    const others = Math.max(...stages.filter((stage) => stage !== 'train').map((stage) => peakBytes[stage] ?? 0));
    rows.push([
      `${titles[name]}, memory (MiB)`,
      ...stages.map((stage) => mebibytes(peakBytes[stage])),
      mebibytes(told.estimatedBytes ?? undefined),
      (others / (peakBytes.train ?? Number.NaN)).toFixed(2),
    ]);
    rows.push([
      `${titles[name]}, time (s)`,
      ...stages.map((stage) => seconds[stage]?.toFixed(1) ?? '–'),
      '–',
      ((seconds.evaluate ?? 0) / (seconds.train ?? Number.NaN)).toFixed(2),
    ]);
    console.log(
      rows
        .slice(-2)
        .map((row) => row.join('  '))
        .join('\n'),
    );
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
const body = table(['', ...stages, 'estimated', 'largest other (memory), evaluate (time) ÷ train'], rows);
console.log(`\n${body}`);
if (values.append)
  appendResults({
    title: 'Memory and time of every stage',
    command: `npm run bench -- stages ${process.argv.slice(2).join(' ')}`.trim(),
    machine: machine(),
    versions: [...versions],
    body,
  });
