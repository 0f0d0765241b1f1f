import type { LossSpec } from './loss.js';

/** Targets of a batch as the dataset gives them. */
export interface BatchTargets {
  labels?: Int32Array;
  values?: { data: Float32Array };
  teacher?: Float32Array;
}

/** Running held-out loss and metric over batches of logits (or values) of width `width`. */
export class HoldoutScore {
  private lossSum = 0;
  private right = 0;
  private samples = 0;

  constructor(
    private readonly spec: LossSpec,
    private readonly width: number,
  ) {}

  add(outputs: Float32Array, targets: BatchTargets): void {
    const count = outputs.length / this.width;
    for (let row = 0; row < count; row++) {
      const z = outputs.subarray(row * this.width, (row + 1) * this.width);
      const teacher = targets.teacher?.subarray(row * this.width, (row + 1) * this.width);
      this.lossSum += this.rowLoss(z, row, targets, teacher);
      this.right += this.rowRight(z, row, targets, teacher);
    }
    this.samples += count;
  }

  get loss(): number {
    return this.lossSum / this.samples;
  }

  /** Share of samples with the right (or the float model's) top-1 for classifiers; for values the negative loss. */
  get metric(): number {
    return this.spec.kind === 'mse' ? -this.loss : this.right / this.samples;
  }

  private rowLoss(z: Float32Array, row: number, targets: BatchTargets, teacher: Float32Array | undefined): number {
    const share = this.spec.distillationWeight;
    if (this.spec.kind === 'mse') {
      const own = targets.values ? meanSquare(z, targets.values.data.subarray(row * this.width, (row + 1) * this.width)) : 0;
      return (1 - share) * own + (share && teacher ? share * meanSquare(z, teacher) : 0);
    }
    const t = this.spec.temperature;
    if (this.spec.kind === 'binary_cross_entropy') {
      const v = z[0] as number;
      const own = targets.labels && share < 1 ? binaryCrossEntropy(v, (targets.labels[row] as number) > 0 ? 1 : 0) : 0;
      const soft = teacher && share > 0 ? binaryCrossEntropy(v / t, 1 / (1 + Math.exp(-(teacher[0] as number) / t))) : 0;
      return (1 - share) * own + share * t * t * soft;
    }
    let loss = 0;
    if (targets.labels && share < 1) loss += (1 - share) * -logSoftmax(z, 1)[targets.labels[row] as number]!;
    if (teacher && share > 0) {
      const own = logSoftmax(z, t);
      logSoftmax(teacher, t).forEach((logP, i) => {
        loss -= share * t * t * Math.exp(logP) * (own[i] as number);
      });
    }
    return loss;
  }

  private rowRight(z: Float32Array, row: number, targets: BatchTargets, teacher: Float32Array | undefined): number {
    if (this.spec.kind === 'mse') return 0;
    if (this.spec.kind === 'binary_cross_entropy') {
      const truth = targets.labels ? targets.labels[row] : teacher?.[0];
      return (z[0] as number) > 0 === (truth as number) > 0 ? 1 : 0;
    }
    const truth = targets.labels ? (targets.labels[row] as number) : teacher ? largest(teacher) : -1;
    return largest(z) === truth ? 1 : 0;
  }
}

/** Index of the largest element, the first one on a tie. */
function largest(z: Float32Array): number {
  let best = 0;
  for (let i = 1; i < z.length; i++) if ((z[i] as number) > (z[best] as number)) best = i;
  return best;
}

/** Of a logit, against the probability `y` of class 1. */
const binaryCrossEntropy = (z: number, y: number) => Math.max(z, 0) - z * y + Math.log1p(Math.exp(-Math.abs(z)));

function logSoftmax(z: Float32Array, temperature: number): Float64Array {
  const scaled = Float64Array.from(z, (v) => v / temperature);
  const top = scaled.reduce((a, v) => Math.max(a, v), Number.NEGATIVE_INFINITY);
  const sum = scaled.reduce((a, v) => a + Math.exp(v - top), 0);
  return scaled.map((v) => v - top - Math.log(sum));
}

function meanSquare(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += ((a[i] as number) - (b[i] as number)) ** 2;
  return sum / a.length;
}
