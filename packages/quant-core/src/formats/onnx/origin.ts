import type { AnnotationProto, NodeProto, OpsetProto, StringEntryProto, ValueInfoProto } from './schema.js';

/** What the ONNX door keeps of a file beside the graph, to write it back (`Graph.origin`). */
export class OnnxOrigin {
  constructor(
    readonly model: {
      producerName?: string;
      producerVersion?: string;
      domain?: string;
      modelVersion?: number;
      docString?: string;
      metadataProps?: StringEntryProto[];
      $unknowns?: Uint8Array[];
    },
    /** Doc string, annotations, and fields of GraphProto that Octet does not know. */
    readonly graph: { docString?: string; quantizationAnnotation?: AnnotationProto[]; $unknowns?: Uint8Array[] },
    /** Opsets of the domains other than ai.onnx. */
    readonly imports: readonly OpsetProto[],
    /** Graph inputs and outputs as the file has them, by name: doc strings, denotations, types that are not tensors. */
    readonly valueInfo: ReadonlyMap<string, ValueInfoProto>,
    /** Doc strings and unknown fields of nodes, by node name. */
    readonly nodes: ReadonlyMap<string, { docString?: string; $unknowns?: Uint8Array[] }>,
  ) {}
}

/** What reading keeps of an Opaque node (`OpaqueSource.proto`). Treat as frozen: copies of a graph share it. */
export class OnnxNode {
  constructor(
    readonly proto: NodeProto,
    /** Names that the node's subgraphs take from outside, in the order of the inputs beyond `ownInputs`. */
    readonly captured: readonly string[],
  ) {}
}
