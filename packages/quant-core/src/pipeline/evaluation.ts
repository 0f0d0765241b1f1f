import type { MetricName } from '../choices.js';
import { batches } from '../data/batches.js';
import { feedsOf, type Samples } from '../data/dataset.js';
import { mostOptimizedNodes, type Program } from '../engine/engine.js';
import { type Choice, chooseBetter, type HoldoutFigures, holdoutFigures, memoryAllowance } from '../evaluate/choose.js';
import { type CollectOptions, collectOutputs } from '../evaluate/collect.js';
import { hasInt8Dot, readCpu } from '../evaluate/cpu.js';
import { measureLatency } from '../evaluate/latency.js';
import { measureOf } from '../evaluate/metrics.js';
import type { ModelOutputs, Outputs } from '../evaluate/outputs.js';
import { parityIsBroken, parityOf } from '../evaluate/parity.js';
import { inspectRuntime } from '../evaluate/runtime.js';
import type { Stage } from '../events.js';
import { exactArithmetic } from '../fakequant/exact.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { countNodes } from '../formats/onnx/count.js';
import type { Graph } from '../ir/graph.js';
import type { ReportInput } from '../report/build.js';
import type { Report } from '../report/schema.js';
import { evaluationBatch } from './batchSize.js';
import type { Candidate } from './candidates.js';
import type { Context } from './context.js';
import { inputName } from './inputs.js';
import { layerRows } from './layers.js';
import { fileBatch, graphBatch } from './model.js';
import type { Work } from './work.js';

/** Which samples a model is run over, and what is done with its outputs. */
interface Asked {
  samples: Samples;
  indices: Uint32Array;
  stage: Stage;
  /** The outputs of another model for the same samples, to compare with. */
  reference?: ModelOutputs | undefined;
  /** Keep all outputs, to compare others with. */
  keep?: boolean;
  /** Batch size that the program is fixed to. */
  fixedBatch: number | undefined;
  /** What the program runs, where that is not as large as the float model. */
  graph?: Graph;
}

const int16Max = 2 ** 15 - 1;

/** The simulation is slow: up to so many samples are compared however few were trained on. */
const leastCompared = 1000;

/** Time for the profile of the int8 model, ms; what is under way is finished. */
const profileMs = 1000;

/** Time for latency: a quarter of what training took, between 2 and 10 seconds. */
const latencySeconds = ({ seconds }: Context) => Math.min(10, Math.max(2, (seconds.train ?? 40) / 4));

/** Threads that latency is measured with: what a small device has to spare. */
const latencyThreads = 1;

async function collect({ context, model, data }: Work, program: Program, asked: Asked): Promise<ModelOutputs> {
  const { job } = context;
  const { samples, indices, stage, reference, keep, fixedBatch, graph = model.graph } = asked;
  const options: CollectOptions = {
    ...(reference ? { reference } : {}),
    ...(keep ? { keepRowsIn: job.workDirectory } : {}),
    ignoreIndex: data.ignoreIndex,
    ...(fixedBatch === undefined ? {} : { fixedBatch }),
    onProgress: (done) => context.progress(stage, done, indices.length, 'samples'),
    ...context.abortable,
  };
  const order = batches(samples, indices, { batchSize: evaluationBatch(context, model, data, graph), ...context.abortable });
  return collectOutputs(program, order, { input: inputName(model), outputs: data.assignment.outputs }, options);
}

/** What a model file says to some samples, in the form a user's session has. */
async function collectFile(on: Work, path: string, asked: Omit<Asked, 'fixedBatch'>, threads = on.context.threads): Promise<ModelOutputs> {
  const program = await on.context.engine.load(path, { threads, mode: 'infer' });
  try {
    return await collect(on, program, { ...asked, fixedBatch: fileBatch(on.model) });
  } finally {
    await program.dispose();
  }
}

