import { OctetError } from '../../errors.js';
import { type MessageName, messages } from './schema.js';

/** Deepest nesting of messages; protobuf's own limit. */
const maxDepth = 100;

/** What a scan may cost: the fields of all messages together bound the memory that decoding takes. */
export interface WireBudget {
  fields: number;
}

interface Cursor {
  bytes: Uint8Array;
  at: number;
  left: number;
  limit: number;
}

/** Longest name of a node, tensor or operator, in bytes. Texts (doc strings, metadata) may be longer. */
const maxName = 10_000;

const texts: ReadonlySet<string> = new Set(['docString', 'value']);

/** What the field means for a scan: a message by its name, repeated numbers, a name, or bytes that need no look. */
function shapeOf(field: string, type: string): string {
  if (Object.hasOwn(messages, type)) return type;
  if (type === 'string') return texts.has(field) ? 'bytes' : 'name';
  return type === 'bytes' ? 'bytes' : 'scalar';
}

/** Field number → shape, by message. */
const shapes = new Map<string, Map<number, string>>(
  Object.entries(messages).map(([name, fields]) => [
    name,
    new Map(
      Object.entries(fields as Record<string, readonly [number, string, string?]>).map(([field, [id, type]]) => [id, shapeOf(field, type)]),
    ),
  ]),
);

class Damage extends Error {}

/** A varint up to 64 bits as a number (exact below 2^53), or throws Damage at the end of the message. */
function varint(cursor: Cursor, end: number): number {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < 10; i++) {
    if (cursor.at >= end) throw new Damage(`the message ends inside a number at byte ${cursor.at}`);
    const byte = cursor.bytes[cursor.at++] as number;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
    scale *= 128;
  }
  throw new Damage(`byte ${cursor.at} continues a number of more than ten bytes`);
}

/** Walks one message: lengths fit, groups are absent, the budget holds. */
function walk(cursor: Cursor, message: MessageName, end: number, depth: number): void {
  if (depth > maxDepth) throw new OctetError('MODEL_INVALID', `Messages are nested more than ${maxDepth} deep at byte ${cursor.at}.`);
  const shape = shapes.get(message);
  while (cursor.at < end) {
    const start = cursor.at;
    spend(cursor, 1);
    const tag = varint(cursor, end);
    const wireType = tag % 8;
    const field = Math.floor(tag / 8);
    if (field < 1 || tag > 0xffffffff) throw new Damage(`no field begins at byte ${start}`);
    if (wireType === 0) varint(cursor, end);
    else if (wireType === 1) cursor.at += 8;
    else if (wireType === 5) cursor.at += 4;
    else if (wireType === 2) {
      const length = varint(cursor, end);
      if (length > end - cursor.at)
        throw new Damage(`field ${field} of ${message} at byte ${start} says it has ${length} bytes, and ${end - cursor.at} are left`);
      const inner = shape?.get(field);
      if (inner === 'scalar') {
        spend(cursor, length);
        cursor.at += length;
      } else if (inner === 'name' && length > maxName) {
        throw new OctetError(
          'MODEL_INVALID',
          `Field ${field} of ${message} at byte ${start} is a name of ${length} bytes; ${maxName} are allowed.`,
        );
      } else if (inner && inner !== 'bytes' && inner !== 'name') walk(cursor, inner as MessageName, cursor.at + length, depth + 1);
      else cursor.at += length;
    } else throw new Damage(`byte ${start} begins no field that ONNX has`);
    if (cursor.at > end) throw new Damage(`field ${field} of ${message} at byte ${start} reaches past the end`);
  }
}

function spend(cursor: Cursor, count: number): void {
  cursor.left -= count;
  if (cursor.left < 0) {
    throw new OctetError(
      'MODEL_TOO_LARGE',
      `The structure of the model has more than ${cursor.limit} fields, not counting the data of weights.`,
      {},
      { hint: 'Store weights as raw_data, or raise the limit on nodes on your own server.' },
    );
  }
}

/**
 * Look over the wire format before anything is allocated for it. Throws MODEL_NOT_ONNX when the bytes are something else,
 * MODEL_TRUNCATED when a length reaches past its end, MODEL_TOO_LARGE when decoding would take more objects than the budget.
 */
export function checkWire(bytes: Uint8Array, budget: WireBudget): void {
  if (bytes.length === 0) throw new OctetError('MODEL_NOT_ONNX', 'The file is empty.');
  const cursor: Cursor = { bytes, at: 0, left: budget.fields, limit: budget.fields };
  const known = shapes.get('Model') as Map<number, string>;
  // Every writer of ONNX begins with the IR version or another field of ModelProto.
  const first = bytes[0] as number;
  const firstShape = known.get(first >> 3);
  const expected = firstShape === 'scalar' ? 0 : 2;
  if (!firstShape || first >= 0x80 || (first & 7) !== expected) {
    throw new OctetError(
      'MODEL_NOT_ONNX',
      `The file does not begin like an ONNX model (first bytes: ${Buffer.from(bytes.subarray(0, 8)).toString('hex')}).`,
    );
  }
  try {
    walk(cursor, 'Model', bytes.length, 0);
  } catch (error) {
    const isModel = looksLikeModel(bytes);
    if (isModel && !(error instanceof Damage)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    if (isModel) throw new OctetError('MODEL_TRUNCATED', `The file of ${bytes.length} bytes is cut off or damaged: ${reason}.`);
    throw new OctetError('MODEL_NOT_ONNX', `The file is not an ONNX model: ${reason}.`);
  }
}

/** The file begins with an IR version, as nearly every ONNX file does. */
function looksLikeModel(bytes: Uint8Array): boolean {
  return bytes[0] === 0x08 && (bytes[1] as number) > 0 && (bytes[1] as number) < 0x80;
}
