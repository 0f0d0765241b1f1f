import { type GraphBuilder, staticShape } from '../../ir/builder.js';
import type { Node, Value } from '../../ir/graph.js';
import { type GradientRule, untrainable, zeros } from '../rule.js';

/** Longest sequence that is unrolled: every step is some fifty nodes. */
const longest = 256;

/** One step: the new states, and the way back through it. */
interface Cell {
  hidden: Value;
  memory?: Value;
  /** Gradients of the gates' input share [batch, gates·hidden] and of the states before, from those of the states after. */
  back: (hidden: Value, memory: Value | undefined) => { gates: Value; hidden: Value; memory?: Value };
}

/** Everything of one direction that does not change from step to step; matrices as the operator holds them. */
interface Layer {
  b: GraphBuilder;
  /** [gates·hidden, hidden] */
  recurrence: Value;
  /** [gates·hidden] */
  bias: Value;
  size: number;
}

type Step = (layer: Layer, gates: Value, hidden: Value, memory: Value | undefined) => Cell;

const mul = (b: GraphBuilder, ...factors: Value[]): Value => factors.reduce((product, factor) => b.op('Mul', [product, factor]));
const add = (b: GraphBuilder, x: Value, y: Value) => b.op('Add', [x, y]);
const oneMinus = (b: GraphBuilder, x: Value) => b.op('Sub', [b.scalar(1), x]);
/** Derivatives of σ and tanh, from their values. */
const sigmoidSlope = (b: GraphBuilder, y: Value) => mul(b, y, oneMinus(b, y));
const tanhSlope = (b: GraphBuilder, y: Value) => oneMinus(b, mul(b, y, y));

const columns = (b: GraphBuilder, value: Value, size: number, from: number, count = 1) =>
  b.slice(value, [1], [from * size], [(from + count) * size]);

/** h' = tanh(x + h·Rᵀ) */
const rnn: Step = ({ b, recurrence, bias }, gates, hidden) => {
  const next = b.op('Tanh', [add(b, gates, b.op('Gemm', [hidden, recurrence, bias], { transB: 1 }))]);
  return {
    hidden: next,
    back: (dh) => {
      const sum = mul(b, dh, tanhSlope(b, next));
      return { gates: sum, hidden: b.op('Gemm', [sum, recurrence]) };
    },
  };
};

/** Gates i, o, f, c: C' = f·C + i·c, h' = o·tanh C'. */
const lstm: Step = ({ b, recurrence, bias, size }, gates, hidden, memory) => {
  const before = memory as Value;
  const sum = add(b, gates, b.op('Gemm', [hidden, recurrence, bias], { transB: 1 }));
  const [i, o, f] = [0, 1, 2].map((at) => b.op('Sigmoid', [columns(b, sum, size, at)])) as [Value, Value, Value];
  const c = b.op('Tanh', [columns(b, sum, size, 3)]);
  const next = add(b, mul(b, f, before), mul(b, i, c));
  const squashed = b.op('Tanh', [next]);
  return {
    hidden: mul(b, o, squashed),
    memory: next,
    back: (dh, dc) => {
      const through = mul(b, dh, o, tanhSlope(b, squashed));
      const d = dc ? add(b, dc, through) : through;
      const parts = [
        mul(b, d, c, sigmoidSlope(b, i)),
        mul(b, dh, squashed, sigmoidSlope(b, o)),
        mul(b, d, before, sigmoidSlope(b, f)),
        mul(b, d, i, tanhSlope(b, c)),
      ];
      const all = b.op('Concat', parts, { axis: 1 });
      return { gates: all, hidden: b.op('Gemm', [all, recurrence]), memory: mul(b, d, f) };
    },
  };
};

/** Gates z, r, n: h' = (1 - z)·n + z·h. The reset works on h before the matrix, or (linear_before_reset) on the product after it. */
const gru =
  (linear: boolean): Step =>
  ({ b, recurrence, bias, size }, gates, hidden) => {
    const rows = (from: number, count: number) => b.slice(recurrence, [0], [from * size], [(from + count) * size]);
    const shift = (from: number, count: number) => b.slice(bias, [0], [from * size], [(from + count) * size]);
    const first = add(b, columns(b, gates, size, 0, 2), b.op('Gemm', [hidden, rows(0, 2), shift(0, 2)], { transB: 1 }));
    const [z, r] = [0, 1].map((at) => b.op('Sigmoid', [columns(b, first, size, at)])) as [Value, Value];
    const last = rows(2, 1);
    const product = b.op('Gemm', [linear ? hidden : mul(b, r, hidden), last, shift(2, 1)], { transB: 1 });
    const n = b.op('Tanh', [add(b, columns(b, gates, size, 2), linear ? mul(b, r, product) : product)]);
    return {
      hidden: add(b, mul(b, oneMinus(b, z), n), mul(b, z, hidden)),
      back: (dh) => {
        const sum = mul(b, dh, oneMinus(b, z), tanhSlope(b, n));
        const turned = b.op('Gemm', [linear ? mul(b, sum, r) : sum, last]);
        const dr = linear ? mul(b, sum, product) : mul(b, turned, hidden);
        const dz = mul(b, dh, b.op('Sub', [hidden, n]), sigmoidSlope(b, z));
        const pair = b.op('Concat', [dz, mul(b, dr, sigmoidSlope(b, r))], { axis: 1 });
        const kept = add(b, mul(b, dh, z), b.op('Gemm', [pair, rows(0, 2)]));
        return {
          gates: b.op('Concat', [pair, sum], { axis: 1 }),
          hidden: add(b, kept, linear ? turned : mul(b, turned, r)),
        };
      },
    };
  };

