import { OctetError } from '../errors.js';
import { toNumbers } from '../tensor/tensor.js';
import { fillIn, inputSymbols } from './declared.js';
import type { Dim, Graph, Node, Value, ValueType } from './graph.js';
import { type OpType, spec } from './ops.js';
import { type ContentRule, contents, longestContent } from './shapes/contents.js';
import { bindDim } from './shapes/dim.js';
import { misfit, mostAxes, type ShapeContext, type ShapeRule, show } from './shapes/rule.js';
import { shapeRules } from './shapes/table.js';

/** Elements of small integer tensors as far as they are known, row-major. */
export type KnownElements = ReadonlyMap<Value, readonly Dim[]>;

/** More elements than any machine holds. */
const mostElements = 2 ** 40;

class Inference implements ShapeContext {
  readonly known = new Map<Value, readonly Dim[]>();
  private readonly symbols: Readonly<Record<string, number>>;

  constructor(graph: Graph) {
    this.symbols = inputSymbols(graph);
  }

  elements(value: Value | undefined): readonly Dim[] | undefined {
    if (!value) return undefined;
    const known = this.known.get(value);
    if (known || !value.constant) return known;
    const tensor = value.constant;
    if (tensor.size > longestContent) return undefined;
    const elements = Array.from(toNumbers(tensor), saturate);
    if (!elements.every(Number.isSafeInteger)) return undefined;
    this.known.set(value, elements);
    return elements;
  }

  visit(node: Node): void {
    const rule = shapeRules[node.op] as ShapeRule<OpType>;
    for (const [name, row] of Object.entries(spec(node.op).attrs ?? {}))
      if (row.required && (node.attrs as Record<string, unknown>)[name] === undefined)
        throw misfit(node, `${name} is missing`, undefined, 'MODEL_INVALID');
    const types = rule(node, this);
    for (const [port, value] of node.outputs.entries()) {
      value.type = value.declared ? fillIn(types[port], value.declared, this.symbols) : types[port];
      if (value.type && node.op !== 'Opaque') check(node, value, value.type);
    }
    this.follow(node);
  }

  private follow(node: Node): void {
    if (node.is('Constant')) {
      const tensor = node.attr('value');
      if (tensor.size <= longestContent) this.keep(node.output(), Array.from(toNumbers(tensor), saturate));
      return;
    }
    const rule = contents[node.op] as ContentRule<OpType> | undefined;
    if (!rule) return;
    const reachable =
      node.op === 'Shape' ||
      node.op === 'ConstantOfShape' ||
      node.inputs.some((value) => value && !value.constant && this.known.has(value));
    if (!reachable && !(isInteger(node.outputs[0]) && node.inputs.every((value) => !value || value.constant))) return;
    for (const [port, elements] of rule(node, this).entries()) {
      const value = node.outputs[port];
      if (value && elements) this.keep(value, elements);
    }
  }

  private keep(value: Value, elements: readonly Dim[]): void {
    if (elements.length <= longestContent && elements.every((dim) => typeof dim === 'string' || Number.isSafeInteger(dim)))
      this.known.set(value, elements);
  }
}

const isInteger = (value: Value | undefined): boolean => value?.dtype === 'int64' || value?.dtype === 'int32' || value?.dtype === 'bool';

/** Exporters write "to the end" as the largest int64. */
const saturate = (x: number): number => (Math.abs(x) >= 2 ** 62 ? Math.sign(x) * Number.MAX_SAFE_INTEGER : x);

/** Dimensions must be sizes; a float tensor may only be empty where an input was. */
function check(node: Node, value: Value, type: ValueType): void {
  if (!type.shape) return;
  if (type.shape.length > mostAxes)
    throw misfit(node, `the result would have ${type.shape.length} axes, and ${mostAxes} are the most`, value);
  let count = 1;
  for (const dim of type.shape) {
    if (typeof dim !== 'number') continue;
    if (!Number.isSafeInteger(dim) || dim < 0) throw misfit(node, `the result would have shape ${show(type.shape)}`, value);
    if (dim === 0 && mayNotBeEmpty(node, type)) throw misfit(node, `the result would be empty, with shape ${show(type.shape)}`, value);
    if (dim > 0) count *= dim;
  }
  if (count > mostElements) throw misfit(node, `the result of shape ${show(type.shape)} would have more than 2^40 elements`, value);
}

