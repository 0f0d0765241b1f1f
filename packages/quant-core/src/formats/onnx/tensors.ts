import protobuf from 'protobufjs/light.js';
import { OctetError } from '../../errors.js';
import { allocate, type DataOf, type DType, dtypes, isPacked, pack4, unpack4, viewBytes } from '../../tensor/dtype.js';
import { Tensor } from '../../tensor/tensor.js';
import { type TensorProto, toNumber } from './schema.js';
import type { ExternalPlace } from './weightFile.js';

/** No operator of ONNX takes tensors of this many dimensions. */
export const maxRank = 64;

/** Largest dimension and largest number of elements that a tensor may claim. */
const maxElements = 2 ** 31 - 1;

const byNumber = new Map<number, DType>(Object.entries(dtypes).map(([name, { onnx }]) => [onnx, name as DType]));

/** Element types of the standard that Octet has no arrays for. */
const otherTypes = new Map<number, string>([
  [8, 'string'],
  [14, 'complex64'],
  [15, 'complex128'],
  [16, 'bfloat16'],
  [17, 'float8e4m3fn'],
  [18, 'float8e4m3fnuz'],
  [19, 'float8e5m2'],
  [20, 'float8e5m2fnuz'],
  [23, 'float4e2m1'],
  [24, 'float8e8m0'],
  [25, 'uint2'],
  [26, 'int2'],
]);

/** The element type with this number of TensorProto.DataType, if Octet has it. */
export const dtypeOf = (number: number): DType | undefined => byNumber.get(number);

/** Name of any element type of the standard. */
export const dtypeName = (number: number): string | undefined => byNumber.get(number) ?? otherTypes.get(number);

/** Reads a file of external data by the location that the model gives. */
export type ExternalData = (location: string) => Uint8Array;

/** Where typed payloads of each element type live. */
const payloadOf: Record<
  DType,
  { field: 'floatData' | 'int32Data' | 'int64Data' | 'doubleData' | 'uint64Data'; id: number; fixed?: number }
> = {
  float32: { field: 'floatData', id: 4, fixed: 4 },
  float64: { field: 'doubleData', id: 10, fixed: 8 },
  int64: { field: 'int64Data', id: 7 },
  uint32: { field: 'uint64Data', id: 11 },
  uint64: { field: 'uint64Data', id: 11 },
  int32: { field: 'int32Data', id: 5 },
  int16: { field: 'int32Data', id: 5 },
  int8: { field: 'int32Data', id: 5 },
  uint16: { field: 'int32Data', id: 5 },
  uint8: { field: 'int32Data', id: 5 },
  bool: { field: 'int32Data', id: 5 },
  float16: { field: 'int32Data', id: 5 },
  int4: { field: 'int32Data', id: 5 },
  uint4: { field: 'int32Data', id: 5 },
};

/** Dimensions of a tensor: whole, not negative, and small enough to count. Throws MODEL_SHAPE. */
function tensorShape(proto: TensorProto, name: string): number[] {
  const shape = (proto.dims ?? []).map(toNumber);
  if (shape.length > maxRank)
    throw new OctetError('MODEL_SHAPE', `Tensor "${name}" has ${shape.length} dimensions, more than ${maxRank}.`, { tensor: name });
  let size = 1;
  for (const dim of shape) {
    if (dim < 0)
      throw new OctetError('MODEL_SHAPE', `Tensor "${name}" has the negative dimension ${dim} in its shape [${shape}].`, { tensor: name });
    size *= dim;
    if (dim > maxElements || size > maxElements)
      throw new OctetError('MODEL_SHAPE', `Tensor "${name}" claims the shape [${shape}], more than ${maxElements} elements.`, {
        tensor: name,
      });
  }
  return shape;
}

/** Whether the element type is one of Octet's; throws MODEL_DTYPE when it is not even one of ONNX. */
export function isSupported(proto: TensorProto, name: string): boolean {
  const number = proto.dataType ?? 0;
  if (!dtypeName(number))
    throw new OctetError('MODEL_DTYPE', `Tensor "${name}" has the element type number ${number}, which ONNX does not have.`, {
      tensor: name,
    });
  return byNumber.has(number);
}

