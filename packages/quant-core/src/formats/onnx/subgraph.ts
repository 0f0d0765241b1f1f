import { type AttributeProto, type DimensionProto, type GraphProto, type NodeProto, type TypeProto, toNumber } from './schema.js';

/** The graphs in a node's attributes. */
export function subgraphs(node: NodeProto): GraphProto[] {
  return (node.attribute ?? []).flatMap((attribute) => [...(attribute.g ? [attribute.g] : []), ...(attribute.graphs ?? [])]);
}

/** Names made inside a graph: inputs, initializers, outputs of nodes. */
function defined(graph: GraphProto): Set<string> {
  const names = new Set<string>();
  for (const input of graph.input ?? []) names.add(input.name ?? '');
  for (const tensor of graph.initializer ?? []) names.add(tensor.name ?? '');
  for (const node of graph.node ?? []) for (const output of node.output ?? []) names.add(output);
  return names;
}

/** Names a node's subgraphs read from outside, each once, in order of appearance. */
export function capturedNames(node: NodeProto): string[] {
  const free = new Set<string>();
  for (const graph of subgraphs(node)) {
    const own = defined(graph);
    const use = (name: string) => {
      if (name !== '' && !own.has(name)) free.add(name);
    };
    for (const inner of graph.node ?? []) {
      inner.input?.forEach(use);
      capturedNames(inner).forEach(use);
    }
    for (const output of graph.output ?? []) use(output.name ?? '');
  }
  return [...free];
}

const bodyOf = (node: NodeProto, name: string): GraphProto | undefined => node.attribute?.find((attribute) => attribute.name === name)?.g;

/** A type of which only what both claim is left. */
function common(a: TypeProto | undefined, b: TypeProto | undefined): TypeProto | undefined {
  const [x, y] = [a?.tensorType, b?.tensorType];
  if (!x?.elemType || x.elemType !== y?.elemType) return undefined;
  const [left, right] = [x.shape?.dim ?? [], y.shape?.dim ?? []];
  if (!x.shape || !y.shape || left.length !== right.length) return { tensorType: { elemType: x.elemType } };
  const size = (dim: DimensionProto | undefined) => (dim?.dimValue === undefined ? undefined : toNumber(dim.dimValue));
  const dim = left.map((one, axis): DimensionProto => {
    const [own, other] = [size(one), size(right[axis])];
    if (own !== undefined && own === other) return { dimValue: own };
    return own === undefined && other === undefined && one.dimParam && one.dimParam === right[axis]?.dimParam
      ? { dimParam: one.dimParam }
      : {};
  });
  return { tensorType: { elemType: x.elemType, shape: { dim } } };
}

/** The type with one more axis, of unknown size, in front. */
function stacked(type: TypeProto | undefined): TypeProto | undefined {
  const own = common(type, type)?.tensorType;
  return own && { tensorType: { ...own, ...(own.shape ? { shape: { dim: [{}, ...(own.shape.dim ?? [])] } } : {}) } };
}

/**
 * Types of the outputs of If, Loop and Scan as their subgraphs declare them; undefined where they do not. A name of a dimension means the same outside
 * only where an input of the main graph has it.
 */
export function declaredTypes(node: NodeProto): (TypeProto | undefined)[] {
  const count = node.output?.length ?? 0;
  const all = (of: (port: number) => TypeProto | undefined) => Array.from({ length: count }, (_, port) => of(port));
  if (node.opType === 'If') {
    const [yes, no] = [bodyOf(node, 'then_branch'), bodyOf(node, 'else_branch')];
    return all((port) => common(yes?.output?.[port]?.type, no?.output?.[port]?.type));
  }
  const body = bodyOf(node, 'body');
  // What is carried round has the type it begins with; what is collected has one more axis.
  if (node.opType === 'Loop') {
    const carried = (node.input?.length ?? 0) - 2;
    return all((port) => {
      const type = body?.output?.[port + 1]?.type;
      return port < carried ? common(body?.input?.[port + 2]?.type, type) : stacked(type);
    });
  }
  if (node.opType === 'Scan') {
    const states = (node.input?.length ?? 0) - toNumber(node.attribute?.find(({ name }) => name === 'num_scan_inputs')?.i);
    const elsewhere = node.attribute?.some(({ name, ints }) => name === 'scan_output_axes' && ints?.some((axis) => toNumber(axis) !== 0));
    return all((port) => {
      const type = body?.output?.[port]?.type;
      if (port < states) return common(body?.input?.[port]?.type, type);
      return elsewhere ? undefined : stacked(type);
    });
  }
  return [];
}

/** Every name that a node's subgraphs make, at any depth. */
export function innerNames(node: NodeProto): string[] {
  return subgraphs(node).flatMap((graph) => [...defined(graph), ...(graph.node ?? []).flatMap(innerNames)]);
}

/** A copy of the node's attributes in which names inside its subgraphs are replaced; the rest is shared. */
export function renameInside(attributes: readonly AttributeProto[], renames: ReadonlyMap<string, string>): AttributeProto[] {
  const name = (old: string) => renames.get(old) ?? old;
  const renamed = <T extends { name?: string; $unknowns?: Uint8Array[] }>(list: readonly T[]): T[] =>
    list.map((item) => keepUnknowns(item, { ...item, name: name(item.name ?? '') }));
  const graph = (old: GraphProto): GraphProto =>
    keepUnknowns(old, {
      ...old,
      node: (old.node ?? []).map((node) =>
        keepUnknowns(node, {
          ...node,
          input: (node.input ?? []).map(name),
          output: (node.output ?? []).map(name),
          attribute: renameInside(node.attribute ?? [], renames),
        }),
      ),
      initializer: renamed(old.initializer ?? []),
      input: renamed(old.input ?? []),
      output: renamed(old.output ?? []),
      valueInfo: renamed(old.valueInfo ?? []),
    });
  return attributes.map((attribute) =>
    attribute.g || attribute.graphs
      ? keepUnknowns(attribute, {
          ...attribute,
          ...(attribute.g ? { g: graph(attribute.g) } : {}),
          ...(attribute.graphs ? { graphs: attribute.graphs.map(graph) } : {}),
        })
      : attribute,
  );
}

/** protobufjs keeps unknown fields in a property that is not enumerable: spread drops it. */
export function keepUnknowns<T extends { $unknowns?: Uint8Array[] }>(from: T, to: T): T {
  if (from.$unknowns) to.$unknowns = from.$unknowns;
  return to;
}