function mayNotBeEmpty(node: Node, type: ValueType): boolean {
  if (!type.dtype.startsWith('float') || node.op === 'Constant' || node.op === 'ConstantOfShape') return false;
  if (node.op === 'Split' && node.inputs[1]) return false;
  return !node.inputs.some((value) => value?.shape?.includes(0));
}

/**
 * Set `type` of every node output from the graph inputs and constants, following symbolic sizes through shape arithmetic.
 * An `Opaque` node keeps the types read from its file. What no rule can tell is taken from what is declared of the value; after an
 * `Opaque` node of which nothing is declared it stays unknown.
 * Throws MODEL_SHAPE and MODEL_DTYPE naming node and tensor; with `strict` also when a type stays unknown.
 * Returns the elements of small integer tensors that are known before the model runs.
 */
export function inferShapes(graph: Graph, options: { strict?: boolean } = {}): KnownElements {
  for (const input of graph.inputs) checkInput(input);
  const inference = new Inference(graph);
  for (const node of graph.nodes) {
    inference.visit(node);
    if (!options.strict) continue;
    const unknown = node.outputs.find((value) => !value.type?.shape);
    if (unknown) throw misfit(node, 'the shape of the result cannot be told', unknown);
  }
  return inference.known;
}

function checkInput(input: Value): void {
  if ((input.shape?.length ?? 0) > mostAxes) {
    throw new OctetError('MODEL_SHAPE', `input "${input.name}" has ${input.shape?.length} axes, and ${mostAxes} are the most`, {
      tensor: input.name,
    });
  }
  for (const dim of input.shape ?? []) {
    if (typeof dim === 'number' && (!Number.isSafeInteger(dim) || dim < 1)) {
      throw new OctetError('MODEL_SHAPE', `input "${input.name}" has shape ${show(input.shape)}`, { tensor: input.name });
    }
  }
}

/**
 * Replace symbols by sizes in the types of the graph inputs (and the types noted for `Opaque` nodes or declared), in place, and infer again, so that every
 * shape is static. Throws MODEL_SHAPE naming the value when a size stays open that does not come from an `Opaque` node.
 */
export function bindDims(graph: Graph, sizes: Readonly<Record<string, number>>): void {
  const bound = (type: ValueType): ValueType => (type.shape ? { ...type, shape: type.shape.map((dim) => bindDim(dim, sizes)) } : type);
  const bind = (value: Value): void => {
    if (value.type) value.type = bound(value.type);
  };
  graph.inputs.forEach(bind);
  for (const node of graph.nodes) {
    for (const value of node.outputs) if (value.declared) value.declared = bound(value.declared);
    if (node.op === 'Opaque') node.outputs.forEach(bind);
  }
  inferShapes(graph);
  const open = (value: Value): boolean => !value.shape || value.shape.some((dim) => typeof dim === 'string');
  const excused = new Set<Value>();
  for (const input of graph.inputs) {
    const left = input.shape?.find((dim) => typeof dim === 'string');
    if (left !== undefined)
      throw new OctetError('MODEL_SHAPE', `input "${input.name}" still has the open size ${left} in ${show(input.shape)}`, {
        tensor: input.name,
      });
  }
  for (const node of graph.nodes) {
    const behindOpaque = node.op === 'Opaque' || node.inputs.some((value) => value && excused.has(value));
    for (const value of node.outputs) {
      if (!open(value)) continue;
      if (!behindOpaque) throw misfit(node, `the result still has an open size in ${show(value.shape)}`, value);
      excused.add(value);
    }
  }
}
