import { startEmbeddedPostgres } from '../../packages/store/src/embedded/postgres.js';

/** A process that owns an embedded Postgres until it is killed; for tests of what it leaves behind. */
async function main(): Promise<void> {
  const server = await startEmbeddedPostgres({ directory: process.argv[2] ?? '' });
  process.send?.({ url: server.url });
  setInterval(() => undefined, 1_000);
}

main().catch((error: unknown) => {
  process.send?.(
    { error: error instanceof Error ? error.message : String(error), code: error instanceof Error && 'code' in error ? error.code : null },
    undefined,
    {},
    () => process.exit(1),
  );
});
