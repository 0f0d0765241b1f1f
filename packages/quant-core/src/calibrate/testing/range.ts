import type { Range } from '../../tensor/affine.js';

/** Smallest and largest of some values. */
export function rangeOf(values: Float32Array): Range {
  return {
    min: values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
    max: values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY),
  };
}
