/**
 * Octet's calibration and conversion from a model file and a dataset to an int8 file, in a process of its own:
 * `contender.ts '{"model": …, "samples": …, "observer": …, "batch": …, "output": …}'`. Prints its figures as JSON.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { calibrate } from '../../packages/quant-core/src/calibrate/calibrate.js';
import { toQdq } from '../../packages/quant-core/src/convert/qdq.js';
import { batches } from '../../packages/quant-core/src/data/batches.js';
import { openDataset } from '../../packages/quant-core/src/data/dataset.js';
import type { SampleSpec } from '../../packages/quant-core/src/data/materialise.js';
import { OrtEngine } from '../../packages/quant-core/src/engine/ort/ort.js';
import { defaultLimits } from '../../packages/quant-core/src/events.js';
import { activationParams } from '../../packages/quant-core/src/fakequant/scales.js';
import { scalesOfWeights } from '../../packages/quant-core/src/fakequant/simulate.js';
import { writeOnnx } from '../../packages/quant-core/src/formats/onnx/write.js';
import { planFor, prepareModel } from '../../packages/quant-core/src/pipeline/model.js';
import { defaultRecipe } from '../../packages/quant-core/src/recipe.js';
import { peakMiB } from '../memory.js';
import { tapsOf } from '../models/prepare.js';
import type { PtqFigures, PtqOptions } from './options.js';

async function quantize({ model: path, samples, observer, batch, output }: PtqOptions, workDirectory: string): Promise<void> {
  const engine = new OrtEngine();
  const recipe = { ...defaultRecipe(), calibration: { ...defaultRecipe().calibration, observer } };
  const model = await prepareModel(path, defaultLimits, engine);
  const plan = planFor(model, recipe);
  const dataset = await openDataset(samples, {}, { workDirectory, limits: defaultLimits, fit: model.inputs[0] as SampleSpec });
  const order = Uint32Array.from({ length: dataset.size }, (_, i) => i);
  const calibration = { recipe, engine, threads: availableParallelism(), samples: order.length };
  const calibrated = await calibrate(model.graph, tapsOf(plan), batches(dataset, order, { batchSize: batch }), calibration);
  await dataset.close();
  const ranges = new Map([...calibrated].map(([name, { range }]) => [name, range]));
  const scales = {
    activations: activationParams(plan.groups, plan.activations, ranges),
    weights: scalesOfWeights(model.graph, plan, new Map()),
  };
  writeFileSync(output, writeOnnx(toQdq(model.graph, plan, scales).graph));
}

const directory = mkdtempSync(join(tmpdir(), 'octet-ptq-'));
try {
  const started = performance.now();
  await quantize(JSON.parse(process.argv[2] as string) as PtqOptions, directory);
  const figures: PtqFigures = {
    seconds: (performance.now() - started) / 1000,
    peakMiB: peakMiB(),
    version: `ONNX Runtime ${new OrtEngine().version}`,
  };
  console.log(JSON.stringify(figures));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
