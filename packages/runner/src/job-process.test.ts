import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { staticImports } from '../../../tests/support/static-imports.js';

test('the entry of a job process brings nothing along but itself', async () => {
  const { files, packages } = await staticImports(fileURLToPath(new URL('./job-process.ts', import.meta.url)));
  expect(packages).toEqual([]);
  expect(files.map((file) => file.split('/').at(-1))).toEqual(['commands.ts', 'job-process.ts']);
});

const joined = fileURLToPath(new URL('../../quant-core/dist/job/', import.meta.url));

test.skipIf(!existsSync(joined))('what the build joined for it has all the files it names', () => {
  const files = readdirSync(joined).filter((file) => file.endsWith('.js'));
  expect(files).toEqual(expect.arrayContaining(['commands.js', 'session-worker.js']));
  const named = files.flatMap((file) =>
    [...readFileSync(join(joined, file), 'utf8').matchAll(/(?:from |import\(|new URL\(|^import )["'](\.[^"']*\.js)["']/gm)].map(
      ([, path]) => resolve(dirname(join(joined, file)), path as string),
    ),
  );
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((file) => !files.includes(file.slice(joined.length)))).toEqual([]);
});