const usual: Readonly<Record<'RNN' | 'GRU' | 'LSTM', readonly string[]>> = {
  RNN: ['Tanh'],
  GRU: ['Sigmoid', 'Tanh'],
  LSTM: ['Sigmoid', 'Tanh', 'Tanh'],
};

function obstacle(node: Node<'RNN' | 'GRU' | 'LSTM'>, wanted: readonly boolean[], directions: number, length: number): string | undefined {
  const activations = node.attr('activations');
  const plain = Array.from({ length: directions }, () => usual[node.op]).flat();
  if (wanted.slice(1, 5).some(Boolean)) return 'its weights are frozen';
  if (activations?.length && activations.join() !== plain.join()) return `the activations ${activations.join(', ')} have no gradient`;
  if (node.attr('layout') || node.attr('clip') || node.inputs[4] || node.inputs[7])
    return 'layout, clip, sequence_lens and peepholes have no gradient';
  if (node.is('LSTM') && node.attr('input_forget')) return 'input_forget has no gradient';
  return length > longest ? `its ${length} steps are more than the ${longest} that are unrolled` : undefined;
}

/** Back through time: the steps are computed once more, unrolled, and walked from the last to the first. The weights of the layer are frozen. */
const throughTime =
  <K extends 'RNN' | 'GRU' | 'LSTM'>(stepOf: (node: Node<K>) => Step): GradientRule<K> =>
  (node, dy, wanted, b) => {
    const layer: Node<'RNN' | 'GRU' | 'LSTM'> = node;
    const [length, batch, inputs] = staticShape(layer.input(0)) as [number, number, number];
    const [directions, rows, size] = staticShape(layer.input(2)) as [number, number, number];
    const why = obstacle(layer, wanted, directions, length);
    if (why) throw untrainable(node, why);
    const flat = b.reshape(layer.input(0), [length * batch, inputs]);
    let dx: Value | undefined;
    const states: Value[][] = [[], []];
    for (let direction = 0; direction < directions; direction++) {
      const own = (value: Value, shape: number[]) => b.reshape(b.slice(value, [0], [direction], [direction + 1]), shape);
      const bias = layer.inputs[3] ? own(layer.inputs[3], [2 * rows]) : zeros(b, [2 * rows]);
      const matrix = own(layer.input(1), [rows, inputs]);
      const all = b.op('Gemm', [flat, matrix, b.slice(bias, [0], [0], [rows])], { transB: 1 });
      const fixed = { b, recurrence: own(layer.input(2), [rows, size]), bias: b.slice(bias, [0], [rows], [2 * rows]), size };
      const begin = (port: number) => (layer.inputs[port] ? own(layer.inputs[port], [batch, size]) : zeros(b, [batch, size]));
      const backwards = layer.attr('direction') === 'reverse' || direction === 1;
      const order = Array.from({ length }, (_, t) => (backwards ? length - 1 - t : t));
      let cell: Pick<Cell, 'hidden' | 'memory'> = { hidden: begin(5), ...(node.op === 'LSTM' ? { memory: begin(6) } : {}) };
      const cells = order.map((t) => {
        const made = stepOf(node)(fixed, b.slice(all, [0], [t * batch], [(t + 1) * batch]), cell.hidden, cell.memory);
        cell = made;
        return made;
      });
      let dh = dy[1] ? own(dy[1], [batch, size]) : undefined;
      let dc = dy[2] ? own(dy[2], [batch, size]) : undefined;
      const gates = new Array<Value>(length);
      for (const [at, t] of [...order.entries()].reverse()) {
        const seen = dy[0] && b.reshape(b.slice(dy[0], [0, 1], [t, direction], [t + 1, direction + 1]), [batch, size]);
        const total = dh && seen ? add(b, dh, seen) : (dh ?? seen ?? zeros(b, [batch, size]));
        const step = (cells[at] as Cell).back(total, dc);
        gates[t] = step.gates;
        dh = step.hidden;
        dc = step.memory;
      }
      const part = b.op('Gemm', [b.op('Concat', gates, { axis: 0 }), matrix]);
      dx = dx ? add(b, dx, part) : part;
      for (const [state, value] of [dh, dc].entries()) if (value) states[state]?.push(b.reshape(value, [1, batch, size]));
    }
    const joined = (state: number) => b.op('Concat', states[state] as Value[], { axis: 0 });
    return layer.inputs.map((_, port) => {
      if (!wanted[port]) return undefined;
      return port === 0 ? b.reshape(dx as Value, [length, batch, inputs]) : joined(port - 5);
    });
  };

export const recurrentRules = {
  RNN: throughTime<'RNN'>(() => rnn),
  GRU: throughTime<'GRU'>((node) => gru(node.attr('linear_before_reset') === 1)),
  LSTM: throughTime<'LSTM'>(() => lstm),
};
