import type { Node } from '../graph.js';
import type { Types } from './rule.js';

/** Standard ops outside the op list whose first output has the type and shape of the first input, whatever their attributes are. */
const keepsShape: ReadonlySet<string> = new Set(
  'Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cosh CumProd Hardmax MeanVarianceNormalization ReverseSequence Shrink Sinh Tan'.split(' '),
);

/** What can be told of an op outside the list: by its name where that is enough, else what the file notes. */
export function opaque(node: Node<'Opaque'>): Types {
  const noted = node.outputs.map((value) => value.type);
  const first = node.inputs[0]?.type;
  if (node.opaque?.domain !== '' || !first) return noted;
  if (keepsShape.has(node.opaque.opType)) return [first, ...noted.slice(1)];
  return noted;
}
