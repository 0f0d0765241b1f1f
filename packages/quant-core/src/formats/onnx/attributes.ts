import { OctetError } from '../../errors.js';
import { type AttributeValue, type OpType, spec } from '../../ir/ops.js';
import { type DType, dtypes } from '../../tensor/dtype.js';
import type { Tensor } from '../../tensor/tensor.js';
import { type AttributeProto, attributeTypes, toNumber } from './schema.js';
import { dtypeOf, isSupported, readTensor, tensorProto } from './tensors.js';

const typeOfKind = {
  int: attributeTypes.int,
  float: attributeTypes.float,
  string: attributeTypes.string,
  ints: attributeTypes.ints,
  floats: attributeTypes.floats,
  strings: attributeTypes.strings,
  dtype: attributeTypes.int,
  tensor: attributeTypes.tensor,
} as const;

const nameOfType = new Map<number, string>(Object.entries(attributeTypes).map(([name, number]) => [number, name]));

/** The declared type of an attribute, or the one its content shows (writers before IR 2 left it out). Throws MODEL_INVALID. */
export function attributeType(attribute: AttributeProto, node: string): number {
  const declared = attribute.type ?? 0;
  if (nameOfType.has(declared)) return declared;
  if (declared !== 0)
    throw new OctetError(
      'MODEL_INVALID',
      `Attribute "${attribute.name}" of node "${node}" is of kind ${declared}, which ONNX does not have.`,
      { node },
    );
  if (attribute.f !== undefined) return attributeTypes.float;
  if (attribute.i !== undefined) return attributeTypes.int;
  if (attribute.s !== undefined) return attributeTypes.string;
  if (attribute.t) return attributeTypes.tensor;
  if (attribute.g) return attributeTypes.graph;
  if (attribute.floats?.length) return attributeTypes.floats;
  if (attribute.strings?.length) return attributeTypes.strings;
  return attributeTypes.ints;
}

/**
 * Attributes of a node as the op table types them. `undefined` when the table cannot hold one of them (an attribute of a newer
 * form, an element type Octet has no arrays for): the node is kept as it is. Throws MODEL_INVALID for one of the wrong kind.
 */
export function readAttributes(
  op: OpType,
  attributes: readonly AttributeProto[],
  node: string,
): Record<string, AttributeValue> | undefined {
  const table = spec(op).attrs ?? {};
  const result: Record<string, AttributeValue> = {};
  for (const attribute of attributes) {
    const name = attribute.name ?? '';
    const row = Object.hasOwn(table, name) ? table[name] : undefined;
    if (!row) return undefined;
    const type = attributeType(attribute, node);
    if (type !== typeOfKind[row.kind]) {
      throw new OctetError(
        'MODEL_INVALID',
        `Attribute "${name}" of ${op} node "${node}" is of kind ${nameOfType.get(type)}, and must be ${nameOfType.get(typeOfKind[row.kind])}.`,
        { node, op },
      );
    }
    const value = readValue(row.kind, attribute, `${node}.${name}`);
    if (value === undefined) return undefined;
    result[name] = value;
  }
  return result;
}

function readValue(kind: keyof typeof typeOfKind, attribute: AttributeProto, where: string): AttributeValue {
  switch (kind) {
    case 'int':
      return exact(toNumber(attribute.i));
    case 'float':
      return attribute.f ?? 0;
    case 'string':
      return Buffer.from(attribute.s ?? []).toString('utf8');
    case 'ints': {
      const values = (attribute.ints ?? []).map(toNumber);
      return values.every((value) => exact(value) !== undefined) ? values : undefined;
    }
    case 'floats':
      return attribute.floats ?? [];
    case 'strings':
      return (attribute.strings ?? []).map((item) => Buffer.from(item).toString('utf8'));
    case 'dtype':
      return dtypeOf(toNumber(attribute.i));
    case 'tensor':
      return attribute.t && isSupported(attribute.t, where) ? readTensor(attribute.t, where) : undefined;
  }
}

const exact = (value: number) => (Number.isSafeInteger(value) ? value : undefined);

/** The attributes that are set on a node, in the order of the op table. */
export function attributeProtos(op: OpType, attrs: Readonly<Record<string, AttributeValue>>): AttributeProto[] {
  const result: AttributeProto[] = [];
  for (const [name, row] of Object.entries(spec(op).attrs ?? {})) {
    const value = attrs[name];
    if (value === undefined) continue;
    const type = typeOfKind[row.kind];
    switch (row.kind) {
      case 'int':
        result.push({ name, type, i: value as number });
        break;
      case 'float':
        result.push({ name, type, f: value as number });
        break;
      case 'string':
        result.push({ name, type, s: Buffer.from(value as string) });
        break;
      case 'ints':
        result.push({ name, type, ints: [...(value as readonly number[])] });
        break;
      case 'floats':
        result.push({ name, type, floats: [...(value as readonly number[])] });
        break;
      case 'strings':
        result.push({ name, type, strings: (value as readonly string[]).map((item) => Buffer.from(item)) });
        break;
      case 'dtype':
        result.push({ name, type, i: dtypes[value as DType].onnx });
        break;
      case 'tensor':
        result.push({ name, type, t: tensorProto('', value as Tensor) });
        break;
    }
  }
  return result;
}
