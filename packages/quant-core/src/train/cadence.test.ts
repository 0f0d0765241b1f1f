import { expect, it } from 'vitest';
import { Cadence } from './cadence.js';

it('a small checkpoint is made every 500 steps, at the end of every epoch, and after 30 seconds', () => {
  const cadence = new Cadence(1000, 0, 10);
  expect(cadence.afterStep(500, false, 10)).toBe(true);
  expect(cadence.afterStep(501, false, 10.1)).toBe(false);
  expect(cadence.afterEpoch(false, 10.1)).toBe(true);
  expect(cadence.afterStep(640, false, 40)).toBe(false);
  expect(cadence.afterStep(641, false, 40.2)).toBe(true);
  expect(cadence.afterStep(642, false, 40.3)).toBe(false);
  expect(cadence.afterStep(1000, true, 41)).toBe(false);
  expect(cadence.afterStep(1001, true, 71)).toBe(true);
});

it('a large one is put off until it costs little, never for long, and never after the last epoch', () => {
  const cadence = new Cadence(100e6, 1, 0);
  expect(cadence.afterStep(500, false, 9)).toBe(false);
  expect(cadence.afterEpoch(false, 9.9)).toBe(false);
  expect(cadence.afterEpoch(false, 10)).toBe(true);
  expect(cadence.afterEpoch(false, 12)).toBe(false);
  expect(cadence.afterEpoch(true, 12)).toBe(true);
  expect(cadence.afterStep(1, false, 41.9)).toBe(false);
  expect(cadence.afterStep(2, false, 42)).toBe(true);
  const huge = new Cadence(3e9, 1, 0);
  expect(huge.afterEpoch(false, 19.9)).toBe(false);
  expect(huge.afterEpoch(false, 20)).toBe(true);
});

it('those of a training with short epochs keep the pause that is asked for', () => {
  const cadence = new Cadence(1000, 1, 0);
  expect(cadence.afterEpoch(false, 0.5)).toBe(false);
  expect(cadence.afterEpoch(false, 1)).toBe(true);
  expect(cadence.afterStep(500, false, 1.5)).toBe(false);
  expect(cadence.afterEpoch(true, 1.6)).toBe(true);
});
