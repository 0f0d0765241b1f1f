import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';

/** Bytes read at a time; what lies between two fields is jumped over. */
const windowBytes = 64 * 1024;
/** ModelProto.graph and GraphProto.node. */
const [graphField, nodeField] = [7, 1];

/** Fields of a protobuf message in a file, read one after the other. */
export class Fields {
  private readonly window = Buffer.alloc(windowBytes);
  private start = 0;
  private held = 0;

  constructor(private readonly fd: number) {}

  /** The bytes between two positions, as text. */
  text(from: number, to: number): string {
    const bytes = Buffer.alloc(to - from);
    readSync(this.fd, bytes, 0, bytes.length, from);
    return bytes.toString('utf8');
  }

  private byte(at: number): number {
    if (at < this.start || at >= this.start + this.held) {
      this.start = at;
      this.held = readSync(this.fd, this.window, 0, windowBytes, at);
      if (this.held === 0) throw new RangeError('the message is cut off');
    }
    return this.window[at - this.start] as number;
  }

  private varint(at: number): [value: number, next: number] {
    let value = 0;
    for (let i = 0; i < 10; i++) {
      const byte = this.byte(at + i);
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return [value, at + i + 1];
    }
    throw new RangeError('no varint');
  }

  /** Number of each field between two positions, and where the contents of those with a length lie. */
  *between(from: number, to: number): Generator<{ field: number; from: number; to: number }> {
    for (let at = from; at < to; ) {
      const [tag, behindTag] = this.varint(at);
      const kind = tag & 7;
      const [length, contents] = kind === 2 || kind === 0 ? this.varint(behindTag) : [kind === 1 ? 8 : 4, behindTag];
      at = kind === 0 ? contents : contents + length;
      yield { field: Math.floor(tag / 8), from: contents, to: at };
    }
  }
}

/** How many nodes the graph of an ONNX file has, without reading its weights; 0 for a file that is none. */
export function countNodes(path: string): number {
  if (!existsSync(path)) return 0;
  const fd = openSync(path, 'r');
  try {
    const fields = new Fields(fd);
    let nodes = 0;
    for (const graph of fields.between(0, fstatSync(fd).size)) {
      if (graph.field !== graphField) continue;
      for (const { field } of fields.between(graph.from, graph.to)) if (field === nodeField) nodes++;
    }
    return nodes;
  } catch (error) {
    if (error instanceof RangeError) return 0;
    throw error;
  } finally {
    closeSync(fd);
  }
}
