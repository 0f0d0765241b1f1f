import { OctetError } from '../errors.js';

/** The state of a run, or a part of it: every array under its name. */
export type NamedArrays = Readonly<Record<string, Float32Array | Float64Array>>;

/** Copies that later changes do not touch. */
export const copyArrays = (arrays: NamedArrays): NamedArrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, array.slice()]));

/** The arrays of `from` that `like` has, by name. Throws CHECKPOINT_MISMATCH where one is missing, or is of another type or length. */
export function matchingArrays<T extends NamedArrays>(from: NamedArrays, like: T): T {
  const found = Object.entries(like).map(([name, array]) => {
    const saved = from[name];
    if (saved?.length !== array.length || saved.constructor !== array.constructor)
      throw new OctetError('CHECKPOINT_MISMATCH', `The checkpoint has no array ${name} of ${array.length} numbers`);
    return [name, saved];
  });
  return Object.fromEntries(found) as T;
}

/** Write the arrays of `from` into those of the same name, in place. Throws CHECKPOINT_MISMATCH as `matchingArrays` does. */
export function loadArrays(into: NamedArrays, from: NamedArrays): void {
  for (const [name, array] of Object.entries(matchingArrays(from, into))) into[name]?.set(array);
}
