import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { readArrayFile, writeArrayFile } from '../train/arrayFile.js';
import { type Checkpoint, packCheckpoint } from '../train/checkpoint.js';
import { parameterLayout } from '../train/parameters.js';
import { octetVersion } from '../version.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import type { PreparedModel } from './model.js';
import type { PtqState } from './savedPtq.js';

/** Checkpoint files that are left: the newest, and the one before it, which may be being read. */
const filesKept = 2;

/**
 * The checkpoints of a job: the one it goes on from, if any, and those it writes. The first holds what calibration and PTQ found; later ones hold the training as well.
 * A job that goes on ends in the same bytes as one that never stopped.
 */
export class JobCheckpoints {
  private readonly files: string[] = [];
  private written = 0;
  private ptq: PtqState | undefined;
  private warnings: Context['warnings'] = [];

  private constructor(
    private readonly context: Context,
    private readonly model: PreparedModel,
    /** Digest of what a checkpoint must match to be gone on from. */
    readonly fingerprint: string,
    private readonly saved: { ptq: PtqState; training: Checkpoint | undefined } | undefined,
  ) {}

  /** Those of a job, whose plan is `full` before placement. A checkpoint that is damaged or that of another job is dropped, and an event says so. */
  static async open(context: Context, model: PreparedModel, full: QuantPlan, data: JobData): Promise<JobCheckpoints> {
    const wanted = fingerprintOf(context, model, full, data);
    const { checkpointPath } = context.job;
    if (checkpointPath === undefined) return new JobCheckpoints(context, model, wanted, undefined);
    try {
      const saved = await read(checkpointPath, wanted, context, model, full);
      context.emit({ type: 'resumed', ...placeOf(saved.training) });
      return new JobCheckpoints(context, model, wanted, saved);
    } catch (error) {
      drop(context, error);
      return new JobCheckpoints(context, model, wanted, undefined);
    }
  }

  /** What calibration found: from the checkpoint, or else by `measure`. */
  async calibration(measure: () => Promise<Pick<PtqState, 'placed' | 'equalized'>>): Promise<Pick<PtqState, 'placed' | 'equalized'>> {
    const { context, saved } = this;
    const before = context.warnings.length;
    const found = saved?.ptq ?? (await measure());
    if (saved) for (const { code, text, place } of saved.ptq.warnings) context.warn(code, text, place);
    this.warnings = context.warnings.slice(before);
    return found;
  }

  /** The weights of the PTQ model, where they are known. */
  get weights(): PtqState['weights'] | undefined {
    return this.saved?.ptq.weights;
  }

  /** Where training goes on, if it had begun. */
  get training(): Checkpoint | undefined {
    return this.saved?.training;
  }

  /** PTQ is done: write the first checkpoint, unless it was gone on from. */
  async keepPtq(found: Omit<PtqState, 'warnings'>): Promise<void> {
    this.ptq = { ...found, warnings: this.warnings };
    if (!this.saved) await this.write(undefined);
  }

  /** Write a checkpoint of the training. Nothing of it is held on to. */
  async keepTraining(checkpoint: Checkpoint): Promise<void> {
    await this.write(checkpoint);
  }

  /** The training cannot go on from the checkpoint; it starts from nothing. */
  dropTraining(error: unknown): void {
    drop(this.context, error);
  }

  private async write(training: Checkpoint | undefined): Promise<void> {
    const { context, model, files, fingerprint } = this;
    const { packPtq } = await import('./savedPtq.js');
    const { ptq, arrays } = packPtq(this.ptq as PtqState, model);
    const packed = training && packCheckpoint(training);
    const path = join(context.job.workDirectory, `checkpoint-${this.written++}.bin`);
    await writeArrayFile(path, { fingerprint, ptq, training: packed?.header ?? null }, { ...arrays, ...packed?.arrays });
    files.push(path);
    for (const old of files.splice(0, files.length - filesKept)) await rm(old, { force: true });
    context.emit({ type: 'checkpoint', path, ...placeOf(training) });
  }
}

const placeOf = (training: Checkpoint | undefined) =>
  training ? { stage: 'train' as const, step: training.step } : { stage: 'ptq' as const, step: 0 };

function drop(context: Context, error: unknown): void {
  if (!(error instanceof OctetError && error.code === 'CHECKPOINT_MISMATCH')) throw error;
  context.emit({ type: 'checkpoint_dropped', reason: error.message });
}

/** The checkpoint at `path`. What checks it is read along with it: few jobs start from one. Throws CHECKPOINT_MISMATCH. */
async function read(path: string, wanted: string, context: Context, model: PreparedModel, full: QuantPlan) {
  const [{ value, arrays }, { default: Value }, { SavedPtqSchema, unpackPtq }, { unpackCheckpoint }] = await Promise.all([
    readArrayFile(path),
    import('typebox/value'),
    import('./savedPtq.js'),
    import('../train/readCheckpoint.js'),
  ]);
  const { fingerprint, ptq, training } = (value ?? {}) as Record<string, unknown>;
  if (fingerprint !== wanted)
    throw new OctetError(
      'CHECKPOINT_MISMATCH',
      'The checkpoint was written by a job with another model, dataset or configuration, or by another version of Octet',
    );
  if (!Value.Check(SavedPtqSchema, ptq)) throw new OctetError('CHECKPOINT_MISMATCH', 'The header of the checkpoint is damaged');
  return {
    ptq: unpackPtq(ptq, arrays, context, model, full),
    training: training ? unpackCheckpoint({ header: training, arrays }) : undefined,
  };
}

/** Digest of all that calibration, PTQ and training depend on: recipe, plan, model, data, versions. */
function fingerprintOf(context: Context, model: PreparedModel, full: QuantPlan, data: JobData): string {
  const { threads: _threads, gate: _gate, evaluation: _evaluation, ...recipe } = context.job.recipe;
  const counts = [data.train.length, data.holdout.length, data.calibration.length];
  const hash = createHash('sha256');
  hash.update(JSON.stringify([recipe, full, counts, data.dataset.summary, octetVersion, context.engine.versions]));
  for (const slot of parameterLayout(model.graph).slots) hash.update(`${slot.name}[${slot.shape}]`);
  for (const value of model.graph.constants()) if (value.constant) hash.update(value.constant.raw);
  for (const { node, weight, gamma, beta, mean, variance, epsilon } of model.norms) {
    hash.update(`${node} ${epsilon}`);
    for (const numbers of [weight.data, gamma, beta, mean, variance]) hash.update(numbers);
  }
  return hash.digest('hex');
}
