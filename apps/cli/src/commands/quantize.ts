import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { defaultLimits, recipeOf } from '@octet/contracts';
import type { PipelineEvent, QuantizeJob, Report } from '@octet/quant-core';
import { type RunnerLog, runJobProcess } from '@octet/runner';
import { CliError } from '../errors.js';
import { exitCodes } from '../exit-codes.js';
import { externalFiles, placeFile, requireFile, requireWritable } from '../files.js';
import { Progress } from '../output/progress.js';
import { keyFigures, renderResult } from '../output/result.js';
import { planJob, type RecipeFlags } from '../recipe.js';
import { interruptible } from '../signals.js';

export interface QuantizeFlags extends RecipeFlags {
  data: string;
  eval?: string;
  output?: string;
  report?: string;
  json?: boolean;
}

const longestRunSeconds = 14 * 86_400;

/** What a person quantizes on a machine of their own may be larger than what strangers send to a server. */
const ownLimits = { ...defaultLimits, modelBytes: 2 ** 33, modelParameters: 2 ** 31 };

/** `octet quantize`: one job here and now, in a process of its own, without a server. Gives the exit code. */
export async function quantizeCommand(model: string, flags: QuantizeFlags): Promise<number> {
  const plan = await planJob(flags);
  const inputs = [model, ...externalFiles(model), flags.data, ...(flags.eval === undefined ? [] : [flags.eval])];
  for (const input of inputs) await requireFile(input);
  const files = outputsOf(model, flags);
  for (const file of Object.values(files)) {
    await requireWritable(file);
    for (const input of inputs) {
      if (await sameFile(file, input))
        throw new CliError('FILE_UNWRITABLE', `${file} is an input of this command and would be overwritten`, { place: { file } });
    }
  }

  const report = await interruptible(async (signal) => {
    const directory = await mkdtemp(path.join(process.env.OCTET_TEMP || os.tmpdir(), 'octet-quantize-'));
    const progress = new Progress();
    let finished = false;
    try {
      const job: QuantizeJob = {
        modelPath: path.resolve(model),
        externalFiles: 'beside',
        dataset: { path: path.resolve(flags.data), config: plan.datasetConfig },
        ...(flags.eval === undefined ? {} : { evaluationDataset: { path: path.resolve(flags.eval), config: plan.evaluationConfig } }),
        recipe: recipeOf(plan.settings),
        outputDirectory: path.join(directory, 'output'),
        workDirectory: path.join(directory, 'work'),
        limits: ownLimits,
        memoryBytes: os.totalmem(),
      };
      const result = await runJobProcess({
        command: 'quantize',
        payload: job,
        signal,
        onEvent: (event) => show(progress, event),
        limits: { seconds: longestRunSeconds, memoryBytes: os.totalmem() },
        log: jobLog,
      });
      const text = await readFile(result.reportPath, 'utf8');
      await placeFile({ copyOf: result.modelPath }, files.model);
      await placeFile({ text }, files.report);
      await placeFile({ copyOf: result.markdownPath }, files.markdown);
      finished = true;
      return JSON.parse(text) as Report;
    } finally {
      progress.close({ finished });
      await rm(directory, { recursive: true, force: true, maxRetries: 3 });
    }
  });

  const { passed } = report.gate;
  if (flags.json) process.stdout.write(`${JSON.stringify({ gatePassed: passed, files, ...keyFigures(report) }, null, 2)}\n`);
  else process.stdout.write(`\n${renderResult(report)}\nWrote ${Object.values(files).join(', ')}\n`);
  return passed ? exitCodes.ok : exitCodes.gateFailed;
}

/** The three files that are written: the model where asked, the reports beside it. */
export function outputsOf(
  model: string,
  { output, report }: Pick<QuantizeFlags, 'output' | 'report'>,
): { model: string; report: string; markdown: string } {
  const target = output ?? `${path.basename(model).replace(/\.(onnx|zip)$/i, '')}.int8.onnx`;
  const json = report ?? path.join(path.dirname(target), 'report.json');
  return { model: target, report: json, markdown: `${json.replace(/\.json$/i, '')}.md` };
}

async function sameFile(a: string, b: string): Promise<boolean> {
  const real = (file: string) => realpath(file).catch(() => path.resolve(file));
  return (await real(a)) === (await real(b));
}

function show(progress: Progress, event: PipelineEvent): void {
  switch (event.type) {
    case 'stage':
      progress.stage(event.stage);
      break;
    case 'progress':
      progress.progress({ ...event, figures: event.figures ?? {} });
      break;
    case 'epoch':
      progress.epoch(event);
      break;
    case 'log':
      progress.note(event.level === 'warn' ? `Note: ${event.message}` : event.message);
      break;
    case 'checkpoint':
    case 'resumed':
    case 'checkpoint_dropped':
      return;
  }
}

const jobLog: RunnerLog = {
  debug: (data, message) => debug(data, message),
  warn: (data, message) => debug(data, message),
};

function debug(data: object, message: string): void {
  if (process.env.DEBUG) process.stderr.write(`${message} ${JSON.stringify(data)}\n`);
}
