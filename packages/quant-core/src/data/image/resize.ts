import { assemble } from './assemble.js';
import type { Picture } from './picture.js';
import { resizeKernel } from './resize-kernel.js';

export interface ImageSize {
  height: number;
  width: number;
}

/** Weights of one axis: for each result the first input, the number of taps, and their weights in fixed point. */
interface Axis {
  taps: number;
  first: Int32Array;
  count: Int32Array;
  /** [results, taps], multiples of 2^-22. */
  weights: Int32Array;
}

const precisionBits = 22;
/** Rows are worked on in blocks of about this many bytes. */
const blockBytes = 4 * 1024 * 1024;
const pageBytes = 65536;
/** Vectors reach this far beyond the end. */
const margin = 64;
const mostAxes = 64;

interface Kernel {
  rows1: Pass;
  rows3: Pass;
  columns: Pass;
}
type Pass = (
  source: number,
  target: number,
  rows: number,
  stride: number,
  bounds: number,
  weights: number,
  taps: number,
  width: number,
) => void;

let memory: WebAssembly.Memory;
let kernel: Kernel | undefined;

function load(): Kernel {
  if (kernel) return kernel;
  memory = new WebAssembly.Memory({ initial: 1 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(assemble(resizeKernel)), { env: { memory } });
  kernel = exports as unknown as Kernel;
  return kernel;
}

const axes = new Map<string, Axis>();

/** Weights of a triangle that is one input pixel wide on each side, or one output pixel where that is wider. */
function axisOf(from: number, to: number): Axis {
  const key = `${from} ${to}`;
  const known = axes.get(key);
  if (known) return known;
  const scale = from / to;
  const support = Math.max(1, scale);
  const taps = Math.ceil(support) * 2 + 1;
  const axis: Axis = { taps, first: new Int32Array(to), count: new Int32Array(to), weights: new Int32Array(to * taps) };
  const real = new Float64Array(taps);
  for (let place = 0; place < to; place++) {
    const centre = (place + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(from, Math.trunc(centre + support + 0.5)) - low;
    let sum = 0;
    for (let tap = 0; tap < count; tap++) {
      real[tap] = Math.max(0, 1 - Math.abs((tap + low - centre + 0.5) * (1 / support)));
      sum += real[tap] as number;
    }
    for (let tap = 0; tap < count; tap++)
      axis.weights[place * taps + tap] = Math.trunc(0.5 + ((real[tap] as number) / sum) * 2 ** precisionBits);
    axis.first[place] = low;
    axis.count[place] = count;
  }
  if (axes.size >= mostAxes) axes.clear();
  axes.set(key, axis);
  return axis;
}

/**
 * An image brought to `size`, stretched without keeping proportions: a triangle filter, antialiased where the image becomes smaller and bilinear
 * with pixel centres at half steps where it becomes larger. The bytes are those of `Image.resize(size, Image.BILINEAR)` of Pillow 13:
 * weights in fixed point of 22 bits, rounded to bytes after each of two passes (Pillow, src/libImaging/Resample.c).
 */
export function resize(image: Picture, size: ImageSize): Picture {
  // Rows come first, unless the height shrinks by more than twice as many pixels as the width; before Pillow 13 they always did.
  const [shorter, narrower] = [image.height - size.height, image.width - size.width];
  if (shorter > 0 && shorter > 2 * narrower) return stretch(stretch(image, { height: size.height, width: image.width }), size);
  return stretch(image, size);
}

function stretch(image: Picture, size: ImageSize): Picture {
  if (image.height === size.height && image.width === size.width) return image;
  const { rows1, rows3, columns } = load();
  const { channels, data } = image;
  const across = image.width === size.width ? undefined : axisOf(image.width, size.width);
  const down = image.height === size.height ? undefined : axisOf(image.height, size.height);
  const [sourceStride, stride] = [image.width * channels, size.width * channels];
  const result = new Uint8Array(size.height * stride);
  const horizontal = channels === 3 ? rows3 : rows1;
  for (let from = 0; from < size.height; ) {
    const { to, first, last } = block(from, size.height, down, sourceStride + stride);
    const [inputs, outputs] = [last - first, to - from];
    const space = new Space();
    const source = space.take(inputs * sourceStride);
    const between = across ? space.take(inputs * stride) : source;
    const target = down ? space.take(outputs * stride) : between;
    const places = across && [space.take(size.width * 8), space.take(across.weights.byteLength)];
    const lines = down && [space.take(outputs * 8), space.take(outputs * down.taps * 4)];
    space.reserve();
    new Uint8Array(memory.buffer).set(data.subarray(first * sourceStride, last * sourceStride), source);
    if (across && places) {
      put(across, 0, size.width, 0, channels, places as [number, number]);
      horizontal(source, between, inputs, sourceStride, places[0] as number, places[1] as number, across.taps, size.width);
    }
    if (down && lines) {
      put(down, from, to, first, stride, lines as [number, number]);
      columns(between, target, outputs, stride, lines[0] as number, lines[1] as number, down.taps, 0);
    }
    result.set(new Uint8Array(memory.buffer, target, outputs * stride), from * stride);
    from = to;
  }
  return { ...size, channels, data: result };
}

/** The rows of the result that are worked on together, and the rows of the image that they need. */
function block(from: number, height: number, down: Axis | undefined, rowBytes: number): { to: number; first: number; last: number } {
  const most = Math.max(1, Math.floor(blockBytes / rowBytes));
  if (!down) return { to: Math.min(height, from + most), first: from, last: Math.min(height, from + most) };
  const first = down.first[from] as number;
  const endOf = (row: number) => (down.first[row] as number) + (down.count[row] as number);
  let to = from + 1;
  while (to < height && endOf(to) - first <= most && to - from < most) to++;
  return { to, first, last: endOf(to - 1) };
}

/** The weights of the results `from` … `to` into the memory of the kernel, with offsets in bytes from input `origin`. */
function put(axis: Axis, from: number, to: number, origin: number, step: number, [bounds, weights]: readonly [number, number]): void {
  const pairs = new Int32Array(memory.buffer, bounds, 2 * (to - from));
  for (let place = from; place < to; place++) {
    pairs[2 * (place - from)] = ((axis.first[place] as number) - origin) * step;
    pairs[2 * (place - from) + 1] = axis.count[place] as number;
  }
  new Int32Array(memory.buffer, weights, (to - from) * axis.taps).set(axis.weights.subarray(from * axis.taps, to * axis.taps));
}

/** Parts of the kernel's memory, one after the other. */
class Space {
  private end = 0;

  take(bytes: number): number {
    const start = this.end;
    this.end = Math.ceil((start + bytes + margin) / 16) * 16;
    return start;
  }

  /** Memory grows to what was taken. */
  reserve(): void {
    const missing = Math.ceil((this.end - memory.buffer.byteLength) / pageBytes);
    if (missing > 0) memory.grow(missing);
  }
}
