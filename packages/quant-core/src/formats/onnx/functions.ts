import { OctetError } from '../../errors.js';
import { nameOf } from './rewrite.js';
import {
  type AttributeProto,
  attributeTypes,
  type FunctionProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type OpsetProto,
  standardDomain,
  toNumber,
} from './schema.js';
import { capturedNames, innerNames, keepUnknowns, renameInside, subgraphs } from './subgraph.js';
import { upgradeGraph } from './upgrade.js';

/** Standard operators whose form changed after opset 18, and the opset that brought the newer form. A function of another opset may not hold them. */
const changedForms: Readonly<Record<string, number>> = { DFT: 20, GridSample: 20, GroupNormalization: 21 };

const key = (domain: string | undefined, name: string | undefined, overload: string | undefined) =>
  JSON.stringify([standardDomain(domain), name ?? '', overload ?? '']);

const opsetIn = (imports: readonly OpsetProto[] | undefined): number | undefined => {
  const version = imports?.find(({ domain }) => standardDomain(domain) === '')?.version;
  return version === undefined ? undefined : toNumber(version);
};

interface Options {
  /** Opset of ai.onnx that the main graph is written in. */
  opset: number;
  /** Opset that operators of all parts have the form of from 18 on; older parts are upgraded. */
  tableOpset: number;
  /** Most nodes of the graph with all functions put in, subgraphs included. */
  mostNodes: number;
}

/**
 * Put the bodies of model-local functions (ModelProto.functions) in place of the nodes that call them, in place and at any depth: functions that call
 * functions, calls inside subgraphs. Attributes that are passed by reference get the caller's value or the function's default, and every name made in a body
 * becomes unique. Returns the opset that the graph is written in afterwards: a function of another opset makes all parts be upgraded first.
 * Throws MODEL_INVALID for functions that call themselves or are given more than they take, MODEL_TOO_LARGE, MODEL_OPSET_UNSUPPORTED.
 */
export function inlineFunctions(model: ModelProto & { graph: GraphProto }, options: Options): number {
  const functions = new Map((model.functions ?? []).map((each) => [key(each.domain, each.name, each.overload), each]));
  if (functions.size === 0) return options.opset;
  const opset = commonOpset(model.graph, [...functions.values()], options);
  new Inliner(functions, model.graph, options.mostNodes).graph(model.graph);
  addImports(model, [...functions.values()], opset);
  delete model.functions;
  return opset;
}

/** Bring the main graph and all functions to one opset; nothing is done where they have one. */
function commonOpset(graph: GraphProto, functions: readonly FunctionProto[], { opset, tableOpset }: Options): number {
  const own = functions.map((each) => opsetIn(each.opsetImport) ?? opset);
  if (own.every((version) => version === opset)) return opset;
  const newest = Math.max(opset, tableOpset, ...own);
  const parts = [{ body: graph, version: opset, name: graph.name ?? '' }];
  functions.forEach((each, i) => {
    // What it takes and gives counts as read from outside.
    const outside = (names: readonly string[] | undefined) => (names ?? []).map((name) => ({ name }));
    const body: GraphProto = { node: each.node ?? [], input: outside(each.input), output: outside(each.output) };
    parts.push({ body, version: own[i] as number, name: each.name ?? '' });
  });
  for (const [i, { body, version, name }] of parts.entries()) {
    const changed = allNodes(body).find((node) => {
      const since = standardDomain(node.domain) === '' ? changedForms[node.opType ?? ''] : undefined;
      return since !== undefined && version < since && newest >= since;
    });
    if (changed)
      throw new OctetError(
        'MODEL_OPSET_UNSUPPORTED',
        `"${name}" is of opset ${version} and holds the ${changed.opType} node "${nameOf(changed)}", whose form is another in opset ${newest} of the rest of the model.`,
        { node: nameOf(changed), op: changed.opType ?? '' },
        { hint: 'Export the model and its functions with one opset.' },
      );
    if (version < tableOpset) upgradeGraph(body, version);
    const source = functions[i - 1];
    if (!source) continue;
    // An upgrade makes constants; a function holds them as nodes.
    source.node = [...(body.initializer ?? []).map(constantNode), ...(body.node ?? [])];
  }
  return newest;
}

const constantNode = (tensor: NonNullable<GraphProto['initializer']>[number]): NodeProto => ({
  opType: 'Constant',
  name: tensor.name ?? '',
  output: [tensor.name ?? ''],
  attribute: [{ name: 'value', type: attributeTypes.tensor, t: tensor }],
});

const allNodes = (graph: GraphProto): NodeProto[] =>
  (graph.node ?? []).flatMap((node) => [node, ...subgraphs(node).flatMap((inner) => allNodes(inner))]);

/** The model imports what its functions did, but no domain that held functions only. */
function addImports(model: ModelProto, functions: readonly FunctionProto[], opset: number): void {
  const left = new Set(allNodes(model.graph as GraphProto).map((node) => standardDomain(node.domain)));
  const owners = new Set(functions.map(({ domain }) => standardDomain(domain)));
  const all = [...(model.opsetImport ?? []), ...functions.flatMap(({ opsetImport }) => opsetImport ?? [])];
  const versions = new Map<string, OpsetProto>([['', { domain: '', version: opset }]]);
  for (const entry of all) {
    const domain = standardDomain(entry.domain);
    if (versions.has(domain) || (owners.has(domain) && !left.has(domain))) continue;
    versions.set(domain, entry);
  }
  model.opsetImport = [...versions.values()];
}

/** Writes one model's functions out. */
class Inliner {
  private readonly taken: Set<string>;
  private readonly counters = new Map<string, number>();
  /** Functions that are being written out, innermost last. */
  private readonly open: string[] = [];
  private made = 0;

