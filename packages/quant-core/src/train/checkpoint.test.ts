import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { readArrayFile, writeArrayFile } from './arrayFile.js';
import { type Checkpoint, packCheckpoint } from './checkpoint.js';
import { unpackCheckpoint } from './readCheckpoint.js';
import { reread } from './testing/checkpoints.js';

const checkpoint: Checkpoint = {
  fingerprint: 'abc',
  learningRate: 0.01,
  step: 7,
  lossSum: 1.25,
  history: [{ epoch: 1, loss: 2, holdoutLoss: 1.5, holdoutMetric: 0.5, learningRate: 0.01, seconds: 3, best: true }],
  arrays: {
    parameters: Float32Array.of(1, -2, 3.5),
    'optimizer.0': Float32Array.of(0.1, 0.2, 0.3),
    'optimizer.1': Float32Array.of(4, 5, 6),
    'ranges.min': Float64Array.of(-1 / 3),
    'ranges.max': Float64Array.of(-0),
  },
  best: {
    epoch: 1,
    holdoutLoss: 1.5,
    arrays: { parameters: Float32Array.of(9, 8, 7), 'ranges.min': Float64Array.of(-0.1), 'ranges.max': Float64Array.of(0.1) },
  },
};

let directory: string;
let path: string;
let whole: Buffer;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'octet-checkpoint-'));
  path = join(directory, 'whole.bin');
  const { header, arrays } = packCheckpoint(checkpoint);
  await writeArrayFile(path, header, arrays);
  whole = await readFile(path);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** The bytes with another header; their digest is not made anew. */
function withHeader(change: (header: { value: Record<string, unknown>; arrays: unknown }) => unknown): Uint8Array {
  const length = whole.readUInt32LE(8);
  const header = Buffer.from(JSON.stringify(change(JSON.parse(whole.toString('utf8', 12, 12 + length)))));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(header.length);
  return Buffer.concat([whole.subarray(0, 8), size, header, whole.subarray(12 + length)]);
}

describe('a checkpoint', () => {
  it('comes back from its parts', () => {
    expect(reread(checkpoint)).toEqual(checkpoint);
    expect(reread({ ...checkpoint, best: undefined })).toEqual({ ...checkpoint, best: undefined });
  });

  it('comes back from its file, bit by bit', async () => {
    const { value, arrays } = await readArrayFile(path);
    const read = unpackCheckpoint({ header: value, arrays });
    expect(read).toEqual(checkpoint);
    expect(Object.is(read.arrays['ranges.max']?.[0], -0)).toBe(true);
  });

  it('of a large network is written and read in pieces', async () => {
    const large = { parameters: Float32Array.from({ length: 3_000_000 }, (_, i) => Math.sin(i)), none: new Float64Array() };
    const file = join(directory, 'large.bin');
    await writeArrayFile(file, null, large);
    const { arrays } = await readArrayFile(file);
    expect(Buffer.from((arrays.parameters as Float32Array).buffer).equals(Buffer.from(large.parameters.buffer))).toBe(true);
    expect(arrays.none).toEqual(large.none);
  });

  const changed = (at: number) => () => {
    const bytes = Buffer.from(whole);
    bytes[at < 0 ? bytes.length + at : at] = (bytes.at(at) as number) ^ 1;
    return bytes;
  };
  it.each<[string, () => Uint8Array]>([
    ['nothing', () => new Uint8Array()],
    ['something else', () => Buffer.from('not a checkpoint at all')],
    ['of another version', changed(7)],
    ['the magic alone', () => whole.subarray(0, 12)],
    ['cut off in the header', () => whole.subarray(0, 40)],
    ['cut off in the arrays', () => whole.subarray(0, whole.length - 4)],
    ['too long', () => Buffer.concat([whole, Buffer.alloc(4)])],
    ['changed in an array', changed(-40)],
    ['changed in its digest', changed(-1)],
    ['an empty header', () => withHeader(() => ({}))],
    ['a header that is not an object', () => withHeader(() => null)],
    ['a header that is not JSON', changed(12)],
    ['a negative length', () => withHeader((header) => ({ ...header, arrays: [['parameters', 'f4', -3]] }))],
    ['a length beyond the file', () => withHeader((header) => ({ ...header, arrays: [['parameters', 'f4', 1e15]] }))],
    ['an unknown type', () => withHeader((header) => ({ ...header, arrays: [['parameters', 'i8', 1]] }))],
    ['another header of the same length', () => withHeader(({ value, arrays }) => ({ value: { ...value, step: 8 }, arrays }))],
  ])('is refused when it is %s', async (_what, bytes) => {
    const file = join(directory, 'damaged.bin');
    await writeFile(file, bytes());
    await failure('CHECKPOINT_MISMATCH', () => readArrayFile(file));
  });

  it('is refused when its header is not that of a training', async () => {
    const { header, arrays } = packCheckpoint(checkpoint);
    const { learningRate: _, ...rest } = header;
    for (const other of [null, rest, { ...header, step: 'seven' }])
      await failure('CHECKPOINT_MISMATCH', () => unpackCheckpoint({ header: other, arrays }));
  });
});