/** What a model file says to the evaluation samples; its rows are kept. */
export function evaluateFile(on: Work, path: string, stage: Stage, reference?: ModelOutputs): Promise<ModelOutputs> {
  const { evaluationSamples: samples, evaluationIndices: indices } = on.data;
  return collectFile(on, path, { samples, indices, stage, reference, keep: true });
}

/** Free what was kept of outputs. */
function release(outputs: ModelOutputs | null | undefined): void {
  for (const one of outputs ?? []) one.rows?.close();
}

/**
 * Where this processor's default int8 kernels saturate and the model's grids let them, tell what they make of it: other
 * sessions here run with exact sums, as every other processor computes them.
 */
async function warnOfSaturation(on: Work, candidate: Candidate, plan: QuantPlan, exact: ModelOutputs, metric: MetricName): Promise<void> {
  const { context, data } = on;
  const { engine, threads } = context;
  const cpu = readCpu();
  const full = plan.weights.filter(
    (point) => 2 * Math.max(point.grid.qmax, -point.grid.qmin) * Math.max(...plan.groups.map((group) => group.grid.qmax)) > int16Max,
  );
  const measurable = process.arch === 'x64' && hasInt8Dot(cpu) === false && 'onnxruntime' in engine.versions;
  if (!full.length || !measurable) return;
  const program = await engine.load(candidate.path, { threads, mode: 'infer', saturatingIntegers: true });
  try {
    const { evaluationSamples: samples, evaluationIndices: indices } = data;
    const [there] = exact;
    const [here] = await collect(on, program, { samples, indices, stage: 'evaluate', reference: exact, fixedBatch: fileBatch(on.model) });
    const distance = measureOf('relative_error', here).value();
    const figures = there.comparison.positions
      ? `${(100 * measureOf('agreement', here).value()).toFixed(2)} % agreement`
      : `${(100 * distance).toFixed(2)} % relative error`;
    if (distance === 0) return;
    const labelled = metric !== 'agreement' && here.losses !== null;
    const values = labelled
      ? `${metric} ${measureOf(metric, here).value().toFixed(4)} instead of ${measureOf(metric, there).value().toFixed(4)} (${figures})`
      : `other outputs (${figures})`;
    context.warn(
      'SATURATES_WITHOUT_VNNI',
      `On an x86 processor without VNNI, as this one, a session with default options gives ${values}: its 8-bit kernel saturates. Use the target "onnxruntime" or weights.reduceRange for such processors, or set the session option session.x64quantprecision to 1. The figures of this report are those of exact sums.`,
    );
  } finally {
    await program.dispose();
  }
}

/** PTQ or QAT, and the figures that decided. */
interface Chosen extends Choice {
  samples: number;
  ptq: number;
  qat: number | null;
}

/** PTQ or QAT, by what each does on the held-out split of the training data. */
async function chooseCandidate(
  on: Work,
  metric: MetricName,
  float: { path: string; outputs: ModelOutputs },
  ptq: Candidate,
  qat: Candidate | undefined,
): Promise<Chosen> {
  const { dataset, holdout } = on.data;
  const asked = { samples: dataset, indices: holdout, stage: 'evaluate' as const };
  // On one thread: the choice must not depend on the last bit of a float sum.
  const known = await collectFile(on, float.path, { ...asked, keep: true }, 1);
  try {
    const figures = async ({ path }: Candidate): Promise<HoldoutFigures> =>
      holdoutFigures(metric, await collectFile(on, path, { ...asked, reference: known }, 1));
    const of = { ptq: await figures(ptq), qat: qat ? await figures(qat) : null };
    const measured = ([own]: ModelOutputs) => ({ metric: measureOf(metric, own).value(), samples: own.samples });
    const allowance = memoryAllowance(metric, measured(known), measured(float.outputs));
    return { ...chooseBetter(metric, of.ptq, of.qat, allowance), samples: holdout.length, ptq: of.ptq.metric, qat: of.qat?.metric ?? null };
  } finally {
    release(known);
  }
}

