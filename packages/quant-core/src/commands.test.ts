import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { staticImports } from '../../../tests/support/static-imports.js';

// Every start of a job process reads this before it does anything. Libraries that only some jobs need are imported where they are used.
test.each([
  ['commands.ts', []],
  ['data/dataset.ts', []],
  ['inspect.ts', ['protobufjs/light.js']],
  ['quantize.ts', ['protobufjs/light.js']],
])('%s brings along the libraries %j and no other', async (entry, libraries) => {
  const { files, packages } = await staticImports(fileURLToPath(new URL(entry, import.meta.url)));
  expect(packages).toEqual(libraries);
  const own = files
    .filter((file) => file.startsWith('packages/quant-core/src/'))
    .map((file) => file.slice('packages/quant-core/src/'.length));
  expect(own).toContain(entry);
  expect(own.filter((file) => /^(engine\/tfjs\/|data\/(csv|archive|npz)[.]ts|formats\/archive|recipe|report\/schema)/.test(file))).toEqual(
    [],
  );
  if (entry === 'commands.ts') expect(own.length).toBeLessThan(10);
});
