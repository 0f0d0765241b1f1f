import protobuf from 'protobufjs/light.js';

/**
 * The part of the public ONNX schema (onnx.proto, field numbers are the standard's) that Octet understands.
 * Every other field is kept by protobufjs in `$unknowns` and written back.
 */

/** protobufjs gives 64-bit integers as Long objects and takes numbers as well. */
export type Int64 = number | { toNumber(): number; low: number; high: number };

interface Kept {
  $unknowns?: Uint8Array[];
}

export interface StringEntryProto extends Kept {
  key?: string;
  value?: string;
}

export interface TensorProto extends Kept {
  dims?: Int64[];
  dataType?: number;
  segment?: Uint8Array;
  /** The typed payloads, each still in its packed wire form. */
  floatData?: Uint8Array[];
  int32Data?: Uint8Array[];
  stringData?: Uint8Array[];
  int64Data?: Uint8Array[];
  doubleData?: Uint8Array[];
  uint64Data?: Uint8Array[];
  name?: string;
  rawData?: Uint8Array;
  docString?: string;
  externalData?: StringEntryProto[];
  dataLocation?: number;
}

export interface DimensionProto extends Kept {
  dimValue?: Int64;
  dimParam?: string;
  denotation?: string;
}

export interface TypeProto extends Kept {
  tensorType?: Kept & { elemType?: number; shape?: Kept & { dim?: DimensionProto[] } };
  denotation?: string;
}

export interface ValueInfoProto extends Kept {
  name?: string;
  type?: TypeProto;
  docString?: string;
}

export interface AttributeProto extends Kept {
  name?: string;
  refAttrName?: string;
  type?: number;
  f?: number;
  i?: Int64;
  s?: Uint8Array;
  t?: TensorProto;
  g?: GraphProto;
  floats?: number[];
  ints?: Int64[];
  strings?: Uint8Array[];
  graphs?: GraphProto[];
}

export interface NodeProto extends Kept {
  input?: string[];
  output?: string[];
  name?: string;
  opType?: string;
  domain?: string;
  overload?: string;
  attribute?: AttributeProto[];
  docString?: string;
}

export interface AnnotationProto extends Kept {
  tensorName?: string;
  parameters?: StringEntryProto[];
}

export interface GraphProto extends Kept {
  node?: NodeProto[];
  name?: string;
  initializer?: TensorProto[];
  sparseInitializer?: Uint8Array[];
  docString?: string;
  input?: ValueInfoProto[];
  output?: ValueInfoProto[];
  valueInfo?: ValueInfoProto[];
  quantizationAnnotation?: AnnotationProto[];
}

export interface OpsetProto extends Kept {
  domain?: string;
  version?: Int64;
}

export interface FunctionProto extends Kept {
  name?: string;
  input?: string[];
  output?: string[];
  /** Attributes without a default; those with one are in `attributeProto`. */
  attribute?: string[];
  node?: NodeProto[];
  opsetImport?: OpsetProto[];
  domain?: string;
  attributeProto?: AttributeProto[];
  overload?: string;
}

export interface ModelProto extends Kept {
  irVersion?: Int64;
  opsetImport?: OpsetProto[];
  producerName?: string;
  producerVersion?: string;
  domain?: string;
  modelVersion?: Int64;
  docString?: string;
  graph?: GraphProto;
  metadataProps?: StringEntryProto[];
  functions?: FunctionProto[];
}

/** Numbers of AttributeProto.AttributeType. */
export const attributeTypes = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
  strings: 8,
  tensors: 9,
  graphs: 10,
  sparse: 11,
  sparses: 12,
  type: 13,
  types: 14,
} as const;

type FieldRow = readonly [id: number, type: string, rule?: 'repeated'];

