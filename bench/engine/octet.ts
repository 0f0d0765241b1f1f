import { performance } from 'node:perf_hooks';
import type { Batch } from '../../packages/quant-core/src/data/dataset.js';
import type { Engine } from '../../packages/quant-core/src/engine/engine.js';
import type { LossSpec } from '../../packages/quant-core/src/tasks/loss.js';
import type { OptimizerSpec, Weights } from '../../packages/quant-core/src/train/optimizer.js';
import { packParameters, parameterLayout } from '../../packages/quant-core/src/train/parameters.js';
import { QuantState } from '../../packages/quant-core/src/train/state.js';
import { Stepper, shardsFor } from '../../packages/quant-core/src/train/stepper.js';
import { WeightScan } from '../../packages/quant-core/src/train/weightScan.js';
import { peakMiB } from '../memory.js';
import { median, randomTensor } from '../models/inputs.js';
import { batchSymbol } from '../models/net.js';
import { classes, networkOf } from '../models/networks.js';
import { defaultRecipe, prepare } from '../models/prepare.js';
import type { StepFigures, StepOptions } from './options.js';

const loss: LossSpec = {
  terms: [{ output: 'logits', kind: 'cross_entropy', axis: 1, distillationWeight: 0, weight: 1 }],
  temperature: 1,
};
const optimizer: OptimizerSpec = { kind: 'sgd', momentum: 0.9, weightDecay: 0 };
const learningRate = 0.01;

/**
 * Time training steps of a network in one of Octet's engines, the way `train` takes them: scales from the weights, the compiled step, the
 * update, its results fed back. Quantized means per-channel weights and all activations, observers running, as in the first epoch.
 */
export async function measureSteps(engine: Engine, options: StepOptions): Promise<StepFigures> {
  const { batch, threads, quantized, warmup, steps } = options;
  const { sample, build } = networkOf(options.network);
  const graph = build();
  const layout = parameterLayout(graph);
  // Any ranges do: on few samples, so that the peak of memory is that of training.
  const prepared = quantized ? await prepare(graph, defaultRecipe(), engine, 2) : undefined;
  const spec = { graph, batch, shards: shardsFor(batch), batchSymbol, layout, loss };
  const heads = [{ name: 'logits', width: classes, layout: { outer: 1, classes, inner: 1 }, row: [classes] }];
  const feeds = { input: 'x', loss, heads, task: 'classification' as const };
  const stepper = Stepper.create(engine, threads, prepared ? { ...spec, plan: prepared.plan } : spec, optimizer, feeds);
  const quant = prepared && new QuantState(prepared.plan, layout, stepper.observed, prepared.calibrated, new Map());
  const scan = prepared && (await WeightScan.create(engine, prepared.plan, layout, () => true));
  const data: Batch = { x: randomTensor([batch, ...sample], 7), labels: Int32Array.from({ length: batch }, (_, row) => row % classes) };
  const weights: Weights = { parameters: packParameters(graph, layout), optimizer: stepper.initialState() };
  const times: number[] = [];
  try {
    for (let step = 0; step < warmup + steps; step++) {
      const started = performance.now();
      const scales = quant
        ? { ...quant.activationFeeds(), ...quant.weightFeeds(weights.parameters, { found: await scan?.ranges(weights.parameters) }) }
        : {};
      const result = await stepper.step(data, [], weights, scales, learningRate, step + 1, {
        observe: quantized,
        statistics: 'running',
      });
      if (result.observed) quant?.observe(result.observed.min, result.observed.max);
      if (step >= warmup) times.push(performance.now() - started);
      if (!Number.isFinite(result.loss)) throw new Error(`the loss is not finite at step ${step}`);
    }
  } finally {
    await stepper.dispose();
    await scan?.dispose();
  }
  const stepMs = median(times);
  return { stepMs, imagesPerSecond: (1000 * batch) / stepMs, peakMiB: peakMiB(), version: `${engine.name} ${engine.version}` };
}
