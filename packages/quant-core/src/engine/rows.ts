import { OctetError } from '../errors.js';
import { allocate, type DataOf, type DType } from '../tensor/dtype.js';
import { sizeOf, Tensor, toNumbers } from '../tensor/tensor.js';
import type { Program } from './engine.js';

/** Rows `from … to` of a batch, the last row repeated up to `rows`. */
function rowsOf(x: Tensor, from: number, to: number, rows: number): Tensor {
  const step = sizeOf(x.shape.slice(1));
  const data = allocate(x.dtype as DType, rows * step) as Float32Array;
  const source = x.data as Float32Array;
  data.set(source.subarray(from * step, to * step));
  for (let row = to - from; row < rows; row++) data.set(source.subarray((to - 1) * step, to * step), row * step);
  return new Tensor(x.dtype, [rows, ...x.shape.slice(1)], data);
}

/** What a program is fed for a batch: tensors [n, …] by the names of its inputs. */
export type Feeds = Readonly<Record<string, Tensor>>;

/** Samples of a batch. */
const samplesIn = (feeds: Feeds): number => Object.values(feeds)[0]?.shape[0] ?? 0;

const mapFeeds = (feeds: Feeds, change: (x: Tensor) => Tensor): Feeds =>
  Object.fromEntries(Object.entries(feeds).map(([name, x]) => [name, change(x)]));

/** Rows `from … to` of a tensor, as a view. */
function viewRows<D extends DType>(tensor: Tensor<D>, from: number, to: number): Tensor<D> {
  const each = tensor.size / (tensor.shape[0] as number);
  const data = (tensor.data as Float32Array).subarray(from * each, to * each) as DataOf[D];
  return new Tensor(tensor.dtype, [to - from, ...tensor.shape.slice(1)], data);
}

/** Cut a batch into `count` parts whose sizes differ by one at most; fewer where there are fewer samples. Views. */
export function cutRows(feeds: Feeds, count: number): { feeds: Feeds; from: number; to: number }[] {
  const n = samplesIn(feeds);
  const parts = Math.min(count, n);
  return Array.from({ length: parts }, (_, i) => {
    const [from, to] = [Math.floor((i * n) / parts), Math.floor(((i + 1) * n) / parts)];
    return { feeds: mapFeeds(feeds, (x) => viewRows(x, from, to)), from, to };
  });
}

/**
 * A batch in pieces that a program takes: itself without `fixedBatch`, else whole pieces of that size. What is left over
 * is dropped, unless nothing else is there: then it is padded with its last row.
 */
export function chunksOf(feeds: Feeds, fixedBatch?: number): Feeds[] {
  const n = samplesIn(feeds);
  if (fixedBatch === undefined || n === 0) return n === 0 ? [] : [feeds];
  const whole = Math.max(1, Math.floor(n / fixedBatch));
  return Array.from({ length: whole }, (_, i) =>
    mapFeeds(feeds, (x) => rowsOf(x, i * fixedBatch, Math.min(n, (i + 1) * fixedBatch), fixedBatch)),
  );
}

/**
 * Run a batch of any size through a program, through one that takes `fixedBatch` samples at a time as well.
 * Returns `names`d outputs as float32 tensors [n, …]. Throws MODEL_SHAPE when an output has no row for each sample.
 */
export async function runRows(
  program: Program,
  feeds: Feeds,
  names: readonly string[],
  fixedBatch?: number,
): Promise<Record<string, Tensor<'float32'>>> {
  const n = samplesIn(feeds);
  const rows = fixedBatch ?? n;
  const parts: Record<string, Float32Array[]> = Object.fromEntries(names.map((name) => [name, []]));
  const shapes: Record<string, readonly number[]> = {};
  for (let from = 0; from < n; from += rows) {
    const to = Math.min(n, from + rows);
    const whole = from === 0 && to === n && rows === n;
    const results = await program.run(whole ? feeds : mapFeeds(feeds, (x) => rowsOf(x, from, to, rows)));
    for (const name of names) {
      const result = results[name];
      if (!result) throw new OctetError('INTERNAL', `the program has no output "${name}"`, { tensor: name });
      if (result.shape[0] !== rows || result.size % rows !== 0) {
        throw new OctetError(
          'MODEL_SHAPE',
          `output "${name}" has shape [${result.shape}] for ${rows} samples`,
          { tensor: name },
          { hint: 'The first dimension of the output must be the batch.' },
        );
      }
      shapes[name] = result.shape.slice(1);
      const numbers = toNumbers(result);
      const floats = numbers instanceof Float32Array ? numbers : Float32Array.from(numbers);
      parts[name]!.push(to - from === rows ? floats : floats.slice(0, ((to - from) * floats.length) / rows));
    }
  }
  return Object.fromEntries(names.map((name) => [name, Tensor.float32([n, ...(shapes[name] ?? [])], joined(parts[name]!))]));
}

function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
