import type { Batch } from '../data/dataset.js';
import { type Augmentation, type ImageLayout, imageLayout, isMoving, isOn } from '../tasks/augmentation.js';
import { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';

/** Which samples of a batch were mixed: row i is `share` × itself and (1 - `share`) × row `partner[i]`, in samples and in targets. */
export interface Mix {
  partner: Uint32Array;
  share: number;
}

/** A batch as training sees it. */
export type TrainingBatch = Batch & { mix?: Mix };

/**
 * Change a batch for one training step. What is drawn depends on (`seed`, `step`) and the batch alone, so that a run that goes on from a
 * checkpoint sees the same images. In this order:
 *
 * - `flip`: left and right change places in half of the images;
 * - `shift`: each image moves by up to so many pixels in both directions. What becomes free is 0 after preprocessing ("zero": black, or the
 *   mean colour where the dataset has a mean), the pixel at the edge ("edge"), or the image mirrored at its edge ("reflect");
 * - `contrast`: `x = m + f (x - m)` with the mean m of the image and f uniform in [1 - contrast, 1 + contrast];
 * - `brightness`: `x = x + d (max - min)` with max and min of the image and d uniform in [-brightness, brightness];
 * - after either, values are held to the range that their channel has in the batch, so that scales do not widen;
 * - `mixup`: `x_i = λ x_i + (1 - λ) x_partner(i)`, λ from Beta(mixup, mixup), one for the batch; the target rows are mixed
 *   where they are made, by `mixRows` (Zhang et al. 2018, arXiv:1710.09412).
 *
 * Without any of them the batch is given back as it is.
 */
export function augmented(batch: Batch, augment: Augmentation, seed: number, step: number | string): TrainingBatch {
  if (!isOn(augment)) return batch;
  const random = Random.for(seed, `augmentation of step ${step}`);
  const count = batch.x.shape[0] as number;
  const layout = imageLayout(batch.x.shape.slice(1));
  if (!layout) throw new RangeError(`samples of shape [${batch.x.shape.slice(1)}] are not images`);
  let data = (batch.x.as('float32').data as Float32Array).slice();
  const size = data.length / Math.max(1, count);
  const images = Array.from({ length: count }, (_, i) => data.subarray(i * size, (i + 1) * size));
  const ranges = channelRanges(images, layout);
  for (const image of images) {
    if (isMoving(augment)) move(image, layout, augment, random);
    if (augment.contrast > 0 || augment.brightness > 0) recolour(image, layout, augment, random, ranges);
  }
  const result: TrainingBatch = { ...batch };
  if (augment.mixup > 0) {
    const mix: Mix = { partner: random.permutation(count), share: beta(random, augment.mixup) };
    data = mixRows(data, count, mix);
    result.mix = mix;
  }
  result.x = Tensor.float32(batch.x.shape, data);
  return result;
}

/** Rows [count, …] mixed with those of their partners. */
export function mixRows(rows: Float32Array, count: number, { partner, share }: Mix): Float32Array<ArrayBuffer> {
  const size = rows.length / Math.max(1, count);
  const mixed = new Float32Array(rows.length);
  for (let row = 0; row < count; row++) {
    const other = (partner[row] as number) * size;
    for (let i = 0; i < size; i++)
      mixed[row * size + i] = share * (rows[row * size + i] as number) + (1 - share) * (rows[other + i] as number);
  }
  return mixed;
}

/** Flip and shift an image in place. */
function move(image: Float32Array, { channels, height, width, step }: ImageLayout, augment: Augmentation, random: Random): void {
  const flipped = augment.flip && random.below(2) === 1;
  const [down, right] = augment.shift > 0 ? [0, 0].map(() => random.below(2 * augment.shift + 1) - augment.shift) : [0, 0];
  if (!flipped && down === 0 && right === 0) return;
  const source = image.slice();
  const rows = placesOf(height, down as number, augment.padding);
  const columns = placesOf(width, right as number, augment.padding);
  for (let y = 0; y < height; y++) {
    const row = rows[y] as number;
    for (let x = 0; x < width; x++) {
      const place = columns[x] as number;
      const column = flipped ? width - 1 - place : place;
      const to = y * step.row + x * step.column;
      const from = row * step.row + column * step.column;
      const outside = row < 0 || place < 0;
      for (let c = 0; c < channels; c++) image[to + c * step.channel] = outside ? 0 : (source[from + c * step.channel] as number);
    }
  }
}

/** Where the pixels of a line come from that moves by `distance`; -1 is from outside. */
function placesOf(length: number, distance: number, padding: Augmentation['padding']): Int32Array {
  return Int32Array.from({ length }, (_, to) => {
    const from = to - distance;
    if (from >= 0 && from < length) return from;
    if (padding === 'zero') return -1;
    if (padding === 'edge') return from < 0 ? 0 : length - 1;
    // Mirrored without doubling the edge: a saw of period 2 (length - 1).
    const period = Math.max(1, 2 * (length - 1));
    const place = ((from % period) + period) % period;
    return Math.min(place, period - place, length - 1);
  });
}

/** Change contrast and brightness of an image in place, within the ranges of its channels. */
function recolour(image: Float32Array, layout: ImageLayout, augment: Augmentation, random: Random, ranges: readonly Range[]): void {
  const factor = 1 + augment.contrast * (2 * random.uniform() - 1);
  const offset = augment.brightness * (2 * random.uniform() - 1);
  let [sum, min, max] = [0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of image) {
    sum += value;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  const mean = sum / image.length;
  const added = mean * (1 - factor) + offset * (max - min);
  forEachChannel(layout, (at, channel) => {
    const range = ranges[channel] as Range;
    image[at] = Math.min(range.max, Math.max(range.min, factor * (image[at] as number) + added));
  });
}

interface Range {
  min: number;
  max: number;
}

/** Range of every channel over all images; 0 belongs to it, since padding is 0. */
function channelRanges(images: readonly Float32Array[], layout: ImageLayout): Range[] {
  const ranges = Array.from({ length: layout.channels }, () => ({ min: 0, max: 0 }));
  for (const image of images) {
    forEachChannel(layout, (at, channel) => {
      const range = ranges[channel] as Range;
      const value = image[at] as number;
      if (value < range.min) range.min = value;
      if (value > range.max) range.max = value;
    });
  }
  return ranges;
}

function forEachChannel({ channels, height, width, step }: ImageLayout, visit: (at: number, channel: number) => void): void {
  const pixels = height * width;
  const next = step.channel === 1 ? channels : 1;
  for (let channel = 0; channel < channels; channel++)
    for (let pixel = 0; pixel < pixels; pixel++) visit(channel * step.channel + pixel * next, channel);
}

/** Beta(alpha, alpha), as the share of one of two gamma variates. */
function beta(random: Random, alpha: number): number {
  const [a, b] = [gamma(random, alpha), gamma(random, alpha)];
  return a + b > 0 ? a / (a + b) : random.below(2);
}

/** Gamma(alpha, 1). Source: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000. */
function gamma(random: Random, alpha: number): number {
  if (alpha < 1) return gamma(random, alpha + 1) * (1 - random.uniform()) ** (1 / alpha);
  const d = alpha - 1 / 3;
  for (;;) {
    const x = random.normal();
    const v = (1 + x / Math.sqrt(9 * d)) ** 3;
    if (v > 0 && Math.log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}
