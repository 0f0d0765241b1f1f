import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Pulse } from './pulse.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] }));
afterEach(() => void vi.useRealTimers());

test('a stage that tells nothing says every 4.5 s how long it has been running; one that tells does not', () => {
  const said: string[] = [];
  const pulse = new Pulse((message) => said.push(message));
  vi.advanceTimersByTime(5_000);
  pulse.saw({ type: 'stage', stage: 'calibrate' });
  vi.advanceTimersByTime(10_000);
  for (let i = 0; i < 20; i++) {
    pulse.saw({ type: 'progress', stage: 'calibrate', done: i, total: 20, unit: 'samples', figures: {} });
    vi.advanceTimersByTime(1_000);
  }
  pulse.stop();
  vi.advanceTimersByTime(60_000);
  expect(said).toEqual(['start: 5 s', 'calibrate: 5 s', 'calibrate: 9 s']);
});
