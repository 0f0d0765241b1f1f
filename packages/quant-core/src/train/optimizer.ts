import type { GraphBuilder } from '../ir/builder.js';
import type { Value } from '../ir/graph.js';

export interface OptimizerSpec {
  kind: 'sgd' | 'adam';
  momentum: number;
  weightDecay: number;
  clipGradient?: number;
}

/** State vectors of an optimizer, each as long as the parameters. */
export const optimizerState = (kind: OptimizerSpec['kind']): readonly string[] =>
  kind === 'sgd' ? ['octet_momentum'] : ['octet_moment1', 'octet_moment2'];

/** Scalars fed at every step. */
export const optimizerFeeds = { learningRate: 'octet_learning_rate', correction2: 'octet_correction2' } as const;

const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/** What the learning rate inputs are at step `t` (from 1): Adam's bias corrections are folded in. */
export function learningRateFeeds(spec: OptimizerSpec, learningRate: number, t: number): Record<string, number> {
  if (spec.kind === 'sgd') return { [optimizerFeeds.learningRate]: learningRate };
  return {
    [optimizerFeeds.learningRate]: learningRate / (1 - adam.beta1 ** t),
    [optimizerFeeds.correction2]: 1 / (1 - adam.beta2 ** t),
  };
}

/**
 * One update of the flat parameter vector: `g' = clip(g) + λ·w`; SGD `v = μ·v + g'`, `w = w - lr·v` (PyTorch's form);
 * Adam after Kingma and Ba 2014, arXiv:1412.6980. Returns the new parameters and the new state.
 */
export function update(
  b: GraphBuilder,
  spec: OptimizerSpec,
  parameters: Value,
  gradient: Value,
  state: readonly Value[],
  feeds: Record<string, Value>,
  decay: Value,
): { parameters: Value; state: Value[] } {
  let g = gradient;
  if (spec.clipGradient !== undefined) {
    const norm = b.op('Sqrt', [b.op('ReduceSumSquare', [g], { keepdims: 0 })]);
    const share = b.op('Div', [b.scalar(spec.clipGradient), b.op('Add', [norm, b.scalar(1e-6)])]);
    g = b.op('Mul', [g, b.op('Min', [share, b.scalar(1)])]);
  }
  if (spec.weightDecay > 0) g = b.op('Add', [g, b.op('Mul', [parameters, decay])]);
  const rate = feeds[optimizerFeeds.learningRate] as Value;
  if (spec.kind === 'sgd') {
    const velocity = b.op('Add', [b.op('Mul', [state[0], b.scalar(spec.momentum)]), g]);
    return { parameters: b.op('Sub', [parameters, b.op('Mul', [velocity, rate])]), state: [velocity] };
  }
  const first = b.op('Add', [b.op('Mul', [state[0], b.scalar(adam.beta1)]), b.op('Mul', [g, b.scalar(1 - adam.beta1)])]);
  const second = b.op('Add', [b.op('Mul', [state[1], b.scalar(adam.beta2)]), b.op('Mul', [b.op('Mul', [g, g]), b.scalar(1 - adam.beta2)])]);
  const root = b.op('Sqrt', [b.op('Mul', [second, feeds[optimizerFeeds.correction2] as Value])]);
  const step = b.op('Div', [first, b.op('Add', [root, b.scalar(adam.epsilon)])]);
  return { parameters: b.op('Sub', [parameters, b.op('Mul', [step, rate])]), state: [first, second] };
}
