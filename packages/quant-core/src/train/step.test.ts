import { describe, expect, it } from 'vitest';
import { planQuantization } from '../fakequant/plan.js';
import { defaultRecipe } from '../recipe.js';
import { lossFeeds } from '../tasks/loss.js';
import { lossSpec } from '../tasks/testing/specs.js';
import { feedNames } from './forward.js';
import { packParameters, parameterLayout, unpackParameters } from './parameters.js';
import { buildForward, buildTrainingStep, stepOutputs } from './step.js';
import { smallNet } from './testing/jobs.js';

const plan = (graph = smallNet()) => planQuantization(graph, defaultRecipe());
const names = (values: readonly { name: string }[]) => values.map((value) => value.name);

const step = (options: { observe?: boolean; distillationWeight?: number } = {}) => {
  const graph = smallNet();
  return buildTrainingStep({
    graph,
    batch: 4,
    batchSymbol: 'N',
    layout: parameterLayout(graph),
    plan: plan(graph),
    loss: lossSpec('h', 'cross_entropy', options.distillationWeight ?? 0),
    observe: options.observe ?? true,
  });
};

describe('a training step', () => {
  it('takes state as vectors, whatever the network, and gives the gradient as one', () => {
    const { graph, observed } = step();
    expect(names(graph.inputs)).toEqual([
      'x',
      feedNames.parameters,
      feedNames.activationScale,
      feedNames.activationZeroPoint,
      feedNames.activationLow,
      feedNames.activationHigh,
      feedNames.weightScale,
      feedNames.weightZeroPoint,
      lossFeeds.target,
    ]);
    expect(names(graph.outputs)).toEqual([stepOutputs.loss, stepOutputs.gradient, stepOutputs.minimum, stepOutputs.maximum]);
    expect(graph.inputs[0]?.shape).toEqual([4, 1, 8, 8]);
    expect(graph.outputs[1]?.shape).toEqual([parameterLayout(smallNet()).size]);
    // The MaxPool and Flatten after repeat the range of the last Relu.
    expect(observed).toEqual(['x', 'r', 'e']);
    expect(graph.outputs[2]?.shape).toEqual([3]);
  });

  it('looks at no ranges when they are frozen, and asks for a teacher where it distils', () => {
    expect(names(step({ observe: false }).graph.outputs)).toEqual([stepOutputs.loss, stepOutputs.gradient]);
    expect(names(step({ distillationWeight: 0.5 }).graph.inputs).slice(-2)).toEqual([lossFeeds.target, lossFeeds.teacher(0)]);
    expect(names(step({ distillationWeight: 1 }).graph.inputs).at(-1)).toBe(lossFeeds.teacher(0));
  });

  it('leaves the graph it was made from alone', () => {
    const graph = smallNet();
    const before = graph.nodes.length;
    buildForward(graph, parameterLayout(graph), plan(graph), lossSpec('h', 'mse'));
    expect(graph.nodes.length).toBe(before);
    expect(graph.constants().map((value) => value.name)).toContain('w1');
  });
});

describe('the forward half', () => {
  it.each([
    ['y = Sigmoid(h)', 'mse', 'y'],
    ['y = Sigmoid(h)', 'binary_cross_entropy', 'h'],
    ['y = Softmax(h)', 'cross_entropy', 'h'],
    ['', 'mse', 'h'],
  ] as const)('of a model that ends with "%s" gives what %s is taken of', (tail, kind, output) => {
    const graph = smallNet(1, tail);
    const loss = lossSpec(graph.outputs[0]?.name as string, kind);
    expect(buildForward(graph, parameterLayout(graph), plan(graph), loss).outputs).toEqual([output]);
  });
});

it('parameters go into one vector and come back', () => {
  const graph = smallNet();
  const layout = parameterLayout(graph);
  expect(layout.slots.map((slot) => slot.name)).toEqual(['w1', 'b1', 'w2', 'w3', 'b3']);
  const flat = packParameters(graph, layout);
  unpackParameters(
    graph,
    layout,
    flat.map((v) => 2 * v),
  );
  expect(packParameters(graph, layout)).toEqual(flat.map((v) => 2 * v));
  const w2 = graph.constants().find((value) => value.name === 'w2')?.constant;
  expect(w2?.data[0]).toBe(2 * (flat[layout.slots[2]!.offset] as number));
});
