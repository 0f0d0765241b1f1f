import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readCpu } from './evaluate/cpu.js';
import type { PipelineResult, QuantizeJob } from './events.js';
import { keptNorms } from './pipeline/batchNorm.js';
import { calibrateModel, exportCandidate } from './pipeline/candidates.js';
import { Context, type PipelineHooks } from './pipeline/context.js';
import { loadData } from './pipeline/data.js';
import { Evaluator } from './pipeline/evaluation.js';
import { checkFileSize } from './pipeline/fileSize.js';
import { layerRows } from './pipeline/layers.js';
import { checkMemory } from './pipeline/memory.js';
import { checkTrainable, lockedBatch, planFor, prepareModel } from './pipeline/model.js';
import { placeLayers } from './pipeline/placement.js';
import { floatFile, provenanceOf } from './pipeline/provenance.js';
import { equalizeModel, ptqCandidate } from './pipeline/ptq.js';
import { trainingStart } from './pipeline/start.js';
import { trainModel } from './pipeline/training.js';
import { buildReport } from './report/build.js';
import { renderMarkdown } from './report/markdown.js';
import { checkAugmentation } from './train/augment.js';

/**
 * One job from files to files: a float model and a dataset in, model.int8.onnx, report.json and report.md out.
 * Throws OctetError for everything the user can mend; the stage it happened in is the last one announced.
 */
export async function quantize(job: QuantizeJob, hooks: PipelineHooks = {}): Promise<PipelineResult> {
  const context = await Context.open(job, hooks);
  const { recipe } = job;
  await mkdir(job.workDirectory, { recursive: true });
  await mkdir(job.outputDirectory, { recursive: true });

  const { model, full, data, ...loaded } = await context.stage('load', async () => {
    const model = await prepareModel(job.modelPath, job.limits, context.engine);
    if (recipe.method === 'qat') checkAugmentation(recipe.training.augment, model.graph.inputs, false);
    const full = planFor(model, recipe);
    checkFileSize(model.graph, full);
    const norms = recipe.method === 'qat' ? keptNorms(model, full, recipe, checkTrainable(model, full)) : undefined;
    const data = await loadData(context, model);
    try {
      return { model, full, data, norms, memory: norms && checkMemory(context, model, full, norms.kept, data) };
    } catch (error) {
      await data.close();
      throw error;
    }
  });
  try {
    for (const text of data.assumptions) context.warn('DATASET_ASSUMED', text);
    if (model.locked) context.warn('BATCH_FIXED', lockedBatch(model));
    const evaluator = new Evaluator(context, model, data);
    const float = await context.stage('baseline', async () => {
      const path = await floatFile(job, model);
      return { path, outputs: await evaluator.collectFile(path, data.evaluationSamples, data.evaluationIndices, 'baseline') };
    });
    const metric = evaluator.metric(float.outputs);
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
      const choice = await evaluator.choose(metric, float, ptq, qat);
      const of = (path: string) => evaluator.collectFile(path, data.evaluationSamples, data.evaluationIndices, 'evaluate');
      const outputs = { float: float.outputs, ptq: await of(ptq.path), qat: qat ? await of(qat.path) : null };
      const chosen = choice.from === 'qat' && qat ? qat : ptq;
      const own = (choice.from === 'qat' && outputs.qat) || outputs.ptq;
      const parity = await evaluator.parity(chosen, own);
      await evaluator.warnOfSaturation(chosen, plan, own, metric);
      const layers = await layerRows(context, model, plan, chosen, data);
      return { choice, outputs, chosen, parity, layers, ...(await evaluator.speed(float.path, chosen.path)) };
    });

    return await context.stage('report', async () => {
      const modelPath = join(job.outputDirectory, 'model.int8.onnx');
      await copyFile(evaluated.chosen.path, modelPath);
      const report = buildReport({
        task: data.task,
        metric,
        outputs: evaluated.outputs,
        choice: evaluated.choice,
        maxDrop: recipe.gate.maxDrop ?? null,
        parity: evaluated.parity,
        size: { floatBytes: model.source.bytes, int8Bytes: evaluated.chosen.bytes },
        latency: evaluated.latency,
        cpu: readCpu(),
        runtime: evaluated.runtime,
        samples: { training: data.train.length, calibration: data.calibration.length, holdout: data.holdout.length },
        layers: evaluated.layers,
        calibration: ptq.figures,
        placement,
        training: trained
          ? {
              epochs: trained.history,
              bestEpoch: trained.bestEpoch,
              observersFrozenAtStep: trained.observersFrozenAtStep,
              distillationShare: trained.loss.distillationWeight,
              start: start?.rounded ? 'rounded' : 'float',
              learnedScales: trained.learnedScales,
              batchNorm: {
                kept: trained.keptNorms,
                frozenAtStep: trained.normsFrozenAtStep,
                reestimated: trained.keptNorms > 0 && recipe.training.reestimateBatchNorm,
                note: norms?.note ?? '',
              },
              stepsPerEpoch: trained.stepsPerEpoch,
              samplesPerSecond: trained.samplesPerSecond,
              learningRate: trained.learningRate,
              loss: trained.loss.kind,
            }
          : null,
        warnings: context.warnings,
        provenance: await provenanceOf(context, data, modelPath, loaded.memory?.usualBytes ?? null),
      });
      const reportPath = join(job.outputDirectory, 'report.json');
      const markdownPath = join(job.outputDirectory, 'report.md');
      await writeFile(reportPath, `${JSON.stringify(report, null, 2)}\n`);
      await writeFile(markdownPath, renderMarkdown(report));
      return { gatePassed: report.gate.passed, modelPath, reportPath, markdownPath };
    });
  } finally {
    await data.close();
  }
}
