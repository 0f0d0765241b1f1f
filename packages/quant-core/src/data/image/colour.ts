import type { Picture } from './picture.js';
import type { ImageSize } from './resize.js';

/** Luma of ITU-R BT.601 in the fixed point of Pillow: (19595 R + 38470 G + 7471 B + 2^15) >> 16. */
export function toGrey<P extends Picture>(image: P): P {
  if (image.channels === 1) return image;
  const { data: rgb } = image;
  const grey = new Uint8Array(rgb.length / 3);
  for (let i = 0, at = 0; i < grey.length; i++, at += 3) {
    grey[i] = ((rgb[at] as number) * 19595 + (rgb[at + 1] as number) * 38470 + (rgb[at + 2] as number) * 7471 + 0x8000) >> 16;
  }
  return { ...image, channels: 1, data: grey };
}

/** A grey image with its value in every channel; others stay what they are. */
export function toColour(image: Picture, channels: 1 | 3): Picture {
  if (image.channels === channels || channels === 1) return image;
  const { data: grey } = image;
  const rgb = new Uint8Array(grey.length * 3);
  for (let i = 0, at = 0; i < grey.length; i++, at += 3) rgb[at] = rgb[at + 1] = rgb[at + 2] = grey[i] as number;
  return { ...image, channels: 3, data: rgb };
}

/** Bytes of cyan, magenta, yellow and black, in which 0 is no ink, to RGB: `255 - K - colour * (255 - K) / 255`, as in Pillow. */
export function cmykToRgb({ data: inks, channels, height, width }: ImageSize & { data: Uint8Array; channels: number }): Picture {
  if (channels < 4) throw new Error(`it decodes to ${channels} inks`);
  const rgb = new Uint8Array(height * width * 3);
  for (let from = 0, to = 0; to < rgb.length; from += channels, to += 3) {
    const light = 255 - (inks[from + 3] as number);
    for (let channel = 0; channel < 3; channel++) {
      const product = (inks[from + channel] as number) * light + 128;
      rgb[to + channel] = Math.max(0, light - (((product >> 8) + product) >> 8));
    }
  }
  return { height, width, channels: 3, data: rgb };
}

/** Levels of the first of several channels, cut off at 255. */
export function firstChannel(levels: ArrayLike<number>, channels: number, size: ImageSize): Picture {
  const data = Uint8Array.from({ length: size.height * size.width }, (_, i) => Math.min(255, levels[i * channels] as number));
  return { height: size.height, width: size.width, channels: 1, data };
}
