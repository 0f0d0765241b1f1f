import type { Dim, Node } from '../graph.js';
import { divideDimsExactly, multiplyDims } from './dim.js';
import type { Types } from './rule.js';

/** Standard ops outside the op list whose first output has the type and shape of the first input, whatever their attributes are. */
const keepsShape: ReadonlySet<string> = new Set(
  'Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh CumSum Elu Gelu GroupNormalization Hardmax InstanceNormalization LayerNormalization LpNormalization LRN MeanVarianceNormalization Mish RMSNormalization Selu Shrink Sin Sinh Softplus Softsign Swish Tan ThresholdedRelu Trilu'.split(
    ' ',
  ),
);

/** What can be told of an op outside the list: by its name where that is enough, else what the file notes. */
export function opaque(node: Node<'Opaque'>): Types {
  const noted = node.outputs.map((value) => value.type);
  const first = node.inputs[0]?.type;
  if (node.opaque?.domain !== '' || !first) return noted;
  if (keepsShape.has(node.opaque.opType)) return [first, ...noted.slice(1)];
  if (node.opaque.opType === 'Resize' && !noted[0]?.shape) return [{ dtype: first.dtype, shape: resized(node, first.shape) }];
  return noted;
}

/** Each size times its scale, rounded down; undefined where that is not known. */
function resized(node: Node<'Opaque'>, shape: readonly Dim[] | undefined): Dim[] | undefined {
  const scales = node.inputs[2]?.constant;
  if (!shape || node.inputs[3] || scales?.dtype !== 'float32' || scales.size !== shape.length) return undefined;
  const out = shape.map((dim, axis): Dim | undefined => {
    const scale = scales.data[axis] as number;
    if (typeof dim === 'number') return Math.floor(Math.fround(dim * scale));
    return Number.isInteger(scale) ? multiplyDims(dim, scale) : divideDimsExactly(dim, Math.round(1 / scale));
  });
  return out.every((dim) => dim !== undefined) ? out : undefined;
}
