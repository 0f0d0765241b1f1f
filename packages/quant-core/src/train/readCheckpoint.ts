import Type from 'typebox';
import Value from 'typebox/value';
import { OctetError } from '../errors.js';
import type { NamedArrays } from './arrays.js';
import { type Checkpoint, type PackedCheckpoint, prefixes } from './checkpoint.js';
import { EpochRecordSchema } from './epochs.js';

const HeaderSchema = Type.Object({
  fingerprint: Type.String(),
  learningRate: Type.Number(),
  step: Type.Integer({ minimum: 0 }),
  lossSum: Type.Number(),
  history: Type.Array(EpochRecordSchema),
  best: Type.Union([Type.Object({ epoch: Type.Integer(), holdoutLoss: Type.Number() }), Type.Null()]),
});

/** What `packCheckpoint` took apart; the arrays are not copied. Throws CHECKPOINT_MISMATCH when the header is something else. */
export function unpackCheckpoint({ header, arrays }: { header: unknown; arrays: PackedCheckpoint['arrays'] }): Checkpoint {
  if (!Value.Check(HeaderSchema, header))
    throw new OctetError('CHECKPOINT_MISMATCH', 'The header of the checkpoint is not that of this version of Octet');
  const { fingerprint, learningRate, step, lossSum, history, best } = header;
  return {
    fingerprint,
    learningRate,
    step,
    lossSum,
    history,
    arrays: without(prefixes.now, arrays),
    best: best ? { ...best, arrays: without(prefixes.best, arrays) } : undefined,
  };
}

/** The arrays whose names begin with `prefix`, without it. */
const without = (prefix: string, arrays: NamedArrays): NamedArrays =>
  Object.fromEntries(
    Object.entries(arrays).flatMap(([name, array]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), array]] : [])),
  );
