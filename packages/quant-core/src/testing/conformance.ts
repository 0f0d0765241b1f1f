import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Program } from '../engine/engine.js';
import type { OrtEngine } from '../engine/ort/ort.js';
import { type ErrorCode, OctetError } from '../errors.js';
import { readOnnx } from '../formats/onnx/read.js';
import { decode, type GraphProto } from '../formats/onnx/schema.js';
import { isSupported, readTensor } from '../formats/onnx/tensors.js';
import type { Graph, ValueType } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { verify } from '../ir/verify.js';
import { normalise } from '../normalise/index.js';
import { type Tensor, toNumbers } from '../tensor/tensor.js';

/** Where the conformance data of ONNX lies: Debian's package libonnx-testdata, unless ONNX_TEST_DATA names another folder. */
export const conformanceFolder = process.env.ONNX_TEST_DATA ?? '/usr/share/libonnx-testdata/data';

/** One folder with model.onnx, and inputs and outputs beside it. */
export interface ConformanceCase {
  suite: string;
  name: string;
  folder: string;
}

export interface CaseResult extends Pick<ConformanceCase, 'suite' | 'name'> {
  /** The operator that the case is about; a sentence in brackets for whole models. */
  op: string;
  /** `skip`: the case asks for something that Octet refuses on purpose or that the runtime does not do; `reason` says what. */
  outcome: 'pass' | 'skip' | 'fail';
  reason: string;
  /** Whether the shapes of all outputs are inferred without the help of the file; undefined when the case did not come so far. */
  shapes?: 'inferred' | 'unknown';
}

/** Every case below a folder, in the order of names; none where there is no such folder. */
export function conformanceCases(folder: string): ConformanceCase[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .flatMap((suite) =>
      readdirSync(join(folder, suite))
        .sort()
        .map((name) => ({ suite, name, folder: join(folder, suite, name) }))
        .filter((entry) => existsSync(join(entry.folder, 'model.onnx')) && existsSync(join(entry.folder, 'test_data_set_0'))),
    );
}

/** A reason to skip, thrown from wherever it is found. */
class Skip extends Error {}

interface Expected {
  inputs: Tensor[];
  outputs: Tensor[];
}

function readData({ folder }: ConformanceCase): Expected {
  const files = readdirSync(join(folder, 'test_data_set_0'));
  const list = (kind: string) =>
    files
      .filter((file) => file.startsWith(`${kind}_`))
      .sort((a, b) => Number.parseInt(a.slice(kind.length + 1), 10) - Number.parseInt(b.slice(kind.length + 1), 10))
      .map((file) => readPb(readFileSync(join(folder, 'test_data_set_0', file)), file));
  return { inputs: list('input'), outputs: list('output') };
}

function readPb(bytes: Uint8Array, file: string): Tensor {
  const proto = decode('Tensor', bytes);
  if (!isSupported(proto, file)) throw new Skip('a tensor of strings, bfloat16 or another type that JavaScript has no arrays for');
  return readTensor(proto, file);
}

/** What a case is about: its only operator, or what kind of model it is. */
function subject({ suite, name }: ConformanceCase, graph: GraphProto): string {
  if (suite.startsWith('pytorch')) return '(exports of PyTorch)';
  if (suite !== 'node') return '(small models)';
  if (/_expanded/.test(name)) return '(functions of ONNX written out)';
  const ops = [...new Set((graph.node ?? []).map((node) => node.opType ?? ''))];
  return ops.length === 1 ? (ops[0] as string) : (ops.find((op) => op !== 'Constant') ?? '(small models)');
}

/** Refusals that tell the user what Octet is not for: code, what the message says, and the sentence of the table. */
const refusals: readonly (readonly [ErrorCode, RegExp, string])[] = [
  ['MODEL_INPUTS_UNSUPPORTED', /is not a tensor/, 'refused: an input that is not a tensor (a sequence, an optional)'],
  ['MODEL_DTYPE', /graph input/, 'refused: an input of strings, bfloat16 or another type that JavaScript has no arrays for'],
  ['MODEL_UNSUPPORTED_OP', /of the domain/, 'refused: an operator of a domain that ONNX Runtime does not have'],
  ['MODEL_UNSUPPORTED_OP', /in the form of|took away|of the form of/, 'refused: an old form of an operator that opset 18 has no equal of'],
  ['MODEL_OPSET_UNSUPPORTED', /imports no opset/, 'refused: a model without standard operators'],
  ['MODEL_OPSET_UNSUPPORTED', /is of opset [1-6],/, 'refused: an opset before 7'],
  ['MODEL_OPSET_UNSUPPORTED', /is of opset \d\d,/, 'refused: an opset newer than ONNX Runtime runs'],
  ['MODEL_SHAPE', /graph input .* has the dimension 0/, 'refused: an input that is always empty'],
];

