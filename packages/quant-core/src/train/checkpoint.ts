import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import { OctetError } from '../errors.js';

/** What is known of one epoch when it ends; the report shows it as it is. */
export const EpochRecordSchema = Type.Object({
  epoch: Type.Integer(),
  loss: Type.Number(),
  holdoutLoss: Type.Number(),
  holdoutMetric: Type.Number(),
  learningRate: Type.Number(),
  seconds: Type.Number(),
  best: Type.Boolean(),
});

export type EpochRecord = Static<typeof EpochRecordSchema>;

/** Everything a training run needs to go on and give the same bytes as if it had never stopped. */
export interface Checkpoint {
  /** Digest of what is trained (model, data, recipe); a checkpoint of another job is refused. */
  fingerprint: string;
  /** Learning rate at the start of the schedule. */
  learningRate: number;
  /** Steps finished, counted through all epochs. */
  step: number;
  /** Sum of the losses of the steps finished in the epoch under way. */
  lossSum: number;
  parameters: Float32Array;
  optimizer: Float32Array[];
  /** What `QuantState.snapshot` gave. */
  scales: Float64Array[];
  history: EpochRecord[];
  best: { epoch: number; holdoutLoss: number; parameters: Float32Array; scales: Float64Array[] } | undefined;
}

const magic = 'OCTETCP2';

/** Serialize: magic, length of a JSON header, the header, then the arrays one after the other (little-endian). */
export function encodeCheckpoint(checkpoint: Checkpoint): Uint8Array {
  const arrays: (Float32Array | Float64Array)[] = [checkpoint.parameters, ...checkpoint.optimizer, ...checkpoint.scales];
  if (checkpoint.best) arrays.push(checkpoint.best.parameters, ...checkpoint.best.scales);
  const header = JSON.stringify({
    fingerprint: checkpoint.fingerprint,
    learningRate: checkpoint.learningRate,
    step: checkpoint.step,
    lossSum: checkpoint.lossSum,
    history: checkpoint.history,
    optimizers: checkpoint.optimizer.length,
    scales: checkpoint.scales.length,
    best: checkpoint.best ? { epoch: checkpoint.best.epoch, holdoutLoss: checkpoint.best.holdoutLoss } : null,
    lengths: arrays.map((array) => array.length),
  });
  const head = Buffer.from(header);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(head.length);
  return Buffer.concat([
    Buffer.from(magic),
    size,
    head,
    ...arrays.map((array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength)),
  ]);
}

const count = Type.Integer({ minimum: 0 });

const HeaderSchema = Type.Object({
  fingerprint: Type.String(),
  learningRate: Type.Number(),
  step: count,
  lossSum: Type.Number(),
  history: Type.Array(EpochRecordSchema),
  optimizers: Type.Integer({ minimum: 0, maximum: 16 }),
  scales: Type.Integer({ minimum: 0, maximum: 16 }),
  best: Type.Union([Type.Object({ epoch: Type.Integer(), holdoutLoss: Type.Number() }), Type.Null()]),
  lengths: Type.Array(count),
});

function readHeader(text: string): Static<typeof HeaderSchema> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw new OctetError('CHECKPOINT_MISMATCH', 'The header of the checkpoint is damaged', {}, { cause: error });
  }
  if (!Value.Check(HeaderSchema, header) || header.lengths.length !== (1 + header.scales) * (header.best ? 2 : 1) + header.optimizers)
    throw new OctetError('CHECKPOINT_MISMATCH', 'The header of the checkpoint is not that of this version of Octet');
  return header;
}

/** Read what `encodeCheckpoint` wrote. Throws CHECKPOINT_MISMATCH when the bytes are something else. */
export function decodeCheckpoint(bytes: Uint8Array): Checkpoint {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length < 12 || buffer.toString('latin1', 0, 8) !== magic)
    throw new OctetError('CHECKPOINT_MISMATCH', 'The file is not a checkpoint of Octet');
  const start = 12 + buffer.readUInt32LE(8);
  const header = readHeader(buffer.toString('utf8', 12, start));
  const arrays = header.lengths.length;
  // The order of `encodeCheckpoint`: everything is float32 but the scales.
  const afterBest = 2 + header.optimizers + header.scales;
  const isDouble = (index: number) => index > header.optimizers && index !== afterBest - 1;
  const total = header.lengths.reduce((sum, length, index) => sum + length * (isDouble(index) ? 8 : 4), start);
  if (total !== buffer.length)
    throw new OctetError('CHECKPOINT_MISMATCH', `The checkpoint holds ${buffer.length} bytes, its header says ${total}`);
  let at = start;
  const take = <T>(make: (buffer: ArrayBuffer) => T, length: number, bytesEach: number): T => {
    const slice = new Uint8Array(buffer.subarray(at, at + length * bytesEach));
    at += length * bytesEach;
    return make(slice.buffer as ArrayBuffer);
  };
  const list: (Float32Array | Float64Array)[] = [];
  for (let index = 0; index < arrays; index++) {
    const length = header.lengths[index] as number;
    list.push(isDouble(index) ? take((b) => new Float64Array(b), length, 8) : take((b) => new Float32Array(b), length, 4));
  }
  const n = header.optimizers;
  return {
    fingerprint: header.fingerprint,
    learningRate: header.learningRate,
    step: header.step,
    lossSum: header.lossSum,
    history: header.history,
    parameters: list[0] as Float32Array,
    optimizer: list.slice(1, 1 + n) as Float32Array[],
    scales: list.slice(1 + n, afterBest - 1) as Float64Array[],
    best: header.best
      ? {
          ...header.best,
          parameters: list[afterBest - 1] as Float32Array,
          scales: list.slice(afterBest) as Float64Array[],
        }
      : undefined,
  };
}
