import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { jobFor, storeUploads } from '../../../tests/support/fixtures.js';
import { freePort, startPostgres } from '../../../tests/support/services.js';
import { migrate } from './migrate.js';
import { openStore, type Store } from './store.js';

const log = pino({ level: 'silent' });
const shipped = fileURLToPath(new URL('../../../prisma/migrations/', import.meta.url));

describe('migrations', () => {
  let server: pg.Client;
  let directory: string;
  let names: string[];
  const databases: string[] = [];

  beforeAll(async () => {
    server = new pg.Client({ connectionString: inject('postgresUrl') });
    await server.connect();
    directory = await mkdtemp(path.join(tmpdir(), 'octet-test-migrations-'));
    await cp(shipped, directory, { recursive: true });
    names = (await readdir(shipped, { withFileTypes: true }))
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
      .sort();
  });
  afterAll(async () => {
    for (const name of databases) await server.query(`DROP DATABASE ${name} WITH (FORCE)`);
    await server.end();
    await rm(directory, { recursive: true, force: true });
  });

  const emptyDatabase = async () => {
    const name = `empty_${Math.trunc(performance.now() * 1000)}_${databases.length}`;
    await server.query(`CREATE DATABASE ${name}`);
    databases.push(name);
    const url = new URL(inject('postgresUrl'));
    url.pathname = `/${name}`;
    return url.href;
  };
  const book = async (url: string) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    const { rows } = await client.query(
      'SELECT migration_name, checksum, finished_at IS NOT NULL AS finished, applied_steps_count FROM _prisma_migrations',
    );
    await client.end();
    return rows;
  };

  test('processes that start at once apply each migration once, and it is written down as Prisma does', async () => {
    const url = await emptyDatabase();
    const applied = await Promise.all([1, 2, 3].map(() => migrate(url, log)));
    expect(applied.flat().sort()).toEqual(names);
    expect(await book(url)).toEqual(
      names.map((name) => ({
        migration_name: name,
        checksum: expect.stringMatching(/^[0-9a-f]{64}$/),
        finished: true,
        applied_steps_count: 1,
      })),
    );
  });

  test('a migration that fails leaves nothing, and the next start tries again', async () => {
    const url = await emptyDatabase();
    const broken = path.join(directory, '9999_broken');
    await mkdir(broken);
    await writeFile(path.join(broken, 'migration.sql'), 'CREATE TABLE half (x int); SELECT nonsense;');
    await expect(migrate(url, log, directory)).rejects.toMatchObject({
      code: 'DATABASE_SCHEMA',
      message: expect.stringContaining('9999_broken'),
    });
    expect(await book(url)).toHaveLength(names.length);
    await writeFile(path.join(broken, 'migration.sql'), 'CREATE TABLE half (x int);');
    expect(await migrate(url, log, directory)).toEqual(['9999_broken']);
    expect(await migrate(url, log, directory)).toEqual([]);
    await expect(migrate(url, log), 'an older version on a newer database').rejects.toMatchObject({
      code: 'DATABASE_SCHEMA',
      message: expect.stringContaining('9999_broken'),
    });
    await writeFile(path.join(broken, 'migration.sql'), 'CREATE TABLE other (x int);');
    await expect(migrate(url, log, directory)).rejects.toMatchObject({
      code: 'DATABASE_SCHEMA',
      message: expect.stringContaining('changed'),
    });
  });
});

describe('when the database goes away', () => {
  let database: Awaited<ReturnType<typeof startPostgres>>;
  let store: Store;

  beforeAll(async () => {
    database = await startPostgres();
    store = await openStore({ databaseUrl: database.url, log });
  });
  afterAll(async () => {
    await store.close();
    await database.drop();
  });

  test('a server that is not there is DATABASE_UNAVAILABLE', async () => {
    const databaseUrl = `postgresql://octet:secret@127.0.0.1:${await freePort()}/octet`;
    await expect(openStore({ databaseUrl, log, patience: { withinMs: 0 } })).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
      message: expect.not.stringContaining('secret'),
    });
  });

  test('broken connections are opened again, and a change is heard after that', async () => {
    const uploads = await storeUploads(store);
    const job = await store.jobs.create(jobFor(uploads));
    const waiting = store.jobs.waitForChange(job.id, 60_000, undefined, job.revision);
    await expect(store.jobs.waitForChange(job.id, 50, undefined, job.revision)).resolves.toBe(false);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
    );
    await client.end();
    let claim = null;
    while (claim === null) {
      claim = await store.jobs.claim(job.id, 'w').catch((error: { code: string }) => {
        expect(error.code).toBe('DATABASE_UNAVAILABLE');
        return null;
      });
    }
    expect(await waiting).toBe(true);
    await expect(store.ping()).resolves.toBeUndefined();
  });
});
