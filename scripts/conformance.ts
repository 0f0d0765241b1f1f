import { writeFile } from 'node:fs/promises';
import { OrtEngine } from '../packages/quant-core/src/engine/ort/ort.js';
import {
  type CaseResult,
  conformanceCases,
  conformanceFolder,
  conformancePage,
  runCase,
} from '../packages/quant-core/src/testing/conformance.js';

/**
 * Runs ONNX's conformance data and writes docs/conformance.md: `npx tsx scripts/conformance.ts`.
 * Another folder (argument, or ONNX_TEST_DATA) is run and its failures are printed, and nothing is written.
 */
async function main(): Promise<void> {
  const folder = process.argv[2] ?? conformanceFolder;
  const cases = conformanceCases(folder);
  if (!cases.length) throw new Error(`there are no cases in ${folder}; on Debian: apt-get install libonnx-testdata`);
  const engine = new OrtEngine();
  const results: CaseResult[] = [];
  for (const entry of cases) results.push(await runCase(entry, engine));
  for (const { name, outcome, reason } of results) if (outcome === 'fail') console.error(`${name}: ${reason}`);
  const page = conformancePage(results, engine.version);
  if (process.argv[2] || process.env.ONNX_TEST_DATA) process.stdout.write(page);
  else await writeFile(new URL('../docs/conformance.md', import.meta.url), page);
  process.exitCode = results.some(({ outcome }) => outcome === 'fail') ? 1 : 0;
}

await main();
