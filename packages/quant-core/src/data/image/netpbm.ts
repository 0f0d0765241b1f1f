import { checkLength, checkSize } from './bytes.js';
import type { Picture } from './picture.js';

export function isNetpbm(head: Buffer): boolean {
  return /^P[1-6]\s+(#|\d)/.test(head.toString('latin1', 0, 16));
}

/**
 * PBM, PGM and PPM, as text (P1 to P3) or bytes (P4 to P6). Levels other than 0..255 become `round(value / largest * 255)`, halves to even; of
 * grey with a largest level above 255 the 16 bits are cut off at 255: as in Pillow.
 */
export function decodeNetpbm(data: Buffer): Picture {
  const kind = Number(String.fromCharCode(data[1] as number));
  const bitmap = kind === 1 || kind === 4;
  const text = new Words(data, 2);
  const [width, height] = [text.number(), text.number()];
  const largest = bitmap ? 1 : text.number();
  checkSize(width, height);
  if (!(largest > 0 && largest < 65536)) throw new Error(`its header states ${largest} as the largest level`);
  const channels = kind % 3 === 0 ? 3 : 1;
  const count = width * height * channels;
  const levels =
    kind <= 3 ? readText(text, count, bitmap) : readBytes(data, text.at + 1, { width, height, count, bitmap, wide: largest > 255 });
  const full = channels === 1 && largest > 255 ? 65535 : 255;
  const pixels = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const level = levels[i] as number;
    if (bitmap) pixels[i] = level ? 0 : 255;
    else pixels[i] = Math.min(255, largest === full ? level : evenly((level / largest) * full));
  }
  return { width, height, channels, data: pixels };
}

/** Rounded, halves to even. */
function evenly(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}

function readText(text: Words, count: number, bitmap: boolean): ArrayLike<number> {
  const levels = new Uint16Array(count);
  for (let i = 0; i < count; i++) levels[i] = bitmap ? text.digit() : text.number();
  return levels;
}

function readBytes(
  data: Buffer,
  start: number,
  { width, height, count, bitmap, wide }: { width: number; height: number; count: number; bitmap: boolean; wide: boolean },
): ArrayLike<number> {
  if (bitmap) {
    const stride = Math.ceil(width / 8);
    checkLength(data, start + stride * height);
    return Uint8Array.from(
      { length: count },
      (_, i) => ((data[start + Math.floor(i / width) * stride + ((i % width) >> 3)] as number) >> (7 - ((i % width) & 7))) & 1,
    );
  }
  checkLength(data, start + count * (wide ? 2 : 1));
  return wide ? Uint16Array.from({ length: count }, (_, i) => data.readUInt16BE(start + 2 * i)) : data.subarray(start, start + count);
}

/** Words between white space; comments run from # to the end of the line. */
class Words {
  constructor(
    private readonly data: Buffer,
    public at: number,
  ) {}

  number(): number {
    this.skip();
    let value = -1;
    while (this.isDigit()) value = Math.max(0, value) * 10 + ((this.data[this.at++] as number) - 48);
    if (value < 0) throw new Error(this.at >= this.data.length ? 'it is cut off' : `its byte ${this.at} is not part of a number`);
    return value;
  }

  /** One digit, also without white space around it. */
  digit(): number {
    this.skip();
    if (!this.isDigit()) throw new Error(this.at >= this.data.length ? 'it is cut off' : `its byte ${this.at} is not a digit`);
    return (this.data[this.at++] as number) - 48;
  }

  private isDigit(): boolean {
    const byte = this.data[this.at] as number;
    return byte >= 48 && byte <= 57;
  }

  private skip(): void {
    for (;;) {
      const byte = this.data[this.at];
      if (byte === 35) while (this.at < this.data.length && this.data[this.at] !== 10 && this.data[this.at] !== 13) this.at++;
      else if (byte === 32 || (byte !== undefined && byte >= 9 && byte <= 13)) this.at++;
      else return;
    }
  }
}
