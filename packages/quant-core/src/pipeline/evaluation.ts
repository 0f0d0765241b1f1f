import { feedsOf, type Samples } from '../data/dataset.js';
import { mostOptimizedNodes, type Program } from '../engine/engine.js';
import { type Choice, chooseBetter, type HoldoutFigures, holdoutFigures, memoryAllowance } from '../evaluate/choose.js';
import { collectOutputs } from '../evaluate/collect.js';
import { hasInt8Dot, readCpu } from '../evaluate/cpu.js';
import { measureLatency } from '../evaluate/latency.js';
import { type MetricName, metricValue, resolveMetric } from '../evaluate/metrics.js';
import type { Outputs } from '../evaluate/outputs.js';
import { leastParity, parityOf } from '../evaluate/parity.js';
import { inspectRuntime } from '../evaluate/runtime.js';
import type { Stage } from '../events.js';
import { exactArithmetic } from '../fakequant/exact.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { countNodes } from '../formats/onnx/count.js';
import type { ReportInput } from '../report/build.js';
import type { Report } from '../report/schema.js';
import { evaluationBatch } from './batchSize.js';
import type { Candidate } from './candidates.js';
import type { Context } from './context.js';
import { evaluationBatches, type JobData } from './data.js';
import { inputName } from './inputs.js';
import type { PreparedModel } from './model.js';

const int16Max = 2 ** 15 - 1;

/** Threads that latency is measured with: what a small device has to spare. */
const latencyThreads = 1;

/** Time for the profile of the int8 model, ms; what is under way is finished. */
const profileMs = 1000;

