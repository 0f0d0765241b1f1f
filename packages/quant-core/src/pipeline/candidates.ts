import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CalibratedRange, calibrate, calibrationBatch } from '../calibrate/calibrate.js';
import { toQdq } from '../convert/qdq.js';
import { batches } from '../data/batches.js';
import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { activationParams, bestWeightClip, type WeightRange } from '../fakequant/scales.js';
import { planWeights, type ScaleTable, scalesOfWeights, simulate } from '../fakequant/simulate.js';
import { addMetadata } from '../formats/onnx/metadata.js';
import { writeOnnx } from '../formats/onnx/write.js';
import type { Dim, Graph } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { show } from '../ir/shapes/rule.js';
import type { Range } from '../tensor/affine.js';
import { sizeOf } from '../tensor/tensor.js';
import { octetVersion } from '../version.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { graphBatch, type PreparedModel, restoreBatch } from './model.js';
import type { Work } from './work.js';

/** One int8 model: its file, the graph it was made from, and the simulation that it has to equal. */
export interface Candidate {
  path: string;
  bytes: number;
  /** The float network that the layers are compared with. */
  float: Graph;
  simulation: Graph;
  artifact: Graph;
  table: ScaleTable;
  ranges: ReadonlyMap<string, Range>;
}

/** Activations whose ranges have to be observed, each with its grid. */
function observedTaps(plan: QuantPlan) {
  return plan.activations.flatMap((point) => {
    const group = plan.groups[point.group] as QuantPlan['groups'][number];
    return group.fixed || point.repeats ? [] : [{ value: point.value, grid: group.grid }];
  });
}

/** Batch size of calibration, and the samples it takes in their order. */
export function calibrationOrder(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  data: JobData,
): { batchSize: number; order: Uint32Array } {
  const { recipe } = context.job;
  const values = new Map(model.graph.values().map((value) => [value.name, value]));
  const perSample = observedTaps(plan).reduce(
    (sum, tap) => sum + sizeOf((values.get(tap.value)?.shape ?? []).slice(1).map((dim) => (typeof dim === 'number' ? dim : 1))),
    0,
  );
  const fixed = graphBatch(model);
  const batchSize = fixed ?? calibrationBatch(recipe.calibration.batchSize, perSample);
  const order =
    fixed === undefined ? data.calibration : data.calibration.subarray(0, data.calibration.length - (data.calibration.length % fixed));
  if (!order.length)
    throw new OctetError(
      'CONFIG_IMPOSSIBLE',
      `The model takes ${batchSize} samples at a time, calibration has ${data.calibration.length}`,
      { pointer: '/calibration/samples' },
    );
  return { batchSize, order };
}

/** Observe the ranges of all activations on the calibration samples. */
export async function calibrateModel(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  data: JobData,
): Promise<Map<string, CalibratedRange>> {
  const { engine, threads, job } = context;
  const taps = observedTaps(plan);
  const { batchSize, order } = calibrationOrder(context, model, plan, data);
  return calibrate(model.graph, taps, batches(data.dataset, order, { batchSize, ...context.abortable }), {
    recipe: job.recipe,
    engine,
    threads,
    samples: order.length,
    whole: model.batch.kind === 'locked',
    onProgress: (done) => context.progress('calibrate', done, order.length, 'samples'),
  });
}

/** Below 8 bits the range of weights is cut where that lowers the squared error. */
export function weightRangesFor(graph: Graph, plan: QuantPlan): Map<string, WeightRange> {
  const tensors = planWeights(graph, plan);
  return new Map(
    plan.weights.flatMap((point, index) =>
      point.bits < 8 && point.grid.symmetric
        ? [[point.value, { share: bestWeightClip(tensors[index] as NonNullable<(typeof tensors)[number]>, point) }] as const]
        : [],
    ),
  );
}

/** What an int8 model is made from. */
export interface CandidateSource {
  /** File name, without ending. */
  name: 'ptq' | 'qat';
  /** In normal form, with the weights that are quantized. */
  float: Graph;
  /** Of the activations. */
  ranges: ReadonlyMap<string, Range>;
  weightRanges: ReadonlyMap<string, WeightRange>;
  /** The network that its layers are compared with; `float` when left out. */
  reference?: Graph;
}