/**
 * A TensorProto as a tensor: raw_data (a view where alignment allows), the typed fields, or external data.
 * Throws MODEL_SHAPE, MODEL_DTYPE, MODEL_INVALID (length), MODEL_EXTERNAL_DATA.
 */
export function readTensor(proto: TensorProto, name: string, external?: ExternalData): Tensor {
  const dtype = byNumber.get(proto.dataType ?? 0);
  if (!dtype) {
    const known = dtypeName(proto.dataType ?? 0) ?? `number ${proto.dataType ?? 0}`;
    throw new OctetError('MODEL_DTYPE', `Tensor "${name}" has the element type ${known}, which Octet cannot use here.`, { tensor: name });
  }
  const shape = tensorShape(proto, name);
  const size = shape.reduce((product, dim) => product * dim, 1);
  if (Object.hasOwn(proto, 'segment'))
    throw new OctetError('MODEL_INVALID', `Tensor "${name}" is stored in segments, which ONNX has given up.`, { tensor: name });
  const stored = Math.ceil(size * dtypes[dtype].bytes);
  const bytes = (proto.dataLocation ?? 0) === 1 ? readExternal(proto, name, stored, external) : proto.rawData;
  if (bytes?.length || !hasTyped(proto)) {
    const found = bytes ?? new Uint8Array(0);
    if (found.length !== stored) {
      throw new OctetError(
        'MODEL_INVALID',
        `Tensor "${name}" is ${dtype} with shape [${shape}], which takes ${stored} bytes, and holds ${found.length}.`,
        { tensor: name },
      );
    }
    return new Tensor(dtype, shape, isPacked(dtype) ? unpack4(dtype, found, size) : viewBytes(dtype, found));
  }
  // Of 4 bits, each number of the typed field holds two elements.
  if (isPacked(dtype)) return new Tensor(dtype, shape, unpack4(dtype, readTyped(proto, 'uint8', stored, name, shape) as Uint8Array, size));
  return new Tensor(dtype, shape, readTyped(proto, dtype, size, name, shape));
}

function hasTyped(proto: TensorProto): boolean {
  return Boolean(
    proto.floatData || proto.int32Data || proto.int64Data || proto.doubleData || proto.uint64Data || proto.stringData || proto.$unknowns,
  );
}

/** The packed payload of a typed field, also where a writer did not pack it. */
function payload(proto: TensorProto, dtype: DType): Uint8Array[] {
  const { field, id } = payloadOf[dtype];
  const chunks = [...(proto[field] ?? [])];
  for (const raw of proto.$unknowns ?? []) {
    const reader = protobuf.Reader.create(raw);
    if (reader.uint32() >>> 3 === id) chunks.push(raw.subarray(reader.pos));
  }
  return chunks;
}

function readTyped(proto: TensorProto, dtype: DType, size: number, name: string, shape: readonly number[]): DataOf[DType] {
  const { fixed, field } = payloadOf[dtype];
  const chunks = payload(proto, dtype);
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const wrong = (got: string) =>
    new OctetError('MODEL_INVALID', `Tensor "${name}" is ${dtype} with shape [${shape}], ${size} elements, and holds ${got}.`, {
      tensor: name,
    });
  if (length === 0 && size > 0) {
    const other = (['floatData', 'int32Data', 'int64Data', 'doubleData', 'uint64Data', 'stringData'] as const).find((key) => proto[key]);
    if (other)
      throw new OctetError(
        'MODEL_DTYPE',
        `Tensor "${name}" is ${dtype}, but its data is stored as ${other}; ${dtype} belongs into ${field}.`,
        { tensor: name },
      );
  }
  if (fixed) {
    if (length !== size * fixed) throw wrong(`${length} bytes`);
    const whole = new Uint8Array(length);
    let at = 0;
    for (const chunk of chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    return viewBytes(dtype, whole);
  }
  // Every element takes at least a byte, so this bounds what is allocated.
  if (length < size) throw wrong(`${length} bytes`);
  const data = allocate(dtype, size);
  let index = 0;
  for (const chunk of chunks) {
    const reader = protobuf.Reader.create(chunk);
    while (reader.pos < reader.len) {
      if (index >= size) throw wrong('more');
      const value = varint(chunk, reader, name);
      data[index++] = (
        dtype === 'int64' || dtype === 'uint64' ? value : Number(BigInt.asIntN(dtype === 'uint32' ? 64 : 32, value))
      ) as never;
    }
  }
  if (index !== size) throw wrong(`${index}`);
  return data;
}

function varint(bytes: Uint8Array, reader: { pos: number }, name: string): bigint {
  let low = 0;
  let scale = 1;
  for (let at = reader.pos; at < bytes.length && at - reader.pos < 4; at++) {
    const byte = bytes[at] as number;
    low += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      reader.pos = at + 1;
      return BigInt(low);
    }
    scale *= 128;
  }
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[reader.pos++];
    if (byte === undefined) break;
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) return BigInt.asIntN(64, value);
  }
  throw new OctetError('MODEL_TRUNCATED', `The data of tensor "${name}" ends inside a number.`, { tensor: name });
}

