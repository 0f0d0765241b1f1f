import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const resolve = {
  alias: {
    '@octet/quant-core': source('packages/quant-core/src/index.ts'),
    '@octet/contracts': source('packages/contracts/src/index.ts'),
    '@octet/store': source('packages/store/src/index.ts'),
    '@octet/runner': source('packages/runner/src/index.ts'),
    '@octet/api': source('apps/api/src/index.ts'),
    '@octet/worker': source('apps/worker/src/index.ts'),
  },
};

/** The tests of quant-core alone start no Postgres and no Redis; those of tests/long run only when asked for (npm run test:long). */
export default defineConfig({
  test: {
    pool: 'forks',
    reporters: ['default'],
    projects: [
      {
        resolve,
        test: {
          name: 'core',
          include: ['packages/{quant-core,contracts}/src/**/*.test.ts', 'bench/**/*.test.ts'],
          setupFiles: ['tests/support/end-with-vitest.ts'],
          pool: 'forks',
          testTimeout: 60_000,
        },
      },
      {
        resolve,
        test: {
          name: 'service',
          include: ['packages/{store,runner}/src/**/*.test.ts', 'apps/**/src/**/*.test.ts', 'tests/**/*.test.ts'],
          exclude: ['tests/long/**'],
          globalSetup: ['tests/support/global-setup.ts'],
          setupFiles: ['tests/support/end-with-vitest.ts'],
          pool: 'forks',
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        resolve,
        test: {
          name: 'long',
          include: ['tests/long/**/*.test.ts'],
          globalSetup: ['tests/support/global-setup.ts'],
          setupFiles: ['tests/support/end-with-vitest.ts'],
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 7_200_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
