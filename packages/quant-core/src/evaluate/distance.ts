import type { ModelOutput } from '../tasks/output.js';
import { type ClassLayout, layoutOf } from '../tasks/task.js';

/** Sums over the elements of each sample, of an output `y` against a reference `x`: what SQNR, relative error, cosine and agreement are made of. */
export interface Comparison {
  /** Elements of one sample. */
  width: number;
  /** Positions of one sample that have a class (or answers, for independent ones); 0 where outputs are values. */
  positions: number;
  /** Σ x */
  total: Float64Array;
  /** Σ x² */
  signal: Float64Array;
  /** Σ y² */
  own: Float64Array;
  /** Σ x·y */
  dot: Float64Array;
  /** Σ (x − y)² */
  noise: Float64Array;
  /** Σ |x − y| */
  absolute: Float64Array;
  /** max |x − y| */
  largest: Float64Array;
  /** Positions where both name the same class. */
  agreed: Float64Array;
}

/** Error of a value that is NaN or infinite: as wrong as can be, and still a number, so that sums and JSON hold it. */
const lostError = 1e18;

/** Prediction less target; an output that is not finite counts as an error of 1e18. */
export function errorOf(score: number, target: number): number {
  return Number.isFinite(score) ? score - target : lostError;
}

const sums = ['total', 'signal', 'own', 'dot', 'noise', 'absolute', 'largest', 'agreed'] as const;

/** Adds up comparisons batch by batch. */
export class Comparer {
  private readonly rows: Record<(typeof sums)[number], number[]> = {
    total: [],
    signal: [],
    own: [],
    dot: [],
    noise: [],
    absolute: [],
    largest: [],
    agreed: [],
  };
  private layout: ClassLayout | undefined;

  constructor(
    private readonly output: Pick<ModelOutput, 'kind' | 'axis'>,
    private readonly width: number,
    shape: readonly number[],
    /** Where a single score says yes. */
    private readonly threshold: number,
  ) {
    if (output.kind === 'classes' && output.axis !== null) this.layout = layoutOf(shape, output.axis);
  }

  /** @param reference rows as many as `scores`; the scores themselves where there is nothing to compare with */
  add(scores: Float32Array, reference: Float32Array): void {
    const { width, rows } = this;
    for (let start = 0; start < scores.length; start += width) {
      let [total, signal, own, dot, noise, absolute, largest] = [0, 0, 0, 0, 0, 0, 0];
      for (let i = start; i < start + width; i++) {
        const [x, y] = [reference[i] as number, scores[i] as number];
        const error = Number.isFinite(x) ? Math.abs(errorOf(y, x)) : lostError;
        total += x;
        signal += x * x;
        noise += error * error;
        absolute += error;
        if (error > largest) largest = error;
        if (error === lostError) continue;
        own += y * y;
        dot += x * y;
      }
      rows.total.push(total);
      rows.signal.push(signal);
      rows.own.push(own);
      rows.dot.push(dot);
      rows.noise.push(noise);
      rows.absolute.push(absolute);
      rows.largest.push(largest);
      rows.agreed.push(this.agreedIn(scores, reference, start));
    }
  }

  private agreedIn(scores: Float32Array, reference: Float32Array, start: number): number {
    const { layout, threshold } = this;
    let agreed = 0;
    if (!layout) {
      if (this.positions === 0) return 0;
      for (let i = start; i < start + this.width; i++)
        if (Number.isFinite(scores[i]) && (scores[i] as number) >= threshold === (reference[i] as number) >= threshold) agreed++;
      return agreed;
    }
    const { outer, classes, inner } = layout;
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const at = start + o * classes * inner + i;
        const named = largestClass(scores, at, inner, classes);
        if (named >= 0 && named === largestClass(reference, at, inner, classes)) agreed++;
      }
    }
    return agreed;
  }

  private get positions(): number {
    const { layout, output, width } = this;
    if (layout) return layout.outer * layout.inner;
    return output.kind === 'binary' || output.kind === 'classes' ? width : 0;
  }

  finish(): Comparison {
    const { width, positions, rows } = this;
    const arrays = Object.fromEntries(sums.map((name) => [name, Float64Array.from(rows[name])])) as Record<
      (typeof sums)[number],
      Float64Array
    >;
    return { width, positions, ...arrays };
  }
}

/** The first largest class of a position; -1 where a score is not a number. */
export function largestClass(scores: Float32Array, at: number, stride: number, classes: number): number {
  let best = 0;
  for (let c = 0; c < classes; c++) {
    const score = scores[at + c * stride] as number;
    if (!Number.isFinite(score)) return -1;
    if (score > (scores[at + best * stride] as number)) best = c;
  }
  return best;
}
