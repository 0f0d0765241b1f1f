import { OctetError } from '../errors.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { Graph } from '../ir/graph.js';

/** A protobuf message is smaller than 2 GiB. */
const mostBytes = 2 ** 31 - 1;
/** What is not weights: nodes, names, scales. */
const spare = 2 ** 24;

/**
 * The int8 model is one file. Throws MODEL_TOO_LARGE, before anything is run, when its weights alone make it larger than an ONNX file
 * can be; names the largest one that stays float.
 */
export function checkFileSize(graph: Graph, plan: QuantPlan): void {
  const points = new Map(plan.weights.map((point) => [point.value, point]));
  let total = 0;
  let largest: { name: string; bytes: number } | undefined;
  for (const { name, constant } of graph.constants()) {
    if (!constant) continue;
    const point = points.get(name);
    const bytes = point ? Math.ceil(constant.size / (point.storage === 'int4' ? 2 : 1)) : constant.bytes;
    total += bytes;
    if (!point && bytes > (largest?.bytes ?? 0)) largest = { name, bytes };
  }
  if (total <= mostBytes - spare) return;
  throw new OctetError(
    'MODEL_TOO_LARGE',
    `The int8 model would take about ${total} bytes, and an ONNX file holds less than ${mostBytes + 1}.${
      largest ? ` The largest weight that stays float is "${largest.name}" with ${largest.bytes} bytes.` : ''
    }`,
    largest ? { tensor: largest.name } : {},
    { hint: 'Quantize more of it (quantization.layers, weights of 4 bits with storage "int4"), or cut the model in two.' },
  );
}