/** Run one case through reader, shape inference, verifier, engine, and once more after normalisation. */
export async function runCase(entry: ConformanceCase, engine: OrtEngine): Promise<CaseResult> {
  const bytes = readFileSync(join(entry.folder, 'model.onnx'));
  const op = subject(entry, decode('Model', bytes).graph ?? {});
  const result = { suite: entry.suite, name: entry.name, op };
  const seen: { shapes?: 'inferred' | 'unknown' } = {};
  try {
    await checkCase(entry, bytes, engine, seen);
    return { ...result, ...seen, outcome: 'pass', reason: '' };
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : String(error);
    return { ...result, ...seen, outcome: error instanceof Skip ? 'skip' : 'fail', reason };
  }
}

async function checkCase(
  entry: ConformanceCase,
  bytes: Uint8Array,
  engine: OrtEngine,
  seen: { shapes?: 'inferred' | 'unknown' },
): Promise<void> {
  const graph = read(bytes);
  if (decode('Model', bytes).graph?.output?.some((output) => !output.type?.tensorType)) throw new Skip('a result that is not a tensor');
  const data = readData(entry);
  const asRead = await outputsOf(graph.clone(), data, engine);
  if (!(asRead instanceof Error)) seen.shapes = checkShapes(graph, data);
  const problem = asRead instanceof Error ? asRead : difference(graph, asRead, data);
  if (problem) throw (await runtimeItself(entry, data, engine)) ?? problem;
  if (graph.nodes.some((node) => node.is('BatchNormalization') && node.attr('training_mode') === 1))
    throw new Skip('batch norm in training mode is put into inference form');
  await normalise(graph, { evaluate: (part) => evaluate(part, engine) });
  verify(graph);
  const normalised = await outputsOf(graph, data, engine);
  const after = normalised instanceof Error ? normalised : difference(graph, normalised, data);
  if (after) throw new Error(`after normalisation: ${after.message}`);
}

function read(bytes: Uint8Array): Graph {
  try {
    return readOnnx(bytes);
  } catch (error) {
    const refusal = error instanceof OctetError && refusals.find(([code, says]) => error.code === code && says.test(error.message));
    throw refusal ? new Skip(refusal[2]) : error;
  }
}

/** Shapes inferred without what the file claims must agree with those that came out. */
function checkShapes(graph: Graph, data: Expected): 'inferred' | 'unknown' {
  const blind = graph.clone();
  for (const value of blind.nodes.flatMap((node) => node.outputs)) {
    value.type = undefined;
    value.declared = undefined;
  }
  inferShapes(blind);
  verify(blind);
  inferShapes(graph);
  let known: 'inferred' | 'unknown' = 'inferred';
  for (const [i, value] of blind.outputs.entries()) {
    const wanted = data.outputs[i];
    if (!value.type?.shape) known = 'unknown';
    const problem = wanted && value.type && misfit(value.type, wanted);
    if (problem) throw new Error(`output ${i}: ${problem}`);
  }
  return known;
}

function misfit(type: ValueType, tensor: Tensor): string | undefined {
  const fits =
    type.dtype === tensor.dtype &&
    (!type.shape ||
      (type.shape.length === tensor.shape.length &&
        type.shape.every((dim, axis) => typeof dim === 'string' || dim === tensor.shape[axis])));
  return fits ? undefined : `inferred as ${type.dtype}[${type.shape}], came out as ${tensor.dtype}[${tensor.shape}]`;
}

async function evaluate(graph: Graph, engine: OrtEngine): Promise<Record<string, Tensor>> {
  const program = await engine.compile(graph, { threads: 1, mode: 'train' });
  try {
    return await program.run({});
  } finally {
    await program.dispose();
  }
}