/** The entries of external_data as a record. */
function externalFields(proto: TensorProto): Map<string, string> {
  return new Map((proto.externalData ?? []).map(({ key, value }) => [key ?? '', value ?? '']));
}

/** Location of a tensor's external data: a relative path that stays below the model's folder. Throws MODEL_EXTERNAL_DATA. */
export function externalLocation(proto: TensorProto, name: string): string {
  const location = externalFields(proto).get('location') ?? '';
  const refuse = (why: string) =>
    new OctetError('MODEL_EXTERNAL_DATA', `Tensor "${name}" stores its data in "${location}", which ${why}.`, {
      tensor: name,
      file: location,
    });
  if (location === '') throw refuse('is not a file name');
  if (/^[/\\]|^[A-Za-z]:|\0/.test(location)) throw refuse('is an absolute path');
  const parts = location.split(/[/\\]/);
  if (parts.includes('..')) throw refuse('leads out of the folder of the model');
  return parts.filter((part) => part !== '.' && part !== '').join('/');
}

function readExternal(proto: TensorProto, name: string, bytes: number, external?: ExternalData): Uint8Array {
  const location = externalLocation(proto, name);
  const place = { tensor: name, file: location };
  if (!external)
    throw new OctetError(
      'MODEL_EXTERNAL_DATA',
      `Tensor "${name}" stores its data in the file "${location}", which did not come with the model.`,
      place,
    );
  const fields = externalFields(proto);
  const whole = (key: string, otherwise: number) => {
    const text = fields.get(key);
    if (text === undefined || text === '') return otherwise;
    if (!/^\d{1,15}$/.test(text))
      throw new OctetError(
        'MODEL_EXTERNAL_DATA',
        `The ${key} of the external data of tensor "${name}" is "${text}", not a number of bytes.`,
        place,
      );
    return Number(text);
  };
  const offset = whole('offset', 0);
  const file = external(location);
  const length = whole('length', file.length - offset);
  if (offset > file.length || length > file.length - offset) {
    throw new OctetError(
      'MODEL_EXTERNAL_DATA',
      `Tensor "${name}" wants ${length} bytes at ${offset} of "${location}", which has ${file.length}.`,
      place,
    );
  }
  if (length !== bytes)
    throw new OctetError(
      'MODEL_EXTERNAL_DATA',
      `Tensor "${name}" takes ${bytes} bytes, and ${length} are stored for it in "${location}".`,
      place,
    );
  return file.subarray(offset, offset + length);
}

/** A tensor as TensorProto with raw_data, which is a view and not a copy (but for types of 4 bits, which are packed). */
export function tensorProto(name: string, tensor: Tensor): TensorProto {
  const rawData = isPacked(tensor.dtype) ? pack4(tensor.data as Int8Array) : tensor.raw;
  return { dims: [...tensor.shape], dataType: dtypes[tensor.dtype].onnx, name, rawData };
}

/** A tensor as TensorProto whose data lies in a file beside the model. */
export function externalProto(name: string, tensor: Tensor, { location, offset, length }: ExternalPlace): TensorProto {
  const externalData = Object.entries({ location, offset, length }).map(([key, value]) => ({ key, value: String(value) }));
  return { dims: [...tensor.shape], dataType: dtypes[tensor.dtype].onnx, name, externalData, dataLocation: 1 };
}
