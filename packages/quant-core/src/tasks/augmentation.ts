import type { SampleSpec } from '../data/materialise.js';
import { OctetError } from '../errors.js';
import type { Recipe } from '../recipe.js';

/** Settings of `training.augment`. */
export type Augmentation = Recipe['training']['augment'];

/** How an image lies in memory: steps between neighbours, in elements. */
export interface ImageLayout {
  channels: number;
  height: number;
  width: number;
  /** Steps from one channel, row and column to the next. */
  step: { channel: number; row: number; column: number };
}

/** Channels that images have at most. */
const mostChannels = 4;

/** Layout of a sample [c, h, w] or [h, w, c] with at most 4 channels; nothing where it is not an image. */
export function imageLayout(sample: readonly (number | undefined)[]): ImageLayout | undefined {
  if (sample.length !== 3) return undefined;
  const [a, b, c] = sample.map((dim) => dim ?? 0) as [number, number, number];
  if (a >= 1 && a <= mostChannels) return { channels: a, height: b, width: c, step: { channel: b * c, row: c, column: 1 } };
  if (c >= 1 && c <= mostChannels) return { channels: c, height: a, width: b, step: { channel: 1, row: b * c, column: c } };
  return undefined;
}

/** Whether images are moved. */
export const isMoving = ({ flip, shift }: Augmentation): boolean => flip || shift > 0;
/** Whether anything is changed at all. */
export const isOn = (augment: Augmentation): boolean =>
  isMoving(augment) || augment.brightness > 0 || augment.contrast > 0 || augment.mixup > 0;

/**
 * Refuse augmentation of what is not an image.
 * @param inputs the inputs of the model; shapes without the batch
 * @param perPosition whether targets belong to positions of the image, which moving or mixing it would have to move as well
 * @throws OctetError CONFIG_IMPOSSIBLE with the pointer of the setting
 */
export function checkAugmentation(augment: Augmentation, inputs: readonly SampleSpec[], perPosition: boolean): void {
  if (!isOn(augment)) return;
  const refuse = (why: string, field = '') =>
    new OctetError(
      'CONFIG_IMPOSSIBLE',
      `training.augment is impossible: ${why}`,
      { pointer: `/training/augment${field && `/${field}`}` },
      { hint: 'Leave training.augment out, or only the setting named.' },
    );
  const [input] = inputs;
  if (inputs.length !== 1 || !input) throw refuse(`the model has ${inputs.length} inputs`);
  if (input.dtype !== 'float32') throw refuse(`the input of the model is ${input.dtype}, not float32`);
  if (!imageLayout(input.shape))
    throw refuse(
      `a sample of shape [${input.shape.map((dim) => dim ?? '?')}] is not an image ([c, h, w] or [h, w, c] with at most ${mostChannels} channels)`,
    );
  if (!perPosition) return;
  const field = (['flip', 'shift', 'mixup'] as const).find((name) => Number(augment[name]) > 0);
  if (field) throw refuse('the targets have a value for each position of the image, and would have to move with it', field);
}
