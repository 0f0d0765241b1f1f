import { describe, expect, it } from 'vitest';
import { Random } from '../tensor/random.js';
import {
  binomialTail,
  bootstrapInterval,
  lnGamma,
  mcnemarExact,
  medianInterval,
  pairedProportionInterval,
  quantile,
  wilsonInterval,
} from './statistics.js';

describe('Wilson interval', () => {
  // statsmodels 0.15.0, proportion_confint(method='wilson')
  it.each([
    [9176, 10000, 0.912048916581142, 0.9228303679796689],
    [0, 50, 0, 0.07134759913335874],
    [50, 50, 0.9286524008666412, 1],
    [171, 200, 0.7995133246921847, 0.8971064935799559],
    [1, 7, 0.02567962434474355, 0.5131278292743189],
  ])('%i of %i', (successes, n, low, high) => {
    const interval = wilsonInterval(successes, n);
    expect(interval[0]).toBeCloseTo(low, 12);
    expect(interval[1]).toBeCloseTo(high, 12);
  });

  it('says nothing without samples', () => {
    expect(wilsonInterval(0, 0)).toEqual([0, 1]);
  });
});

describe('ln Γ', () => {
  // scipy 1.17.1, special.gammaln
  it.each([
    [1e-3, 6.907178885383853],
    [0.5, 0.5723649429247],
    [1.5, -0.12078223763524526],
    [5.5, 3.9578139676187165],
    [10, 12.801827480081469],
    [100.25, 360.28455963776423],
    [10000.5, 82104.32265412837],
    [1000000, 12815504.569147611],
  ])('of %d', (x, wanted) => {
    expect(lnGamma(x) / wanted).toBeCloseTo(1, 12);
  });

  it('is 0 at 1 and 2', () => {
    expect(lnGamma(1)).toBeCloseTo(0, 13);
    expect(lnGamma(2)).toBeCloseTo(0, 13);
  });
});

describe('exact McNemar test', () => {
  // statsmodels 0.15.0, mcnemar(exact=True); 86 against 150 is the approval table of Agresti, "Categorical Data Analysis", table 10.1
  it.each([
    [86, 150, 3.7159361395713866e-5],
    [150, 86, 3.7159361395713866e-5],
    [10, 3, 0.09228515625],
    [0, 8, 0.0078125],
    [1, 12, 0.00341796875],
    [37, 36, 1],
    [5, 5, 1],
    [0, 0, 1],
    [4021, 4300, 0.0023048760868602893],
    [120000, 118000, 4.1750422969962865e-5],
    [3, 60, 9.048317650695026e-15],
  ])('%i against %i', (b, c, p) => {
    expect(mcnemarExact(b, c) / p).toBeCloseTo(1, 8);
  });
});

describe('interval of a paired change', () => {
  // Wald interval of a table with 1/2 added to each cell: statsmodels 0.15.0, DescrStatsW(ddof=0) over n + 2 pairs
  it.each([
    [86, 150, 1600, 0.02121718911797262, 0.058682935725972454],
    [0, 0, 200, -0.009702792002673535, 0.009702792002673535],
    [3, 60, 1000, 0.041639372767523414, 0.07213308232229694],
    [30, 25, 10000, -0.0019662767560425084, 0.0009664767160505067],
  ])('%i against %i of %i', (b, c, n, low, high) => {
    const interval = pairedProportionInterval(b, c, n);
    expect(interval[0]).toBeCloseTo(low, 12);
    expect(interval[1]).toBeCloseTo(high, 12);
  });

  it('agrees with the published Wald interval of the approval table, (-0.059, -0.021)', () => {
    const [low, high] = pairedProportionInterval(150, 86, 1600);
    expect(low).toBeCloseTo(-0.059, 3);
    expect(high).toBeCloseTo(-0.021, 3);
  });
});

describe('bootstrap', () => {
  const sample = Float64Array.from(
    { length: 400 },
    (
      (random) => () =>
        3 + 2 * random.normal()
    )(new Random(5)),
  );
  const mean = (weights: Uint16Array) => sample.reduce((sum, x, i) => sum + x * weights[i]!, 0) / sample.length;

  it('comes near the normal interval of a mean', () => {
    const average = sample.reduce((sum, x) => sum + x, 0) / sample.length;
    const deviation = Math.sqrt(sample.reduce((sum, x) => sum + (x - average) ** 2, 0) / sample.length);
    const half = (1.96 * deviation) / Math.sqrt(sample.length);
    const [low, high] = bootstrapInterval(sample.length, mean, 1);
    expect(Math.abs(low - (average - half))).toBeLessThan(0.1 * half);
    expect(Math.abs(high - (average + half))).toBeLessThan(0.1 * half);
  });

  it('depends on nothing but the seed', () => {
    expect(bootstrapInterval(sample.length, mean, 7)).toEqual(bootstrapInterval(sample.length, mean, 7));
    expect(bootstrapInterval(sample.length, mean, 7)).not.toEqual(bootstrapInterval(sample.length, mean, 8));
  });
});

it('quantile is linear between order statistics', () => {
  // numpy.quantile([1, 2, 3, 4, 10], [.025, .5, .95])
  expect([0.025, 0.5, 0.95].map((q) => quantile([1, 2, 3, 4, 10], q))).toEqual([1.1, 3, 8.799999999999999]);
  expect(quantile([], 0.5)).toBeNaN();
});

describe('the tail of a binomial', () => {
  it('is that of the tables', () => {
    // 10 throws of a fair coin: at least 8 heads in 56 of 1024 cases; rare events as the Poisson limit has them.
    expect(binomialTail(10, 8, 0.5)).toBeCloseTo(56 / 1024, 12);
    expect(binomialTail(10, 0, 0.5)).toBe(1);
    expect(binomialTail(100, 1, 0.001)).toBeCloseTo(1 - 0.999 ** 100, 12);
    expect(binomialTail(10_000, 21, 0.001)).toBeCloseTo(0.0016, 3);
  });
});

describe('the interval of a median', () => {
  it('has the ranks of the tables', () => {
    const ranks = (n: number) => medianInterval(Array.from({ length: n }, (_, i) => n - i));
    // David and Nagaraja, and any table of the sign test: n = 6, 10, 25, 50.
    expect(ranks(6)).toEqual([1, 6]);
    expect(ranks(10)).toEqual([2, 9]);
    expect(ranks(25)).toEqual([8, 18]);
    expect(ranks(50)).toEqual([18, 33]);
  });

  it('is all values where they are few, and none without', () => {
    expect(medianInterval([3, 1, 2])).toEqual([1, 3]);
    expect(medianInterval([])).toEqual([Number.NaN, Number.NaN]);
  });

  it('holds the true median in about 95 of 100 draws', () => {
    const random = Random.for(3, 'medians');
    let held = 0;
    for (let draw = 0; draw < 2000; draw++) {
      const [low, high] = medianInterval(Array.from({ length: 20 }, () => random.uniform() ** 3));
      if (low <= 0.125 && high >= 0.125) held++;
    }
    expect(held / 2000).toBeGreaterThan(0.94);
    expect(held / 2000).toBeLessThan(0.98);
  });
});
