import { calibrate } from '../../calibrate/calibrate.js';
import { batches } from '../../data/batches.js';
import type { Samples } from '../../data/dataset.js';
import { OrtEngine } from '../../engine/ort/ort.js';
import { planQuantization } from '../../fakequant/plan.js';
import type { Graph } from '../../ir/graph.js';
import { bindDims, inferShapes } from '../../ir/infer.js';
import type { FoldedNorm } from '../../normalise/foldBatchNorm.js';
import { normalise } from '../../normalise/index.js';
import { graphOf } from '../../normalise/testing/oracle.js';
import { defaultRecipe, type Recipe } from '../../recipe.js';
import { type LossHead, type LossSpec, lossHeads } from '../../tasks/loss.js';
import { lossSpec } from '../../tasks/testing/specs.js';
import { Random } from '../../tensor/random.js';
import { Tensor } from '../../tensor/tensor.js';
import type { TrainInput } from '../input.js';
import { type TrainEvent, type TrainResult, train } from '../train.js';

const engine = new OrtEngine();

const pixels = 64;

/** Images of 8×8 in two classes: bright on the left, bright on the right, with noise. The value is the brightness of the left. */
export function images(count: number, task: Samples['task'] = 'classification'): Samples {
  const random = new Random(21);
  const labels = Int32Array.from({ length: count }, (_, i) => i % 2);
  const x = Float32Array.from({ length: count * pixels }, (_, i) => {
    const left = i % 8 < 4;
    return 0.5 * random.normal() + (left === (labels[Math.floor(i / pixels)] === 0) ? 1 : 0);
  });
  const left = (sample: number) =>
    x.subarray(sample * pixels, (sample + 1) * pixels).reduce((sum, v, i) => sum + (i % 8 < 4 ? v : 0), 0) / 32;
  return {
    size: count,
    task,
    labels: task === 'classification' ? labels : undefined,
    batch: async (indices) => {
      const chosen = Array.from(indices);
      return {
        x: Tensor.float32(
          [chosen.length, 1, 8, 8],
          Float32Array.from(chosen.flatMap((i) => [...x.subarray(i * pixels, (i + 1) * pixels)])),
        ),
        ...(task === 'classification' ? { labels: Int32Array.from(chosen, (i) => labels[i] as number) } : {}),
        ...(task === 'regression' ? { values: Tensor.float32([chosen.length, 1], chosen.map(left)) } : {}),
      };
    },
  };
}

/** How large the random weights of each layer are. */
const sizes: Record<string, number> = { w1: 0.4, b1: 0.1, w2: 0.15, w3: 0.2, b3: 0.1 };

/** Conv (with 8 channels, so that blocked kernels take it), Relu, MaxPool, Gemm, and what stands at the end. */
export function smallNet(outputs = 2, tail = ''): Graph {
  const graph = graphOf(`graph small (x: float32[N, 1, 8, 8]) opset 18
    c = Conv(x, w1=float32[8, 1, 3, 3]#, b1=float32[8]#) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]} @conv
    r = Relu(c)
    d = Conv(r, w2=float32[8, 8, 3, 3]#) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]} @middle
    e = Relu(d)
    p = MaxPool(e) {kernel_shape=[4, 4], strides=[4, 4]}
    f = Flatten(p)
    h = Gemm(f, w3=float32[32, ${outputs}]#, b3=float32[${outputs}]#) @fc
    ${tail ? `${tail}\n    return y` : 'return h'}`);
  shrink(graph);
  return graph;
}

/** Random weights in the size that layers have. */
function shrink(graph: Graph): void {
  for (const value of graph.constants()) {
    const size = sizes[value.name];
    if (size && value.constant)
      value.constant = Tensor.float32(
        value.constant.shape,
        (value.constant.data as Float32Array).map((v) => v * size),
      );
  }
}

const norm = (at: number) =>
  `g${at}=float32[8]{1, -0.7, 1.3, 0.9, 1.1, -1.2, 0.8, 0.6}, e${at}=float32[8]{0.3, 0.1, 0, 0.5, 0.2, 0.4, -0.1, 0.6}, m${at}=float32[8]{0, 0.2, -0.3, 0.1, 0.4, 0, 0.2, -0.1}, v${at}=float32[8]{1.5, 2, 0.9, 1.2, 1, 3, 2.5, 0.7}`;

