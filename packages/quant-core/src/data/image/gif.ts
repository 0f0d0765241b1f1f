import { checkLength, checkSize } from './bytes.js';
import type { Picture } from './picture.js';

export function isGif(head: Buffer): boolean {
  return /^GIF8[79]a/.test(head.toString('latin1', 0, 6));
}

interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
  interlaced: boolean;
  palette: Uint8Array;
  /** The index that is clear, of which the place around the frame is full. */
  clear: number;
  /** Where the minimum code size stands. */
  start: number;
}

/**
 * The first frame of a GIF on its screen, as RGB. A clear pixel has the colour that the palette gives its index, as in Pillow.
 * Source: GIF89a Specification, CompuServe 1990.
 */
export function decodeGif(data: Buffer): Picture {
  const frame = firstFrame(data);
  const width = Math.max(data.readUInt16LE(6), frame.left + frame.width);
  const height = Math.max(data.readUInt16LE(8), frame.top + frame.height);
  checkSize(width, height);
  checkSize(frame.width, frame.height);
  const indices = unpack(data, frame.start, frame.width * frame.height);
  const rgb = new Uint8Array(width * height * 3);
  if (frame.clear) for (let i = 0; i < width * height; i++) put(rgb, i, frame.palette, frame.clear);
  const rows = rowsOf(frame);
  for (let line = 0; line < frame.height; line++) {
    const start = (frame.top + (rows[line] as number)) * width + frame.left;
    for (let x = 0; x < frame.width; x++) put(rgb, start + x, frame.palette, indices[line * frame.width + x] as number);
  }
  return { width, height, channels: 3, data: rgb };
}

function put(rgb: Uint8Array, pixel: number, palette: Uint8Array, index: number): void {
  for (let channel = 0; channel < 3; channel++) rgb[pixel * 3 + channel] = palette[index * 3 + channel] as number;
}

/** The row that each line of the file belongs to. */
function rowsOf({ height, interlaced }: Frame): number[] {
  const passes = interlaced ? [[0, 8], [4, 8], [2, 4], [1, 2]] : [[0, 1]]; // biome-ignore format: one line
  const rows: number[] = [];
  for (const [first, step] of passes) for (let row = first as number; row < height; row += step as number) rows.push(row);
  return rows;
}

function firstFrame(data: Buffer): Frame {
  checkLength(data, 13);
  const flags = data[10] as number;
  let at = 13;
  const readPalette = (bits: number): Uint8Array => {
    const bytes = 3 * 2 ** (bits + 1);
    checkLength(data, at + bytes);
    const palette = new Uint8Array(256 * 3);
    palette.set(data.subarray(at, at + bytes));
    at += bytes;
    return palette;
  };
  const grey = () => Uint8Array.from({ length: 256 * 3 }, (_, i) => Math.floor(i / 3));
  const shared = flags & 0x80 ? readPalette(flags & 7) : undefined;
  let clear = 0;
  for (;;) {
    checkLength(data, at + 1);
    const block = data[at++];
    if (block === 0x21) {
      checkLength(data, at + 7);
      // Graphic control: size 4, flags, two bytes of delay, the clear index.
      if (data[at] === 0xf9 && (data[at + 2] as number) & 1) clear = data[at + 5] as number;
      at++;
      while (data[at]) at += 1 + (data[at] as number);
      at++;
    } else if (block === 0x2c) {
      checkLength(data, at + 10);
      const [left, top, width, height] = [0, 2, 4, 6].map((offset) => data.readUInt16LE(at + offset)) as [number, number, number, number];
      const local = data[at + 8] as number;
      at += 9;
      const palette = local & 0x80 ? readPalette(local & 7) : (shared ?? grey());
      return { left, top, width, height, interlaced: (local & 0x40) !== 0, palette, clear, start: at };
    } else throw new Error(block === 0x3b ? 'it holds no frame' : `it holds a block of kind ${block}, which is not known`);
  }
}

/** LZW with codes of growing width, in blocks of up to 255 bytes. */
function unpack(data: Buffer, start: number, count: number): Uint8Array {
  const smallest = data[start] as number;
  if (!(smallest >= 1 && smallest <= 11)) throw new Error(`its codes start at ${smallest} bits`);
  const [reset, end] = [2 ** smallest, 2 ** smallest + 1];
  const [before, last] = [new Uint16Array(4096), new Uint8Array(4096)];
  for (let code = 0; code < reset; code++) last[code] = code;
  const stack = new Uint8Array(4097);
  const out = new Uint8Array(count);
  const codes = new Codes(data, start + 1);
  let [bits, next, previous, first, done] = [smallest + 1, end + 1, -1, 0, 0];
  while (done < count) {
    const code = codes.take(bits);
    if (code === reset) {
      [bits, next, previous] = [smallest + 1, end + 1, -1];
      continue;
    }
    if (code === end || code < 0) throw new Error('it is cut off');
    if (code > next || (code === next && previous < 0)) throw new Error('its codes are damaged');
    let depth = 0;
    let at = code;
    if (code === next) {
      stack[depth++] = first;
      at = previous;
    }
    while (at >= reset) {
      stack[depth++] = last[at] as number;
      at = before[at] as number;
    }
    first = last[at] as number;
    stack[depth++] = first;
    if (previous >= 0 && next < 4096) {
      before[next] = previous;
      last[next++] = first;
      if (next === 1 << bits && bits < 12) bits++;
    }
    previous = code;
    while (depth > 0 && done < count) out[done++] = stack[--depth] as number;
  }
  return out;
}

/** Codes from the low bits up. */
class Codes {
  private held = 0;
  private bits = 0;
  private left = 0;

  constructor(
    private readonly data: Buffer,
    private at: number,
  ) {}

  /** The next code, or -1 at the end of the data. */
  take(width: number): number {
    while (this.bits < width) {
      if (this.left === 0) {
        this.left = this.data[this.at++] ?? 0;
        if (this.left === 0) return -1;
      }
      if (this.at >= this.data.length) return -1;
      this.held |= (this.data[this.at++] as number) << this.bits;
      this.bits += 8;
      this.left--;
    }
    const code = this.held & ((1 << width) - 1);
    this.held >>>= width;
    this.bits -= width;
    return code;
  }
}
