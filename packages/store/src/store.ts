import type { Logger } from 'pino';
import { BlobRepository } from './blobs.js';
import { Changes } from './changes.js';
import { CheckpointRepository } from './checkpoints.js';
import { guarded, openDatabase, translate } from './database.js';
import { IdempotencyRepository } from './idempotency.js';
import { JobRepository } from './jobs.js';
import { migrate } from './migrate.js';
import { defaultPatience, type Patience, untilAnswered } from './patience.js';
import { ArtifactRepository, EventRepository, ReportRepository } from './reports.js';
import { DatasetRepository, ModelRepository } from './uploads.js';

/** Everything that lasts. Methods throw ServiceError; DATABASE_UNAVAILABLE when PostgreSQL is away. */
export interface Store {
  readonly models: ModelRepository;
  readonly datasets: DatasetRepository;
  readonly jobs: JobRepository;
  readonly events: EventRepository;
  readonly artifacts: ArtifactRepository;
  readonly reports: ReportRepository;
  readonly checkpoints: CheckpointRepository;
  readonly blobs: BlobRepository;
  readonly idempotency: IdempotencyRepository;
  /** Resolves when the database answers. @throws DATABASE_UNAVAILABLE */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens the database, applying missing migrations first. A database that does not answer yet is waited for.
 * @throws DATABASE_UNAVAILABLE when it does not answer in time; DATABASE_SCHEMA
 */
export async function openStore({
  databaseUrl,
  log,
  patience = defaultPatience,
}: {
  databaseUrl: string;
  log: Logger;
  patience?: Patience;
}): Promise<Store> {
  await untilAnswered(() => migrate(databaseUrl, log), patience, log);
  const db = openDatabase(databaseUrl, log);
  const changes = new Changes(databaseUrl, log);
  const blobs = new BlobRepository(db);
  return {
    models: guarded(new ModelRepository(db)),
    datasets: guarded(new DatasetRepository(db)),
    jobs: guarded(new JobRepository(db, changes)),
    events: guarded(new EventRepository(db)),
    artifacts: guarded(new ArtifactRepository(db)),
    reports: guarded(new ReportRepository(db)),
    checkpoints: guarded(new CheckpointRepository(db, blobs)),
    blobs: guarded(blobs),
    idempotency: guarded(new IdempotencyRepository(db)),
    async ping() {
      await db.pool.query('SELECT 1').catch((error: unknown) => {
        throw translate(error);
      });
    },
    async close() {
      await changes.close();
      await db.close();
    },
  };
}
