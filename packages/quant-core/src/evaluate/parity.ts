import { OctetError } from '../errors.js';
import type { Report } from '../report/schema.js';
import type { ModelOutputs, Outputs } from './outputs.js';
import { binomialTail } from './statistics.js';

/** Least share of samples on which simulation and artifact agree; below it the difference is a defect of Octet or of the runtime. */
export const leastParity = 0.999;

/** Steps of an output that rounding explains: sums in another order can move a value to the next step, and that of the layers before by one more. */
const roundingSteps = 2.55;
/** Steps within which a change of the top class is a tie that fell the other way. */
const tieSteps = 1;

/** Whether agreement is certainly too low: a rate of misses at the limit would give so many in less than 1 of 100 cases. */
export function parityIsBroken({ agreement, samples }: Pick<Report['parity'], 'agreement' | 'samples'>): boolean {
  return binomialTail(samples, Math.round((1 - agreement) * samples), 1 - leastParity) < 0.01;
}

/**
 * Fake-quant simulation against the int8 artifact in its runtime, on the same samples: `simulation` was compared with the artifact. A sample agrees
 * when every value differs by 2.55 steps of its output at most, or, where one class is named for it, when both name the same or differ by a step at most.
 * @param steps the scale of each output; null where it is not quantized: then a step is a 255th of the range of its values
 */
export function parityOf(simulation: ModelOutputs, artifact: ModelOutputs, steps: readonly (number | null)[]): Report['parity'] {
  const outputs = simulation.map((one, at) => outputParity(one, artifact[at] as Outputs, steps[at] ?? null));
  const [first] = outputs as [OutputParity, ...OutputParity[]];
  const worst = outputs.reduce((a, b) => (b.agreement < a.agreement ? b : a), first);
  return {
    output: worst.output,
    agreement: worst.agreement,
    top1Agreement: first.top1Agreement,
    maxAbsDifference: Math.max(...outputs.map((one) => one.maxAbsDifference)),
    maxSteps: Math.max(...outputs.map((one) => one.maxSteps)),
    samples: simulation[0].samples,
  };
}

interface OutputParity {
  output: string;
  agreement: number;
  top1Agreement: number | null;
  maxAbsDifference: number;
  maxSteps: number;
}

function outputParity(simulation: Outputs, artifact: Outputs, scale: number | null): OutputParity {
  const { samples, comparison, output } = simulation;
  if (artifact.samples < samples || artifact.width !== simulation.width) {
    throw new OctetError(
      'INTERNAL',
      `simulation [${samples}, ${simulation.width}] and artifact [${artifact.samples}, ${artifact.width}] cannot be compared`,
    );
  }
  const step = scale ?? rangeOf(artifact) / 255;
  const { agreed, positions, largest } = comparison;
  const named = positions === 1;
  let [agreeing, same, difference] = [0, 0, 0];
  for (let i = 0; i < samples; i++) {
    const off = largest[i] as number;
    if (off > difference) difference = off;
    if (named && agreed[i] === 1) same++;
    if (named ? agreed[i] === 1 || off <= tieSteps * step : off <= roundingSteps * step) agreeing++;
  }
  return {
    output: output.name,
    agreement: agreeing / samples,
    top1Agreement: named ? same / samples : null,
    maxAbsDifference: difference,
    maxSteps: step > 0 ? difference / step : difference > 0 ? Number.MAX_VALUE : 0,
  };
}

/** Largest less smallest value that was given. */
function rangeOf({ rows, samples }: Outputs): number {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; rows && i < samples; i++) {
    for (const value of rows.read(i, 1)) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return high > low ? high - low : 0;
}
