import { mkdir } from 'node:fs/promises';
import { resolveMetric } from './evaluate/metrics.js';
import type { PipelineResult, QuantizeJob } from './events.js';
import type { QuantPlan } from './fakequant/plan.js';
import { keptNorms, type NormChoice } from './pipeline/batchNorm.js';
import { calibrateModel, exportCandidate } from './pipeline/candidates.js';
import { JobCheckpoints } from './pipeline/checkpoint.js';
import { Context, type PipelineHooks } from './pipeline/context.js';
import { type JobData, loadData } from './pipeline/data.js';
import { evaluateCandidates, evaluateFile, type FloatModel } from './pipeline/evaluation.js';
import { checkFileSize } from './pipeline/fileSize.js';
import { checkMemory } from './pipeline/memory.js';
import { checkTrainable, lockedBatch, type PreparedModel, planFor, prepareModel } from './pipeline/model.js';
import { placeLayers } from './pipeline/placement.js';
import { checkFloat } from './pipeline/preprocessing.js';
import { floatFile } from './pipeline/provenance.js';
import { equalizeModel, ptqCandidate } from './pipeline/ptq.js';
import { writeResult } from './pipeline/result.js';
import { trainingStart } from './pipeline/start.js';
import { trainModel } from './pipeline/training.js';
import type { Work } from './pipeline/work.js';
import type { Report } from './report/schema.js';
import { trainingReport } from './report/training.js';

/** A model and its data, fitted to each other, and what can be int8 of the model. */
interface Loaded {
  model: PreparedModel;
  full: QuantPlan;
  data: JobData;
  /** For method "qat". */
  norms: NormChoice | undefined;
  estimatedBytes: number;
}

/**
 * One job from files to files: a float model and a dataset in, model.int8.onnx, report.json and report.md out.
 * Throws OctetError for everything the user can mend; the stage it happened in is the last one announced.
 */
export async function quantize(job: QuantizeJob, hooks: PipelineHooks = {}): Promise<PipelineResult> {
  const context = await Context.open(job, hooks);
  await mkdir(job.workDirectory, { recursive: true });
  await mkdir(job.outputDirectory, { recursive: true });
  const loaded = await context.stage('load', () => load(context));
  try {
    return await run(context, loaded);
  } finally {
    await loaded.data.close();
  }
}

async function load(context: Context): Promise<Loaded> {
  const { job, engine } = context;
  const { recipe } = job;
  const model = await prepareModel(job.modelPath, job.limits, engine, { wishes: recipe.outputs, files: job.externalFiles });
  const full = planFor(model, recipe);
  checkFileSize(model.graph, full);
  const norms = recipe.method === 'qat' ? keptNorms(model, full, recipe, checkTrainable(model, full)) : undefined;
  const data = await loadData(context, model);
  try {
    const { usualBytes } = checkMemory(context, model, full, norms?.kept, data);
    return { model, full, data, norms, estimatedBytes: usualBytes };
  } catch (error) {
    await data.close();
    throw error;
  }
}

async function run(context: Context, loaded: Loaded): Promise<PipelineResult> {
  const { model, full, data } = loaded;
  const { recipe } = context.job;
  const on = { context, model, data };
  for (const text of data.assumptions) context.warn('DATASET_ASSUMED', text);
  for (const text of model.notes) context.warn('TRAINING_MODE', text);
  const locked = lockedBatch(model);
  if (locked) context.warn('BATCH_FIXED', locked);

  const float = await context.stage('baseline', () => measureFloat(on));
  const checkpoints = await JobCheckpoints.open(context, model, full, data);
  const { placed, equalized } = await context.stage('calibrate', () =>
    checkpoints.calibration(async () => {
      const placed = await placeLayers(context, model, full, data, await calibrateModel(context, model, full, data), float.path);
      return { placed, equalized: await equalizeModel(context, model, placed.plan, data, placed.calibrated) };
    }),
  );
  const { plan, calibrated, placement } = placed;
  // Which batch norms are kept depends on the bits of the plan.
  const norms = loaded.norms && (plan === full ? loaded.norms : keptNorms(model, plan, recipe, checkTrainable(model, plan)));
  const ptq = await context.stage('ptq', () => ptqCandidate(context, equalized, plan, data, checkpoints.weights));
  await checkpoints.keepPtq({ placed, equalized, weights: ptq.weights });
  const start = norms && trainingStart(context, model, plan, norms, calibrated, ptq.rounded);
  const trained = start && (await context.stage('train', () => trainModel(context, start, plan, norms.kept, data, checkpoints)));
  const qat =
    trained &&
    (await context.stage('convert', () => {
      const { graph, ranges, weightRanges } = trained;
      return exportCandidate({ ...on, model: start.model }, plan, { name: 'qat', float: graph, ranges, weightRanges });
    }));
  const evaluated = await context.stage('evaluate', () => evaluateCandidates(on, plan, float, ptq, qat));
  return context.stage('report', () =>
    writeResult(on, evaluated, {
      metric: float.metric,
      baseline: float.found,
      calibration: ptq.figures,
      placement,
      training: trained && start ? trainingReport(trained, recipe, start.rounded !== undefined, norms?.note ?? '') : null,
      estimatedBytes: loaded.estimatedBytes,
    }),
  );
}

/** The float model on the evaluation samples, and whether it does what its owner expects of it. Throws FLOAT_* errors. */
async function measureFloat(on: Work): Promise<FloatModel & { found: Report['baseline'] }> {
  const { job } = on.context;
  const path = await floatFile(job, on.model);
  const outputs = await evaluateFile(on, path, 'baseline');
  const metric = resolveMetric(job.recipe.evaluation.metric, outputs[0]);
  return { path, outputs, metric, found: await checkFloat(on, path, outputs, metric) };
}
