export type { ByteRange, PutOptions, StoredBlob } from './blobs.js';
export type { KeptAnswer } from './idempotency.js';
export type { FingerprintParts, JobRecord } from './job-record.js';
export type { Claim, JobFilter, NewArtifact, NewJob, ReportedEvent } from './jobs.js';
export type { PageRequest } from './pages.js';
export { openStore, type Store } from './store.js';
export type { NewDataset, NewModel } from './uploads.js';
export { type JobQueue, openQueue, type QueueOptions, type QueueWorker } from './queue/queue.js';
export { type Reconciled, reconcile } from './queue/reconcile.js';
