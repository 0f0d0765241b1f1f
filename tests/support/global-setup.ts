import { rmSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { pino } from 'pino';
import ts from 'typescript';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../packages/store/src/embedded/postgres.js';
import { migrate } from '../../packages/store/src/migrate.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The server of this run; `startPostgres` clones its template database. */
    postgresUrl: string;
    /** job-commands.ts as JavaScript, for `module` of runJobProcess. */
    jobCommands: string;
  }
}

export const templateDatabase = 'octet_template';

/** One PostgreSQL for the whole run, with a migrated template database, and the commands for job processes; all gone afterwards. */
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
  const commands = path.join(directory, 'job-commands.mjs');
  const source = await readFile(new URL('./job-commands.ts', import.meta.url), 'utf8');
  await writeFile(
    commands,
    ts.transpileModule(source, { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } }).outputText,
  );
  project.provide('jobCommands', commands);
  return async () => {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  };
}
