import {
  type Dataset,
  type DatasetConfig,
  type DatasetSummary,
  type Model,
  type ModelSummary,
  newId,
  type Page,
  ServiceError,
} from '@octet/contracts';
import type { StoredBlob } from './blobs.js';
import { type Database, json, type Transaction, text } from './database.js';
import { Prisma } from './generated/client.js';
import { type PageRequest, pageOfRows, pageQuery } from './pages.js';

export interface NewModel {
  name: string;
  filename: string;
  blob: StoredBlob;
  summary: ModelSummary;
}

export interface NewDataset {
  name: string;
  filename: string;
  blob: StoredBlob;
  config: DatasetConfig;
  summary: DatasetSummary;
}

/** Uploaded models. A deleted model keeps its row for the jobs that used it; its blob goes when nothing else holds it. */
export class ModelRepository {
  readonly #db: Database;
  constructor(db: Database) {
    this.#db = db;
  }

  async create(input: NewModel): Promise<Model> {
    const row = await whileBlobStands(() =>
      this.#db.prisma.model.create({
        data: {
          id: newId('model'),
          name: text(input.name),
          filename: text(input.filename),
          sha256: input.blob.sha256,
          blobSha: input.blob.sha256,
          bytes: input.blob.size,
          summary: json(input.summary),
        },
      }),
    );
    return modelOf(row);
  }

  /** @throws NOT_FOUND when there is none, or it was deleted. */
  async get(id: string): Promise<Model> {
    const row = await this.#db.prisma.model.findFirst({ where: { id, deletedAt: null } });
    if (row === null) throw notFound('model', id);
    return modelOf(row);
  }

  async list(page: PageRequest & { sha256?: string | undefined }): Promise<Page<Model>> {
    const { take, orderBy, where } = pageQuery(page);
    const rows = await this.#db.prisma.model.findMany({
      take,
      orderBy,
      where: { ...where, deletedAt: null, ...(page.sha256 === undefined ? {} : { sha256: page.sha256 }) },
    });
    return pageOfRows(rows, take, modelOf);
  }

  /** @throws NOT_FOUND; CONFLICT while a job that has not finished needs it. */
  async delete(id: string): Promise<void> {
    await this.#db.prisma.$transaction(async (tx) => {
      await lockLive(tx, 'model', id, 'UPDATE');
      await refuseWhileUsed(tx, 'model', id, { modelId: id });
      await tx.model.update({ where: { id }, data: { deletedAt: new Date(), blobSha: null } });
    });
  }
}

/** Uploaded datasets, by the same rules as models. */
export class DatasetRepository {
  readonly #db: Database;
  constructor(db: Database) {
    this.#db = db;
  }

  async create(input: NewDataset): Promise<Dataset> {
    const row = await whileBlobStands(() =>
      this.#db.prisma.dataset.create({
        data: {
          id: newId('dataset'),
          name: text(input.name),
          filename: text(input.filename),
          sha256: input.blob.sha256,
          blobSha: input.blob.sha256,
          bytes: input.blob.size,
          config: json(input.config),
          summary: json(input.summary),
        },
      }),
    );
    return datasetOf(row);
  }

  /** @throws NOT_FOUND when there is none, or it was deleted. */
  async get(id: string): Promise<Dataset> {
    const row = await this.#db.prisma.dataset.findFirst({ where: { id, deletedAt: null } });
    if (row === null) throw notFound('dataset', id);
    return datasetOf(row);
  }

  async list(page: PageRequest & { sha256?: string | undefined }): Promise<Page<Dataset>> {
    const { take, orderBy, where } = pageQuery(page);
    const rows = await this.#db.prisma.dataset.findMany({
      take,
      orderBy,
      where: { ...where, deletedAt: null, ...(page.sha256 === undefined ? {} : { sha256: page.sha256 }) },
    });
    return pageOfRows(rows, take, datasetOf);
  }

  /** @throws NOT_FOUND; CONFLICT while a job that has not finished needs it. */
  async delete(id: string): Promise<void> {
    await this.#db.prisma.$transaction(async (tx) => {
      await lockLive(tx, 'dataset', id, 'UPDATE');
      await refuseWhileUsed(tx, 'dataset', id, { OR: [{ datasetId: id }, { evaluationDatasetId: id }] });
      await tx.dataset.update({ where: { id }, data: { deletedAt: new Date(), blobSha: null } });
    });
  }
}

/**
 * Locks the row of an upload that has not been deleted: a job that refers to it and its deletion cannot pass each other.
 * @throws NOT_FOUND
 */
export async function lockLive(tx: Transaction, table: 'model' | 'dataset', id: string, strength: 'SHARE' | 'UPDATE'): Promise<void> {
  const rows = await tx.$queryRaw<
    unknown[]
  >`SELECT 1 FROM ${Prisma.raw(`"${table}"`)} WHERE id = ${id} AND deleted_at IS NULL FOR ${Prisma.raw(strength)}`;
  if (rows.length === 0) throw notFound(table, id);
}

async function refuseWhileUsed(tx: Transaction, kind: string, id: string, where: Prisma.JobWhereInput): Promise<void> {
  const job = await tx.job.findFirst({ where: { ...where, state: { in: ['queued', 'running', 'cancelling'] } }, select: { id: true } });
  if (job !== null)
    throw new ServiceError('CONFLICT', `${kind} ${id} is in use by job ${job.id}`, {
      hint: 'Cancel the job, or wait until it has finished.',
    });
}

/** The blob of a new upload is not swept for a while; if it is gone all the same, the sender can repeat. */
async function whileBlobStands<T>(insert: () => Promise<T>): Promise<T> {
  try {
    return await insert();
  } catch (error) {
    if (error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2003')
      throw new ServiceError('UPLOAD_ABORTED', 'the stored file was removed before it could be used', { cause: error });
    throw error;
  }
}

function notFound(kind: string, id: string): ServiceError {
  return new ServiceError('NOT_FOUND', `there is no ${kind} ${id}`, { hint: `GET /v1/${kind}s lists what there is.` });
}

function modelOf(row: Prisma.ModelGetPayload<object>): Model {
  const { id, name, filename, sha256 } = row;
  return {
    id,
    name,
    filename,
    bytes: Number(row.bytes),
    sha256,
    summary: row.summary as unknown as ModelSummary,
    createdAt: row.createdAt.toISOString(),
  };
}

function datasetOf(row: Prisma.DatasetGetPayload<object>): Dataset {
  const { id, name, filename, sha256 } = row;
  return {
    id,
    name,
    filename,
    bytes: Number(row.bytes),
    sha256,
    config: row.config as DatasetConfig,
    summary: row.summary as unknown as DatasetSummary,
    createdAt: row.createdAt.toISOString(),
  };
}
