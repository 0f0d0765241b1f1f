import { describe, expect, it } from 'vitest';
import { judgeChange } from '../evaluate/paired.js';
import { mcnemarExact, pairedProportionInterval } from '../evaluate/statistics.js';
import { only } from '../evaluate/testing/outputs.js';
import { buildReport } from './build.js';
import { changeWords } from './change.js';
import { changeText } from './format.js';
import { renderMarkdown } from './markdown.js';
import { outputsOf, range, reportInput, wrongOn } from './testing/input.js';

const top1 = {
  metric: { name: 'top1', unit: 'fraction' as const, higherIsBetter: true },
  float: { value: 0.9, ci95: [0.8, 1] as [number, number] },
};

function changeOf(b: number, c: number, n: number) {
  const [low, high] = pairedProportionInterval(b, c, n);
  return { points: (100 * (c - b)) / n, ci95: [100 * low, 100 * high] as [number, number] };
}

/** The numbers of a text of `changeText`, as they are read. */
const read = (text: string) =>
  [
    ...text
      .replaceAll('−', '-')
      .replace('95 %', '')
      .matchAll(/[-+]?\d+(?:\.\d+)?/g),
  ].map(([number]) => Number(number));

describe('what is said of a change', () => {
  it('never contradicts its interval, its p or itself, for any counts', () => {
    for (const n of [1, 2, 4, 5, 9, 40, 150, 1000, 10_000, 1_000_000]) {
      for (let b = 0; b <= Math.min(n, 60); b++) {
        for (let c = 0; c <= Math.min(n - b, 60); c++) {
          const change = changeOf(b, c, n);
          const what = `b ${b}, c ${c}, n ${n}`;
          const [points, low, high] = read(changeText(change.points, change.ci95, 'fraction')) as [number, number, number];
          const real = low > 0 || high < 0;
          expect(real, `the interval that is shown and p: ${what}`).toBe(mcnemarExact(b, c) < 0.05);
          expect(judgeChange(change) === 'loss' || judgeChange(change) === 'gain', what).toBe(real);
          expect(low <= points && points <= high, `the change lies in its interval: ${what}`).toBe(true);
          const words = changeWords(change, top1);
          expect(words, what).toBe(real ? (points < 0 ? 'a real loss' : 'a real gain') : b === c ? 'no difference' : words);
          if (words.startsWith('noise')) expect(Math.max(Math.abs(low), Math.abs(high)), what).toBeLessThanOrEqual(2);
        }
      }
    }
  });

  it('holds for counts too large to walk through', () => {
    for (const m of [100, 1_000, 30_000])
      for (let d = 0; d <= 8 * Math.sqrt(m); d += Math.ceil(Math.sqrt(m) / 10)) {
        const change = changeOf(m + d, m, 10 * m);
        expect(judgeChange(change) === 'loss', `${m} and ${d} more`).toBe(mcnemarExact(m + d, m) < 0.05);
      }
  });

  it('a loss of everything on four samples is not called noise', () => {
    expect(changeWords(changeOf(4, 0, 4), top1)).toBe('too few samples to tell it from chance');
  });

  it('a small end of an interval does not read as 0', () => {
    expect(changeText(-0.2, [-0.4, -0.0004], 'fraction')).toBe('−0.2000 points (95 % −0.4000 … −0.0004)');
  });
});

describe('what PTQ lost', () => {
  const text = (ptq: readonly number[]) => {
    const float = wrongOn(1000, range(0, 80));
    const outputs = outputsOf(float, wrongOn(1000, ptq), wrongOn(1000, range(0, 80)));
    return renderMarkdown(buildReport(reportInput({ outputs: { ...outputs, float: only(float) } })));
  };
  it('is nothing only where its interval holds 0', () => {
    expect(text(range(0, 80))).toContain('PTQ lost nothing, so');
    expect(text(range(0, 50))).toContain('PTQ lost nothing: it is better than float here');
    expect(text(range(0, 83))).toContain('The change by PTQ cannot be told from chance');
    expect(text(range(0, 110))).toContain('Training won back 100 % of what PTQ lost.');
  });
});