/** Simulation against artifact on the evaluation samples, no more of them than an epoch of training has where those are many. */
async function checkParity(on: Work, candidate: Candidate, plan: QuantPlan, artifact: ModelOutputs): Promise<Report['parity']> {
  const { context, data, model } = on;
  const program = await context.engine.compile(exactArithmetic(candidate.simulation), { threads: context.threads, mode: 'train' });
  try {
    const { evaluationSamples: samples } = data;
    const indices = data.evaluationIndices.subarray(0, Math.max(leastCompared, data.train.length));
    const simulated = await collect(on, program, {
      samples,
      indices,
      stage: 'evaluate',
      reference: artifact,
      fixedBatch: graphBatch(model),
      graph: candidate.simulation,
    });
    const parity = parityOf(simulated, artifact, outputSteps(candidate, plan, artifact));
    if (parityIsBroken(parity))
      context.warn('PARITY_LOW', `Simulation and artifact agree on ${(100 * parity.agreement).toFixed(2)} % of the samples only.`);
    return parity;
  } finally {
    await program.dispose();
  }
}

/** The scale that each output is quantized with; null where it is computed in float. */
function outputSteps({ table }: Candidate, plan: QuantPlan, outputs: ModelOutputs): (number | null)[] {
  return outputs.map(({ output }: Outputs) => {
    const point = plan.activations.find((one) => one.value === output.name);
    return point ? (table.activations[point.group]?.scale ?? null) : null;
  });
}

/** Latency of both models and what the runtime makes of the int8 one. */
async function measureSpeed(
  { context, model, data }: Work,
  floatPath: string,
  int8Path: string,
): Promise<Pick<ReportInput, 'latency' | 'runtime'>> {
  const { engine, job } = context;
  const { evaluationSamples, evaluationIndices } = data;
  const fixedBatch = fileBatch(model);
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
      ...(fixedBatch === undefined ? {} : { fixedBatch }),
      largestBatch: evaluationBatch(context, model, data, model.graph),
      budgetSeconds: latencySeconds(context),
      onProgress: (done, total) => context.progress('evaluate', done, total, 'runs'),
      ...context.abortable,
    });
    const runtime = await inspectRuntime({
      engine,
      path: int8Path,
      threads: latencyThreads,
      feeds: await feeds(fixedBatch ?? 1),
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

/** The float model of a job: its file, what it says to the evaluation samples, and what it is judged by. */
export interface FloatModel {
  path: string;
  outputs: ModelOutputs;
  metric: MetricName;
}

/** The candidate that is returned, and everything that was measured of it. */
export interface Evaluated extends Pick<ReportInput, 'choice' | 'outputs' | 'parity' | 'layers' | 'latency' | 'runtime'> {
  chosen: Candidate;
}

/** Choose between the candidates and measure the one that is returned: accuracy, parity, layers, speed. */
export async function evaluateCandidates(
  on: Work,
  plan: QuantPlan,
  float: FloatModel,
  ptq: Candidate,
  qat: Candidate | undefined,
): Promise<Evaluated> {
  const { metric } = float;
  const choice = await chooseCandidate(on, metric, float, ptq, qat);
  const of = (path: string) => evaluateFile(on, path, 'evaluate', float.outputs);
  const outputs = { float: float.outputs, ptq: await of(ptq.path), qat: qat ? await of(qat.path) : null };
  const chosen = choice.from === 'qat' && qat ? qat : ptq;
  const own = (choice.from === 'qat' && outputs.qat) || outputs.ptq;
  const parity = await checkParity(on, chosen, plan, own);
  await warnOfSaturation(on, chosen, plan, own, metric);
  for (const one of Object.values(outputs)) release(one);
  const layers = await layerRows(on.context, on.model, plan, chosen, on.data);
  return { choice, outputs, chosen, parity, layers, ...(await measureSpeed(on, float.path, chosen.path)) };
}
