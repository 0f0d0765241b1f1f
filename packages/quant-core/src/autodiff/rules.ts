import type { OpType } from '../ir/ops.js';
import { convGradient } from './conv.js';
import { type GradientRule, rule } from './rule.js';
import { attention, rotaryEmbedding } from './rules/attention.js';
import { convTranspose } from './rules/convTranspose.js';
import { einsum } from './rules/einsum.js';
import { elementwiseRules } from './rules/elementwise.js';
import { indexingRules } from './rules/indexing.js';
import { matmulRules } from './rules/matmul.js';
import { movementRules } from './rules/movement.js';
import { normalisationRules } from './rules/normalisation.js';
import { poolRules } from './rules/pool.js';
import { recurrentRules } from './rules/recurrent.js';
import { reduceRules } from './rules/reduce.js';
import { resize } from './rules/resize.js';

export type { GradientRule } from './rule.js';

/**
 * One row an op; `null` says that there is no gradient. Formulas follow the definition of each operator in the ONNX
 * specification; every row meets finite differences in `rules.test.ts`.
 */
export const gradientRules: { readonly [K in OpType]: GradientRule<K> | null } = {
  ...elementwiseRules,
  ...matmulRules,
  ...poolRules,
  ...reduceRules,
  ...normalisationRules,
  ...movementRules,
  ...indexingRules,
  ...recurrentRules,
  Conv: rule(convGradient),
  ConvTranspose: convTranspose,
  Resize: resize,
  Einsum: einsum,
  Attention: attention,
  RotaryEmbedding: rotaryEmbedding,
  // Steps, choices and counts.
  Floor: null,
  Ceil: null,
  Round: null,
  ReduceProd: null,
  ArgMax: null,
  ArgMin: null,
  Shape: null,
  Size: null,
  Range: null,
  OneHot: null,
  Constant: null,
  ConstantOfShape: null,
  Equal: null,
  Greater: null,
  GreaterOrEqual: null,
  Less: null,
  LessOrEqual: null,
  And: null,
  Or: null,
  Xor: null,
  Not: null,
  // Fake quantization has the straight-through rule of its own.
  QuantizeLinear: null,
  DequantizeLinear: null,
  // Executed, not trained through.
  Opaque: null,
};
