import { Graph, type Node, type Value } from '../ir/graph.js';
import type { Pass } from '../ir/pass.js';
import { sizeOf, type Tensor, toNumbers } from '../tensor/tensor.js';

/** Runs a graph without inputs and gives its outputs by name. */
export type Evaluate = (graph: Graph) => Promise<Record<string, Tensor>>;

/** A result may be as large as what it is made from; beyond that, this many elements at most, each and together. */
const mostElements = 2 ** 22;
const mostElementsTogether = 2 ** 24;

/** Ops outside the op list that depend on nothing but their inputs. */
const pureOps: ReadonlySet<string> = new Set('NonZero Tan IsNaN BitShift'.split(' '));

/** Constant nodes become constants. */
export const inlineConstants: Pass = {
  name: 'inlineConstants',
  run: (graph) =>
    graph.batch(() => {
      let changed = false;
      for (const node of [...graph.nodes]) {
        const tensor = node.is('Constant') ? node.attr('value') : undefined;
        if (!tensor) continue;
        const value = node.output();
        const constant = graph.constant(value.name, tensor);
        graph.replaceAll(value, constant);
        swapNames(graph, value, constant);
        graph.remove(node);
        changed = true;
      }
      return changed;
    }),
};

/**
 * Compute everything that depends on constants alone. Results larger than their inputs and than 4 million elements are left to be computed
 * when the model runs. Returns whether anything was folded; types must be inferred again afterwards.
 */
export async function foldConstants(graph: Graph, evaluate: Evaluate): Promise<boolean> {
  const folded = new Set<Node>();
  let together = 0;
  for (const node of graph.nodes) {
    if (!isPure(node) || !node.inputs.every((value) => !value || value.constant || (value.producer && folded.has(value.producer))))
      continue;
    const added = growth(node);
    if (added === undefined || together + added > mostElementsTogether) continue;
    together += added;
    folded.add(node);
  }
  const wanted = [...folded].flatMap((node) => node.outputs).filter((value) => value.readers.some((reader) => !folded.has(reader)));
  if (wanted.length === 0) return false;
  const { part, names } = cutOut(folded, wanted);
  const results = await evaluate(part);
  for (const value of wanted) {
    const tensor = results[names.get(value) ?? ''];
    if (!tensor) throw new Error(`no result for ${value.name}`);
    const constant = graph.constant(value.name, tensor);
    for (const reader of new Set(value.readers)) {
      if (folded.has(reader)) continue;
      for (const [port, input] of reader.inputs.entries()) if (input === value) reader.setInput(port, constant);
    }
    swapNames(graph, value, constant);
  }
  return true;
}

/** The constant takes over the name of what it replaces, unless that is still an output. */
function swapNames(graph: Graph, value: Value, constant: Value): void {
  if (!graph.outputs.some((output) => output === value || output.producer?.inputs[0] === constant))
    [value.name, constant.name] = [constant.name, value.name];
}

function isPure(node: Node): boolean {
  if (node.op === 'QuantizeLinear' || node.op === 'DequantizeLinear' || node.op === 'Dropout' || node.op === 'Constant') return false;
  if (node.op !== 'Opaque') return true;
  return node.opaque?.domain === '' && pureOps.has(node.opaque.opType) && node.opaque.ownInputs === node.inputs.length;
}

/** How many elements folding a node adds; undefined when that is too many or not known. */
function growth(node: Node): number | undefined {
  const given = node.inputs.reduce((most, value) => Math.max(most, staticSize(value) ?? 0), 0);
  if (node.op === 'Range') return rangeLength(node);
  if (node.op === 'Opaque') return given <= mostElements ? given : undefined;
  let added = 0;
  for (const value of node.outputs) {
    const size = staticSize(value);
    if (size === undefined || (size > mostElements && size > given)) return undefined;
    if (size > given) added += size;
  }
  return added;
}

function rangeLength(node: Node): number | undefined {
  const numbers = node.inputs.map((value) => (value?.constant?.size === 1 ? Number(toNumbers(value.constant)[0]) : Number.NaN));
  const [start, limit, step] = numbers as [number, number, number];
  const length = Math.ceil((limit - start) / step);
  return length <= mostElements ? Math.max(0, length) : undefined;
}

function staticSize(value: Value | undefined): number | undefined {
  const shape = value?.constant?.shape ?? value?.shape;
  return shape?.every((dim) => typeof dim === 'number') ? sizeOf(shape as number[]) : undefined;
}

/** The folded nodes as a graph of their own; `names` tells what each wanted value is called there. */
function cutOut(folded: ReadonlySet<Node>, wanted: readonly Value[]): { part: Graph; names: Map<Value, string> } {
  const part = new Graph('constants');
  const twins = new Map<Value, Value>();
  const twin = (value: Value): Value => {
    let found = twins.get(value);
    if (!found && value.constant) {
      found = part.constant(value.name, value.constant);
      twins.set(value, found);
    }
    if (!found) throw new Error(`${value.name} is not constant`);
    return found;
  };
  for (const node of folded) {
    const inputs = node.inputs.map((value) => value && twin(value));
    const copy = part.node(node.op, inputs, node.attrs, { name: node.name, outputNames: node.outputs.map((value) => value.name) });
    copy.opaque = node.opaque;
    for (const [port, value] of node.outputs.entries()) {
      copy.output(port).type = value.type;
      twins.set(value, copy.output(port));
    }
  }
  const outputs = wanted.map(twin);
  part.outputs.push(...outputs);
  return { part, names: new Map(wanted.map((value, i) => [value, (outputs[i] as Value).name])) };
}
