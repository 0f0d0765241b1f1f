import { type Checkpoint, packCheckpoint } from '../checkpoint.js';
import { unpackCheckpoint } from '../readCheckpoint.js';

/** A checkpoint after its way through JSON and bytes. */
export function reread(checkpoint: Checkpoint): Checkpoint {
  const { header, arrays } = packCheckpoint(checkpoint);
  return unpackCheckpoint({ header: JSON.parse(JSON.stringify(header)), arrays: structuredClone(arrays) });
}
