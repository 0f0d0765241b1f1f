import { isDeepStrictEqual } from 'node:util';
import type { Engine, ShardedProgram } from '../engine/engine.js';
import type { Graph } from '../ir/graph.js';
import { Tensor } from '../tensor/tensor.js';
import type { TrainingBatch } from './augment.js';
import { type BatchFeedSpec, shardFeeds, type Teaching } from './batch.js';
import { type NormPoint, normNames, type Statistics } from './batchNorm.js';
import { feedNames } from './forward.js';
import { Optimizer, type OptimizerSpec, type Weights } from './optimizer.js';
import { buildTrainingStep, type StepSpec, stepOutputs } from './step.js';

/** What one step gives. */
export interface StepResult {
  loss: number;
  /** Gradient by every learned scale; absent where none is. */
  scaleGradient?: Float32Array;
  /** Range of every observed activation over the batch; absent where the step does not observe. */
  observed?: { min: Float32Array; max: Float32Array };
  /** Mean and variance of the batch by channel, of all batch norms that normalise by it; absent where none does. */
  statistics?: { mean: Float32Array; variance: Float32Array };
}

/** Which form of the step is run: whether it reports the ranges of activations, and what kept batch norms normalise by. */
export interface StepForm {
  observe: boolean;
  statistics: Statistics;
}

/**
 * How many parts a batch is split into: a matter of the recipe alone, never of the machine, because the sum of the parts'
 * gradients depends on it in the last bit. Two parts on two threads are faster than one part on two threads.
 */
export function shardsFor(batch: number): 1 | 2 {
  return batch >= 8 && batch % 2 === 0 ? 2 : 1;
}

/** What the steps of a run have in common; batch and shards together give the samples of one part. */
export interface StepperSpec extends Omit<StepSpec, 'observe' | 'batch' | 'norms'> {
  batch: number;
  shards: 1 | 2;
  /** Batch norms that come after their layers. */
  norms?: readonly NormPoint[];
}

const stepSpec = ({ norms, ...spec }: StepperSpec, { observe, statistics }: StepForm): StepSpec => ({
  ...spec,
  batch: spec.batch / spec.shards,
  observe,
  ...(norms?.length ? { norms: { points: norms, statistics } } : {}),
});

/** Runs compiled training steps: the gradient of every shard, then one update. */
export class Stepper {
  private program: ShardedProgram | undefined;
  private form: StepForm | undefined;

  private constructor(
    private readonly engine: Engine,
    private readonly threads: number,
    private readonly spec: StepperSpec,
    private readonly optimizer: Optimizer,
    private readonly feeds: BatchFeedSpec,
    /** Names of the observed activations, in the order of `StepResult.observed`. */
    readonly observed: readonly string[],
    /** Names of the trained tensors that get no gradient, and stay what they are. */
    readonly unreached: readonly string[],
    /** The step that was built to know these names; as a rule it is the first one that runs. */
    private built: { form: StepForm; graph: Graph } | undefined,
  ) {}

  static create(engine: Engine, threads: number, spec: StepperSpec, optimizer: OptimizerSpec, feeds: BatchFeedSpec): Stepper {
    const form: StepForm = { observe: true, statistics: 'running' };
    const { observed, unreached, graph } = buildTrainingStep(stepSpec(spec, form));
    const update = new Optimizer(optimizer, spec.layout, unreached);
    return new Stepper(engine, threads, spec, update, feeds, observed, unreached, { form, graph });
  }

  /** Fresh optimizer state. */
  initialState(): Float32Array[] {
    return this.optimizer.initialState();
  }

  /** Compile the step in a form, where it is not yet. */
  async prepare(form: StepForm): Promise<void> {
    await this.compiled({ ...form, observe: form.observe && this.observed.length > 0 });
  }

  /** One step on a batch, which changes `weights`: `number` counts from 1. */
  async step(
    batch: TrainingBatch,
    teaching: Teaching,
    weights: Weights,
    scales: Record<string, Tensor>,
    learningRate: number,
    number: number,
    form: StepForm,
  ): Promise<StepResult> {
    const { shards } = this.spec;
    const program = await this.compiled({ ...form, observe: form.observe && this.observed.length > 0 });
    const shared = { ...scales, [feedNames.parameters]: Tensor.float32([weights.parameters.length], weights.parameters) };
    const parts = await program.run(shardFeeds(this.feeds, batch, teaching, shards).map((feeds) => ({ ...feeds, ...shared })));
    const loss = parts.reduce((sum, part) => sum + (part[stepOutputs.loss]?.data[0] as number), 0) / shards;
    const gradients = parts.map((part) => part[stepOutputs.gradient]?.data as Float32Array);
    this.optimizer.update(weights, gradients as [Float32Array, Float32Array?], learningRate, number);
    return {
      loss,
      ...(parts[0]?.[stepOutputs.scaleGradient] ? { scaleGradient: meanOf(parts, stepOutputs.scaleGradient) } : {}),
      ...(this.form?.observe ? { observed: joinRanges(parts) } : {}),
      ...(parts[0]?.[normNames.batchMean]
        ? { statistics: { mean: meanOf(parts, normNames.batchMean), variance: meanOf(parts, normNames.batchVariance) } }
        : {}),
    };
  }

  private async compiled(form: StepForm): Promise<ShardedProgram> {
    if (this.program && isDeepStrictEqual(this.form, form)) return this.program;
    await this.program?.dispose();
    this.program = undefined;
    const { spec, built } = this;
    this.built = undefined;
    const { graph } = built && isDeepStrictEqual(built.form, form) ? built : buildTrainingStep(stepSpec(spec, form));
    this.program = await this.engine.compileSharded(graph, { threads: this.threads, shards: spec.shards });
    this.form = form;
    return this.program;
  }

  async dispose(): Promise<void> {
    await this.program?.dispose();
  }
}

/** A result averaged over all parts of a batch, summed in their order. */
function meanOf(parts: readonly Record<string, Tensor>[], name: string): Float32Array {
  const all = parts.map((part) => part[name]?.data as Float32Array);
  return (all[0] as Float32Array).map((_, i) => all.reduce((sum, part) => sum + (part[i] as number), 0) / all.length);
}

/** Range over all parts of a batch. */
function joinRanges(parts: readonly Record<string, Tensor>[]): { min: Float32Array; max: Float32Array } {
  const of = (name: string) => parts.map((part) => part[name]?.data as Float32Array);
  const [mins, maxs] = [of(stepOutputs.minimum), of(stepOutputs.maximum)];
  return {
    min: (mins[0] as Float32Array).map((_, i) => mins.reduce((a, part) => Math.min(a, part[i] as number), Number.POSITIVE_INFINITY)),
    max: (maxs[0] as Float32Array).map((_, i) => maxs.reduce((a, part) => Math.max(a, part[i] as number), Number.NEGATIVE_INFINITY)),
  };
}
