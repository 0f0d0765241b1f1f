import { createHash } from 'node:crypto';
import {
  type CheckpointPlace,
  type JobBody,
  type JobError,
  type JobLimits,
  type JobProgress,
  type JobResult,
  type JobSettings,
  type JobState,
  jobStates,
  type Recipe,
  recipeOf,
  type Stage,
} from '@octet/contracts';
import type { Prisma } from './generated/client.js';

/** A job as the store knows it; the API adds links and the position in the queue. */
export interface JobRecord extends Omit<JobBody, 'links' | 'queuePosition' | 'reused'> {
  /** Grows with every change; give it to `waitForChange`. */
  revision: number;
  fingerprint: string;
  workerId: string | null;
}

/** The column that holds the time of each state. */
export const stateColumn = {
  queued: 'queuedAt',
  running: 'runningAt',
  cancelling: 'cancellingAt',
  succeeded: 'succeededAt',
  gate_failed: 'gateFailedAt',
  failed: 'failedAt',
  cancelled: 'cancelledAt',
} as const satisfies Record<JobState, keyof Prisma.JobUpdateManyMutationInput>;

export const withReport = {
  report: { omit: { json: true } },
  checkpoint: true,
} as const satisfies Prisma.JobInclude;
type JobRow = Prisma.JobGetPayload<{ include: typeof withReport }>;

export function jobRecord(row: JobRow): JobRecord {
  const time = (value: Date | null) => value?.toISOString() ?? null;
  return {
    id: row.id,
    state: row.state,
    stage: row.stage as Stage | null,
    progress: row.progress as unknown as JobProgress | null,
    attempts: row.attempts,
    checkpoint:
      row.checkpoint === null
        ? null
        : {
            stage: row.checkpoint.stage as CheckpointPlace['stage'],
            step: row.checkpoint.step,
            bytes: Number(row.checkpoint.bytes),
            createdAt: row.checkpoint.createdAt.toISOString(),
          },
    resumedFrom: row.resumedFrom as unknown as CheckpointPlace | null,
    model: row.modelId,
    dataset: row.datasetId,
    evaluationDataset: row.evaluationDatasetId,
    recipe: row.recipe as unknown as Recipe,
    limits: row.limits as unknown as JobLimits,
    metadata: row.metadata as Record<string, string>,
    result: row.report === null ? null : jobResult(row.report),
    error: row.error as unknown as JobError | null,
    cancelRequestedAt: time(row.cancelRequestedAt),
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
    stateTimes: Object.fromEntries(jobStates.map((state) => [state, time(row[stateColumn[state]])])) as JobRecord['stateTimes'],
    revision: row.revision,
    fingerprint: row.fingerprint,
    workerId: row.workerId,
  };
}

function jobResult(report: NonNullable<JobRow['report']>): JobResult {
  return {
    decision: report.decision,
    verdict: report.verdict,
    gatePassed: report.gatePassed,
    metric: report.metric,
    float: report.floatValue,
    ptq: report.ptqValue,
    qat: report.qatValue,
    int8: report.int8Value,
    int8From: report.int8From,
    changePoints: report.changePoints,
    floatBytes: Number(report.floatBytes),
    int8Bytes: Number(report.int8Bytes),
    floatP50Ms: report.floatP50Ms,
    int8P50Ms: report.int8P50Ms,
    evaluationSamples: report.evaluationSamples,
  };
}

/** What a job's result depends on. */
export interface FingerprintParts {
  modelSha256: string;
  dataset: { sha256: string; config: unknown };
  evaluationDataset: { sha256: string; config: unknown } | null;
  settings: JobSettings;
  engineVersion: string;
}

/** SHA-256 over all that a job's result depends on; threads, limits and metadata change nothing. */
export function fingerprintOf(parts: FingerprintParts): string {
  const { threads: _, ...recipe } = recipeOf(parts.settings);
  const { modelSha256, dataset, evaluationDataset, engineVersion } = parts;
  return createHash('sha256').update(stableJson({ modelSha256, dataset, evaluationDataset, recipe, engineVersion })).digest('hex');
}

/** JSON with sorted keys. */
function stableJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}
