import { describe, expect, it } from 'vitest';
import { Random } from '../tensor/random.js';
import { findClassOrder } from './classOrder.js';
import { classOutputs } from './testing/outputs.js';

/** A model that is right in `accuracy` of n samples and names any class else, its labels numbered anew by `label`; `scale` makes it sure. */
function seen(n: number, classes: number, accuracy: number, label: (c: number) => number, scale = 4) {
  const random = new Random(5);
  const truth = Array.from({ length: n }, (_, i) => i % classes);
  const rows = truth.map((c) => {
    const named = random.uniform() < accuracy ? c : random.below(classes);
    return Array.from({ length: classes }, (_, k) => (k === named ? scale : 0));
  });
  return classOutputs(rows, truth.map(label));
}

/** T-shirt, Trouser, … in the order of the letters: the kind of `class_folder_order`. */
const alphabetical = [7, 9, 5, 3, 2, 6, 0, 8, 1, 4];

describe('findClassOrder', () => {
  it('finds the numbering of folders that are named by their classes, also of a weak model', () => {
    const found = findClassOrder(seen(800, 10, 0.6, (c) => alphabetical[c] as number));
    expect(found).toMatchObject({ offset: null, samples: 800 });
    // Label alphabetical[c] is output c.
    for (const [output, label] of alphabetical.entries()) expect(found?.outputOf[label]).toBe(output);
    expect(found?.before).toBeLessThan(0.2);
    expect(found?.after).toBeGreaterThan(0.6);
  });

  it('finds two classes of many that changed places', () => {
    const swapped = (c: number) => (c === 3 ? 8 : c === 8 ? 3 : c);
    const found = findClassOrder(seen(1000, 10, 0.9, swapped));
    expect(found?.outputOf).toEqual([0, 1, 2, 8, 4, 5, 6, 7, 3, 9]);
  });

  it('finds labels that are moved by one, either way', () => {
    const rows = Array.from({ length: 400 }, (_, i) => Array.from({ length: 10 }, (_, k) => (k === 1 + (i % 8) ? 4 : 0)));
    const moved = (by: number) =>
      findClassOrder(
        classOutputs(
          rows,
          rows.map((_, i) => 1 + (i % 8) + by),
        ),
      );
    expect(moved(1)).toMatchObject({ offset: -1, before: 0, after: 1 });
    expect(moved(-1)).toMatchObject({ offset: 1, before: 0, after: 1 });
    expect(moved(0)).toBeNull();
  });

  it('leaves right labels alone, however weak the model', () => {
    for (const accuracy of [0, 0.1, 0.3, 0.6, 1])
      for (const n of [20, 60, 500]) expect(findClassOrder(seen(n, 10, accuracy, (c) => c))).toBeNull();
  });

  it('a model that always names one class, and one that is sure of nothing, have no order', () => {
    const truth = Array.from({ length: 200 }, (_, i) => i % 4);
    expect(
      findClassOrder(
        classOutputs(
          truth.map(() => [0, 0, 5, 0]),
          truth,
        ),
      ),
    ).toBeNull();
    expect(findClassOrder(seen(400, 2, 0.9, (c) => 1 - c, 0.2))).toBeNull();
    expect(findClassOrder(seen(400, 2, 0.9, (c) => 1 - c))?.outputOf).toEqual([1, 0]);
  });

  it('a model that names few classes has no order, though two of them seem to have changed places', () => {
    const truth = Array.from({ length: 400 }, (_, i) => i % 10);
    const named = truth.map((label) => (label === 3 ? 8 : 3));
    expect(
      findClassOrder(
        classOutputs(
          named.map((one) => Array.from({ length: 10 }, (_, c) => (c === one ? 9 : 0))),
          truth,
        ),
      ),
    ).toBeNull();
  });

  it('a handful of samples is no ground', () => {
    expect(findClassOrder(seen(40, 10, 1, (c) => alphabetical[c] as number))).toBeNull();
  });
});
