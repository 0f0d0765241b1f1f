import { OctetError } from '../errors.js';
import type { Report } from '../report/schema.js';
import { agreement } from './classes.js';
import type { Outputs } from './outputs.js';
import { binomialTail } from './statistics.js';

/** Least top-1 agreement of simulation and artifact; below it the difference is a defect of Octet or of the runtime. */
export const leastParity = 0.999;

/** Whether agreement is certainly too low: a rate of flips at the limit would give so many in less than 1 of 100 cases. */
export function parityIsBroken({ top1Agreement, samples }: Report['parity']): boolean {
  return binomialTail(samples, Math.round((1 - top1Agreement) * samples), 1 - leastParity) < 0.01;
}

/**
 * Fake-quant simulation against the int8 artifact in its runtime, on the same samples. Where outputs are values and
 * not classes, a sample agrees when each of its values differs by at most 1 % of the range of the simulated values.
 */
export function parityOf(simulation: Outputs, artifact: Outputs): Report['parity'] {
  const { samples } = simulation;
  if (artifact.samples !== samples || artifact.width !== simulation.width) {
    throw new OctetError(
      'INTERNAL',
      `simulation [${samples}, ${simulation.width}] and artifact [${artifact.samples}, ${artifact.width}] cannot be compared`,
    );
  }
  return {
    top1Agreement: agreement(simulation, artifact) ?? closeShare(simulation, artifact),
    maxAbsDifference: largestDifference(simulation, artifact),
    samples,
  };
}

function largestDifference(a: Outputs, b: Outputs): number {
  // Without scores the confidences of the best classes are what is left to compare.
  const x = a.scores && b.scores ? a.scores : (a.top?.confidences ?? new Float32Array());
  const y = a.scores && b.scores ? b.scores : (b.top?.confidences ?? new Float32Array());
  let largest = 0;
  for (let i = 0; i < x.length; i++) {
    const difference = Math.abs((x[i] as number) - (y[i] as number));
    if (difference > largest || Number.isNaN(difference)) largest = difference;
    if (Number.isNaN(largest)) return Number.POSITIVE_INFINITY;
  }
  return largest;
}

function closeShare(a: Outputs, b: Outputs): number {
  if (!a.scores || !b.scores || a.samples === 0) return 0;
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const score of a.scores) {
    low = Math.min(low, score);
    high = Math.max(high, score);
  }
  const tolerance = 0.01 * (high - low);
  let close = 0;
  for (let i = 0; i < a.samples; i++) {
    let agrees = true;
    for (let j = i * a.width; j < (i + 1) * a.width; j++)
      agrees &&= Math.abs((a.scores[j] as number) - (b.scores[j] as number)) <= tolerance;
    if (agrees) close++;
  }
  return close / a.samples;
}
