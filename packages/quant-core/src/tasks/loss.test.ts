import { describe, expect, it } from 'vitest';
import { differentiate } from '../autodiff/build.js';
import { gradientError } from '../autodiff/testing/gradcheck.js';
import type { TaskName } from '../choices.js';
import { GraphBuilder } from '../ir/builder.js';
import { Graph, type Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';
import { graphOf, runGraph } from '../normalise/testing/oracle.js';
import { Tensor } from '../tensor/tensor.js';
import { HoldoutScore } from '../train/holdout.js';
import { headsOf } from '../train/testing/jobs.js';
import { tasks } from './index.js';
import { buildLoss, type LossHead, type LossSpec, lossFeeds, lossOutput, targetShape } from './loss.js';
import { logitsOf } from './output.js';
import { isIgnored, type LossKind, type Truth } from './task.js';
import { lossSpec } from './testing/specs.js';

interface Figures {
  loss: number;
  gradient: number[];
}

/** Loss and gradient by the outputs, run by ONNX Runtime. */
async function lossOf(spec: LossSpec, z: Tensor, feeds: { target?: Tensor; teacher?: Tensor }): Promise<Figures> {
  const graph = new Graph('loss');
  const b = new GraphBuilder(graph);
  const input = graph.input('z', { dtype: 'float32', shape: z.shape });
  graph.outputs.push(input);
  const loss = buildLoss(graph, b, spec);
  inferShapes(graph);
  const gradients = differentiate(graph, loss, [input]);
  graph.outputs.splice(0, 1, b.op('Identity', [loss], {}, 'loss'), b.op('Identity', [gradients.get(input)], {}, 'gradient'));
  inferShapes(graph);
  const given = {
    ...(feeds.target ? { [lossFeeds.target]: feeds.target } : {}),
    ...(feeds.teacher ? { [lossFeeds.teacher(0)]: feeds.teacher } : {}),
  };
  const results = await runGraph(graph, { z, ...given });
  const [first, second] = Object.values(results);
  return { loss: (first as Tensor<'float32'>).data[0] as number, gradient: [...((second as Tensor<'float32'>).data ?? [])] };
}

const z = Tensor.float32([2, 3], [1.5, -0.5, 0.25, -2, 3, 0.5]);
const t = Tensor.float32([2, 3], [0.5, 1, -1, 2, -1, 0]);
const labels = Int32Array.of(2, 1);
const oneHot = Tensor.float32([2, 3], [0, 0, 1, 0, 1, 0]);
const b = Tensor.float32([4, 1], [1.5, -0.5, 30, -30]);
const tb = Tensor.float32([4, 1], [0.5, -1, 2, 0]);

interface Case {
  what: string;
  spec: LossSpec;
  z: Tensor<'float32'>;
  target?: Tensor<'float32'>;
  teacher?: Tensor<'float32'>;
  truth: Truth;
  loss: number;
  gradient: number[];
}

const spec = (kind: LossKind, distillationWeight = 0): LossSpec => lossSpec('z', kind, distillationWeight);

/** Loss and metric on the held-out split of outputs `z`. */
function heldOut(
  loss: LossSpec,
  own: Tensor<'float32'>,
  truth: Truth,
  teacher?: Float32Array,
  task: TaskName = 'classification',
): HoldoutScore {
  const graph = new Graph('loss');
  graph.outputs.push(graph.input('z', { dtype: 'float32', shape: ['N', ...own.shape.slice(1)] }));
  const score = new HoldoutScore({ loss, heads: headsOf(graph, loss), task });
  score.add([own.data], truth, [teacher]);
  return score;
}

/** Wanted: torch.nn.functional (PyTorch 1.13.0, CPU); distillation is `-Σ softmax(t/T)·log_softmax(z/T)`, the mean over samples, times T². */
const cases: Case[] = [
  {
    what: 'cross-entropy',
    spec: spec('cross_entropy'),
    z,
    target: oneHot,
    truth: { labels },
    loss: 0.843524635,
    gradient: [0.351656973, 0.0475915894, -0.3992486, 0.0030941423, -0.0407885313, 0.0376943722],
  },
  {
    what: 'distillation alone',
    spec: spec('cross_entropy', 1),
    z,
    teacher: t,
    truth: {},
    loss: 6.78117657,
    gradient: [0.162654072, -0.27253437, 0.109880269, -0.568553925, 0.590434611, -0.0218808334],
  },
  {
    what: 'cross-entropy with distillation',
    spec: spec('cross_entropy', 0.3),
    z,
    target: oneHot,
    teacher: t,
    truth: { labels },
    loss: 2.62482023,
    gradient: [0.294956088, -0.0484462045, -0.246509939, -0.168400288, 0.148578435, 0.0198218152],
  },
  {
    what: 'mean squared error',
    spec: spec('mse'),
    z,
    target: t,
    truth: { values: t },
    loss: 6.17708349,
    gradient: [0.333333343, -0.5, 0.416666687, -1.33333337, 1.33333337, 0.166666672],
  },
  {
    what: 'mean squared error with distillation',
    spec: spec('mse', 0.25),
    z,
    target: t,
    teacher: Tensor.zeros('float32', [2, 3]),
    truth: { values: t },
    loss: 5.29166651,
    gradient: [0.375, -0.416666657, 0.333333343, -1.16666663, 1.25, 0.166666672],
  },
  {
    what: 'binary cross-entropy, also far out',
    spec: spec('binary_cross_entropy'),
    z: b,
    target: Tensor.float32([4, 1], [1, 1, 0, 0]),
    truth: { labels: Int32Array.of(1, 1, 0, 0) },
    loss: 7.79387283,
    gradient: [-0.04560638964176178, -0.15561482310295105, 0.25, 2.3394058974615488e-14],
  },
  {
    what: 'distillation of a single logit',
    spec: spec('binary_cross_entropy', 1),
    z: b,
    teacher: tb,
    truth: {},
    loss: 12.9196854,
    gradient: [0.0585010946, 0.0301414132, 0.134470522, -0.249999851],
  },
];

describe.each(cases)('$what', (one) => {
  it('has the loss and the gradient that PyTorch finds', async () => {
    const { loss, gradient } = await lossOf(one.spec, one.z, {
      ...(one.target ? { target: one.target } : {}),
      ...(one.teacher ? { teacher: one.teacher } : {}),
    });
    expect(Math.abs(loss - one.loss)).toBeLessThan(2e-6 * (1 + Math.abs(one.loss)));
    one.gradient.forEach((wanted, i) => {
      expect(Math.abs((gradient[i] as number) - wanted)).toBeLessThan(1e-6);
    });
  });

  it('is the same on the held-out split', () => {
    const score = heldOut(one.spec, one.z, one.truth, one.teacher?.data, one.truth.values ? 'regression' : 'classification');
    expect(Math.abs(score.loss - one.loss)).toBeLessThan(2e-6 * (1 + Math.abs(one.loss)));
  });
});

it.each([
  ['cross_entropy', 0.3],
  ['cross_entropy', 1],
  ['binary_cross_entropy', 0.3],
  ['mse', 0.3],
  ['huber', 0.3],
] as const)('%s with distillation %s agrees with finite differences', async (kind, share) => {
  const shape = kind === 'binary_cross_entropy' ? [4, 1] : [4, 3];
  const feeds: Record<string, Tensor<'float32'>> = {
    [lossFeeds.target]: Tensor.float32(
      shape,
      Array.from({ length: shape[0]! * shape[1]! }, (_, i) => (i % 4 === 1 ? 1 : 0)),
    ),
    [lossFeeds.teacher(0)]: Tensor.float32(
      shape,
      Array.from({ length: shape[0]! * shape[1]! }, (_, i) => ((i * 5) % 7) - 3),
    ),
  };
  const body = (builder: GraphBuilder, [leaf]: Value[]): Value => {
    const { graph } = builder;
    graph.outputs.push(leaf as Value);
    const before = graph.inputs.length;
    const loss = buildLoss(graph, builder, lossSpec((leaf as Value).name, kind, share));
    graph.outputs.length = 0;
    // Targets and teacher are data: constants here.
    for (const input of graph.inputs.splice(before)) input.constant = feeds[input.name];
    return loss;
  };
  expect(await gradientError([{ shape }], body)).toBeLessThan(5e-3);
});

describe('the held-out metric', () => {
  it('is the share of right classes, by the labels or else by the float model', () => {
    expect(heldOut(spec('cross_entropy'), z, { labels }).metric).toBe(0.5);
    expect(heldOut(spec('cross_entropy', 1), z, {}, t.data).metric).toBe(0);
  });

  it('of a single logit goes by its sign', () => {
    expect(heldOut(spec('binary_cross_entropy'), b, { labels: Int32Array.of(1, 1, 0, 0) }).metric).toBe(0.5);
    expect(heldOut(spec('binary_cross_entropy', 1), b, {}, tb.data).metric).toBe(1);
  });

  it('of values falls as the loss grows', () => {
    const score = heldOut(spec('mse'), z, { values: t }, undefined, 'regression');
    expect(score.metric).toBe(-score.loss);
  });
});

describe('what the loss is taken of', () => {
  const of = (tail: string) => {
    const graph = graphOf(`graph g (x: float32[N, 4]) opset 18\nh = Gemm(x, w=float32[4, 3]#) @fc\n${tail}\nreturn y`);
    return graph.outputs[0] as Value;
  };

  it.each([
    ['y = Softmax(h)', 'h', 'probabilities'],
    ['y = Sigmoid(h)', 'h', 'probabilities'],
    ['y = LogSoftmax(h)', 'h', 'log_probabilities'],
    ['s = Softmax(h)\ny = Flatten(s)', 'h', 'probabilities'],
    ['s = Softmax(h)\nu = Unsqueeze(s, a=int64[1]{2})\ny = Identity(u)', 'h', 'probabilities'],
    ['s = Softmax(h)\ny = Transpose(s) {perm=[1, 0]}', 'y', 'logits'],
    ['y = Flatten(h)', 'y', 'logits'],
    ['y = Tanh(h)', 'y', 'logits'],
  ])('%s', (tail, logits, form) => {
    expect(logitsOf(of(tail)).logits.name).toBe(logits);
    expect(logitsOf(of(tail)).form).toBe(form);
  });

  it('values are the output itself, also after a Sigmoid', () => {
    expect(lossOutput(of('y = Sigmoid(h)'), 'mse').name).toBe('y');
    expect(lossOutput(of('y = Sigmoid(h)'), 'cross_entropy').name).toBe('h');
  });
});

describe('of maps, sequences and several outputs', () => {
  const values = (n: number, of: (i: number) => number) => Float32Array.from({ length: n }, (_, i) => of(i));
  const map = Tensor.float32(
    [2, 3, 2, 2],
    values(24, (i) => (((i * 7) % 11) - 5) / 4),
  );
  const sequence = Tensor.float32(
    [2, 3, 2],
    values(12, (i) => (((i * 5) % 7) - 3) / 2),
  );
  const answers = Tensor.float32([2, 3], [1.5, -0.5, 3, -2, 0.25, 0.5]);

  /** Wanted: torch.nn.functional of PyTorch 2.15 (cross_entropy with ignored labels, binary_cross_entropy_with_logits, huber_loss, cross_entropy with shares). */
  const maps = [
    {
      what: 'a class for every pixel, two of them ignored',
      task: 'dense_classification',
      kind: 'cross_entropy',
      axis: 1,
      z: map,
      truth: [0, 1, 2, 255, 1, -1, 0, 2],
      loss: 1.4949755668640137,
      gradient: [-0.142032668, 0.064837471, 0.024634009, 0, 0.110401973, -0.148090422, 0.110401973, 0],
    },
    {
      what: 'a class for every token, the class axis last',
      task: 'dense_classification',
      kind: 'cross_entropy',
      axis: 2,
      z: sequence,
      truth: [0, 1, 1, 1, 0, -100],
      loss: 1.3663872480392456,
      gradient: [-0.184828371, 0.184828371, 0.146211728, -0.146211714, 0.146211728, -0.146211714, 0.146211728],
    },
    {
      what: 'independent answers',
      task: 'multi_label',
      kind: 'binary_cross_entropy',
      axis: null,
      z: answers,
      truth: [1, 0, 1, 0, 1, 1],
      loss: 0.31683701276779175,
      gradient: [-0.030404260382056236, 0.06292344629764557, -0.007904310710728168],
    },
    {
      what: 'Huber',
      task: 'regression',
      kind: 'huber',
      axis: null,
      z,
      truth: [0.5, 1, -1, 2, -1, 0],
      loss: 1.5625,
      gradient: [1 / 6, -1 / 6, 1 / 6, -1 / 6, 1 / 6, 0.5 / 6],
    },
    {
      what: 'shares of classes',
      task: 'soft_classification',
      kind: 'cross_entropy',
      axis: 1,
      z,
      truth: [0.2, 0.3, 0.5, 0.1, 0.9, 0],
      loss: 1.0810246467590332,
      gradient: [0.25165697932243347, -0.10240841656923294, -0.14924860000610352],
    },
  ] as const;

  it.each(maps)('$what: loss, gradient and held-out loss are those of PyTorch', async ({ task, kind, axis, z: own, truth, ...wanted }) => {
    const spec: LossSpec = { terms: [{ output: 'z', kind, axis, distillationWeight: 0, weight: 1 }], temperature: 2 };
    const data = { values: { data: Float32Array.from(truth) } };
    const graph = new Graph('loss');
    graph.outputs.push(graph.input('z', { dtype: 'float32', shape: ['N', ...own.shape.slice(1)] }));
    const [head] = headsOf(graph, spec) as [LossHead];
    const target = tasks[task].targets(data, { width: head.width, layout: head.layout, ignoreIndex: undefined }, 0, 2);
    const { loss, gradient } = await lossOf(spec, own, { target: Tensor.float32(targetShape(head, 2), target) });
    expect(loss).toBeCloseTo(wanted.loss, 5);
    for (const [i, one] of wanted.gradient.entries()) expect(gradient[i]).toBeCloseTo(one, 6);
    expect(heldOut(spec, own, data, undefined, task).loss).toBeCloseTo(wanted.loss, 5);
  });

  it('parts of a batch weigh ignored positions by the whole batch', () => {
    const layout = { outer: 1, classes: 2, inner: 2 };
    const truth = { values: { data: Float32Array.of(0, 1, -1, -1) } };
    const of = (from: number, to: number) => [
      ...tasks.dense_classification.targets(truth, { width: 4, layout, ignoreIndex: undefined }, from, to),
    ];
    expect(of(0, 1)).toEqual([2, 0, 0, 2]);
    expect(of(1, 2)).toEqual([0, 0, 0, 0]);
  });

  it('an ignored label can be stated, and 255 counts where there are so many classes', () => {
    expect(isIgnored(255, 10, undefined)).toBe(true);
    expect(isIgnored(255, 256, undefined)).toBe(false);
    expect(isIgnored(3, 10, 3)).toBe(true);
    expect(isIgnored(255, 10, 3)).toBe(false);
    expect(isIgnored(-100, 10, 3)).toBe(true);
  });

  it('several outputs: the sum of their terms, each with its factor', async () => {
    const graph = new Graph('loss');
    const b = new GraphBuilder(graph);
    const input = graph.input('z', { dtype: 'float32', shape: [2, 3] });
    graph.outputs.push(input, b.op('Identity', [input], {}, 'w'));
    inferShapes(graph);
    const spec: LossSpec = {
      terms: [
        { output: 'z', kind: 'cross_entropy', axis: 1, distillationWeight: 0, weight: 0.5 },
        { output: 'w', kind: 'mse', axis: null, distillationWeight: 1, weight: 0.25 },
      ],
      temperature: 2,
    };
    const loss = buildLoss(graph, b, spec);
    graph.outputs.splice(0, 2, b.op('Identity', [loss], {}, 'loss'));
    inferShapes(graph);
    const results = await runGraph(graph, { z, [lossFeeds.target]: oneHot, [lossFeeds.teacher(1)]: t });
    expect(results.loss?.data[0]).toBeCloseTo(0.5 * 0.843524635 + 0.25 * 6.17708349, 5);
  });
});
