import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createProgram } from '../apps/cli/src/program.js';
import { pages } from '../scripts/reference.js';

const read = (file: string) => readFile(new URL(`../${file}`, import.meta.url), 'utf8');

it('the pages that follow from the code do', async () => {
  for (const { file, text } of await pages()) expect(await read(file), `${file}: run npx tsx scripts/reference.ts`).toBe(text);
});

it('docs/cli.md speaks of every command and option', async () => {
  const page = await read('docs/cli.md');
  for (const command of createProgram(() => undefined).commands) {
    expect(page).toContain(`octet ${command.name()}`);
    for (const option of command.options) expect(page, `octet ${command.name()} ${option.flags}`).toContain(option.long);
  }
});
