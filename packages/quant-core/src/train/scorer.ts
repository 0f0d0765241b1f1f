import { batches } from '../data/batches.js';
import { type Batch, feedsOf } from '../data/dataset.js';
import type { Program, ShardedProgram } from '../engine/engine.js';
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
    private readonly forward: { program: ShardedProgram; output: string },
    private readonly teacher: { program: ShardedProgram; output: string } | undefined,
  ) {}

  static async create(input: TrainInput, layout: ParameterLayout, shards: number, inputName: string): Promise<Scorer> {
    const { engine, threads } = input;
    const forward = buildForward(input.graph, layout, input.plan, input.loss.kind);
    const compile = (graph: Graph) => engine.compileSharded(graph, { threads, shards });
    const program = await compile(forward.graph);
    const teacher = input.loss.distillationWeight > 0 ? floatModel(input.graph, input.loss.kind) : undefined;
    return new Scorer(
      input,
      shards,
      inputName,
      { program, output: forward.output },
      teacher && { program: await compile(teacher.graph), output: teacher.output },
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

  private async rows(
    { program, output }: { program: ShardedProgram; output: string },
    batch: Batch,
    feeds: Record<string, Tensor>,
  ): Promise<Float32Array> {
    const { fixedBatch } = this.input;
    const samples = feedsOf(this.inputName, batch);
    if (fixedBatch === undefined) return runShards(program, samples, output, this.shards, feeds);
    const single: Program = {
      run: async (own) => (await program.run([{ ...feeds, ...own }]))[0] as Record<string, Tensor>,
      dispose: () => program.dispose(),
    };
    return (await runRows(single, samples, [output], fixedBatch))[output] as Float32Array;
  }

  async dispose(): Promise<void> {
    await this.forward.program.dispose();
    await this.teacher?.program.dispose();
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
