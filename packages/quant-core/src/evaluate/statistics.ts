import { Random } from '../tensor/random.js';

/** Two-sided 95 % point of the standard normal. */
const z95 = 1.959963984540054;

export type Interval = [number, number];

/**
 * 95 % score interval of a proportion of `successes` out of `n`; [0, 1] when n is 0.
 * Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
 */
export function wilsonInterval(successes: number, n: number): Interval {
  if (n <= 0) return [0, 1];
  const p = successes / n;
  const z2 = z95 * z95;
  const middle = (p + z2 / (2 * n)) / (1 + z2 / n);
  const half = (z95 / (1 + z2 / n)) * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n));
  return [successes === 0 ? 0 : Math.max(0, middle - half), successes === n ? 1 : Math.min(1, middle + half)];
}

/** Probability of at least `k` successes in `n` trials of probability `p`, summed exactly. */
export function binomialTail(n: number, k: number, p: number): number {
  let term = (1 - p) ** n;
  let below = 0;
  for (let i = 0; i < k; i++) {
    below += term;
    term *= ((n - i) / (i + 1)) * (p / (1 - p));
  }
  return Math.max(0, 1 - below);
}

/**
 * ln Γ(x) for x > 0: Stirling's series from x ≥ 10 on, reached by the recurrence Γ(x) = Γ(x + 1) / x. Relative error below 1e-13.
 * Source: Abramowitz and Stegun, 6.1.41.
 */
export function lnGamma(x: number): number {
  let shift = 0;
  let y = x;
  while (y < 10) {
    shift += Math.log(y);
    y += 1;
  }
  const r = 1 / (y * y);
  const series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r * (1 / 1188 - (r * 691) / 360360))))) / y;
  return (y - 0.5) * Math.log(y) - y + 0.5 * Math.log(2 * Math.PI) + series - shift;
}

/**
 * Exact two-sided McNemar p for `b` and `c` discordant pairs: `min(1, 2 · P(X ≤ min(b, c)))`, X ~ Binomial(b + c, 1/2).
 * The largest term is taken from ln Γ and the others from it by ratio, so that any count is exact to rounding.
 * Source: McNemar, Psychometrika 12 (1947), in its exact binomial form.
 */
export function mcnemarExact(b: number, c: number): number {
  const n = b + c;
  const m = Math.min(b, c);
  if (n === 0 || 2 * m >= n - 1) return 1;
  let term = Math.exp(lnGamma(n + 1) - lnGamma(m + 1) - lnGamma(n - m + 1) - n * Math.LN2);
  let sum = 0;
  for (let k = m; k >= 0; k--) {
    sum += term;
    if (term < sum * 1e-17) break;
    term *= k / (n - k + 1);
  }
  return Math.min(1, 2 * sum);
}

/**
 * 95 % interval of the difference of two paired proportions `(c - b) / n`, with b pairs that only the first got right and
 * c that only the second did: the Wald interval after 1/2 is added to each cell of the 2×2 table, which holds its
 * coverage with few or no discordant pairs. Where the exact McNemar test does not tell the difference from chance (p ≥ 0.05), the
 * interval is widened to hold 0: the two never disagree.
 * Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24 (2005).
 */
export function pairedProportionInterval(b: number, c: number, n: number): Interval {
  const total = n + 2;
  const onlyFirst = b + 0.5;
  const onlySecond = c + 0.5;
  const difference = (onlySecond - onlyFirst) / total;
  const half = (z95 * Math.sqrt(onlyFirst + onlySecond - (onlySecond - onlyFirst) ** 2 / total)) / total;
  const interval: Interval = [Math.max(-1, difference - half), Math.min(1, difference + half)];
  return mcnemarExact(b, c) < 0.05 ? interval : holding(interval, 0);
}

/** The interval, widened to hold `value`. */
export const holding = ([low, high]: Interval, value: number): Interval => [Math.min(low, value), Math.max(high, value)];

/**
 * 95 % percentile bootstrap interval of a statistic over `n` samples. `statistic` receives how often each sample was
 * drawn. Seeded: the same seed gives the same interval. Fewer resamples (never under 200) are drawn when n is large, or a statistic reads `cost`
 * numbers for a sample.
 * Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
 */
export function bootstrapInterval(n: number, statistic: (weights: Uint16Array) => number, seed: number, cost = 1): Interval {
  if (n <= 0) return [Number.NaN, Number.NaN];
  const resamples = Math.max(200, Math.min(2000, Math.floor(2e7 / n / cost)));
  const random = Random.for(seed, 'bootstrap');
  const weights = new Uint16Array(n);
  const values = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    weights.fill(0);
    for (let i = 0; i < n; i++) weights[random.below(n)]!++;
    values[r] = statistic(weights);
  }
  values.sort();
  return [quantile(values, 0.025), quantile(values, 0.975)];
}

/** Quantile of ascending `sorted` values, linear between order statistics (the default of NumPy and R). */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  const below = sorted[low] as number;
  const above = sorted[Math.min(low + 1, sorted.length - 1)] as number;
  return below + (above - below) * (at - low);
}

/**
 * 95 % interval of the median of a distribution from `values` drawn from it, in any order: from the k-th smallest to the k-th largest, k the largest with
 * `P(X < k) ≤ 0.025` for X ~ Binomial(n, 1/2). All values where they are fewer than six, which holds it with less than 95 %.
 * Source: David and Nagaraja, "Order Statistics" (2003), section 7.1.
 */
export function medianInterval(values: readonly number[]): Interval {
  const sorted = [...values].sort((a, b) => a - b);
  const n = sorted.length;
  if (n === 0) return [Number.NaN, Number.NaN];
  let k = 0;
  while (k + 1 <= n / 2 && 1 - binomialTail(n, k + 1, 0.5) <= 0.025) k++;
  const rank = Math.max(1, k);
  return [sorted[rank - 1] as number, sorted[n - rank] as number];
}
