import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { staticImports } from '../../../tests/support/static-imports.js';

test('the entry of a job process brings nothing along but itself', async () => {
  const { files, packages } = await staticImports(fileURLToPath(new URL('./job-process.ts', import.meta.url)));
  expect(packages).toEqual([]);
  expect(files.map((file) => file.split('/').at(-1))).toEqual(['commands.ts', 'job-process.ts']);
});
