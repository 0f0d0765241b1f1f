import { expect, it } from 'vitest';
import { OrtEngine } from '../engine/ort/ort.js';
import { weightScales } from '../fakequant/scales.js';
import { planOf, recipeWith } from '../fakequant/testing/plans.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { packParameters, parameterLayout, viewOf } from './parameters.js';
import { WeightScan } from './weightScan.js';

const graph = graphOf(`graph net (x: float32[N, 2, 6, 6]) opset 18
  a = Conv(x, w1=float32[6, 2, 3, 3]#, b1=float32[6]#) {pads=[1, 1, 1, 1]}
  f = Flatten(a)
  g = Gemm(f, w2=float32[5, 216]#, b2=float32[5]#) {transB=1}
  y = MatMul(g, w3=float32[5, 3]#)
  return y`);

it.each([true, false])('finds what a loop over the weights finds, by channel: %s', async (perChannel) => {
  for (const symmetric of perChannel ? [true] : [true, false]) {
    const plan = planOf(graph, recipeWith({ weights: { perChannel, symmetric } }));
    const layout = parameterLayout(graph);
    const parameters = packParameters(graph, layout);
    const scan = await WeightScan.create(new OrtEngine(), plan, layout, (weight) => weight !== 'w2');
    const found = await scan.ranges(parameters);
    await scan.dispose();
    expect([...found.keys()]).toEqual(['w1', 'w3']);
    for (const point of plan.weights.filter(({ value }) => found.has(value))) {
      const slot = layout.slots.find(({ name }) => name === point.value)!;
      const of = (known?: Parameters<typeof weightScales>[4]) =>
        weightScales(viewOf(parameters, slot), slot.shape, point, undefined, known);
      expect(of(found.get(point.value))).toEqual(of());
      expect(found.get(point.value)?.min).toHaveLength(perChannel ? (slot.shape[point.axis as number] as number) : 1);
    }
  }
});

it('with nothing to look for runs nothing', async () => {
  const plan = planOf(graph, recipeWith({}));
  const layout = parameterLayout(graph);
  const scan = await WeightScan.create(new OrtEngine(), plan, layout, () => false);
  expect((await scan.ranges(packParameters(graph, layout))).size).toBe(0);
  await scan.dispose();
});
