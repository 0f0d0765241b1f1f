import { describe, expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { defaultRecipe } from '../recipe.js';
import { type Augmentation, checkAugmentation } from './augmentation.js';

const off = defaultRecipe().training.augment;
const having = (settings: Partial<Augmentation>): Augmentation => ({ ...off, ...settings });
const all = having({ flip: true, shift: 2, padding: 'reflect', brightness: 0.3, contrast: 0.4, mixup: 0.5 });

describe('what cannot be augmented is refused', () => {
  const image = { shape: [3, 32, 32], dtype: 'float32' } as const;
  it('with the pointer of the setting', async () => {
    const pointerOf = async (...args: Parameters<typeof checkAugmentation>) =>
      (await failure('CONFIG_IMPOSSIBLE', async () => checkAugmentation(...args))).place.pointer;
    const flip = having({ flip: true });
    expect(await pointerOf(flip, [{ ...image, shape: [784] }], false)).toBe('/training/augment');
    expect(await pointerOf(flip, [{ ...image, shape: [16, 32, 32] }], false)).toBe('/training/augment');
    expect(await pointerOf(flip, [{ ...image, dtype: 'uint8' }], false)).toBe('/training/augment');
    expect(await pointerOf(flip, [image, image], false)).toBe('/training/augment');
    expect(await pointerOf(flip, [image], true)).toBe('/training/augment/flip');
    expect(await pointerOf(having({ mixup: 1 }), [image], true)).toBe('/training/augment/mixup');
  });

  it('and nothing else is', () => {
    expect(() => checkAugmentation(off, [{ shape: [784], dtype: 'int64' }], true)).not.toThrow();
    expect(() => checkAugmentation(all, [image], false)).not.toThrow();
    expect(() => checkAugmentation(all, [{ ...image, shape: [32, 32, 3] }], false)).not.toThrow();
    expect(() => checkAugmentation(having({ contrast: 0.1, brightness: 0.1 }), [image], true)).not.toThrow();
  });
});
