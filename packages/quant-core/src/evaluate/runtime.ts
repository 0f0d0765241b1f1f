import { readdir, readFile, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Engine } from '../engine/engine.js';
import { OctetError } from '../errors.js';
import { countNodes } from '../formats/onnx/count.js';
import type { Report } from '../report/schema.js';
import type { Tensor } from '../tensor/tensor.js';

export type RuntimeFigures = Omit<Report['runtime'], 'name' | 'version'>;

/** What a node of the optimized model does: compute on integers, on floats, go between the two, or work on shapes alone. */
export type NodeKind = 'integer' | 'float' | 'boundary' | 'shape';

const boundaryOps = new Set(['QuantizeLinear', 'DequantizeLinear', 'DynamicQuantizeLinear']);
/** ONNX Runtime's integer kernels whose first input is not an 8-bit tensor (a scale, or floats that are quantized inside). */
const integerOps = /^(QLinear|QGemm$|QAttention$|QEmbed|ConvInteger|MatMulInteger|DynamicQuantize(MatMul|LSTM))/;

/**
 * Kind of a node, from its operator and the element types of its inputs and outputs as the runtime names them.
 * An operator that only moves or selects (Reshape, Transpose, MaxPool …) is integer when what it moves is 8-bit.
 */
export function kindOfNode(op: string, inputs: readonly string[], outputs: readonly string[]): NodeKind {
  const is8 = (type: string | undefined) => type === 'int8' || type === 'uint8';
  const isFloat = (type: string | undefined) => type !== undefined && /^(float|float16|float32|double|float64|bfloat16)$/.test(type);
  if (boundaryOps.has(op)) return 'boundary';
  if (integerOps.test(op)) return 'integer';
  if (op === 'Shape' || op === 'Size') return 'shape';
  if (op === 'Cast') return inputs.some(isFloat) || outputs.some(isFloat) ? 'float' : 'shape';
  if (is8(inputs[0]) || outputs.some(is8)) return 'integer';
  return inputs.some(isFloat) || outputs.some(isFloat) ? 'float' : 'shape';
}

interface ProfileEvent {
  cat: string;
  name: string;
  dur: number;
  ts: number;
  args?: {
    op_name?: string;
    node_index?: string;
    input_type_shape?: Record<string, unknown>[];
    output_type_shape?: Record<string, unknown>[];
  };
}

const typesOf = (list: Record<string, unknown>[] | undefined) => (list ?? []).flatMap((entry) => Object.keys(entry));

/**
 * Count nodes and share out time from an ONNX Runtime profile (Chrome trace events, microseconds). Every node that ran
 * counts once; time is summed over the runs after the first `warmUp`.
 */
export function readProfile(text: string, warmUp = 0): RuntimeFigures {
  let events: ProfileEvent[];
  try {
    events = JSON.parse(text) as ProfileEvent[];
    if (!Array.isArray(events)) throw new SyntaxError('not a list of events');
  } catch (error) {
    throw new OctetError('INTERNAL', 'the profile of the runtime cannot be read', {}, { cause: error });
  }
  const starts = events.filter((event) => event.cat === 'Session' && event.name === 'model_run').map((event) => event.ts);
  const from = starts.sort((a, b) => a - b)[Math.min(warmUp, starts.length - 1)] ?? 0;
  const counts: Record<NodeKind, number> = { integer: 0, float: 0, boundary: 0, shape: 0 };
  const times: Record<NodeKind, number> = { integer: 0, float: 0, boundary: 0, shape: 0 };
  const byOp: Record<string, number> = {};
  const seen = new Set<string>();
  for (const { cat, name, dur, ts, args } of events) {
    if (cat !== 'Node' || !name.endsWith('_kernel_time') || !args?.op_name) continue;
    const kind = kindOfNode(args.op_name, typesOf(args.input_type_shape), typesOf(args.output_type_shape));
    const key = `${args.node_index} ${name}`;
    if (!seen.has(key)) {
      seen.add(key);
      counts[kind]++;
      byOp[args.op_name] = (byOp[args.op_name] ?? 0) + 1;
    }
    if (ts >= from) times[kind] += dur;
  }
  const all = times.integer + times.float + times.boundary + times.shape;
  return {
    integerNodes: counts.integer,
    floatNodes: counts.float,
    boundaryNodes: counts.boundary,
    integerTimeShare: all > 0 ? times.integer / all : null,
    byOp: Object.fromEntries(Object.entries(byOp).sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))),
  };
}

export interface InspectOptions {
  engine: Engine;
  /** A finished model file. */
  path: string;
  threads: number;
  feeds: Record<string, Tensor>;
  /** Existing scratch folder; the profile is removed from it again. */
  directory: string;
  /** Measured runs, after three that warm up; `runsFor` when left out. */
  runs?: number;
  /** Time after which no further run begins, ms; two are made all the same, so that one is measured. */
  budgetMs?: number;
}

const warmUpRuns = 3;
const measuredRuns = 20;
/** Events of a profile (half a kilobyte each): what is read as one string must fit one. */
const mostEvents = 200_000;

/** Measured runs for a model of so many nodes: fewer where the profile would become too long, one at least. */
export const runsFor = (nodes: number): number =>
  Math.max(1, Math.min(measuredRuns, Math.floor(mostEvents / Math.max(1, nodes)) - warmUpRuns));

/**
 * Run a model as a user's session would, under the runtime's profiler, and find which nodes really computed on integers.
 * The profile names each kernel with the types it was given, which says more than the optimized model written out.
 */
export async function inspectRuntime({ engine, path, threads, feeds, directory, runs, budgetMs }: InspectOptions): Promise<RuntimeFigures> {
  const prefix = join(directory, `octet-profile-${process.pid}`);
  const remove = async () => {
    for (const file of await profilesOf(prefix)) await rm(file, { force: true });
  };
  await remove();
  const program = await engine.load(path, { threads, mode: 'infer', profilePrefix: prefix });
  const all = warmUpRuns + (runs ?? runsFor(countNodes(path)));
  try {
    const began = performance.now();
    const timely = () => performance.now() - began < (budgetMs ?? Number.POSITIVE_INFINITY);
    for (let run = 0; run < all && (run < 2 || timely()); run++) await program.run(feeds);
  } finally {
    await program.dispose();
  }
  try {
    const [file] = await profilesOf(prefix);
    if (!file) throw new OctetError('INTERNAL', `${engine.name} ${engine.version} wrote no profile`);
    return readProfile(await readFile(file, 'utf8'), warmUpRuns);
  } finally {
    await remove();
  }
}

/** Profiles with this prefix: the runtime adds a time and `.json`. */
async function profilesOf(prefix: string): Promise<string[]> {
  const names = await readdir(dirname(prefix));
  return names
    .filter((name) => name.startsWith(`${basename(prefix)}_`) && name.endsWith('.json'))
    .map((name) => join(dirname(prefix), name));
}
