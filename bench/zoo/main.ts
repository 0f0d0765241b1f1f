/**
 * Octet on the ONNX files of a folder, as a stranger would try it: samples are made for each, a job runs, and Python's ONNX checker, ONNX Runtime
 * and `quantize_static` (per channel, the better of MinMax and Entropy, same samples) judge the int8 file.
 * Octet's default keeps weights to 7 bits; quantize_static does not, and is compared with a second job whose weights have 8.
 *
 *     npm run bench -- zoo --folder DIR [--only text] [--samples 48] [--method ptq|qat] [--python python3] [--keep DIR] [--alone] [--append]
 *
 * Samples are waves with noise, but where NAME.npz lies beside NAME.onnx; NAME.json there may hold `{"size": 224}` for open dimensions and
 * `{"shapes": {"state": [2, 1, 128]}}` for whole inputs. `--alone` leaves quantize_static out; `--keep` keeps int8 files and
 * samples, with a JSON of everything that was found.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { figuresOf, pathOf } from '../children.js';
import { appendResults, machine, table } from '../results.js';
import type { Checked, Figures, ZooJob, ZooResult } from './options.js';

const { values } = parseArgs({
  options: {
    folder: { type: 'string' },
    only: { type: 'string', default: '' },
    samples: { type: 'string', default: '48' },
    method: { type: 'string', default: 'ptq' },
    python: { type: 'string', default: process.env.PYTHON ?? 'python3' },
    keep: { type: 'string' },
    alone: { type: 'boolean', default: false },
    append: { type: 'boolean', default: false },
  },
});
const tsx = pathOf('../node_modules/.bin/tsx');
const folder = values.folder;
if (folder === undefined) throw new Error('--folder names the folder of .onnx files');

interface Row {
  name: string;
  error?: string;
  result?: ZooResult;
  checked?: Checked;
}

function python<T>(given: readonly string[]): T {
  const { status, stdout, stderr } = spawnSync(values.python, [pathOf('zoo/peer.py'), ...given], { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(stderr.trim().split('\n').at(-1) ?? `exit ${status}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as T;
}

async function tryFile(name: string, scratch: string): Promise<Row> {
  const model = join(folder as string, `${name}.onnx`);
  mkdirSync(scratch, { recursive: true });
  const [calibration, evaluation] = [join(scratch, 'calibration.npz'), join(scratch, 'evaluation.npz')];
  const [wishes, real] = ['json', 'npz'].map((extension) => join(folder as string, `${name}.${extension}`)) as [string, string];
  const { size = 0, shapes = {} } = existsSync(wishes)
    ? (JSON.parse(readFileSync(wishes, 'utf8')) as { size?: number; shapes?: object })
    : {};
  try {
    const wish = ['--size', String(size), '--shapes', JSON.stringify(shapes), ...(existsSync(real) ? ['--real', real] : [])];
    python(['data', '--model', model, '--samples', values.samples, '--output', calibration, '--evaluation', evaluation, ...wish]);
    const run = (weightBits: 7 | 8) => {
      const method = values.method === 'qat' ? 'qat' : 'ptq';
      const job: ZooJob = { model, calibration, evaluation, method, weightBits, output: join(scratch, `out${weightBits}`) };
      return figuresOf<ZooResult>(tsx, [pathOf('zoo/contender.ts'), JSON.stringify(job)]);
    };
    const result = await run(7);
    if ('code' in result) return { name, result };
    const wide = values.alone ? result : await run(8);
    const given = ['--model', model, '--calibration', calibration, '--evaluation', evaluation, '--folder', scratch];
    const files = ['--int8', result.model, ...('code' in wide || values.alone ? ['--alone'] : ['--wide', wide.model])];
    return { name, result, checked: python<Checked>(['check', ...given, ...files]) };
  } catch (error) {
    return { name, error: error instanceof Error ? error.message : String(error) };
  }
}

const db = (value: Figures[string] | undefined): string => (typeof value === 'number' ? value.toFixed(1) : (value ?? '–'));

function cells({ name, error, result, checked }: Row): string[] {
  if (result === undefined) return [name, `not tried: ${error?.slice(0, 160)}`, '', '', '', '', ''];
  if ('code' in result) return [name, `refused, ${result.code}: ${result.reason.split('\n')[0]?.slice(0, 200)}`, '', '', '', '', ''];
  if (checked === undefined) return [name, `no outside check: ${error?.slice(0, 160)}`, String(result.int8), '', '', '', ''];
  const judged = result.outputs.filter((output) => output.judged);
  const column = (of: (name: string) => string) => judged.map((output) => of(output.name)).join(', ');
  const best = (output: string) =>
    Object.values(checked.static)
      .map((figures) => figures[output])
      .reduce((most, value) => (typeof value === 'number' && (typeof most !== 'number' || value > most) ? value : most), undefined);
  const faults = [
    checked.checkerInt8 !== null && checked.checkerFloat === null ? `checker: ${checked.checkerInt8}` : '',
    checked.interface === null ? '' : `interface: ${checked.interface}`,
    ...judged.map(({ name: output, sqnrDb }) => {
      const outside = checked.octet[output];
      if (typeof outside !== 'number' || sqnrDb === null || outside > 120) return '';
      return Math.abs(outside - sqnrDb) > 0.1 ? `report says ${sqnrDb.toFixed(1)} dB for ${output}` : '';
    }),
  ].filter(Boolean);
  return [
    name,
    faults.join('; ') || 'as it should be',
    `${result.int8} of ${result.int8 + result.float.length}`,
    judged.map(({ kind }) => kind).join(', '),
    column((output) => db(checked.octet[output])),
    values.alone ? '' : column((output) => db(checked.wide[output])),
    values.alone ? '' : `${column((output) => db(best(output)))}${checked.staticActivations === 0 ? ' (weights only)' : ''}`,
  ];
}

const names = readdirSync(folder)
  .filter((file) => file.endsWith('.onnx') && file.includes(values.only))
  .map((file) => file.slice(0, -'.onnx'.length))
  .sort();
const directory = values.keep ?? mkdtempSync(join(tmpdir(), 'octet-zoo-'));
const rows: Row[] = [];
try {
  for (const name of names) {
    const row = await tryFile(name, join(directory, name));
    rows.push(row);
    if (values.keep !== undefined) writeFileSync(join(directory, name, 'row.json'), JSON.stringify(row, null, 2));
    console.log(cells(row).join(' | '));
  }
} finally {
  if (values.keep === undefined) rmSync(directory, { recursive: true, force: true });
}
const body = table(
  ['file', 'checks', 'int8 layers', 'outputs judged', 'SQNR, dB', 'weights of 8 bits', 'quantize_static'],
  rows.map(cells),
);
console.log(body);
if (values.append)
  appendResults({
    title: 'Public ONNX files',
    command: `npm run bench -- zoo --folder DIR --method ${values.method} --samples ${values.samples}`,
    machine: machine(),
    versions: [],
    body,
  });
