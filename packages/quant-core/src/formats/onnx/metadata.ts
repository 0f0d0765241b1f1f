import type { Graph } from '../../ir/graph.js';
import { OnnxOrigin } from './origin.js';

/** Keys of metadata_props that Octet writes begin so; all others are kept as the float file has them. */
const prefix = 'octet.';

/** Add entries to the metadata that the file of a graph will have (ModelProto.metadata_props), each under `octet.` and its key; an entry of an earlier run is replaced. */
export function addMetadata(graph: Graph, entries: Readonly<Record<string, string>>): void {
  const before = graph.origin instanceof OnnxOrigin ? graph.origin : new OnnxOrigin({}, {}, [], new Map(), new Map());
  const ours = Object.entries(entries).map(([key, value]) => ({ key: `${prefix}${key}`, value }));
  const names = new Set(ours.map(({ key }) => key));
  const kept = (before.model.metadataProps ?? []).filter(({ key }) => !names.has(key ?? ''));
  graph.origin = new OnnxOrigin(
    { ...before.model, metadataProps: [...kept, ...ours] },
    before.graph,
    before.imports,
    before.valueInfo,
    before.nodes,
  );
}
