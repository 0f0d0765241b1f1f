import { checkLength, checkSize } from './bytes.js';
import type { Picture } from './picture.js';

const headerBytes = 14;
/** Lengths of the headers that are known: OS/2 1, Windows 3, its two extensions, OS/2 2, Windows 4 and 5. */
const infoBytes = new Set([12, 40, 52, 56, 64, 108, 124]);
const compressions = { none: 0, rle8: 1, rle4: 2, masks: 3 } as const;

interface Header {
  width: number;
  height: number;
  topDown: boolean;
  bits: number;
  compression: number;
  /** Where the pixels start. */
  start: number;
  /** RGB of every index, for 8 bits and fewer. */
  palette: Uint8Array;
  /** Bits of red, green and blue in a pixel of 16 or 32 bits. */
  masks: readonly [number, number, number];
}

export function isBmp(head: Buffer): boolean {
  return head.length >= 18 && head.toString('latin1', 0, 2) === 'BM' && infoBytes.has(head.readUInt32LE(14));
}

/**
 * A Windows or OS/2 bitmap of 1, 4, 8, 16, 24 or 32 bits, as RGB. Alpha is dropped. Channels of 5 and 6 bits become `value * 255 / 31` (63),
 * rounded down, as in Pillow.
 */
export function decodeBmp(data: Buffer): Picture {
  const header = readHeader(data);
  const { width, height, bits, compression } = header;
  const indexed = bits <= 8;
  const rgb = new Uint8Array(width * height * 3);
  const rowOf = (row: number) => (header.topDown ? row : height - 1 - row) * width * 3;
  if (compression === compressions.rle8 || compression === compressions.rle4) {
    const indices = unrun(data, header);
    for (let row = 0; row < height; row++) paint(indices, row * width, header.palette, rgb, rowOf(row), width);
    return { width, height, channels: 3, data: rgb };
  }
  const stride = Math.ceil((width * bits) / 32) * 4;
  checkLength(data, header.start + stride * height);
  const line = new Uint8Array(width);
  for (let row = 0; row < height; row++) {
    const at = header.start + row * stride;
    if (indexed) {
      for (let x = 0; x < width; x++) {
        const bit = x * bits;
        line[x] = ((data[at + (bit >> 3)] as number) >> (8 - bits - (bit & 7))) & ((1 << bits) - 1);
      }
      paint(line, 0, header.palette, rgb, rowOf(row), width);
    } else if (bits === 24) {
      for (let x = 0, out = rowOf(row); x < width; x++, out += 3) {
        for (let channel = 0; channel < 3; channel++) rgb[out + channel] = data[at + x * 3 + 2 - channel] as number;
      }
    } else unmask(data, at, header, rgb, rowOf(row));
  }
  return { width, height, channels: 3, data: rgb };
}

function readHeader(data: Buffer): Header {
  checkLength(data, headerBytes + 4);
  const info = data.readUInt32LE(14);
  checkLength(data, headerBytes + info);
  const old = info === 12;
  const width = old ? data.readUInt16LE(18) : data.readInt32LE(18);
  const high = old ? data.readUInt16LE(20) : data.readInt32LE(22);
  const bits = data.readUInt16LE(old ? 24 : 28);
  const compression = old ? 0 : data.readUInt32LE(30);
  checkSize(width, Math.abs(high));
  const runs = (compression === compressions.rle8 && bits === 8) || (compression === compressions.rle4 && bits === 4);
  const masked = compression === compressions.masks && (bits === 16 || bits === 32);
  if (![1, 4, 8, 16, 24, 32].includes(bits) || !(compression === compressions.none || runs || masked))
    throw new Error(`it is a bitmap of ${bits} bits with compression ${compression}, which is not known`);
  const start = data.readUInt32LE(10);
  const maskBytes = masked && info === 40 ? 12 : 0;
  if (masked) checkLength(data, headerBytes + 52);
  const said = old ? 0 : data.readUInt32LE(46);
  const palette = bits <= 8 ? readPalette(data, headerBytes + info + maskBytes, said || 2 ** bits, old ? 3 : 4, start) : new Uint8Array(0);
  const usual = bits === 16 ? ([0x7c00, 0x3e0, 0x1f] as const) : ([0xff0000, 0xff00, 0xff] as const);
  const masks = masked ? ([54, 58, 62].map((at) => data.readUInt32LE(at)) as [number, number, number]) : usual;
  return { width, height: Math.abs(high), topDown: high < 0, bits, compression, start, palette, masks };
}

function readPalette(data: Buffer, at: number, count: number, entryBytes: number, end: number): Uint8Array {
  const palette = new Uint8Array(256 * 3);
  for (let index = 0; index < Math.min(256, count) && at + 3 <= Math.min(end, data.length); index++, at += entryBytes) {
    for (let channel = 0; channel < 3; channel++) palette[index * 3 + channel] = data[at + 2 - channel] as number;
  }
  return palette;
}

function paint(indices: Uint8Array, from: number, palette: Uint8Array, rgb: Uint8Array, to: number, count: number): void {
  for (let x = 0; x < count; x++) {
    const entry = (indices[from + x] as number) * 3;
    for (let channel = 0; channel < 3; channel++) rgb[to + x * 3 + channel] = palette[entry + channel] as number;
  }
}

/** One row of pixels of 16 or 32 bits. */
function unmask(data: Buffer, at: number, { bits, masks, width }: Header, rgb: Uint8Array, to: number): void {
  const places = masks.map((mask) => ({ mask, shift: mask ? 31 - Math.clz32(mask & -mask) : 0 }));
  for (let x = 0; x < width; x++) {
    const pixel = bits === 16 ? data.readUInt16LE(at + x * 2) : data.readUInt32LE(at + x * 4);
    for (let channel = 0; channel < 3; channel++) {
      const { mask, shift } = places[channel] as (typeof places)[0];
      const most = mask >>> shift;
      rgb[to + x * 3 + channel] = most ? Math.trunc((((pixel & mask) >>> shift) * 255) / most) : 0;
    }
  }
}

/** Indices [height, width] of a bitmap in runs. Pixels that no run reaches have index 0. */
function unrun(data: Buffer, { width, height, bits, start }: Header): Uint8Array {
  const indices = new Uint8Array(width * height);
  let [x, y, at] = [0, 0, start];
  const put = (index: number) => {
    if (x < width && y < height) indices[y * width + x] = index;
    x++;
  };
  while (y < height) {
    checkLength(data, at + 2);
    const [count, value] = [data[at] as number, data[at + 1] as number];
    at += 2;
    if (count > 0) {
      for (let i = 0; i < count; i++) put(bits === 8 ? value : i % 2 ? value & 15 : value >> 4);
    } else if (value === 0) {
      x = 0;
      y++;
    } else if (value === 1) {
      return indices;
    } else if (value === 2) {
      checkLength(data, at + 2);
      x += data[at] as number;
      y += data[at + 1] as number;
      at += 2;
    } else {
      const bytes = bits === 8 ? value : Math.ceil(value / 2);
      checkLength(data, at + bytes);
      for (let i = 0; i < value; i++) {
        const byte = data[at + (bits === 8 ? i : i >> 1)] as number;
        put(bits === 8 ? byte : i % 2 ? byte & 15 : byte >> 4);
      }
      at += bytes + (bytes % 2);
    }
  }
  return indices;
}