/** Convert a float network with its ranges and write it. Throws PARITY_BROKEN when the interface of the file is not that of the model. */
export async function exportCandidate({ context, model, data }: Work, plan: QuantPlan, source: CandidateSource): Promise<Candidate> {
  const { name, float, ranges, weightRanges, reference = float } = source;
  const wanted: ScaleTable = {
    activations: activationParams(plan.groups, plan.activations, ranges),
    weights: scalesOfWeights(float, plan, weightRanges),
  };
  const { graph: artifact, notes, table } = toQdq(float, plan, wanted);
  for (const note of notes) context.warn('WEIGHT_SCALE_RAISED', `${note.node}: ${note.text}`, { node: note.node });
  const simulation = simulate(float, plan, table);
  restoreBatch(artifact, model);
  checkInterface(model.original, artifact);
  keepDeclaredSizes(model.original, artifact);
  addMetadata(artifact, descriptionOf(context, model, data));
  const bytes = writeOnnx(artifact);
  const path = join(context.job.workDirectory, `${name}.onnx`);
  await writeFile(path, bytes);
  return { path, bytes: bytes.byteLength, float: reference, simulation, artifact, table, ranges };
}

/** What the file says of itself. Only what the numbers depend on: threads, latency runs and the gate leave the bytes as they are. */
function descriptionOf({ job }: Context, { source }: PreparedModel, { dataset }: JobData): Record<string, string> {
  const { method, target, quantization, calibration, training, seed } = job.recipe;
  const { scale, offset, mean, std, layout } = job.dataset.config;
  const preprocessing = canonical({ scale, offset, mean, std, layout });
  const { classNames } = dataset.summary;
  return {
    version: octetVersion,
    recipe: canonical({ method, target, quantization, calibration, training, seed }),
    'float.sha256': source.sha256,
    ...(preprocessing === '{}' ? {} : { preprocessing }),
    ...(classNames ? { classes: JSON.stringify(classNames) } : {}),
  };
}

/** JSON with the keys of every object in order: a recipe that has been through a database has them in another. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_key, entry: unknown) =>
    entry !== null && typeof entry === 'object' && !Array.isArray(entry)
      ? Object.fromEntries(Object.entries(entry).sort(([a], [b]) => (a < b ? -1 : 1)))
      : entry,
  );

/**
 * Sizes that the file declares of its outputs where a formula over the open sizes of its inputs follows, as exporters write the size they traced with:
 * right or wrong, they are part of the interface.
 */
function keepDeclaredSizes(original: Graph, artifact: Graph): void {
  for (const [index, { type, declared }] of original.outputs.entries()) {
    const value = artifact.outputs[index];
    const shape = value?.shape;
    if (!value?.type || !declared?.shape || !shape || shape.length !== declared.shape.length) continue;
    const sizes = declared.shape.map((size, axis) =>
      typeof size === 'number' && typeof type?.shape?.[axis] === 'string' ? size : (shape[axis] as Dim),
    );
    value.type = { ...value.type, shape: sizes };
  }
}

/** The int8 model must drop in where the float one was: same names, types and dimensions. */
function checkInterface(original: Graph, artifact: Graph): void {
  inferShapes(artifact);
  for (const side of ['inputs', 'outputs'] as const) {
    original[side].forEach((value, index) => {
      const other = artifact[side][index];
      const fixed = (value.shape ?? []).every((dim, axis) => typeof dim !== 'number' || other?.shape?.[axis] === dim);
      if (other?.name !== value.name || other.dtype !== value.dtype || !fixed) {
        throw new OctetError(
          'PARITY_BROKEN',
          `The ${side.slice(0, -1)} ${value.name} (${value.dtype}, ${show(value.shape)}) became ${other?.name} (${other?.dtype}, ${show(other?.shape)})`,
          { tensor: value.name },
        );
      }
    });
  }
}
