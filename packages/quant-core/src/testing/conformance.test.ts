import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { type CaseResult, casesLine, conformanceCases, conformanceFolder, conformancePage, runCase } from './conformance.js';

const cases = conformanceCases(conformanceFolder);

it.skipIf(cases.length === 0)(
  `ONNX's conformance data${cases.length ? '' : ` (none in ${conformanceFolder}: apt-get install libonnx-testdata, or set ONNX_TEST_DATA)`}`,
  async () => {
    const engine = new OrtEngine();
    const results: CaseResult[] = [];
    for (const entry of cases) results.push(await runCase(entry, engine));
    expect(results.filter(({ outcome }) => outcome === 'fail')).toEqual([]);
    const page = await readFile(new URL('../../../../docs/conformance.md', import.meta.url), 'utf8');
    // The page is about one edition of the data, on one kind of processor.
    if (page.includes(casesLine(results)) && process.arch === 'x64')
      expect(page, 'run npx tsx scripts/conformance.ts').toBe(conformancePage(results, engine.version));
  },
  120_000,
);
