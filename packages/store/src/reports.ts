import { type Artifact, type ArtifactKind, artifactKinds, type EventBody, type EventType, type Report } from '@octet/contracts';
import { type Database, json } from './database.js';
import type { Prisma } from './generated/client.js';

/** The report's row without the job: the whole as JSON, and the figures that lists show. */
export function reportRow(report: Report): Omit<Prisma.ReportUncheckedCreateInput, 'jobId'> {
  return {
    schemaVersion: report.schemaVersion,
    decision: report.verdict.decision,
    verdict: report.verdict.text,
    gatePassed: report.gate.passed,
    metric: report.metric.name,
    floatValue: report.float.value,
    ptqValue: report.ptq.value,
    qatValue: report.qat?.value ?? null,
    int8Value: report.int8.value,
    int8From: report.int8.from,
    changePoints: report.change.points,
    floatBytes: report.size.floatBytes,
    int8Bytes: report.size.int8Bytes,
    floatP50Ms: report.latency.float.p50Ms,
    int8P50Ms: report.latency.int8.p50Ms,
    evaluationSamples: report.samples.evaluation,
    json: json(report),
  };
}

export class ReportRepository {
  readonly #db: Database;
  constructor(db: Database) {
    this.#db = db;
  }

  /** The accuracy report of a job that has one, or null. */
  async get(jobId: string): Promise<Report | null> {
    const row = await this.#db.prisma.report.findUnique({ where: { jobId }, select: { json: true } });
    return row === null ? null : (row.json as unknown as Report);
  }
}

/** Files that jobs made. They are written by `jobs.succeed`, together with the final state. */
export class ArtifactRepository {
  readonly #db: Database;
  constructor(db: Database) {
    this.#db = db;
  }

  async list(jobId: string): Promise<Artifact[]> {
    const rows = await this.#db.prisma.artifact.findMany({ where: { jobId } });
    return rows.map(artifactOf).sort((a, b) => artifactKinds.indexOf(a.kind) - artifactKinds.indexOf(b.kind));
  }

  /** The artifact of this kind, or null. */
  async ofJob(jobId: string, kind: ArtifactKind): Promise<Artifact | null> {
    const row = await this.#db.prisma.artifact.findUnique({ where: { jobId_kind: { jobId, kind } } });
    return row === null ? null : artifactOf(row);
  }

  /** The artifact, or null. */
  async get(id: string): Promise<Artifact | null> {
    const row = await this.#db.prisma.artifact.findUnique({ where: { id } });
    return row === null ? null : artifactOf(row);
  }
}

/** What happened to jobs, in order. Written by the job repository only. */
export class EventRepository {
  readonly #db: Database;
  constructor(db: Database) {
    this.#db = db;
  }

  /** Events of a job with a number above `after` (0 for all), at most `limit`, in order. */
  async list(jobId: string, after = 0, limit = 500): Promise<EventBody[]> {
    const rows = await this.#db.prisma.jobEvent.findMany({ where: { jobId, seq: { gt: after } }, orderBy: { seq: 'asc' }, take: limit });
    return rows.map((row) => ({
      seq: Number(row.seq),
      job: row.jobId,
      type: row.type as EventType,
      data: row.data as Record<string, unknown>,
      createdAt: row.createdAt.toISOString(),
    }));
  }
}

function artifactOf(row: Prisma.ArtifactGetPayload<object>): Artifact {
  const { id, filename, mediaType, sha256 } = row;
  return {
    id,
    job: row.jobId,
    kind: row.kind as ArtifactKind,
    filename,
    mediaType,
    bytes: Number(row.bytes),
    sha256,
    createdAt: row.createdAt.toISOString(),
  };
}
