import { performance } from 'node:perf_hooks';
import type { Engine } from '../../packages/quant-core/src/engine/engine.js';
import { Tensor } from '../../packages/quant-core/src/tensor/tensor.js';
import { feedNames } from '../../packages/quant-core/src/train/forward.js';
import { type LossSpec, lossFeeds } from '../../packages/quant-core/src/train/loss.js';
import { learningRateFeeds, type OptimizerSpec, optimizerState } from '../../packages/quant-core/src/train/optimizer.js';
import { packParameters, parameterLayout } from '../../packages/quant-core/src/train/parameters.js';
import { QuantState } from '../../packages/quant-core/src/train/state.js';
import { buildTrainingStep, stepOutputs } from '../../packages/quant-core/src/train/step.js';
import { median, randomTensor } from '../models/inputs.js';
import { defaultRecipe, prepare } from '../models/prepare.js';
import { batchSymbol, resnet20 } from '../models/resnet20.js';

export interface StepOptions {
  batch: number;
  threads: number;
  quantized: boolean;
  warmup: number;
  steps: number;
}

export interface StepFigures {
  stepMs: number;
  imagesPerSecond: number;
}

const classes = 10;
const loss: LossSpec = { kind: 'cross_entropy', distillationWeight: 0, temperature: 1 };
const optimizer: OptimizerSpec = { kind: 'sgd', momentum: 0.9, weightDecay: 0 };

/**
 * Time training steps of ResNet-20 in Octet's engine, the way `train` runs them: scales of the weights, feeds, the compiled step, and its
 * results fed back. Quantized means per-channel weights and all activations, observers running, as in the first epoch.
 */
export async function measureSteps(engine: Engine, { batch, threads, quantized, warmup, steps }: StepOptions): Promise<StepFigures> {
  const graph = resnet20();
  const layout = parameterLayout(graph);
  const { plan, calibrated } = await prepare(graph, defaultRecipe(), engine, threads);
  const spec = { graph, batch, batchSymbol, layout, loss, optimizer, observe: true, clipWeights: false };
  const built = buildTrainingStep(quantized ? { ...spec, plan } : { ...spec, observe: false });
  const quant = quantized ? new QuantState(plan, layout, built.observed, calibrated, new Map()) : undefined;
  const target = new Float32Array(batch * classes);
  for (let row = 0; row < batch; row++) target[row * classes + (row % classes)] = 1;
  const fixed = {
    x: randomTensor([batch, 3, 32, 32], 7),
    [lossFeeds.target]: Tensor.float32([batch, classes], target),
  };
  const stateNames = optimizerState(optimizer.kind);
  let parameters: Float32Array = packParameters(graph, layout);
  let state: Float32Array[] = stateNames.map(() => new Float32Array(layout.size));
  const vector = (data: Float32Array): Tensor<'float32'> => Tensor.float32([data.length], data);
  const resultOf = (results: Record<string, Tensor>, name: string): Float32Array => {
    const tensor = results[name];
    if (!tensor) throw new Error(`the training step gave no ${name}`);
    return tensor.as('float32').data;
  };

  const program = await engine.compile(built.graph, { threads, mode: 'train' });
  const times: number[] = [];
  try {
    for (let step = 0; step < warmup + steps; step++) {
      const started = performance.now();
      const rates = learningRateFeeds(optimizer, 0.01, step + 1);
      const results = await program.run({
        ...fixed,
        ...quant?.activationFeeds(),
        ...quant?.weightFeeds(parameters),
        [feedNames.parameters]: vector(parameters),
        ...Object.fromEntries(stateNames.map((name, i) => [name, vector(state[i] as Float32Array)])),
        ...Object.fromEntries(Object.entries(rates).map(([name, value]) => [name, Tensor.scalar(value)])),
      });
      parameters = resultOf(results, stepOutputs.parameters);
      state = stateNames.map((name) => resultOf(results, stepOutputs.newState(name)));
      quant?.observe(resultOf(results, stepOutputs.minimum), resultOf(results, stepOutputs.maximum));
      if (step >= warmup) times.push(performance.now() - started);
      if (!Number.isFinite(resultOf(results, stepOutputs.loss)[0])) throw new Error(`the loss is not finite at step ${step}`);
    }
  } finally {
    await program.dispose();
  }
  const stepMs = median(times);
  return { stepMs, imagesPerSecond: (1000 * batch) / stepMs };
}
