import { createRequire } from 'node:module';
import type { Sharp, default as sharp } from 'sharp';
import { OctetError } from '../errors.js';

/** Loaded with the first image: whoever only speaks of datasets needs no decoder. */
const require = createRequire(import.meta.url);

/** Largest image file, packed or not. */
export const mostImageBytes = 64 * 1024 * 1024;
const mostPixels = 64 * 1024 * 1024;
/** Images with more pixels than this are surveyed in a reduction. */
const surveyPixels = 2 * 1024 * 1024;
const surveySide = 1024;

export interface ImageSize {
  height: number;
  width: number;
}

/** Only formats known by their first bytes reach the decoder; SVG and documents do not. */
const signatures: readonly ((head: Buffer) => boolean)[] = [
  (head) => head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff,
  (head) => head.toString('latin1', 0, 8) === '\x89PNG\r\n\x1a\n',
  (head) => head.toString('latin1', 0, 4) === 'GIF8',
  (head) => head.toString('latin1', 0, 4) === 'RIFF' && head.toString('latin1', 8, 12) === 'WEBP',
  (head) => ['II*\0', 'MM\0*'].includes(head.toString('latin1', 0, 4)),
];

function open(data: Buffer, name: string, limitInputPixels = mostPixels): Sharp {
  if (!signatures.some((matches) => matches(data))) {
    throw new OctetError('DATASET_UNREADABLE', `"${name}" is not a JPEG, PNG, WebP, GIF or TIFF image.`, { file: name });
  }
  const decoder = require('sharp') as typeof sharp;
  decoder.concurrency(1);
  decoder.cache(false);
  return decoder(data, { failOn: 'error', limitInputPixels, ignoreIcc: true }).removeAlpha().toColourspace('srgb');
}

function unreadable(name: string, error: unknown): OctetError {
  const reason = (error instanceof Error ? error.message : String(error)).trim().split('\n')[0];
  return new OctetError(
    'DATASET_UNREADABLE',
    `The image "${name}" cannot be decoded: ${reason}.`,
    { file: name },
    { cause: error, hint: 'Replace the image or take it out of the archive.' },
  );
}

/** A decoded image: RGB bytes [height, width, 3]. */
interface DecodedImage extends ImageSize {
  rgb: Uint8Array;
}

/**
 * Decode to RGB in `size`: larger images are reduced by sharp with an antialiased triangle filter, smaller ones
 * enlarged bilinearly. Alpha is dropped, EXIF orientation and colour profiles are left aside, as PIL and torchvision do.
 */
export async function decodeImage(data: Buffer, name: string, size: ImageSize): Promise<DecodedImage> {
  const image = open(data, name).resize({ ...size, fit: 'fill', kernel: 'linear', fastShrinkOnLoad: false, withoutEnlargement: true });
  try {
    return enlarge(await pixelsOf(image), size);
  } catch (error) {
    throw unreadable(name, error);
  }
}

/** What an image tells without a model: its size, whether it has colour, and its range of values. */
interface ImageSurvey extends ImageSize {
  colour: boolean;
  min: number;
  max: number;
}

/** Decode an image for its survey. Only a reduction is decoded of those too large to hold several in memory. */
export async function surveyImage(data: Buffer, name: string): Promise<ImageSurvey> {
  const image = open(data, name);
  try {
    const { height, width } = await image.metadata();
    if (height * width > surveyPixels) image.resize({ height: surveySide, width: surveySide, fit: 'inside' });
    const { rgb } = await pixelsOf(image);
    return { height, width, ...valuesOf(rgb) };
  } catch (error) {
    throw unreadable(name, error);
  }
}

function valuesOf(rgb: Uint8Array): Pick<ImageSurvey, 'colour' | 'min' | 'max'> {
  let colour = false;
  let min = 255;
  let max = 0;
  for (let i = 0; i < rgb.length; i += 3) {
    const [r, g, b] = [rgb[i] as number, rgb[i + 1] as number, rgb[i + 2] as number];
    if (r !== g || r !== b) colour = true;
    min = Math.min(min, r, g, b);
    max = Math.max(max, r, g, b);
  }
  return { colour, min, max };
}

async function pixelsOf(image: Sharp): Promise<DecodedImage> {
  const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  const { height, width, channels } = info;
  if (channels === 3) return { rgb: data, height, width };
  if (channels === 1)
    return { rgb: Uint8Array.from({ length: data.length * 3 }, (_, i) => data[Math.floor(i / 3)] as number), height, width };
  throw new Error(`it decodes to ${channels} channels`);
}

/**
 * Bilinear enlargement with the centres of pixels at half steps: output X lies at (X + 0.5) / factor - 0.5 in the input.
 * (libvips puts its own enlargements half a pixel beside that, and models trained with PIL notice.)
 */
function enlarge(image: DecodedImage, size: ImageSize): DecodedImage {
  const wide =
    image.width === size.width ? image : { ...image, width: size.width, rgb: stretch(image.rgb, image.height, image.width, size.width, 3) };
  if (wide.height === size.height) return wide;
  return { ...size, rgb: stretch(wide.rgb, 1, wide.height, size.height, size.width * 3) };
}

/** Stretch the middle axis of [outer, from, inner] to [outer, to, inner]. */
function stretch(source: Uint8Array, outer: number, from: number, to: number, inner: number): Uint8Array {
  // Uint8ClampedArray rounds half to even.
  const target = new Uint8ClampedArray(outer * to * inner);
  for (let place = 0; place < to; place++) {
    const position = Math.min(from - 1, Math.max(0, ((place + 0.5) * from) / to - 0.5));
    const low = Math.floor(position);
    const high = Math.min(from - 1, low + 1);
    const share = position - low;
    for (let row = 0; row < outer; row++) {
      const a = (row * from + low) * inner;
      const b = (row * from + high) * inner;
      const out = (row * to + place) * inner;
      for (let i = 0; i < inner; i++) target[out + i] = (source[a + i] as number) * (1 - share) + (source[b + i] as number) * share;
    }
  }
  return new Uint8Array(target.buffer);
}

/** Luma of ITU-R BT.601 in the fixed point of PIL: (19595 R + 38470 G + 7471 B + 2^15) >> 16. */
export function toGrey(rgb: Uint8Array): Uint8Array {
  const grey = new Uint8Array(rgb.length / 3);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = ((rgb[i * 3] as number) * 19595 + (rgb[i * 3 + 1] as number) * 38470 + (rgb[i * 3 + 2] as number) * 7471 + 0x8000) >> 16;
  }
  return grey;
}
