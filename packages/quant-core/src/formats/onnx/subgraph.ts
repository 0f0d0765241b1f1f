import type { AttributeProto, GraphProto, NodeProto } from './schema.js';

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

/** protobufjs keeps unknown fields in a property that is not enumerable: spread leaves it behind. */
export function keepUnknowns<T extends { $unknowns?: Uint8Array[] }>(from: T, to: T): T {
  if (from.$unknowns) to.$unknowns = from.$unknowns;
  return to;
}
