import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import { OctetError } from '../errors.js';
import { PlacementSchema } from '../fakequant/placementRecord.js';
import { type Checkpoint, checkpointMagic } from './checkpoint.js';
import { EpochRecordSchema } from './epochs.js';

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
  placement: Type.Optional(PlacementSchema),
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
  if (buffer.length < 12 || buffer.toString('latin1', 0, 8) !== checkpointMagic)
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
    ...(header.placement ? { placement: header.placement } : {}),
  };
}
