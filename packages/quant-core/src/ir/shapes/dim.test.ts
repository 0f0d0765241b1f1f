import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Dim } from '../graph.js';
import { addDims, bindDim, divideDims, divideDimsExactly, maxDims, minDims, multiplyDims, neverEqual, subtractDims } from './dim.js';

const operations: Record<string, [(a: Dim, b: Dim) => Dim, (a: number, b: number) => number]> = {
  add: [addDims, (a, b) => a + b],
  subtract: [subtractDims, (a, b) => a - b],
  multiply: [multiplyDims, (a, b) => a * b],
  divide: [(a, b) => divideDims(a, typeof b === 'number' && b > 0 ? b : 3), (a, b) => Math.floor(a / b)],
  min: [minDims, Math.min],
  max: [maxDims, Math.max],
};

it('an expression means what its numbers mean', () => {
  const steps = fc.array(fc.tuple(fc.constantFrom(...Object.keys(operations)), fc.constantFrom<Dim>('N', 'H', 1, 2, 7)), { maxLength: 6 });
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }), (list, N, H) => {
      let dim: Dim = 'N';
      let value = N;
      for (const [name, operand] of list) {
        const [symbolic, numeric] = operations[name] as (typeof operations)['add'];
        const number = operand === 'N' ? N : operand === 'H' ? H : (operand as number);
        // min and max against 0 rely on sizes that are not negative, as the operands of a shape are.
        if ((name === 'min' || name === 'max') && (value < 0 || String(dim).includes('floor'))) continue;
        dim = symbolic(dim, operand);
        value = numeric(value, name === 'divide' && typeof operand === 'string' ? 3 : number);
      }
      expect(bindDim(dim, { N, H })).toBe(value);
    }),
  );
});

it('texts are canonical', () => {
  expect(addDims(multiplyDims('W', 'H'), 1)).toBe('H*W + 1');
  expect(subtractDims('H*W + 1', multiplyDims('H', 'W'))).toBe(1);
  expect(multiplyDims(12, 'N')).toBe('12*N');
  expect(divideDims('4*N + 6', 4)).toBe(addDims('N', divideDims(6, 4)));
  expect(divideDimsExactly('6*H*N', '2*N')).toBe('3*H');
  expect(divideDimsExactly(addDims('2*N', 2), addDims('N', 1))).toBe(2);
  expect(divideDimsExactly('N', 2)).toBeUndefined();
});

it('takes any name for a symbol', () => {
  expect(addDims('batch size', 0)).toBe('batch size');
  expect(bindDim(multiplyDims('batch-size', 3), { 'batch-size': 4 })).toBe(12);
  expect(bindDim('unk (1', { 'unk (1': 4 })).toBe(4);
  expect(bindDim('N', {})).toBe('N');
});

it('does not grow without bound', () => {
  let dim: Dim = 'N';
  for (let i = 0; i < 100; i++) dim = maxDims(multiplyDims(dim, `S${i}`), minDims(dim, `T${i}`));
  expect(String(dim).length).toBeLessThan(401);
  expect(String(addDims('floor('.repeat(5000), 1)).length).toBeLessThan(30_010);
});

it('sizes are not told apart by a difference that is too long to write', () => {
  // The top-down path of a feature pyramid over an open height: each level is added to the one below, grown by two.
  const halved = (dim: Dim) => divideDims(addDims(dim, 1), 2);
  const levels = [halved(halved('shape_h'))];
  for (let level = 0; level < 4; level++) levels.push(halved(levels.at(-1) as Dim));
  const [lowest, ...above] = levels.reverse() as [Dim, ...Dim[]];
  let path = lowest;
  const grown: Dim[] = [];
  for (const level of above) {
    grown.push(multiplyDims(path, 2));
    path = maxDims(multiplyDims(path, 2), level);
  }
  expect(bindDim(path, { shape_h: 320 })).toBe(bindDim(grown.at(-1) as Dim, { shape_h: 320 }));
  expect(neverEqual(path, grown.at(-1) as Dim)).toBe(false);
});
