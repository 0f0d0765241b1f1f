import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { staticImports } from '../../../tests/support/static-imports.js';

// Every start of a job process reads all of this before it does anything: libraries that only some jobs need are imported where they are used.
test('the commands bring along the library that reads models, and no other', async () => {
  const { files, packages } = await staticImports(fileURLToPath(new URL('./commands.ts', import.meta.url)));
  expect(packages).toEqual(['protobufjs/light.js']);
  expect(files.some((file) => file.endsWith('src/quantize.ts'))).toBe(true);
  for (const late of ['engine/tfjs/', 'data/csv', 'data/archive', 'formats/archive', 'recipe', 'report/schema'])
    expect(files.filter((file) => file.includes(`quant-core/src/${late}`))).toEqual([]);
});
