import { batches } from '../data/batches.js';
import { type Batch, feedsOf } from '../data/dataset.js';
import type { Engine, Program, ShardedProgram } from '../engine/engine.js';
import { runRows } from '../engine/rows.js';
import type { Graph, Value } from '../ir/graph.js';
import { type LossSpec, lossOutput } from '../tasks/loss.js';
import type { Tensor } from '../tensor/tensor.js';
import { runShards, type Teaching } from './batch.js';
import { HoldoutScore } from './holdout.js';
import type { TrainInput } from './input.js';
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
      new Lazy(input, shards, () => buildForward(graph, layout, plan, loss)),
      loss.terms.some((term) => term.distillationWeight > 0) ? new Lazy(input, shards, () => floatModel(graph, loss)) : undefined,
    );
  }

  /** What the float model says to a batch, for the terms of the loss that distil. */
  async teach(batch: Batch): Promise<Teaching> {
    if (!this.teacher) return [];
    const rows = await this.rows(this.teacher, batch, {});
    return rows.map((each, at) => (this.input.loss.terms[at]?.distillationWeight ? each : undefined));
  }

  /** Loss and metric of the fake-quant model on the held-out split, with the parameters and scales fed. */
  async score(feeds: Record<string, Tensor>): Promise<HoldoutScore> {
    const { input } = this;
    const { loss, heads, task, ignoreIndex } = input;
    const score = new HoldoutScore({ loss, heads, task, ignoreIndex });
    const options = { batchSize: input.recipe.training.batchSize, ...(input.signal ? { signal: input.signal } : {}) };
    for await (const batch of batches(input.samples, input.holdoutIndices, options)) {
      const teaching = await this.teach(batch);
      score.add(await this.rows(this.forward, batch, feeds), batch, teaching);
    }
    return score;
  }

  private async rows(lazy: Lazy, batch: Batch, feeds: Record<string, Tensor>): Promise<Float32Array[]> {
    const { fixedBatch } = this.input;
    const { program, outputs } = await lazy.compiled();
    const samples = feedsOf(this.inputName, batch);
    if (fixedBatch === undefined) return runShards(program, samples, outputs, this.shards, feeds);
    const single: Program = {
      run: async (own) => (await program.run([{ ...feeds, ...own }]))[0] as Record<string, Tensor>,
      dispose: () => program.dispose(),
    };
    const rows = await runRows(single, samples, outputs, fixedBatch);
    return outputs.map((output) => rows[output]?.data as Float32Array);
  }

  async dispose(): Promise<void> {
    await this.forward.dispose();
    await this.teacher?.dispose();
  }
}

/** A graph with the output that is wanted of it, compiled when it first is: scores are taken at the end of an epoch. */
class Lazy {
  private made: Promise<{ program: ShardedProgram; outputs: string[] }> | undefined;

  constructor(
    private readonly on: { engine: Engine; threads: number },
    private readonly shards: number,
    private readonly build: () => { graph: Graph; outputs: string[] },
  ) {}

  compiled(): Promise<{ program: ShardedProgram; outputs: string[] }> {
    this.made ??= this.compile();
    return this.made;
  }

  private async compile(): Promise<{ program: ShardedProgram; outputs: string[] }> {
    const { on, shards } = this;
    const { graph, outputs } = this.build();
    return { program: await on.engine.compileSharded(graph, { threads: on.threads, shards }), outputs };
  }

  async dispose(): Promise<void> {
    const made = await this.made?.catch(() => undefined);
    await made?.program.dispose();
  }
}

/** The float model up to what the loss is taken of. */
function floatModel(source: Graph, loss: LossSpec): { graph: Graph; outputs: string[] } {
  const map = new Map<Value, Value>();
  const graph = source.clone(map);
  const heads = loss.terms.map((term) => {
    const output = source.outputs.find((value) => value.name === term.output) as Value;
    return map.get(lossOutput(output, term.kind)) as Value;
  });
  graph.outputs.splice(0, graph.outputs.length, ...new Set(heads));
  return { graph, outputs: heads.map((head) => head.name) };
}