export const messages = {
  StringEntry: { key: [1, 'string'], value: [2, 'string'] },
  // Packed numeric payloads are declared as bytes: they arrive as views of the file instead of one JavaScript number an element.
  Tensor: {
    dims: [1, 'int64', 'repeated'],
    dataType: [2, 'int32'],
    segment: [3, 'bytes'],
    floatData: [4, 'bytes', 'repeated'],
    int32Data: [5, 'bytes', 'repeated'],
    stringData: [6, 'bytes', 'repeated'],
    int64Data: [7, 'bytes', 'repeated'],
    name: [8, 'string'],
    rawData: [9, 'bytes'],
    doubleData: [10, 'bytes', 'repeated'],
    uint64Data: [11, 'bytes', 'repeated'],
    docString: [12, 'string'],
    externalData: [13, 'StringEntry', 'repeated'],
    dataLocation: [14, 'int32'],
  },
  Dimension: { dimValue: [1, 'int64'], dimParam: [2, 'string'], denotation: [3, 'string'] },
  Shape: { dim: [1, 'Dimension', 'repeated'] },
  TensorType: { elemType: [1, 'int32'], shape: [2, 'Shape'] },
  Type: { tensorType: [1, 'TensorType'], denotation: [6, 'string'] },
  ValueInfo: { name: [1, 'string'], type: [2, 'Type'], docString: [3, 'string'] },
  Attribute: {
    name: [1, 'string'],
    f: [2, 'float'],
    i: [3, 'int64'],
    s: [4, 'bytes'],
    t: [5, 'Tensor'],
    g: [6, 'Graph'],
    floats: [7, 'float', 'repeated'],
    ints: [8, 'int64', 'repeated'],
    strings: [9, 'bytes', 'repeated'],
    graphs: [11, 'Graph', 'repeated'],
    type: [20, 'int32'],
    refAttrName: [21, 'string'],
  },
  Node: {
    input: [1, 'string', 'repeated'],
    output: [2, 'string', 'repeated'],
    name: [3, 'string'],
    opType: [4, 'string'],
    attribute: [5, 'Attribute', 'repeated'],
    docString: [6, 'string'],
    domain: [7, 'string'],
    overload: [8, 'string'],
  },
  Annotation: { tensorName: [1, 'string'], parameters: [2, 'StringEntry', 'repeated'] },
  Graph: {
    node: [1, 'Node', 'repeated'],
    name: [2, 'string'],
    initializer: [5, 'Tensor', 'repeated'],
    docString: [10, 'string'],
    input: [11, 'ValueInfo', 'repeated'],
    output: [12, 'ValueInfo', 'repeated'],
    valueInfo: [13, 'ValueInfo', 'repeated'],
    quantizationAnnotation: [14, 'Annotation', 'repeated'],
    sparseInitializer: [15, 'bytes', 'repeated'],
  },
  Opset: { domain: [1, 'string'], version: [2, 'int64'] },
  Function: {
    name: [1, 'string'],
    input: [4, 'string', 'repeated'],
    output: [5, 'string', 'repeated'],
    attribute: [6, 'string', 'repeated'],
    node: [7, 'Node', 'repeated'],
    opsetImport: [9, 'Opset', 'repeated'],
    domain: [10, 'string'],
    attributeProto: [11, 'Attribute', 'repeated'],
    overload: [13, 'string'],
  },
  Model: {
    irVersion: [1, 'int64'],
    producerName: [2, 'string'],
    producerVersion: [3, 'string'],
    domain: [4, 'string'],
    modelVersion: [5, 'int64'],
    docString: [6, 'string'],
    graph: [7, 'Graph'],
    opsetImport: [8, 'Opset', 'repeated'],
    metadataProps: [14, 'StringEntry', 'repeated'],
    functions: [25, 'Function', 'repeated'],
  },
} as const satisfies Record<string, Record<string, FieldRow>>;

export type MessageName = keyof typeof messages;

const root = protobuf.Root.fromJSON({
  nested: Object.fromEntries(
    Object.entries(messages).map(([name, fields]) => [
      name,
      {
        // The syntax of onnx.proto: a value of zero is written and told from an absent one, lists are not packed.
        edition: 'proto2',
        fields: Object.fromEntries(
          Object.entries(fields as Record<string, FieldRow>).map(([field, [id, type, rule]]) => [
            field,
            { id, type, ...(rule ? { rule } : {}) },
          ]),
        ),
      },
    ]),
  ),
});

// protobufjs puts the defaults of fields on the prototype; without them an absent field reads as undefined.
for (const name of Object.keys(messages)) {
  const type = root.lookupType(name);
  const plain = class extends protobuf.Message {};
  type.ctor = plain;
  for (const { name: field } of type.fieldsArray) Reflect.deleteProperty(plain.prototype, field);
}

interface ProtoOf {
  StringEntry: StringEntryProto;
  Tensor: TensorProto;
  ValueInfo: ValueInfoProto;
  Node: NodeProto;
  Graph: GraphProto;
  Model: ModelProto;
}

/** Bytes → message; unknown fields are kept. Throws what protobufjs throws. */
export function decode<K extends keyof ProtoOf>(name: K, bytes: Uint8Array): ProtoOf[K] {
  // A Buffer makes protobufjs hand out views where a plain Uint8Array would be copied.
  const reader = protobuf.Reader.create(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  reader.discardUnknown = false;
  return root.lookupType(name).decode(reader) as unknown as ProtoOf[K];
}

/** Message → bytes, with the unknown fields it was read with. */
export function encode<K extends keyof ProtoOf>(name: K, message: ProtoOf[K]): Uint8Array {
  return root
    .lookupType(name)
    .encode(message as { [k: string]: unknown })
    .finish();
}

/** A 64-bit integer as a JavaScript number; beyond 2^53 it loses precision. */
export function toNumber(value: Int64 | undefined): number {
  return value === undefined ? 0 : typeof value === 'number' ? value : value.toNumber();
}

/** A 64-bit integer, exactly. */
export function toBigInt(value: Int64): bigint {
  if (typeof value === 'number') return BigInt(value);
  return (BigInt(value.high) << 32n) | BigInt(value.low >>> 0);
}

/** `'ai.onnx'` is the long name of the default domain. */
export const standardDomain = (domain: string | undefined) => (domain === undefined || domain === 'ai.onnx' ? '' : domain);
