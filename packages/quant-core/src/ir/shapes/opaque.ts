import type { Node } from '../graph.js';
import type { Types } from './rule.js';

/** Standard ops outside the op list whose first output has the type and shape of the first input, whatever their attributes are. */
const keepsShape: ReadonlySet<string> = new Set(
  'Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cosh CumProd Hardmax MeanVarianceNormalization ReverseSequence Shrink Sinh Tan'.split(' '),
);

/** Operators of ai.onnx.ml that treat every number on its own, or every row: the shape stays. Their results are float32, but for those that keep the type. */
const mlKeepsShape: Readonly<Record<string, 'float32' | 'same'>> = {
  Binarizer: 'same',
  Imputer: 'same',
  Normalizer: 'float32',
  Scaler: 'float32',
};

/** What can be told of an op outside the list: by its name where that is enough, else what the file notes. */
export function opaque(node: Node<'Opaque'>): Types {
  const noted = node.outputs.map((value) => value.type);
  const first = node.inputs[0]?.type;
  if (!first) return noted;
  const ml = node.opaque?.domain === 'ai.onnx.ml' ? mlKeepsShape[node.opaque.opType] : undefined;
  if (ml) return [ml === 'same' ? first : { ...first, dtype: ml }];
  if (node.opaque?.domain !== '') return noted;
  if (keepsShape.has(node.opaque.opType)) return [first, ...noted.slice(1)];
  return noted;
}
