import type { Program } from '../engine/engine.js';
import { type Choice, chooseBetter, type HoldoutFigures, holdoutFigures } from '../evaluate/choose.js';
import { collectOutputs } from '../evaluate/collect.js';
import { measureLatency } from '../evaluate/latency.js';
import { type MetricName, resolveMetric } from '../evaluate/metrics.js';
import type { Outputs } from '../evaluate/outputs.js';
import { leastParity, parityOf } from '../evaluate/parity.js';
import { inspectRuntime } from '../evaluate/runtime.js';
import type { Samples } from '../data/dataset.js';
import type { Stage } from '../events.js';
import type { LatencyFigures, Report } from '../report/schema.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import type { Candidate } from './candidates.js';
import type { Context } from './context.js';
import { evaluationBatches, type JobData } from './data.js';
import type { PreparedModel } from './model.js';

/** Threads that latency is measured with: what a small device has to spare. */
const latencyThreads = 1;

/** Runs models of one job over its samples. */
export class Evaluator {
  private kind: Outputs['kind'] | undefined;

  constructor(
    private readonly context: Context,
    private readonly model: PreparedModel,
    private readonly data: JobData,
  ) {}

  /** What a program says about some samples. */
  async collect(program: Program, samples: Samples, indices: Uint32Array, stage: Stage): Promise<Outputs> {
    const { context, model, data } = this;
    const outputs = await collectOutputs(program, evaluationBatches(samples, indices, context.job.recipe.evaluation.batchSize, context.signal), { input: model.input.name, output: model.output }, {
      task: data.task,
      ...(this.kind ? { kind: this.kind } : {}),
      ...(model.fixedBatch === undefined ? {} : { fixedBatch: model.fixedBatch }),
      onProgress: (done) => context.progress(stage, done, indices.length, 'samples'),
      ...context.abortable,
    });
    this.kind = outputs.kind;
    return outputs;
  }

  /** The same for a model file, in the form a user's session has. */
  async collectFile(path: string, samples: Samples, indices: Uint32Array, stage: Stage): Promise<Outputs> {
    const { engine, threads } = this.context;
    const program = await engine.load(path, { threads, mode: 'infer' });
    try {
      return await this.collect(program, samples, indices, stage);
    } finally {
      await program.dispose();
    }
  }

  metric(float: Outputs): MetricName {
    return resolveMetric(this.context.job.recipe.evaluation.metric, this.data.task, float);
  }

  /** PTQ or QAT, by what each does on the held-out split of the training data. */
  async choose(metric: MetricName, floatPath: string, ptq: Candidate, qat: Candidate | undefined): Promise<Choice & { samples: number; ptq: number; qat: number | null }> {
    const { dataset, holdout } = this.data;
    const float = await this.collectFile(floatPath, dataset, holdout, 'evaluate');
    const figures = async (candidate: Candidate): Promise<HoldoutFigures> => holdoutFigures(metric, await this.collectFile(candidate.path, dataset, holdout, 'evaluate'), float);
    const of = { ptq: await figures(ptq), qat: qat ? await figures(qat) : null };
    return { ...chooseBetter(metric, of.ptq, of.qat), samples: holdout.length, ptq: of.ptq.metric, qat: of.qat?.metric ?? null };
  }

  /** Simulation against artifact on the evaluation samples. */
  async parity(candidate: Candidate, artifact: Outputs): Promise<Report['parity']> {
    const { engine, threads } = this.context;
    const program = await engine.compile(candidate.simulation, { threads, mode: 'train' });
    const { model } = this;
    try {
      const simulated = await collectOutputs(program, evaluationBatches(this.data.evaluationSamples, this.data.evaluationIndices, this.context.job.recipe.evaluation.batchSize, this.context.signal), { input: model.input.name, output: model.output }, {
        task: this.data.task,
        kind: artifact.kind,
        ...(model.locked ? { fixedBatch: model.fixedBatch as number } : {}),
        ...this.context.abortable,
      });
      const parity = parityOf(simulated, artifact);
      if (parity.top1Agreement < leastParity) this.context.warn('PARITY_LOW', `Simulation and artifact agree on ${(100 * parity.top1Agreement).toFixed(2)} % of the samples only.`);
      return parity;
    } finally {
      await program.dispose();
    }
  }

  /** Latency of both models and what the runtime makes of the int8 one. */
  async speed(floatPath: string, int8Path: string): Promise<{ latency: { float: LatencyFigures; int8: LatencyFigures; threads: number }; runtime: Report['runtime'] }> {
    const { context, model } = this;
    const { engine, job } = context;
    const shape = this.data.dataset.sampleShape;
    const random = Random.for(job.recipe.seed, 'latency');
    const feeds = (batch: number) => ({ [model.input.name]: Tensor.float32([batch, ...shape], new Float32Array(batch * sizeOf(shape)).map(() => random.uniform())) });
    const options = { threads: latencyThreads, mode: 'infer' } as const;
    const [float, int8] = [await engine.load(floatPath, options), await engine.load(int8Path, options)];
    try {
      const { float: floatFigures, int8: int8Figures } = await measureLatency({
        float,
        int8,
        feeds,
        runs: job.recipe.evaluation.latencyRuns,
        ...(model.fixedBatch === undefined ? {} : { fixedBatch: model.fixedBatch }),
        budgetSeconds: 10,
        onProgress: (done, total) => context.progress('evaluate', done, total, 'runs'),
        ...context.abortable,
      });
      const runtime = await inspectRuntime({ engine, path: int8Path, threads: latencyThreads, feeds: feeds(model.fixedBatch ?? 1), directory: job.workDirectory });
      return { latency: { float: floatFigures, int8: int8Figures, threads: latencyThreads }, runtime: { name: engine.name, version: engine.version, ...runtime } };
    } finally {
      await float.dispose();
      await int8.dispose();
    }
  }
}
