import { type Outputs, topLabel } from './outputs.js';
import { wilsonInterval } from './statistics.js';

/** Another numbering of the classes under which the model is far better. */
export interface ClassOrder {
  /** Output that each label is the number of: `outputOf[label]`. */
  outputOf: number[];
  /** All labels moved by so much; null where it is not a plain offset. */
  offset: number | null;
  /** Accuracy as the labels are, and under this numbering. */
  before: number;
  after: number;
  /** Samples it was found on. */
  samples: number;
}

/** Fewer samples of the labels that move, in all and of each, are not enough to speak of another order. */
const least = { samples: 50, each: 5 };
/** What has to be gained over all samples, or by the labels that move alone; and what the confidence in them must exceed their accuracy by, and may lack of it afterwards. */
const gain = { all: 0.3, movedBefore: 0.25, movedAfter: 0.6, confidence: 0.3 };
/** Accuracy that an offset may lack to be named in place of an order. */
const offsetSlack = 0.02;

/**
 * Whether the class that a model names follows from the label by another numbering: its confusion matrix is nearly a permutation. Null where the
 * labels are right, or where no numbering is plainly better.
 */
export function findClassOrder(outputs: Outputs): ClassOrder | null {
  const { labels, samples } = outputs;
  if (!labels || !outputs.top) return null;
  const classes = outputs.classes;
  const cells = new Map<number, number>();
  for (let i = 0; i < samples; i++) {
    const named = topLabel(outputs, i);
    if (named < 0) continue;
    const cell = (labels[i] as number) * classes + named;
    cells.set(cell, (cells.get(cell) ?? 0) + 1);
  }
  const [totals, promised] = [new Float64Array(classes), new Float64Array(classes)];
  for (let i = 0; i < samples; i++) {
    const label = labels[i] as number;
    totals[label]!++;
    promised[label]! += outputs.top.confidences[i * outputs.top.k] as number;
  }
  const count = (label: number, output: number) => cells.get(label * classes + output) ?? 0;
  const outputOf = assignment(cells, classes, totals, count);
  const right = (map: readonly number[]) => map.reduce((sum, output, label) => sum + count(label, output), 0);
  const same = Array.from({ length: classes }, (_, label) => label);
  const found = plainlyBetter(outputOf, { totals, promised, count, samples }) ? outputOf : null;
  if (!found) return null;
  const shifts = [-1, 1].map((by) => ({ by, right: same.reduce((sum, label) => sum + count(label, label + by), 0) }));
  const shift = shifts.find((one) => one.right >= right(found) - offsetSlack * samples);
  return {
    outputOf: found,
    offset: shift ? shift.by : null,
    before: right(same) / samples,
    after: (shift ? shift.right : right(found)) / samples,
    samples,
  };
}

/** What is known of each label: its samples, the confidence of the model in what it named for them, and how often each output was named. */
interface Named {
  totals: Float64Array;
  promised: Float64Array;
  count: (label: number, output: number) => number;
  samples: number;
}

/**
 * Whether the labels that move are named rightly under the new numbering by a model that knows its classes, them and all others: better than
 * by chance, by much, and in keeping with its confidence. A network that was never trained has no confidence.
 */
function plainlyBetter(outputOf: readonly number[], { totals, promised, count, samples }: Named): boolean {
  let [moved, n, before, after, confidence] = [0, 0, 0, 0, 0];
  outputOf.forEach((output, label) => {
    if (output === label || totals[label] === 0) return;
    moved++;
    n += totals[label] as number;
    before += count(label, label);
    after += count(label, output);
    confidence += promised[label] as number;
  });
  if (moved === 0 || n < Math.max(least.samples, least.each * moved)) return false;
  const halfway = (1 + 1 / outputOf.length) / 2;
  const all = outputOf.reduce((sum, output, label) => sum + count(label, output), 0);
  if (all < halfway * samples) return false;
  if (after < halfway * n || confidence - before < gain.confidence * n || confidence < after - gain.confidence * n) return false;
  if (wilsonInterval(before, n)[1] >= wilsonInterval(after, n)[0]) return false;
  return (after - before) / samples >= gain.all || (before <= gain.movedBefore * n && after >= gain.movedAfter * n);
}

/** One output for each label, most samples first; what is left stays as it is where it can. Improved by swaps where that is cheap. */
function assignment(
  cells: ReadonlyMap<number, number>,
  classes: number,
  totals: Float64Array,
  count: (label: number, output: number) => number,
): number[] {
  const outputOf = new Array<number>(classes).fill(-1);
  const taken = new Uint8Array(classes);
  const take = (label: number, output: number) => {
    outputOf[label] = output;
    taken[output] = 1;
  };
  const sorted = [...cells].sort(([a, n], [b, m]) => m - n || Number(isSame(b, classes)) - Number(isSame(a, classes)) || a - b);
  for (const [cell] of sorted) {
    const [label, output] = [Math.floor(cell / classes), cell % classes];
    if (outputOf[label] === -1 && !taken[output]) take(label, output);
  }
  for (let label = 0; label < classes; label++) if (outputOf[label] === -1 && !taken[label]) take(label, label);
  const free = Array.from(taken.keys()).filter((output) => !taken[output]);
  for (let label = 0; label < classes; label++) if (outputOf[label] === -1) outputOf[label] = free.shift() as number;
  if (classes <= 200) swap(outputOf, totals, count);
  return outputOf;
}

const isSame = (cell: number, classes: number) => Math.floor(cell / classes) === cell % classes;

/** Swap the outputs of two labels as long as that names more samples rightly. */
function swap(outputOf: number[], totals: Float64Array, count: (label: number, output: number) => number): void {
  for (let better = true; better; ) {
    better = false;
    for (let a = 0; a < outputOf.length; a++) {
      for (let b = a + 1; b < outputOf.length; b++) {
        if (totals[a] === 0 && totals[b] === 0) continue;
        const [x, y] = [outputOf[a] as number, outputOf[b] as number];
        if (count(a, y) + count(b, x) <= count(a, x) + count(b, y)) continue;
        outputOf[a] = y;
        outputOf[b] = x;
        better = true;
      }
    }
  }
}