async function outputsOf(graph: Graph, data: Expected, engine: OrtEngine): Promise<(Tensor | undefined)[] | Error> {
  try {
    return await run(await engine.compile(graph, { threads: 1, mode: 'infer' }), graph, data);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

async function run(program: Program, graph: Graph, data: Expected): Promise<(Tensor | undefined)[]> {
  try {
    const feeds = Object.fromEntries(graph.inputs.map((value, i) => [value.name, data.inputs[i] as Tensor]));
    const results = await program.run(feeds);
    return graph.outputs.map((value) => results[value.name]);
  } finally {
    await program.dispose();
  }
}

/** The tolerance of ONNX's own test runner: |a - b| ≤ 1e-7 + 1e-3·|b|. */
function difference(graph: Graph, got: readonly (Tensor | undefined)[], data: Expected): Error | undefined {
  for (const [i, wanted] of data.outputs.entries()) {
    const tensor = got[i];
    const name = graph.outputs[i]?.name;
    if (!tensor) return new Error(`output "${name}" is missing`);
    if (tensor.dtype !== wanted.dtype || tensor.shape.join() !== wanted.shape.join())
      return new Error(`output "${name}" is ${tensor.dtype}[${tensor.shape}], wanted ${wanted.dtype}[${wanted.shape}]`);
    const [a, b] = [toNumbers(tensor), toNumbers(wanted)];
    for (let at = 0; at < b.length; at++) {
      const [x, y] = [a[at] as number, b[at] as number];
      if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue;
      if (!(Math.abs(x - y) <= 1e-7 + 1e-3 * Math.abs(y))) return new Error(`output "${name}": element ${at} is ${x}, wanted ${y}`);
    }
  }
  return undefined;
}

/** A skip when the runtime, given the file as it is, does not do what the case wants either. */
async function runtimeItself(entry: ConformanceCase, data: Expected, engine: OrtEngine): Promise<Skip | undefined> {
  const path = join(entry.folder, 'model.onnx');
  const graph = readOnnx(readFileSync(path));
  let problem: Error | undefined;
  try {
    problem = difference(graph, await run(await engine.load(path, { threads: 1, mode: 'infer' }), graph, data), data);
  } catch (error) {
    problem = error instanceof Error ? error : new Error(String(error));
    if (/NOT_IMPLEMENTED|Could not find an implementation|not a registered function|No Op registered/.test(problem.message))
      return new Skip('ONNX Runtime has no kernel for it');
    return new Skip('ONNX Runtime refuses the file');
  }
  return problem && new Skip('ONNX Runtime computes something else from the file itself');
}

const count = (results: readonly CaseResult[], outcome: CaseResult['outcome']) =>
  results.filter((result) => result.outcome === outcome).length;

function groupBy(results: readonly CaseResult[], key: (result: CaseResult) => string): [string, CaseResult[]][] {
  const groups = new Map<string, CaseResult[]>();
  for (const result of results) groups.set(key(result), [...(groups.get(key(result)) ?? []), result]);
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The first line of the page, which tells one set of data from another. */
export const casesLine = (results: readonly CaseResult[]): string => `${results.length} cases of ONNX's own conformance data`;

/** docs/conformance.md */
export function conformancePage(results: readonly CaseResult[], runtime: string): string {
  const rows = groupBy(results, ({ op }) => op).map(([op, list]) => {
    const shapes = list.filter(({ shapes }) => shapes !== undefined);
    const inferred = shapes.filter(({ shapes }) => shapes === 'inferred').length;
    const cells = [op, list.length, count(list, 'pass'), count(list, 'skip'), shapes.length ? `${inferred} of ${shapes.length}` : ''];
    return `| ${cells.join(' | ')} |`;
  });
  const skipped = results.filter(({ outcome }) => outcome !== 'pass');
  const reasons = groupBy(skipped, ({ reason }) => reason).map(
    ([reason, list]) =>
      `| ${reason} | ${list.length} | ${groupBy(list, ({ op }) => op)
        .map(([op]) => op)
        .join(', ')} |`,
  );
  return `${[
    '# Conformance',
    'Written by `npx tsx scripts/conformance.ts`; a test compares the two where the data is installed (Debian: `apt-get install libonnx-testdata`; elsewhere `ONNX_TEST_DATA` names the folder).',
    `${casesLine(results)}, ONNX Runtime ${runtime}: ${count(results, 'pass')} pass, ${count(results, 'skip')} are skipped, ${count(results, 'fail')} fail.`,
    'A case passes when the file is read, the types and shapes inferred from the operators alone (whatever the file claims) agree with the expected results, the graph keeps the rules of the ' +
      'verifier, and the engine gives the expected numbers twice: for the graph as it was read and as it was normalised. ' +
      'Tolerance is that of ONNX\'s own runner. "Shapes" counts the cases whose result has a rank known before the model runs; ' +
      'elsewhere it depends on what is fed.',
    ['| operator | cases | pass | skipped | shapes |', '| --- | --- | --- | --- | --- |', ...rows].join('\n'),
    '## Skipped',
    ['| reason | cases | operators |', '| --- | --- | --- |', ...reasons].join('\n'),
  ].join('\n\n')}\n`;
}
