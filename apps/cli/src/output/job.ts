import type { EventBody, JobBody } from '@octet/contracts';
import type { Stage } from '@octet/quant-core';
import { ServerError } from '../errors.js';
import type { EpochFigures, Progress, ProgressFigures } from './progress.js';
import { fact } from './result.js';
import { columns, duration } from './text.js';

/** Shows an event of a job that a server tells. */
export function showEvent(progress: Progress, { type, data, createdAt }: EventBody): void {
  const at = Date.parse(createdAt);
  switch (type) {
    case 'stage':
      progress.stage(data.stage as Stage, at);
      break;
    case 'progress':
      progress.progress(data as unknown as ProgressFigures, at);
      break;
    case 'epoch':
      progress.epoch(data as unknown as EpochFigures);
      break;
    case 'log':
      progress.note(data.level === 'warn' ? `Note: ${String(data.message)}` : String(data.message));
      break;
    case 'state':
      if (data.state === 'queued') progress.activity(data.reason === undefined ? 'queued' : `queued again: ${String(data.reason)}`);
      if (data.state === 'cancelling') progress.activity('cancelling');
      return;
    case 'attempt':
      progress.note(`Note: ${String(data.message)}`);
      return;
  }
}

/** Shows a job as it stands, where its events cannot be had. */
export function showJob(progress: Progress, { state, stage, progress: figures, queuePosition }: JobBody): void {
  if (state === 'queued') progress.activity(`queued${queuePosition === null ? '' : `, position ${queuePosition}`}`);
  else if (state === 'cancelling') progress.activity('cancelling');
  else if (figures !== null) progress.progress({ ...figures, etaSeconds: figures.stageEtaSeconds });
  else if (stage !== null) progress.stage(stage);
}

/** Why a job has no result, as an error. */
export function failureOfJob({ id, state, error, cancelRequestedAt }: JobBody): ServerError {
  if (error !== null) {
    const { title, detail, place, hint, errors, stage, logTail } = error;
    return new ServerError({
      code: error.code as ServerError['trouble']['code'],
      title,
      detail: stage === null ? detail : `${detail} (in the stage "${stage}")`,
      place,
      hint,
      errors,
      logTail: logTail ?? undefined,
    });
  }
  const when = cancelRequestedAt === null ? '' : ` at ${cancelRequestedAt}`;
  return new ServerError({
    code: 'CANCELLED',
    title: `The job is ${state}`,
    detail: `${id} was cancelled${when}`,
    place: {},
    hint: 'Submit the job again if the result is wanted.',
    errors: [],
  });
}

/** What `octet status` prints. */
export function renderJob(job: JobBody): string {
  const { id, state, stage, progress, queuePosition, attempts, recipe, result, error, createdAt, stateTimes, reused } = job;
  const lines: [string, string][] = [
    ['Job', id],
    [
      'State',
      `${state}${stage !== null && state === 'running' ? `, ${stage}` : ''}${queuePosition === null ? '' : `, position ${queuePosition}`}${reused ? ' (an earlier job with the same result)' : ''}`,
    ],
  ];
  if (progress !== null && state === 'running') {
    const figures = Object.entries(progress.figures).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
    const left = progress.stageEtaSeconds === null ? [] : [`${duration(progress.stageEtaSeconds)} left in this stage`];
    lines.push(['Progress', [`${progress.done} of ${progress.total} ${progress.unit}`, ...figures, ...left].join(', ')]);
  }
  lines.push(['Created', createdAt]);
  if (stateTimes.running !== null) lines.push(['Started', `${stateTimes.running}${attempts > 1 ? `, attempt ${attempts}` : ''}`]);
  const ended = state === 'queued' || state === 'running' || state === 'cancelling' ? null : stateTimes[state];
  if (ended !== null) lines.push(['Ended', ended]);
  lines.push([
    'Recipe',
    `${recipe.method}, target ${recipe.target}${recipe.method === 'qat' ? `, ${recipe.training.epochs} epochs` : ''}, seed ${recipe.seed}`,
  ]);
  if (result !== null) lines.push(['Result', result.verdict]);
  if (error !== null) lines.push(['Error', `${error.code}: ${error.detail}`], ['Hint', error.hint]);
  return `${lines.map(([name, text]) => fact(name, text)).join('\n')}\n`;
}

/** What `octet list` prints: one line a job. */
export function renderJobs(jobs: readonly JobBody[]): string {
  const rows = jobs.map(({ id, state, stage, progress, recipe, result, createdAt }) => [
    id,
    state === 'running' && stage !== null
      ? `running ${stage}${progress !== null && progress.total > 0 ? ` ${Math.floor((100 * progress.done) / progress.total)} %` : ''}`
      : state,
    recipe.method,
    result === null ? '' : `${result.metric} ${result.float.toFixed(4)} -> ${result.int8.toFixed(4)}`,
    createdAt.slice(0, 19).replace('T', ' '),
  ]);
  return `${columns([['JOB', 'STATE', 'METHOD', 'RESULT', 'CREATED (UTC)'], ...rows])}\n`;
}
