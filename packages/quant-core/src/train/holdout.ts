import type { TaskName } from '../choices.js';
import { tasks } from '../tasks/index.js';
import type { LossHead, LossSpec, LossTerm } from '../tasks/loss.js';
import { isIgnored, type LossKind, type Truth } from '../tasks/task.js';
import type { Teaching } from './batch.js';

/** What a held-out score is taken of. */
export interface HoldoutSpec {
  loss: LossSpec;
  heads: readonly LossHead[];
  task: TaskName;
  ignoreIndex?: number | undefined;
}

/**
 * Running held-out loss and metric over batches. The metric is that of the first term: the share of samples (or positions) with the right top class,
 * or the float model's where there are no labels; for values the negative loss.
 */
export class HoldoutScore {
  private lossSum = 0;
  private right = 0;
  private counted = 0;
  private samples = 0;

  constructor(private readonly spec: HoldoutSpec) {}

  /** @param outputs rows of what each term is taken of */
  add(outputs: readonly Float32Array[], truth: Truth, teaching: Teaching): void {
    const { loss, heads, task, ignoreIndex } = this.spec;
    const count = (outputs[0] as Float32Array).length / (heads[0] as LossHead).width;
    loss.terms.forEach((term, at) => {
      const { width, layout } = heads[at] as LossHead;
      const [z, teacher] = [outputs[at] as Float32Array, teaching[at]];
      const target = term.distillationWeight < 1 ? tasks[task].targets(truth, { width, layout, ignoreIndex }, 0, count) : undefined;
      const distance = distances[term.kind];
      const own = target ? (1 - term.distillationWeight) * distance(z, target, heads[at] as LossHead, 1) : 0;
      const soft =
        teacher && term.distillationWeight > 0 ? term.distillationWeight * this.taught(term, z, teacher, heads[at] as LossHead) : 0;
      this.lossSum += count * term.weight * (own + soft);
      if (at === 0) this.countRight(z, truth, target, teacher, heads[0] as LossHead);
    });
    this.samples += count;
  }

  private taught(term: LossTerm, z: Float32Array, teacher: Float32Array, head: LossHead): number {
    if (term.kind === 'mse' || term.kind === 'huber') return distances[term.kind](z, teacher, head, 1);
    const t = this.spec.loss.temperature;
    const soft = term.kind === 'binary_cross_entropy' ? teacher.map((v) => 1 / (1 + Math.exp(-v / t))) : softmax(teacher, head, t);
    return t * t * distances[term.kind](z, soft, head, t);
  }

  get loss(): number {
    return this.lossSum / this.samples;
  }

  get metric(): number {
    const [{ kind }] = this.spec.loss.terms;
    return kind === 'mse' || kind === 'huber' ? -this.loss : this.right / this.counted;
  }

  private countRight(
    z: Float32Array,
    truth: Truth,
    target: Float32Array | undefined,
    teacher: Float32Array | undefined,
    head: LossHead,
  ): void {
    const [{ kind }] = this.spec.loss.terms;
    if (kind === 'mse' || kind === 'huber') return;
    if (kind === 'binary_cross_entropy') {
      const wanted = (i: number) => (target ? (target[i] as number) > 0.5 : ((teacher as Float32Array)[i] as number) > 0);
      for (let i = 0; i < z.length; i++) if ((z[i] as number) > 0 === wanted(i)) this.right++;
      this.counted += z.length;
      return;
    }
    const named = largestClasses(z, head);
    const known = target ?? teacher;
    if (!known) return;
    const wanted = largestClasses(known, head);
    const { classes } = head.layout;
    const dense = this.spec.task === 'dense_classification' && target ? truth.values?.data : undefined;
    for (let i = 0; i < named.length; i++) {
      if (dense && isIgnored(dense[i] as number, classes, this.spec.ignoreIndex)) continue;
      this.counted++;
      if (named[i] === wanted[i]) this.right++;
    }
  }
}

/** What the held-out metric is called; undefined for values, of which only the loss is told. */
export function holdoutMetricName({ loss, task }: Pick<HoldoutSpec, 'loss' | 'task'>): string | undefined {
  const [{ kind, distillationWeight }] = loss.terms;
  if (kind === 'mse' || kind === 'huber') return undefined;
  if (distillationWeight === 1) return 'agreement with the float model';
  if (kind === 'binary_cross_entropy') return 'accuracy at 0.5';
  return task === 'dense_classification' ? 'accuracy of positions' : 'top-1 accuracy';
}

type Distance = (z: Float32Array, target: Float32Array, head: LossHead, temperature: number) => number;

/** The mean distance of rows from their targets, as `tasks/loss.ts` has it in the graph. */
const distances: { readonly [K in LossKind]: Distance } = {
  cross_entropy: (z, target, head, temperature) => {
    let sum = 0;
    let positions = 0;
    forPositions(z, head, (at, stride, classes) => {
      positions++;
      const shift = logSum(z, at, stride, classes, temperature);
      for (let c = 0; c < classes; c++) {
        const wanted = target[at + c * stride] as number;
        if (wanted !== 0) sum -= wanted * ((z[at + c * stride] as number) / temperature - shift);
      }
    });
    return sum / positions;
  },
  binary_cross_entropy: (z, target, _head, temperature) =>
    meanOver(z, target, (v, y) => {
      const logit = v / temperature;
      return Math.max(logit, 0) - logit * y + Math.log1p(Math.exp(-Math.abs(logit)));
    }),
  mse: (z, target) => meanOver(z, target, (v, y) => (v - y) ** 2),
  huber: (z, target) =>
    meanOver(z, target, (v, y) => {
      const size = Math.abs(v - y);
      return size <= 1 ? 0.5 * size * size : size - 0.5;
    }),
};

function meanOver(a: Float32Array, b: Float32Array, each: (x: number, y: number) => number): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += each(a[i] as number, b[i] as number);
  return sum / a.length;
}

/** Call with the first class of every position and the distance between classes. */
function forPositions(rows: Float32Array, { width, layout }: LossHead, each: (at: number, stride: number, classes: number) => void): void {
  const { outer, classes, inner } = layout;
  for (let row = 0; row < rows.length; row += width)
    for (let o = 0; o < outer; o++) for (let i = 0; i < inner; i++) each(row + o * classes * inner + i, inner, classes);
}

/** ln Σ exp(z/T) over the classes of a position. */
function logSum(z: Float32Array, at: number, stride: number, classes: number, temperature: number): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let c = 0; c < classes; c++) top = Math.max(top, (z[at + c * stride] as number) / temperature);
  let sum = 0;
  for (let c = 0; c < classes; c++) sum += Math.exp((z[at + c * stride] as number) / temperature - top);
  return top + Math.log(sum);
}

function softmax(z: Float32Array, head: LossHead, temperature: number): Float32Array {
  const shares = new Float32Array(z.length);
  forPositions(z, head, (at, stride, classes) => {
    const shift = logSum(z, at, stride, classes, temperature);
    for (let c = 0; c < classes; c++) shares[at + c * stride] = Math.exp((z[at + c * stride] as number) / temperature - shift);
  });
  return shares;
}

/** The largest class of every position, the first one on a tie. */
function largestClasses(z: Float32Array, head: LossHead): Int32Array {
  const { outer, inner } = head.layout;
  const named = new Int32Array((z.length / head.width) * outer * inner);
  let position = 0;
  forPositions(z, head, (at, stride, classes) => {
    let best = 0;
    for (let c = 1; c < classes; c++) if ((z[at + c * stride] as number) > (z[at + best * stride] as number)) best = c;
    named[position++] = best;
  });
  return named;
}