  constructor(
    private readonly functions: ReadonlyMap<string, FunctionProto>,
    main: GraphProto,
    private readonly mostNodes: number,
  ) {
    this.taken = new Set(innerNames({ attribute: [{ g: main }] }));
  }

  graph(graph: GraphProto): void {
    graph.node = (graph.node ?? []).flatMap((node) => this.node(node));
  }

  private node(node: NodeProto): NodeProto[] {
    for (const inner of subgraphs(node)) this.graph(inner);
    const name = key(node.domain, node.opType, node.overload);
    const called = this.functions.get(name);
    if (!called) return [node];
    if (this.open.includes(name))
      throw new OctetError('MODEL_INVALID', `The function "${node.opType}" calls itself.`, { node: nameOf(node), op: node.opType ?? '' });
    this.open.push(name);
    const result = this.body(called, node).flatMap((each) => this.node(each));
    this.open.pop();
    return result;
  }

  private fresh(wish: string): string {
    let name = wish;
    let i = this.counters.get(wish) ?? 1;
    while (this.taken.has(name)) name = `${wish}_${i++}`;
    this.counters.set(wish, i);
    this.taken.add(name);
    return name;
  }

  /** The nodes of a function for one call, under names of their own. */
  private body(called: FunctionProto, call: NodeProto): NodeProto[] {
    const names = this.names(called, call);
    const passed = new Map<string, AttributeProto>();
    for (const attribute of [...(called.attributeProto ?? []), ...(call.attribute ?? [])]) passed.set(attribute.name ?? '', attribute);
    const written = new Set((called.node ?? []).flatMap((node) => node.output ?? []));
    const nodes: NodeProto[] = [];
    for (const node of called.node ?? []) {
      this.made++;
      const label = `${nameOf(call)}_${nameOf(node)}`;
      nodes.push(
        keepUnknowns(node, {
          ...node,
          name: label,
          input: (node.input ?? []).map((input) => names.get(input) ?? input),
          output: (node.output ?? []).map((output) => names.get(output) ?? output),
          attribute: renameInside(resolved(node.attribute ?? [], passed), names),
        }),
      );
    }
    // An input handed on as an output.
    for (const [port, output] of (called.output ?? []).entries()) {
      const wanted = call.output?.[port] ?? '';
      if (wanted === '' || written.has(output)) continue;
      nodes.push({ opType: 'Identity', name: wanted, input: [names.get(output) ?? output], output: [wanted] });
    }
    if (this.made > this.mostNodes)
      throw new OctetError('MODEL_TOO_LARGE', `With its functions written out the model has more than ${this.mostNodes} nodes.`);
    return nodes;
  }

  /** What each name of a body is called outside of it. */
  private names(called: FunctionProto, call: NodeProto): Map<string, string> {
    const place = { node: nameOf(call), op: call.opType ?? '' };
    for (const [what, formal, actual] of [
      ['inputs', called.input, call.input],
      ['outputs', called.output, call.output],
    ] as const)
      if ((actual?.length ?? 0) > (formal?.length ?? 0))
        throw new OctetError(
          'MODEL_INVALID',
          `Node "${nameOf(call)}" calls the function "${called.name}" with ${actual?.length} ${what}, and it has ${formal?.length ?? 0}.`,
          place,
        );
    const names = new Map<string, string>();
    for (const [port, input] of (called.input ?? []).entries()) names.set(input, call.input?.[port] ?? '');
    const written = new Set((called.node ?? []).flatMap((node) => node.output ?? []));
    for (const [port, output] of (called.output ?? []).entries()) {
      const wanted = call.output?.[port] ?? '';
      if (wanted !== '' && written.has(output)) names.set(output, wanted);
    }
    for (const node of called.node ?? [])
      for (const made of [...(node.output ?? []), ...innerNames(node)])
        if (made !== '' && !names.has(made)) names.set(made, this.fresh(`${nameOf(call)}_${made}`));
    this.refuseUnknown(called, names, place);
    return names;
  }

  /** A function reads nothing but its inputs and what it makes. */
  private refuseUnknown(called: FunctionProto, names: ReadonlyMap<string, string>, place: { node: string; op: string }): void {
    for (const node of called.node ?? [])
      for (const read of [...(node.input ?? []), ...capturedNames(node)])
        if (read !== '' && !names.has(read))
          throw new OctetError('MODEL_MISSING_TENSOR', `The function "${called.name}" reads "${read}", which it does not make.`, {
            ...place,
            tensor: read,
          });
  }
}

/** Attributes with references to the function's attributes put in, subgraphs included; one that is not given is left out. */
function resolved(attributes: readonly AttributeProto[], passed: ReadonlyMap<string, AttributeProto>): AttributeProto[] {
  return attributes.flatMap((attribute) => {
    if (attribute.refAttrName) {
      const value = passed.get(attribute.refAttrName);
      return value ? [keepUnknowns(value, { ...value, name: attribute.name ?? '' })] : [];
    }
    const graph = (old: GraphProto): GraphProto =>
      keepUnknowns(old, {
        ...old,
        node: (old.node ?? []).map((node) => keepUnknowns(node, { ...node, attribute: resolved(node.attribute ?? [], passed) })),
      });
    if (!attribute.g && !attribute.graphs) return [attribute];
    return [
      keepUnknowns(attribute, {
        ...attribute,
        ...(attribute.g ? { g: graph(attribute.g) } : {}),
        ...(attribute.graphs ? { graphs: attribute.graphs.map(graph) } : {}),
      }),
    ];
  });
}
