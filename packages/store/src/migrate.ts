import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { ServiceError } from '@octet/contracts';
import pg from 'pg';
import type { Logger } from 'pino';
import { reasonOf } from './log.js';

/** The repository's prisma/migrations, seen from src as well as from dist. */
const migrationsDirectory = fileURLToPath(new URL('../../../prisma/migrations/', import.meta.url));

/** The lock that `prisma migrate` takes, so that both can meet on one database. */
const prismaMigrateLock = 72707369;

/**
 * Applies what is missing of prisma/migrations and keeps the book that `prisma migrate deploy` keeps (`_prisma_migrations`, with its
 * checksums), so that either can follow the other. Processes that start at once wait for one another.
 * @returns the names of the migrations applied
 * @throws DATABASE_SCHEMA when an applied migration was changed, has failed, or is not known here
 */
export async function migrate(url: string, log: Logger, directory = migrationsDirectory): Promise<string[]> {
  const client = new pg.Client({ connectionString: url, application_name: 'octet-migrate', connectionTimeoutMillis: 10_000 });
  client.on('error', (error) => log.warn({ reason: reasonOf(error) }, 'the connection for migrations broke'));
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [prismaMigrateLock]);
    await client.query(`CREATE TABLE IF NOT EXISTS "_prisma_migrations" (
      "id" VARCHAR(36) PRIMARY KEY NOT NULL, "checksum" VARCHAR(64) NOT NULL, "finished_at" TIMESTAMPTZ, "migration_name" VARCHAR(255) NOT NULL,
      "logs" TEXT, "rolled_back_at" TIMESTAMPTZ, "started_at" TIMESTAMPTZ NOT NULL DEFAULT now(), "applied_steps_count" INTEGER NOT NULL DEFAULT 0)`);
    const { rows } = await client.query<{ migration_name: string; checksum: string; finished_at: Date | null }>(
      'SELECT migration_name, checksum, finished_at FROM "_prisma_migrations" WHERE rolled_back_at IS NULL',
    );
    const book = new Map(rows.map((row) => [row.migration_name, row]));
    const known = await readMigrations(directory);
    const applied: string[] = [];
    for (const { name, sql, checksum } of known) {
      const entry = book.get(name);
      book.delete(name);
      if (entry === undefined) {
        await apply(client, name, sql, checksum);
        log.info({ migration: name }, 'migration applied');
        applied.push(name);
      } else if (entry.finished_at === null) {
        throw new ServiceError('DATABASE_SCHEMA', `migration ${name} failed before`, {
          hint: 'Repair the database and mark the migration with "prisma migrate resolve".',
        });
      } else if (entry.checksum !== checksum) {
        throw new ServiceError('DATABASE_SCHEMA', `migration ${name} was changed after it had been applied`);
      }
    }
    const unknown = [...book.keys()];
    if (unknown.length > 0)
      throw new ServiceError('DATABASE_SCHEMA', `the database has migrations that this version does not know: ${unknown.join(', ')}`);
    return applied;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** One migration and its entry in the book, both or neither. */
async function apply(client: pg.Client, name: string, sql: string, checksum: string): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query(sql);
    await client.query(
      'INSERT INTO "_prisma_migrations" (id, checksum, migration_name, started_at, finished_at, applied_steps_count) VALUES ($1, $2, $3, now(), clock_timestamp(), 1)',
      [randomUUID(), checksum, name],
    );
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw new ServiceError('DATABASE_SCHEMA', `migration ${name} failed: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

async function readMigrations(directory: string): Promise<{ name: string; sql: string; checksum: string }[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  return Promise.all(
    names.map(async (name) => {
      const bytes = await readFile(`${directory}/${name}/migration.sql`);
      return { name, sql: bytes.toString('utf8'), checksum: createHash('sha256').update(bytes).digest('hex') };
    }),
  );
}
