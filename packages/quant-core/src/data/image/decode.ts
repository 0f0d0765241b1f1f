import { createRequire } from 'node:module';
import type { Metadata, Sharp, default as sharp } from 'sharp';
import { OctetError } from '../../errors.js';
import { mostPixels } from './bytes.js';
import { cmykToRgb, firstChannel, toColour, toGrey } from './colour.js';
import { type ImageKind, kindOf, readableKinds } from './kinds.js';
import type { Picture } from './picture.js';
import { type ImageSize, resize } from './resize.js';

/** Loaded with the first image: whoever only speaks of datasets needs no decoder. */
const require = createRequire(import.meta.url);

/** Largest image file, packed or not. */
export const mostImageBytes = 64 * 1024 * 1024;
/** Images with more pixels than this are surveyed in a reduction. */
const surveyPixels = 2 * 1024 * 1024;
const surveySide = 1024;

export interface Target extends ImageSize {
  channels: 1 | 3;
}

/** A decoded image, and whether it was grey of 16 bits, which are cut off at 255. */
export interface DecodedImage extends Picture {
  cutOff?: boolean;
}

/**
 * The bytes [height, width, channels] of an image as Pillow gives them: `convert("RGB")` or `convert("L")`, then `resize` with
 * `Image.BILINEAR`. Alpha is dropped, colour profiles and the EXIF orientation of all but TIFF are ignored.
 * @throws OctetError DATASET_UNREADABLE
 */
export async function decodeImage(data: Buffer, name: string, target: Target): Promise<DecodedImage> {
  const image = await decode(data, name);
  const picture = target.channels === 1 ? toGrey(image) : image;
  return { ...toColour(resize(picture, target), target.channels), ...(image.cutOff && { cutOff: true }) };
}

/** What an image tells without a model: its size, whether it has colour, and its range of values. */
interface ImageSurvey extends ImageSize {
  colour: boolean;
  min: number;
  max: number;
  cutOff: boolean;
}

/** Decode an image for its survey. Only a reduction is decoded of those too large to hold several in memory. */
export async function surveyImage(data: Buffer, name: string): Promise<ImageSurvey> {
  const kind = readable(data, name);
  try {
    if (kind.read === 'sharp') {
      const metadata = await openSharp(data).metadata();
      const { height, width } = metadata.autoOrient && kind.name === 'TIFF' ? metadata.autoOrient : metadata;
      if (height * width > surveyPixels && !isSpecial(metadata)) {
        const image = colours(openSharp(data)).resize({ height: surveySide, width: surveySide, fit: 'inside' });
        return { height, width, ...valuesOf(await pixelsOf(image)), cutOff: false };
      }
    }
    const image = await decodeKind(kind, data);
    return { height: image.height, width: image.width, ...valuesOf(image), cutOff: image.cutOff === true };
  } catch (error) {
    throw unreadable(name, error);
  }
}

async function decode(data: Buffer, name: string): Promise<DecodedImage> {
  const kind = readable(data, name);
  try {
    return await decodeKind(kind, data);
  } catch (error) {
    throw unreadable(name, error);
  }
}

/** Only formats known by their first bytes reach the decoder; SVG and documents do not. */
function readable(data: Buffer, name: string): ImageKind {
  const kind = kindOf(data);
  if (!kind) throw new OctetError('DATASET_UNREADABLE', `"${name}" is not an image of a known kind (${readableKinds}).`, { file: name });
  if (typeof kind.read !== 'object') return kind;
  throw new OctetError(
    'DATASET_UNREADABLE',
    `The image "${name}" cannot be decoded: ${kind.read.refused} (${readableKinds} are).`,
    { file: name },
    { hint: 'Save it as PNG or JPEG, or take it out of the archive.' },
  );
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

let decoder: typeof sharp | undefined;

/** Each image is decoded by one thread, several of them at a time; none is seen twice. */
function loadSharp(): typeof sharp {
  decoder = require('sharp') as typeof sharp;
  decoder.concurrency(1);
  decoder.cache(false);
  return decoder;
}

function openSharp(data: Buffer): Sharp {
  return (decoder ?? loadSharp())(data, { failOn: 'error', limitInputPixels: mostPixels, ignoreIcc: true });
}

const colours = (image: Sharp): Sharp => image.removeAlpha().toColourspace('srgb');

/** Kinds whose colours sharp would convert in another way than Pillow does. */
function isSpecial({ space, channels }: Pick<Metadata, 'space' | 'channels'>): boolean {
  return space === 'cmyk' || (space === 'grey16' && channels === 1);
}

async function decodeKind(kind: ImageKind, data: Buffer): Promise<DecodedImage> {
  if (kind.read !== 'sharp') return (kind.read as (data: Buffer) => Picture)(data);
  // Reading the metadata first costs a tenth of decoding: only where the first bytes do not tell.
  const metadata = isUsual(kind, data) ? undefined : await openSharp(data).metadata();
  const image = openSharp(data);
  if (kind.name === 'TIFF') image.autoOrient();
  if (metadata?.space === 'cmyk') return cmykToRgb(await rawOf(image.pipelineColourspace('cmyk').toColourspace('cmyk')));
  if (metadata && isSpecial(metadata)) return greyOf16(image);
  return pixelsOf(colours(image));
}

/** Whether the header of a JPEG or PNG says that it is neither CMYK nor grey of 16 bits. */
function isUsual({ name }: ImageKind, data: Buffer): boolean {
  if (name === 'WebP') return true;
  if (name === 'PNG') return !(data[24] === 16 && data[25] === 0);
  return name === 'JPEG' && jpegComponents(data) !== 4;
}

/** Components that the frame header of a JPEG states; undefined where none is found. */
function jpegComponents(data: Buffer): number | undefined {
  for (let at = 2; at + 9 < data.length; ) {
    if (data[at] !== 0xff) return undefined;
    const marker = data[at + 1] as number;
    if (marker === 0xff) at++;
    // SOF0 to SOF15, without DHT, JPG and DAC.
    else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return data[at + 9];
    else at += 2 + data.readUInt16BE(at + 2);
  }
  return undefined;
}

interface Raw extends ImageSize {
  data: Buffer;
  channels: number;
}

async function rawOf(image: Sharp, depth: 'uchar' | 'ushort' = 'uchar'): Promise<Raw> {
  const { data, info } = await image.raw({ depth }).toBuffer({ resolveWithObject: true });
  return { data, height: info.height, width: info.width, channels: info.channels };
}

async function pixelsOf(image: Sharp): Promise<Picture> {
  const { data, channels, ...size } = await rawOf(image);
  if (channels === 1 || channels === 3) return { ...size, channels, data };
  throw new Error(`it decodes to ${channels} channels`);
}

/** Grey of 16 bits, cut off at 255: what Pillow's `convert` does, also where that leaves little of the image. */
async function greyOf16(image: Sharp): Promise<DecodedImage> {
  const { data, channels, ...size } = await rawOf(image.toColourspace('grey16'), 'ushort');
  const levels = new Uint16Array(data.buffer, data.byteOffset, data.length / 2);
  return { ...firstChannel(levels, channels, size), cutOff: true };
}

function valuesOf({ data, channels }: Picture): Pick<ImageSurvey, 'colour' | 'min' | 'max'> {
  let colour = false;
  let min = 255;
  let max = 0;
  for (let i = 0; i < data.length; i++) {
    const value = data[i] as number;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (channels === 3) for (let i = 0; i < data.length && !colour; i += 3) colour = data[i] !== data[i + 1] || data[i] !== data[i + 2];
  return { colour, min, max };
}
