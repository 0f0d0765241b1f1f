import type { ParameterLayout } from './parameters.js';

export interface OptimizerSpec {
  kind: 'sgd' | 'adam';
  momentum: number;
  weightDecay: number;
  /** Largest global norm of the gradient. */
  clipGradient?: number;
}

/** Parameters and optimizer state, as flat vectors. Updates change them in place. */
export interface Weights {
  parameters: Float32Array;
  optimizer: Float32Array[];
}

/** A copy that later updates do not touch. */
export const copyOf = ({ parameters, optimizer }: Weights): Weights => ({
  parameters: parameters.slice(),
  optimizer: optimizer.map((state) => state.slice()),
});

/** Part of the flat vector, `end` not included. */
interface Span {
  start: number;
  end: number;
}

const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/**
 * The update of the flat parameter vector. One loop over memory in float64, rounded where it is stored: the same bits on every machine,
 * whatever its vector units, and faster than a graph whose every operator walks through the whole vector.
 */
export class Optimizer {
  private readonly spans: readonly Span[];

  /** Tensors named in `unreached` have no gradient: they stay what they are, without weight decay either. */
  constructor(
    private readonly spec: OptimizerSpec,
    private readonly layout: ParameterLayout,
    unreached: readonly string[] = [],
  ) {
    const without = new Set(unreached);
    this.spans = layout.slots.filter(({ name }) => !without.has(name)).map(({ offset, size }) => ({ start: offset, end: offset + size }));
  }

  /** Fresh state: one vector for SGD (momentum), two for Adam (first and second moment). */
  initialState(): Float32Array[] {
    return Array.from({ length: this.spec.kind === 'sgd' ? 1 : 2 }, () => new Float32Array(this.layout.size));
  }

  /**
   * Update `t` (from 1) with the mean of the gradients of the one or two parts of a batch. SGD: `g' = clip(g) + λ·w`, `v = μ·v + g'`,
   * `w = w - lr·v` (PyTorch's form); Adam after Kingma and Ba 2014, arXiv:1412.6980.
   */
  update(weights: Weights, [first, second = first]: readonly [Float32Array, Float32Array?], learningRate: number, t: number): void {
    const share = 0.5 * this.clip(first, second);
    const { parameters, optimizer } = weights;
    const [state, moment2] = optimizer as [Float32Array, Float32Array?];
    for (const span of this.spans) {
      if (moment2) this.adam(span, parameters, state, moment2, first, second, share, learningRate, t);
      else this.sgd(span, parameters, state, first, second, share, learningRate);
    }
  }

  /** What the mean gradient is multiplied by, so that its norm is at most `clipGradient`. */
  private clip(first: Float32Array, second: Float32Array): number {
    const { clipGradient } = this.spec;
    if (clipGradient === undefined) return 1;
    let sum = 0;
    for (const { start, end } of this.spans) {
      for (let i = start; i < end; i++) {
        const g = 0.5 * ((first[i] as number) + (second[i] as number));
        sum += g * g;
      }
    }
    return Math.min(1, clipGradient / (Math.sqrt(sum) + 1e-6));
  }

  private sgd(
    { start, end }: Span,
    w: Float32Array,
    v: Float32Array,
    first: Float32Array,
    second: Float32Array,
    share: number,
    learningRate: number,
  ): void {
    const { momentum, weightDecay } = this.spec;
    for (let i = start; i < end; i++) {
      const before = w[i] as number;
      const velocity = momentum * (v[i] as number) + (share * ((first[i] as number) + (second[i] as number)) + weightDecay * before);
      v[i] = velocity;
      w[i] = before - learningRate * velocity;
    }
  }

  private adam(
    { start, end }: Span,
    w: Float32Array,
    m: Float32Array,
    s: Float32Array,
    first: Float32Array,
    second: Float32Array,
    share: number,
    learningRate: number,
    t: number,
  ): void {
    const { weightDecay } = this.spec;
    const rate = learningRate / (1 - adam.beta1 ** t);
    const correction2 = 1 / (1 - adam.beta2 ** t);
    for (let i = start; i < end; i++) {
      const before = w[i] as number;
      const g = share * ((first[i] as number) + (second[i] as number)) + weightDecay * before;
      const mean = adam.beta1 * (m[i] as number) + (1 - adam.beta1) * g;
      const square = adam.beta2 * (s[i] as number) + (1 - adam.beta2) * g * g;
      m[i] = mean;
      s[i] = square;
      w[i] = before - (rate * mean) / (Math.sqrt(square * correction2) + adam.epsilon);
    }
  }
}
