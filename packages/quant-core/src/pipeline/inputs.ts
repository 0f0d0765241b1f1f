import { type InputSpec, type InputType, inputTypes } from '../data/materialise.js';
import { OctetError } from '../errors.js';
import type { Graph, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import { show } from '../ir/shapes/rule.js';

/** Name of the first input. */
export const inputName = (model: { inputs: readonly InputSpec[] }): string => (model.inputs[0] as InputSpec).name;

const isInputType = (dtype: string | undefined): dtype is InputType => (inputTypes as readonly (string | undefined)[]).includes(dtype);

/** The way out where an input holds the batch elsewhere, as states of recurrent layers do: [layers, batch, features]. */
const batchFirst =
  'Export the model with the batch as the first dimension of every input, fixed or open alike: a module around it can transpose an input such as a state of [layers, batch, features].';

/**
 * What the inputs of a model take, the batch left out. Batch dimensions that are open under different names become one.
 * Throws MODEL_INPUTS_UNSUPPORTED for inputs of other types, and for those without the batch in front.
 */
export function inputsOf(graph: Graph): InputSpec[] {
  const [first] = graph.inputs;
  if (!first) throw new OctetError('MODEL_INPUTS_UNSUPPORTED', 'The model has no input');
  const batch = first.shape?.[0];
  return graph.inputs.map((value) => {
    const { name, dtype, shape } = value;
    const refuse = (why: string, hint?: string) =>
      new OctetError('MODEL_INPUTS_UNSUPPORTED', `Input ${name} ${why}`, { tensor: name }, hint === undefined ? {} : { hint });
    if (!isInputType(dtype)) throw refuse(`is ${dtype}; ${inputTypes.join(', ')} are possible`);
    if (!shape?.length)
      throw refuse('has no batch dimension', 'Give every input the batch as first dimension, or make the input a constant.');
    const own = shape[0];
    if (typeof own !== typeof batch || (typeof own === 'number' && own !== batch)) {
      const axis = typeof batch === 'string' ? shape.indexOf(batch) : -1;
      throw axis > 0
        ? refuse(`has the batch "${batch}" as axis ${axis} of ${show(shape)}, and must have it as axis 0`, batchFirst)
        : refuse(
            `is ${show(shape)} and input ${first.name} is ${show(first.shape)}: their first dimensions differ, and must be the batch in every input`,
            batchFirst,
          );
    }
    if (own !== batch && batch !== undefined) value.type = { dtype, shape: [batch, ...shape.slice(1)] };
    const table = tableOf(value);
    return { name, dtype, shape: shape.slice(1).map((dim) => (typeof dim === 'number' ? dim : undefined)), ...(table ? { table } : {}) };
  });
}

/** The smallest table that values of an input are row numbers of. */
function tableOf(input: Value): InputSpec['table'] {
  if (input.dtype === 'float32') return undefined;
  let smallest: InputSpec['table'];
  const seen = new Set<Value>([input]);
  for (const value of seen) {
    for (const node of value.readers) {
      if (spec(node.op).keepsElements && node.inputs[0] === value) for (const output of node.outputs) seen.add(output);
      if (!node.is('Gather') || node.inputs[1] !== value) continue;
      const { name, shape } = node.input(0);
      const axis = node.attr('axis');
      const rows = shape?.[axis < 0 ? axis + shape.length : axis];
      if (typeof rows === 'number' && rows < (smallest?.rows ?? Number.POSITIVE_INFINITY)) smallest = { name, rows };
    }
  }
  return smallest;
}

/**
 * What the dimensions that a model leaves open, apart from the batch, are for samples of these shapes, one for each input.
 * Throws DATASET_SHAPE where two inputs disagree.
 */
export function openSizes(model: { graph: Graph }, samples: readonly (readonly number[])[]): Record<string, number> {
  const sizes: Record<string, number> = {};
  model.graph.inputs.forEach((input, at) => {
    input.shape?.slice(1).forEach((dim, axis) => {
      const size = samples[at]?.[axis];
      if (typeof dim !== 'string' || size === undefined) return;
      if ((sizes[dim] ?? size) !== size)
        throw new OctetError(
          'DATASET_SHAPE',
          `The model wants one size for ${dim}, and its inputs are given ${sizes[dim]} and ${size} (${input.name}).`,
          {
            tensor: input.name,
          },
        );
      sizes[dim] = size;
    });
  });
  return sizes;
}
