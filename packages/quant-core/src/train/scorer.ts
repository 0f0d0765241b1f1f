import { batches } from '../data/batches.js';
import { type Batch, feedsOf } from '../data/dataset.js';
import type { Engine, Program, ShardedProgram } from '../engine/engine.js';
import { runRows } from '../engine/rows.js';
import type { Graph, Value } from '../ir/graph.js';
import type { Tensor } from '../tensor/tensor.js';
import { runShards } from './batch.js';
import { HoldoutScore } from './holdout.js';
import type { TrainInput } from './input.js';
import { type LossKind, lossOutput } from './loss.js';
import type { ParameterLayout } from './parameters.js';
import { buildForward } from './step.js';

/** Forward passes beside the training step: the teacher's logits, and the score on the held-out split. */
export class Scorer {
  private constructor(
    private readonly input: TrainInput,
    private readonly shards: number,
    private readonly inputName: string,
    private readonly forward: Lazy,
    private readonly teacher: Lazy | undefined,
  ) {}

  static create(input: TrainInput, layout: ParameterLayout, shards: number, inputName: string): Scorer {
    const { graph, plan, loss } = input;
    return new Scorer(
      input,
      shards,
      inputName,
      new Lazy(input, shards, () => buildForward(graph, layout, plan, loss.kind)),
      loss.distillationWeight > 0 ? new Lazy(input, shards, () => floatModel(graph, loss.kind)) : undefined,
    );
  }

  /** Logits (or values) of the float model for a batch; undefined when the loss does not distil. */
  async teach(batch: Batch): Promise<Float32Array | undefined> {
    return this.teacher && this.rows(this.teacher, batch, {});
  }

  /** Loss and metric of the fake-quant model on the held-out split, with the parameters and scales fed. */
  async score(feeds: Record<string, Tensor>): Promise<HoldoutScore> {
    const { input } = this;
    const score = new HoldoutScore(input.loss, input.width);
    const options = { batchSize: input.recipe.training.batchSize, ...(input.signal ? { signal: input.signal } : {}) };
    for await (const batch of batches(input.samples, input.holdoutIndices, options)) {
      const { labels, values } = batch;
      const teacher = await this.teach(batch);
      score.add(await this.rows(this.forward, batch, feeds), {
        ...(labels ? { labels } : {}),
        ...(values ? { values } : {}),
        ...(teacher ? { teacher } : {}),
      });
    }
    return score;
  }

  private async rows(lazy: Lazy, batch: Batch, feeds: Record<string, Tensor>): Promise<Float32Array> {
    const { fixedBatch } = this.input;
    const { program, output } = await lazy.compiled();
    const samples = feedsOf(this.inputName, batch);
    if (fixedBatch === undefined) return runShards(program, samples, output, this.shards, feeds);
    const single: Program = {
      run: async (own) => (await program.run([{ ...feeds, ...own }]))[0] as Record<string, Tensor>,
      dispose: () => program.dispose(),
    };
    return (await runRows(single, samples, [output], fixedBatch))[output] as Float32Array;
  }

  async dispose(): Promise<void> {
    await this.forward.dispose();
    await this.teacher?.dispose();
  }
}

/** A graph with the output that is wanted of it, compiled when it first is: scores are taken at the end of an epoch. */
class Lazy {
  private made: Promise<{ program: ShardedProgram; output: string }> | undefined;

  constructor(
    private readonly on: { engine: Engine; threads: number },
    private readonly shards: number,
    private readonly build: () => { graph: Graph; output: string },
  ) {}

  compiled(): Promise<{ program: ShardedProgram; output: string }> {
    this.made ??= this.compile();
    return this.made;
  }

  private async compile(): Promise<{ program: ShardedProgram; output: string }> {
    const { on, shards } = this;
    const { graph, output } = this.build();
    return { program: await on.engine.compileSharded(graph, { threads: on.threads, shards }), output };
  }

  async dispose(): Promise<void> {
    const made = await this.made?.catch(() => undefined);
    await made?.program.dispose();
  }
}

/** The float model up to what the loss is taken of. */
function floatModel(source: Graph, kind: LossKind): { graph: Graph; output: string } {
  const map = new Map<Value, Value>();
  const graph = source.clone(map);
  const logits = map.get(lossOutput(source.outputs[0] as Value, kind)) as Value;
  graph.outputs.splice(0, graph.outputs.length, logits);
  return { graph, output: logits.name };
}