/** The small net with batch norm after its convolutions, in normal form, and the batch norms that were folded. */
export async function normedNet(): Promise<{ graph: Graph; norms: FoldedNorm[] }> {
  const graph = graphOf(`graph small (x: float32[N, 1, 8, 8]) opset 18
    c = Conv(x, w1=float32[8, 1, 3, 3]#, b1=float32[8]#) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]} @conv
    n = BatchNormalization(c, ${norm(1)}) {epsilon=1e-5}
    r = Relu(n)
    d = Conv(r, w2=float32[8, 8, 3, 3]#) {pads=[1, 1, 1, 1], kernel_shape=[3, 3]} @middle
    o = BatchNormalization(d, ${norm(2)}) {epsilon=1e-5}
    e = Relu(o)
    p = MaxPool(e) {kernel_shape=[4, 4], strides=[4, 4]}
    f = Flatten(p)
    h = Gemm(f, w3=float32[32, 2]#, b3=float32[2]#) @fc
    return h`);
  shrink(graph);
  return { norms: await normalise(graph), graph };
}

type Training = Partial<Recipe['training']>;

export interface Options {
  graph?: Graph;
  samples?: Samples;
  training?: Training;
  quantization?: Partial<Recipe['quantization']>;
  input?: Partial<TrainInput>;
}

/** What the terms of a loss are taken of, for one sample. */
export function headsOf(graph: Graph, loss: LossSpec): LossHead[] {
  const copy = graph.clone();
  bindDims(copy, { N: 1 });
  inferShapes(copy);
  return lossHeads(copy, loss);
}

/** A training job on 64 images, 16 of them held out, three epochs of batches of 16. */
export async function jobOf({
  graph = smallNet(),
  samples = images(64),
  training = {},
  quantization = {},
  input = {},
}: Options = {}): Promise<TrainInput> {
  const base = defaultRecipe();
  const recipe: Recipe = {
    ...base,
    quantization: { ...base.quantization, ...quantization },
    training: { ...base.training, epochs: 3, batchSize: 16, learningRate: 0.05, ...training },
  };
  const loss = input.loss ?? lossSpec(graph.outputs[0]?.name as string);
  const plan = planQuantization(graph, recipe);
  const all = Uint32Array.from({ length: samples.size }, (_, i) => i);
  const [trainIndices, holdoutIndices] = [all.subarray(0, samples.size - 16), all.subarray(samples.size - 16)];
  const taps = plan.activations.flatMap((point) =>
    point.repeats || plan.groups[point.group]!.fixed ? [] : [{ value: point.value, grid: plan.groups[point.group]!.grid }],
  );
  const calibration = { recipe, engine, threads: 1, samples: trainIndices.length };
  const calibrated = await calibrate(graph, taps, batches(samples, trainIndices, { batchSize: 16 }), calibration);
  return {
    graph,
    batchSymbol: 'N',
    plan,
    recipe,
    loss,
    heads: headsOf(graph, loss),
    task: samples.task,
    samples,
    trainIndices,
    holdoutIndices,
    calibrated,
    weightRanges: new Map(),
    engine,
    threads: 1,
    fingerprint: 'a job',
    checkpointPause: 0,
    ...input,
  };
}

export interface Finished {
  result: TrainResult;
  events: TrainEvent[];
}

/** Run a training to its end, or until `stop` says so. */
export async function finish(input: TrainInput, stop: (event: TrainEvent) => boolean = () => false): Promise<Finished> {
  const steps = train(input);
  const events: TrainEvent[] = [];
  for (;;) {
    const next = await steps.next();
    if (next.done) return { result: next.value, events };
    // The arrays of a checkpoint go on changing.
    events.push(structuredClone(next.value));
    if (stop(next.value)) {
      await steps.return(undefined as never);
      return { result: undefined as never, events };
    }
  }
}
