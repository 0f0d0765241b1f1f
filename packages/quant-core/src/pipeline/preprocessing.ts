import type { MetricName } from '../choices.js';
import { batches, type IndexedBatch } from '../data/batches.js';
import type { Dataset } from '../data/dataset.js';
import type { Program } from '../engine/engine.js';
import { findClassOrder } from '../evaluate/classOrder.js';
import { collectOutputs } from '../evaluate/collect.js';
import { compareExpected, plainlyBetter, poorness } from '../evaluate/floatCheck.js';
import { metricValue } from '../evaluate/metrics.js';
import type { ModelOutputs } from '../evaluate/outputs.js';
import {
  causes,
  linearOf,
  orderTrials,
  type PresentReading,
  reread,
  scalingTrials,
  statisticsOf,
  type Trial,
} from '../evaluate/readings.js';
import type { Report } from '../report/schema.js';
import { Tensor } from '../tensor/tensor.js';
import { bestOf, bestOrder, contradicted, notAsExpected, readOtherwise, type Trials, type Tried } from './floatErrors.js';
import { inputName } from './inputs.js';
import { fileBatch } from './model.js';
import type { Work } from './work.js';

/** Samples that other readings are tried on. */
const mostSamples = 400;
/** Points of a metric that another reading must gain for a training to be refused. */
const refusedGain = 0.2;

/**
 * Whether the float model is what its owner trained, found out before anything is quantized. Where the stated value lies outside of the
 * measured interval, or where the model is poor for its kind, other readings of the samples are tried on at most 400 of them.
 * Throws FLOAT_NOT_AS_EXPECTED, FLOAT_CLASS_ORDER where another numbering of the classes is plainly better, FLOAT_READ_OTHERWISE where a
 * training would begin with samples that are plainly read wrongly.
 */
export async function checkFloat(on: Work, path: string, outputs: ModelOutputs, metric: MetricName): Promise<Report['baseline']> {
  const { recipe } = on.context.job;
  const [own] = outputs;
  if (own.task === 'unlabelled') return null;
  const { expectedFloat: expected } = recipe.evaluation;
  const none = { samples: 0, asConfigured: null, tried: [], better: null };
  if (expected !== undefined) {
    const measured = metricValue(metric, own, recipe.seed);
    const compared = compareExpected(metric, measured, expected);
    if (compared === 'as_expected') return { expected, poor: null, ...none };
    const order = compared === 'worse' ? findClassOrder(own) : null;
    const trials = compared === 'worse' ? await tryReadings(on, path, outputs, metric) : null;
    throw notAsExpected(on, metric, { measured, expected, samples: own.samples, compared }, order, trials);
  }
  const order = findClassOrder(own);
  if (order) throw contradicted(on, order, null);
  const poor = poorness(own);
  if (poor === null) return null;
  on.context.warn('FLOAT_POOR', `The float model ${poor}. Other readings of the samples are tried.`);
  const trials = await tryReadings(on, path, outputs, metric);
  if (!trials) return { expected: null, poor, ...none };
  const sound = trials.tried.filter((one) => one.poor === null && plainlyBetter(metric, trials.asConfigured, one.value));
  const better = bestOf(metric, sound) ?? null;
  const ordered = better ? undefined : bestOrder(trials.tried);
  if (ordered) throw contradicted(on, ordered.order, ordered.trial);
  if (better && recipe.method === 'qat' && Math.abs(better.value.value - trials.asConfigured.value) > refusedGain)
    throw readOtherwise(on, metric, poor, trials, better);
  return {
    expected: null,
    poor,
    samples: trials.samples,
    asConfigured: trials.asConfigured,
    tried: trials.tried.map(({ trial: { name, cause, config }, value }) => ({
      name,
      cause: causes[cause],
      ...value,
      config: short(config),
    })),
    better: better?.trial.name ?? null,
  };
}

/** A config without the lists that are too long to read. */
function short(config: Trial['config']): Trial['config'] {
  return config && [config.mean, config.std].some((value) => Array.isArray(value) && value.length > 16) ? null : config;
}

