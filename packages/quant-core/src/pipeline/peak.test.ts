import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { highWater, watchPeak } from './peak.js';

/** Memory that is really there: every page is written. */
const held = (bytes: number) => new Uint8Array(bytes).fill(1);

it('tells a new high of the process, and a peak that has passed', async () => {
  const before = process.memoryUsage.rss();
  const peak = watchPeak();
  let block: Uint8Array | undefined = held(2 ** 28);
  await setTimeout(60);
  expect(block[0]).toBe(1);
  block = undefined;
  const seen = peak();
  expect(seen).toBeGreaterThan(before + 2 ** 27);
  expect(highWater()).toBeGreaterThanOrEqual(seen);
});
