import sharp, { type Sharp } from 'sharp';
import { OctetError } from '../errors.js';

/** Largest image file, packed or not. */
export const mostImageBytes = 64 * 1024 * 1024;
const mostPixels = 64 * 1024 * 1024;

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

function open(data: Buffer, name: string): Sharp {
  if (!signatures.some((matches) => matches(data))) {
    throw new OctetError('DATASET_UNREADABLE', `"${name}" is not a JPEG, PNG, WebP, GIF or TIFF image.`, { file: name });
  }
  return sharp(data, { failOn: 'error', limitInputPixels: mostPixels, ignoreIcc: true });
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
export interface DecodedImage extends ImageSize {
  rgb: Uint8Array;
}

/**
 * Decode to RGB. With `size`, larger images are reduced by sharp with an antialiased triangle filter, and smaller ones
 * enlarged bilinearly. Alpha is dropped, EXIF orientation and colour profiles are left aside, as PIL and torchvision do.
 */
export async function decodeImage(data: Buffer, name: string, size?: ImageSize): Promise<DecodedImage> {
  sharp.concurrency(1);
  sharp.cache(false);
  const image = open(data, name).removeAlpha().toColourspace('srgb');
  if (size) image.resize({ ...size, fit: 'fill', kernel: 'linear', fastShrinkOnLoad: false, withoutEnlargement: true });
  try {
    const { data: pixels, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    const { height, width, channels } = info;
    if (channels !== 3 && channels !== 1) throw new Error(`it decodes to ${channels} channels`);
    const rgb = channels === 3 ? pixels : Uint8Array.from({ length: pixels.length * 3 }, (_, i) => pixels[Math.floor(i / 3)] as number);
    return size ? enlarge({ rgb, height, width }, size) : { rgb, height, width };
  } catch (error) {
    throw unreadable(name, error);
  }
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

/** Whether all pixels have equal red, green and blue. */
export function isGrey(rgb: Uint8Array): boolean {
  for (let i = 0; i < rgb.length; i += 3) if (rgb[i] !== rgb[i + 1] || rgb[i] !== rgb[i + 2]) return false;
  return true;
}

/** Luma of ITU-R BT.601 in the fixed point of PIL: (19595 R + 38470 G + 7471 B + 2^15) >> 16. */
export function toGrey(rgb: Uint8Array): Uint8Array {
  const grey = new Uint8Array(rgb.length / 3);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = ((rgb[i * 3] as number) * 19595 + (rgb[i * 3 + 1] as number) * 38470 + (rgb[i * 3 + 2] as number) * 7471 + 0x8000) >> 16;
  }
  return grey;
}