/** Time for latency: a quarter of what training took, between 2 and 10 seconds. */
const latencySeconds = ({ seconds }: Context) => Math.min(10, Math.max(2, (seconds.train ?? 40) / 4));

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
    const outputs = await collectOutputs(
      program,
      evaluationBatches(samples, indices, evaluationBatch(context, model, data, model.graph), context.signal),
      { input: inputName(model), output: model.output },
      {
        task: data.task,
        ...(this.kind ? { kind: this.kind } : {}),
        ...(model.fixedBatch === undefined ? {} : { fixedBatch: model.fixedBatch }),
        onProgress: (done) => context.progress(stage, done, indices.length, 'samples'),
        ...context.abortable,
      },
    );
    this.kind = outputs.kind;
    return outputs;
  }

  /** The same for a model file, in the form a user's session has. */
  async collectFile(path: string, samples: Samples, indices: Uint32Array, stage: Stage, threads = this.context.threads): Promise<Outputs> {
    const { engine } = this.context;
    const program = await engine.load(path, { threads, mode: 'infer' });
    try {
      return await this.collect(program, samples, indices, stage);
    } finally {
      await program.dispose();
    }
  }

  /**
   * Where this processor's default int8 kernels saturate and the model's grids let them, tell what they make of it: other
   * sessions here run with exact sums, as every other processor computes them.
   */
  async warnOfSaturation(candidate: Candidate, plan: QuantPlan, exact: Outputs, metric: MetricName): Promise<void> {
    const cpu = readCpu();
    const full = plan.weights.filter(
      (point) => 2 * Math.max(point.grid.qmax, -point.grid.qmin) * Math.max(...plan.groups.map((group) => group.grid.qmax)) > int16Max,
    );
    const { engine, threads } = this.context;
    const measurable = process.arch === 'x64' && hasInt8Dot(cpu) === false && 'onnxruntime' in engine.versions;
    if (!full.length || !measurable) return;
    const program = await engine.load(candidate.path, { threads, mode: 'infer', saturatingIntegers: true });
    try {
      const outputs = await this.collect(program, this.data.evaluationSamples, this.data.evaluationIndices, 'evaluate');
      const { top1Agreement: agreed, maxAbsDifference } = parityOf(exact, outputs);
      // The kernel may saturate by its grids, and on these samples it does not.
      if (maxAbsDifference === 0) return;
      const [here, there] = [outputs, exact].map((one) => metricValue(metric, one, { reference: exact, seed: 0 }).value);
      this.context.warn(
        'SATURATES_WITHOUT_VNNI',
        `On an x86 processor without VNNI, as this one, a session with default options gives ${metric} ${here?.toFixed(4)} instead of ${there?.toFixed(4)} (${(100 * agreed).toFixed(2)} % agreement): its 8-bit kernel saturates. Use the target "onnxruntime" or weights.reduceRange for such processors, or set the session option session.x64quantprecision to 1. The figures of this report are those of exact sums.`,
      );
    } finally {
      await program.dispose();
    }
  }

  metric(float: Outputs): MetricName {
    return resolveMetric(this.context.job.recipe.evaluation.metric, this.data.task, float);
  }

  /** PTQ or QAT, by what each does on the held-out split of the training data. */
  async choose(
    metric: MetricName,
    float: { path: string; outputs: Outputs },
    ptq: Candidate,
    qat: Candidate | undefined,
  ): Promise<Choice & { samples: number; ptq: number; qat: number | null }> {
    const { dataset, holdout } = this.data;
    // On one thread: the choice must not hang on the last bit of a float sum.
    const outputs = (path: string) => this.collectFile(path, dataset, holdout, 'evaluate', 1);
    const known = await outputs(float.path);
    const figures = async (candidate: Candidate): Promise<HoldoutFigures> => holdoutFigures(metric, await outputs(candidate.path), known);
    const of = { ptq: await figures(ptq), qat: qat ? await figures(qat) : null };
    const measured = (own: Outputs) => ({ metric: holdoutFigures(metric, own, own).metric, samples: own.samples });
    const allowance = memoryAllowance(metric, measured(known), measured(float.outputs));
    return { ...chooseBetter(metric, of.ptq, of.qat, allowance), samples: holdout.length, ptq: of.ptq.metric, qat: of.qat?.metric ?? null };
  }

  /** Simulation against artifact on the evaluation samples. */
  async parity(candidate: Candidate, artifact: Outputs): Promise<Report['parity']> {
    const { engine, threads } = this.context;
    const program = await engine.compile(exactArithmetic(candidate.simulation), { threads, mode: 'train' });
    const { model } = this;
    try {
      const simulated = await collectOutputs(
        program,
        evaluationBatches(
          this.data.evaluationSamples,
          this.data.evaluationIndices,
          evaluationBatch(this.context, model, this.data, candidate.simulation),
          this.context.signal,
        ),
        { input: inputName(model), output: model.output },
        {
          task: this.data.task,
          kind: artifact.kind,
          ...(model.locked ? { fixedBatch: model.fixedBatch as number } : {}),
          ...this.context.abortable,
        },
      );
      const parity = parityOf(simulated, artifact);
      if (parity.top1Agreement < leastParity)
        this.context.warn(
          'PARITY_LOW',
          `Simulation and artifact agree on ${(100 * parity.top1Agreement).toFixed(2)} % of the samples only.`,
        );
      return parity;
    } finally {
      await program.dispose();
    }
  }

  /** Latency of both models and what the runtime makes of the int8 one. */
  async speed(floatPath: string, int8Path: string): Promise<Pick<ReportInput, 'latency' | 'runtime'>> {
    const { context, model } = this;
    const { engine, job } = context;
    const { evaluationSamples, evaluationIndices } = this.data;
    // Samples and no random numbers: token ids and masks must make sense.
    const feeds = async (batch: number) =>
      feedsOf(
        inputName(model),
        await evaluationSamples.batch(
          Uint32Array.from({ length: batch }, (_, i) => evaluationIndices[i % evaluationIndices.length] as number),
        ),
      );
    const nodes = countNodes(int8Path);
    if (nodes > mostOptimizedNodes)
      context.warn(
        'NOT_OPTIMIZED',
        `The int8 model has ${nodes} nodes. Above ${mostOptimizedNodes} it is run without the optimizer of the runtime, which would take minutes: it was measured in float kernels between Q/DQ pairs, and latency says nothing of int8 speed.`,
      );
    const options = { threads: latencyThreads, mode: 'infer' } as const;
    const [float, int8] = [await engine.load(floatPath, options), await engine.load(int8Path, options)];
    try {
      const latency = await measureLatency({
        float,
        int8,
        feeds,
        runs: job.recipe.evaluation.latencyRuns,
        ...(model.fixedBatch === undefined ? {} : { fixedBatch: model.fixedBatch }),
        largestBatch: evaluationBatch(context, model, this.data, model.graph),
        budgetSeconds: latencySeconds(context),
        onProgress: (done, total) => context.progress('evaluate', done, total, 'runs'),
        ...context.abortable,
      });
      const runtime = await inspectRuntime({
        engine,
        path: int8Path,
        threads: latencyThreads,
        feeds: await feeds(model.fixedBatch ?? 1),
        directory: job.workDirectory,
        budgetMs: profileMs,
      });
      return {
        latency: { ...latency, threads: latencyThreads },
        runtime: { name: engine.name, version: engine.version, ...runtime },
      };
    } finally {
      await float.dispose();
      await int8.dispose();
    }
  }
}
