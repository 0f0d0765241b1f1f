import type { OpType } from '../../../ir/ops.js';
import { activations } from './activations.js';
import { convolution } from './conv.js';
import { elementwise } from './elementwise.js';
import { indexing } from './indexing.js';
import type { Kernel } from './kernel.js';
import { matrix } from './matrix.js';
import { movement } from './movement.js';
import { normalisation } from './normalisation.js';
import { pooling } from './pool.js';
import { quantization } from './quantize.js';
import { reductions } from './reduce.js';
import { resizing } from './resize.js';

/** Rows with gaps: an op without one is refused when a graph is compiled. */
export const kernels: { readonly [K in OpType]?: Kernel<K> } = {
  ...activations,
  ...convolution,
  ...elementwise,
  ...indexing,
  ...matrix,
  ...movement,
  ...normalisation,
  ...pooling,
  ...quantization,
  ...reductions,
  ...resizing,
};
