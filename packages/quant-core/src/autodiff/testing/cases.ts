import type { GraphBuilder } from '../../ir/builder.js';
import type { Value } from '../../ir/graph.js';
import type { OpType } from '../../ir/ops.js';
import type { Random } from '../../tensor/random.js';
import type { Leaf } from './gradcheck.js';

/** A graph whose gradient is held against finite differences. */
export interface GradientCase {
  what: string;
  leaves: Leaf[];
  body: (b: GraphBuilder, leaves: Value[]) => Value;
  /** For operators that are newer than 18. */
  opset?: number;
}

export type GradientCases = Partial<Record<OpType, GradientCase[]>>;

export const leaf = (...shape: number[]): Leaf => ({ shape });
/** Values at least 0.1 away from each other and from 0, in random order: no kink or tie within a finite difference. */
export const spaced = (...shape: number[]): Leaf => ({
  shape,
  draw: (random: Random, i: number) => ((i * 7) % 31) * 0.2 - 3.1 + 0.02 * random.uniform(),
});
/** As `spaced`, for up to 211 elements: 0.05 apart. */
export const distinct = (...shape: number[]): Leaf => ({ shape, draw: (_random: Random, i: number) => ((i * 97) % 211) * 0.05 - 5.27 });
export const positive = (...shape: number[]): Leaf => ({ shape, draw: (random: Random) => 0.5 + random.uniform() });

export const at = (leaves: Value[], i: number) => leaves[i] as Value;
export const unary = (op: OpType, make: Leaf = spaced(2, 5), attrs: object = {}, opset = 18): GradientCase => ({
  what: JSON.stringify(attrs),
  leaves: [make],
  body: (b, l) => b.op(op, [at(l, 0)], attrs as never),
  opset,
});
export const binary = (op: OpType, a: Leaf, c: Leaf, attrs: object = {}): GradientCase => ({
  what: `[${a.shape}] with [${c.shape}] ${JSON.stringify(attrs)}`,
  leaves: [a, c],
  body: (b, l) => b.op(op, [at(l, 0), at(l, 1)], attrs as never),
});
/** All leaves are the inputs, in their order. */
export const layer = (op: OpType, what: string, shapes: number[][], attrs: object = {}, opset = 18): GradientCase => ({
  what: `${what} ${JSON.stringify(attrs)}`,
  leaves: shapes.map((shape) => ({ shape })),
  body: (b, l) => b.op(op, l, attrs as never),
  opset,
});
