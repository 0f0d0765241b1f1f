import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { pino } from 'pino';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../packages/store/src/embedded/postgres.js';
import { migrate } from '../../packages/store/src/migrate.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The server of this run; `startPostgres` clones its template database. */
    postgresUrl: string;
  }
}

export const templateDatabase = 'octet_template';

/** One PostgreSQL for the whole run, with a migrated template database; both are gone afterwards. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const directory = await mkdtemp(path.join(tmpdir(), 'octet-test-postgres-'));
  // A run that is broken off (Ctrl-C) skips the teardown below, but not this.
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const server = await startEmbeddedPostgres({ directory, settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' } });
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(`CREATE DATABASE ${templateDatabase}`);
  await client.end();
  const template = new URL(server.url);
  template.pathname = `/${templateDatabase}`;
  await migrate(template.href, pino({ level: 'silent' }));
  project.provide('postgresUrl', server.url);
  return async () => {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  };
}
