import { decodeBmp, isBmp } from './bmp.js';
import { decodeGif, isGif } from './gif.js';
import { decodeNetpbm, isNetpbm } from './netpbm.js';
import type { Picture } from './picture.js';

/** Bytes at the start of a file that tell its kind. */
export const headBytes = 32;

/** How a kind of file is read: by sharp, or by a reader of our own; or why it is not. */
export interface ImageKind {
  name: string;
  matches(head: Buffer): boolean;
  read: 'sharp' | ((data: Buffer) => Picture) | { refused: string };
}

const text = (head: Buffer, from: number, to: number): string => head.toString('latin1', from, to);
const boxed = (head: Buffer, brands: RegExp): boolean => text(head, 4, 8) === 'ftyp' && brands.test(text(head, 8, 12));

/** Kinds by their first bytes; the name of a file says nothing. */
const kinds: readonly ImageKind[] = [
  { name: 'JPEG', matches: (head) => head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff, read: 'sharp' },
  { name: 'PNG', matches: (head) => text(head, 0, 8) === '\x89PNG\r\n\x1a\n', read: 'sharp' },
  { name: 'WebP', matches: (head) => text(head, 0, 4) === 'RIFF' && text(head, 8, 12) === 'WEBP', read: 'sharp' },
  { name: 'TIFF', matches: (head) => ['II*\0', 'MM\0*', 'II+\0', 'MM\0+'].includes(text(head, 0, 4)), read: 'sharp' },
  { name: 'GIF', matches: isGif, read: decodeGif },
  { name: 'BMP', matches: isBmp, read: decodeBmp },
  { name: 'Netpbm', matches: isNetpbm, read: decodeNetpbm },
  { name: 'AVIF', matches: (head) => boxed(head, /^avi[fs]$/), read: { refused: 'AVIF is not read' } },
  { name: 'HEIC', matches: (head) => boxed(head, /^(hei[cxfms]|hev[cx]|mif1|msf1)$/), read: { refused: 'HEIC is not read' } },
  {
    name: 'JPEG 2000',
    matches: (head) => text(head, 4, 8) === 'jP  ' || (head[0] === 0xff && head[1] === 0x4f && head[2] === 0xff),
    read: { refused: 'JPEG 2000 is not read' },
  },
  {
    name: 'JPEG XL',
    matches: (head) => (head[0] === 0xff && head[1] === 0x0a) || text(head, 4, 8) === 'JXL ',
    read: { refused: 'JPEG XL is not read' },
  },
  { name: 'Photoshop', matches: (head) => text(head, 0, 4) === '8BPS', read: { refused: 'Photoshop documents are not read' } },
  {
    name: 'icon',
    matches: (head) => ['\0\0\x01\0', '\0\0\x02\0'].includes(text(head, 0, 4)) && head.length > 5 && head[5] === 0,
    read: { refused: 'icons hold images of several sizes and are not read' },
  },
];

/** The kind of image that bytes start as, or nothing where they are not an image of a known kind. */
export function kindOf(head: Buffer): ImageKind | undefined {
  return kinds.find((kind) => kind.matches(head));
}

/** Names of the kinds that are read, for messages. */
export const readableKinds = kinds
  .filter(({ read }) => typeof read !== 'object')
  .map(({ name }) => name)
  .join(', ');
