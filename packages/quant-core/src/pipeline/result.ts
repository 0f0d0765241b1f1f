import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readCpu } from '../evaluate/cpu.js';
import type { PipelineResult } from '../events.js';
import { buildReport, type ReportInput } from '../report/build.js';
import { renderMarkdown } from '../report/markdown.js';
import type { Evaluated } from './evaluation.js';
import { withoutExposed } from './exposeScores.js';
import { provenanceOf } from './provenance.js';
import type { Work } from './work.js';

/** What the stages before evaluation have to tell. */
export interface Told extends Pick<ReportInput, 'metric' | 'baseline' | 'calibration' | 'placement' | 'training'> {
  /** Memory the job was expected to take. */
  estimatedBytes: number;
}

/** Lay the model that is returned and its report, as JSON and as Markdown, into the output directory. */
export async function writeResult(
  { context, model, data }: Work,
  { chosen, ...measured }: Evaluated,
  { estimatedBytes, ...told }: Told,
): Promise<PipelineResult> {
  const { outputDirectory, recipe } = context.job;
  const modelPath = join(outputDirectory, 'model.int8.onnx');
  const int8Bytes = await withoutExposed(chosen.path, modelPath, model.exposed);
  const report = buildReport({
    ...measured,
    ...told,
    maxDrop: recipe.gate.maxDrop ?? null,
    size: { floatBytes: model.source.bytes, int8Bytes },
    cpu: readCpu(),
    samples: { training: data.train.length, calibration: data.calibration.length, holdout: data.holdout.length },
    outputList: model.outputs,
    warnings: context.warnings,
    provenance: await provenanceOf(context, model, data, modelPath, estimatedBytes),
  });
  const reportPath = join(outputDirectory, 'report.json');
  const markdownPath = join(outputDirectory, 'report.md');
  await writeFile(reportPath, `${JSON.stringify(report, null, 2)}\n`);
  await writeFile(markdownPath, renderMarkdown(report));
  return { gatePassed: report.gate.passed, modelPath, reportPath, markdownPath };
}