/** The float model under every other reading of some samples; null where the first input takes no scaled numbers, or there are several inputs. */
async function tryReadings(on: Work, path: string, like: ModelOutputs, metric: MetricName): Promise<Trials | null> {
  const { context, model, data } = on;
  const { seed } = context.job.recipe;
  const samples = data.evaluationSamples;
  const present = presentReading(samples);
  if (!present || model.inputs.length > 1) return null;
  const own = await statisticsOf(present, rowsOf(data.dataset, evenSample(data.train)));
  const indices = evenSample(data.evaluationIndices);
  const program = await context.engine.load(path, { threads: context.threads, mode: 'infer' });
  let done = 0;
  const scalings = scalingTrials(present, own);
  const total = scalings.length + 4;
  const run = async (trial: Trial | null) => {
    const outputs = await runReading(on, program, indices, like, present, trial);
    context.progress('baseline', ++done, total, 'runs');
    return { value: metricValue(metric, outputs[0], seed), order: findClassOrder(outputs[0]), poor: poorness(outputs[0]) };
  };
  try {
    const asConfigured = await run(null);
    const tried: Tried[] = [];
    for (const trial of scalings) tried.push({ trial, ...(await run(trial)) });
    const best = bestOf(metric, tried);
    // What is hardly better is chance: the order is then tried on the samples as they are configured.
    const on = best && plainlyBetter(metric, asConfigured.value, best.value) ? best.trial : null;
    for (const trial of orderTrials(present, on)) tried.push({ trial, ...(await run(trial)) });
    return { samples: indices.length, asConfigured: asConfigured.value, tried };
  } finally {
    await program.dispose();
  }
}

/** At most 400 of the samples, evenly spread. */
function evenSample(indices: Uint32Array): Uint32Array {
  const n = Math.min(mostSamples, indices.length);
  return Uint32Array.from({ length: n }, (_, i) => indices[Math.floor((i * indices.length) / n)] as number);
}

async function* rowsOf(dataset: Dataset, indices: Uint32Array): AsyncGenerator<Float32Array> {
  for await (const { x } of batches(dataset, indices, { batchSize: 16 })) yield x.data as Float32Array;
}

async function runReading(
  { context, model, data }: Work,
  program: Program,
  indices: Uint32Array,
  like: ModelOutputs,
  present: PresentReading,
  trial: Trial | null,
): Promise<ModelOutputs> {
  const { signal, job } = context;
  const order = batches(data.evaluationSamples, indices, { batchSize: job.recipe.evaluation.batchSize, ...(signal ? { signal } : {}) });
  async function* read(): AsyncGenerator<IndexedBatch> {
    for await (const batch of order) {
      const { x } = batch;
      yield trial ? { ...batch, x: new Tensor('float32', x.shape, reread(present, trial, x.data as Float32Array)) } : batch;
    }
  }
  const fixedBatch = fileBatch(model);
  return collectOutputs(
    program,
    read(),
    { input: inputName(model), outputs: data.assignment.outputs },
    { like, ignoreIndex: data.ignoreIndex, ...(fixedBatch === undefined ? {} : { fixedBatch }), ...context.abortable },
  );
}

/** How samples are read now; null for inputs that take no scaled numbers. */
function presentReading({ reading, summary }: Dataset): PresentReading | null {
  if (reading.dtype !== 'float32') return null;
  const { shape, scaling, order } = reading;
  const channels = channelsOf(shape, order === 'same' ? scaling : { ...scaling, axis: order === 'lastToFirst' ? 'first' : 'last' });
  return {
    shape,
    channels,
    linear: linearOf({ ...scaling, mean: [...scaling.mean], std: [...scaling.std] }, channels?.count ?? 1),
    bytes: summary.dtype === 'uint8',
    range: summary.range,
    moved: order !== 'same',
  };
}

/** Features of a vector, or the channels of an image. */
function channelsOf(
  shape: readonly number[],
  { mean, std, axis }: { mean: number[]; std: number[]; axis: 'first' | 'last' },
): PresentReading['channels'] {
  const several = Math.max(mean.length, std.length);
  const [first, last] = [shape[0] as number, shape.at(-1) as number];
  if (shape.length === 1) return { axis: 'first', count: first };
  if (several > 1) return { axis, count: several };
  if (shape.length !== 3) return null;
  const isChannels = (size: number) => size === 1 || size === 3 || size === 4;
  if (isChannels(first)) return { axis: 'first', count: first };
  return isChannels(last) ? { axis: 'last', count: last } : null;
}
