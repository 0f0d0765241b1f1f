import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readCpu } from './evaluate/cpu.js';
import { resolveMetric } from './evaluate/metrics.js';
import type { PipelineResult, QuantizeJob } from './events.js';
import type { QuantPlan } from './fakequant/plan.js';
import { keptNorms, type NormChoice } from './pipeline/batchNorm.js';
import { calibrateModel, exportCandidate } from './pipeline/candidates.js';
import { Context, type PipelineHooks } from './pipeline/context.js';
import { type JobData, loadData } from './pipeline/data.js';
import { checkParity, chooseCandidate, evaluateFile, measureSpeed, release, warnOfSaturation } from './pipeline/evaluation.js';
import { withoutExposed } from './pipeline/exposeScores.js';
import { checkFileSize } from './pipeline/fileSize.js';
import { layerRows } from './pipeline/layers.js';
import { checkMemory } from './pipeline/memory.js';
import { checkTrainable, lockedBatch, type PreparedModel, planFor, prepareModel } from './pipeline/model.js';
import { placeLayers } from './pipeline/placement.js';
import { floatFile, provenanceOf } from './pipeline/provenance.js';
import { equalizeModel, ptqCandidate } from './pipeline/ptq.js';
import { trainingStart } from './pipeline/start.js';
import { trainModel } from './pipeline/training.js';
import { buildReport } from './report/build.js';
import { renderMarkdown } from './report/markdown.js';
import { trainingReport } from './report/training.js';

/** A model and its data, fitted to each other, and what can be int8 of the model. */
interface Loaded {
  model: PreparedModel;
  full: QuantPlan;
  data: JobData;
  /** For method "qat". */
  norms: NormChoice | undefined;
  estimatedBytes: number | null;
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
    const memory = norms && checkMemory(context, model, full, norms.kept, data);
    return { model, full, data, norms, estimatedBytes: memory?.usualBytes ?? null };
  } catch (error) {
    await data.close();
    throw error;
  }
}

async function run(context: Context, loaded: Loaded): Promise<PipelineResult> {
  const { model, full, data } = loaded;
  const { job } = context;
  const { recipe } = job;
  const on = { context, model, data };
  for (const text of data.assumptions) context.warn('DATASET_ASSUMED', text);
  for (const text of model.notes) context.warn('TRAINING_MODE', text);
  const locked = lockedBatch(model);
  if (locked) context.warn('BATCH_FIXED', locked);

  const float = await context.stage('baseline', async () => {
    const path = await floatFile(job, model);
    return { path, outputs: await evaluateFile(on, path, 'baseline') };
  });
  const metric = resolveMetric(recipe.evaluation.metric, float.outputs[0]);
  const { plan, calibrated, placement, equalized } = await context.stage('calibrate', async () => {
    const placed = await placeLayers(context, model, full, data, await calibrateModel(context, model, full, data), float.path);
    return { ...placed, equalized: await equalizeModel(context, model, placed.plan, data, placed.calibrated) };
  });
  // Which batch norms are kept hangs on the bits of the plan.
  const norms = loaded.norms && (plan === full ? loaded.norms : keptNorms(model, plan, recipe, checkTrainable(model, plan)));
  const ptq = await context.stage('ptq', () => ptqCandidate(context, equalized, plan, data));
  const start = norms && trainingStart(context, model, plan, norms, calibrated, ptq.rounded);
  const trained = start && (await context.stage('train', () => trainModel(context, start, plan, norms.kept, data, placement)));
  const qat =
    trained &&
    (await context.stage('convert', () =>
      exportCandidate(context, start.model, plan, trained.graph, trained.ranges, trained.weightRanges, 'qat'),
    ));

  const evaluated = await context.stage('evaluate', async () => {
    const choice = await chooseCandidate(on, metric, float, ptq, qat);
    const of = (path: string) => evaluateFile(on, path, 'evaluate', float.outputs);
    const outputs = { float: float.outputs, ptq: await of(ptq.path), qat: qat ? await of(qat.path) : null };
    const chosen = choice.from === 'qat' && qat ? qat : ptq;
    const own = (choice.from === 'qat' && outputs.qat) || outputs.ptq;
    const parity = await checkParity(on, chosen, plan, own);
    await warnOfSaturation(on, chosen, plan, own, metric);
    for (const one of Object.values(outputs)) release(one);
    const layers = await layerRows(context, model, plan, chosen, data);
    return { choice, outputs, chosen, parity, layers, ...(await measureSpeed(on, float.path, chosen.path)) };
  });

  return await context.stage('report', async () => {
    const { chosen, ...gathered } = evaluated;
    const modelPath = join(job.outputDirectory, 'model.int8.onnx');
    const int8Bytes = await withoutExposed(chosen.path, modelPath, model.exposed);
    const report = buildReport({
      ...gathered,
      metric,
      maxDrop: recipe.gate.maxDrop ?? null,
      size: { floatBytes: model.source.bytes, int8Bytes },
      cpu: readCpu(),
      samples: { training: data.train.length, calibration: data.calibration.length, holdout: data.holdout.length },
      outputList: model.outputs,
      calibration: ptq.figures,
      placement,
      training: trained && start ? trainingReport(trained, recipe, start.rounded !== undefined, norms?.note ?? '') : null,
      warnings: context.warnings,
      provenance: await provenanceOf(context, model, data, modelPath, loaded.estimatedBytes),
    });
    const reportPath = join(job.outputDirectory, 'report.json');
    const markdownPath = join(job.outputDirectory, 'report.md');
    await writeFile(reportPath, `${JSON.stringify(report, null, 2)}\n`);
    await writeFile(markdownPath, renderMarkdown(report));
    return { gatePassed: report.gate.passed, modelPath, reportPath, markdownPath };
  });
}
