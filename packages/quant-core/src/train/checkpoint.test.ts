import { describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { type Checkpoint, encodeCheckpoint } from './checkpoint.js';
import { decodeCheckpoint } from './readCheckpoint.js';

const checkpoint: Checkpoint = {
  fingerprint: 'abc',
  learningRate: 0.01,
  step: 7,
  lossSum: 1.25,
  parameters: Float32Array.of(1, -2, 3.5),
  optimizer: [Float32Array.of(0.1, 0.2, 0.3), Float32Array.of(4, 5, 6)],
  scales: [Float64Array.of(-1 / 3), Float64Array.of(1 / 7)],
  history: [{ epoch: 1, loss: 2, holdoutLoss: 1.5, holdoutMetric: 0.5, learningRate: 0.01, seconds: 3, best: true }],
  best: {
    epoch: 1,
    holdoutLoss: 1.5,
    parameters: Float32Array.of(9, 8, 7),
    scales: [Float64Array.of(-0.1), Float64Array.of(0.1)],
  },
};

/** The bytes with another header. */
function withHeader(change: (header: Record<string, unknown>) => unknown): Uint8Array {
  const bytes = Buffer.from(encodeCheckpoint(checkpoint));
  const length = bytes.readUInt32LE(8);
  const header = Buffer.from(JSON.stringify(change(JSON.parse(bytes.toString('utf8', 12, 12 + length)) as Record<string, unknown>)));
  const size = Buffer.alloc(4);
  size.writeUInt32LE(header.length);
  return Buffer.concat([bytes.subarray(0, 8), size, header, bytes.subarray(12 + length)]);
}

describe('a checkpoint', () => {
  it('comes back from its bytes', () => {
    expect(decodeCheckpoint(encodeCheckpoint(checkpoint))).toEqual(checkpoint);
    const early = { ...checkpoint, best: undefined, optimizer: [Float32Array.of(1, 2, 3)] };
    expect(decodeCheckpoint(encodeCheckpoint(early))).toEqual(early);
    const whole = { float: [1], int8: [0.5], mixed: [0.4] };
    const layers = [{ name: 'conv', op: 'Conv', left: true, float: [1], int8: [] }];
    const placement = { batches: [1], threads: 1, cpu: 'one', whole, bytes: { int8: 9, mixed: 10 }, layers, trials: 2, note: 'n' };
    expect(decodeCheckpoint(encodeCheckpoint({ ...checkpoint, placement }))).toEqual({ ...checkpoint, placement });
  });

  it('comes back from a view that is not aligned', () => {
    const bytes = encodeCheckpoint(checkpoint);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    expect(decodeCheckpoint(shifted.subarray(1))).toEqual(checkpoint);
  });

  it('holds its own copies', () => {
    const bytes = encodeCheckpoint(checkpoint);
    const decoded = decodeCheckpoint(bytes);
    bytes.fill(0);
    expect(decoded.parameters).toEqual(checkpoint.parameters);
  });

  const whole = encodeCheckpoint(checkpoint);
  it.each([
    ['nothing', new Uint8Array()],
    ['something else', Buffer.from('not a checkpoint at all')],
    ['the magic alone', whole.subarray(0, 12)],
    ['cut off in the header', whole.subarray(0, 40)],
    ['cut off in the arrays', whole.subarray(0, whole.length - 4)],
    ['too long', Buffer.concat([whole, Buffer.alloc(4)])],
    ['an empty header', withHeader(() => ({}))],
    ['a header that is no object', withHeader(() => null)],
    ['a negative length', withHeader((header) => ({ ...header, lengths: [-3, 3, 3, 1, 1, 9, 1, 1] }))],
    ['too few arrays', withHeader((header) => ({ ...header, lengths: [14] }))],
    ['a step that is no number', withHeader((header) => ({ ...header, step: 'seven' }))],
    ['a header of another version', withHeader(({ learningRate: _, ...header }) => header)],
  ])('is refused when it is %s', async (_what, bytes) => {
    await failure('CHECKPOINT_MISMATCH', () => decodeCheckpoint(bytes));
  });
});
