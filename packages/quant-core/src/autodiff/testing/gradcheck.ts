import { OrtEngine } from '../../engine/ort/ort.js';
import { GraphBuilder, staticShape } from '../../ir/builder.js';
import { Graph, type Value } from '../../ir/graph.js';
import { inferShapes } from '../../ir/infer.js';
import { Random } from '../../tensor/random.js';
import { sizeOf, Tensor } from '../../tensor/tensor.js';
import { differentiate } from '../build.js';

/** A value to differentiate by: its shape, and how its elements are drawn (standard normal when left out). */
export interface Leaf {
  shape: readonly number[];
  draw?: (random: Random, index: number) => number;
}

/**
 * Hold the gradient of `body` against central finite differences of the same graph run by ONNX Runtime.
 * The loss is the dot product of the output with fixed random weights. Returns the largest error of any element, relative to
 * `1 + |gradient|`.
 */
export async function gradientError(
  leaves: readonly Leaf[],
  body: (b: GraphBuilder, leaves: Value[]) => Value,
  { seed = 1, step = 1e-2, opset = 18 }: { seed?: number | undefined; step?: number | undefined; opset?: number | undefined } = {},
): Promise<number> {
  const random = new Random(seed);
  const graph = new Graph('check');
  graph.opset = opset;
  const b = new GraphBuilder(graph);
  const inputs = leaves.map((leaf, i) => graph.input(`leaf${i}`, { dtype: 'float32', shape: leaf.shape }));
  const output = body(b, inputs);
  inferShapes(graph);
  const shape = staticShape(output);
  const weights = Tensor.float32(
    shape,
    new Float32Array(sizeOf(shape)).map(() => random.normal()),
  );
  const product = b.op('Mul', [output, b.constant(weights, 'weights')]);
  const loss = b.op('ReduceSum', [product], { keepdims: 0 }, 'loss');
  graph.outputs.push(product);
  const forward = graph.clone();
  inferShapes(graph);
  const gradients = differentiate(graph, loss, inputs);
  graph.outputs.splice(0, 1, ...inputs.map((input) => b.op('Identity', [gradients.get(input)])));
  inferShapes(graph);
  const engine = new OrtEngine();
  const options = { threads: 1, mode: 'train' } as const;
  const [backward, plain] = [await engine.compile(graph, options), await engine.compile(forward, options)];
  const values = leaves.map((leaf) =>
    Tensor.float32(
      leaf.shape,
      new Float32Array(sizeOf(leaf.shape)).map((_, i) => leaf.draw?.(random, i) ?? random.normal()),
    ),
  );
  const feeds = () => Object.fromEntries(values.map((value, i) => [`leaf${i}`, value]));
  const results = Object.values(await backward.run(feeds()));
  // Summed in double precision: the float32 sum of a loss would drown small differences.
  const lossOf = async () => ((Object.values(await plain.run(feeds()))[0] as Tensor).data as Float32Array).reduce((sum, v) => sum + v, 0);
  let worst = 0;
  for (const [i, value] of values.entries()) {
    const analytic = results[i]?.as('float32') as Tensor<'float32'>;
    if (analytic.shape.join() !== value.shape.join())
      throw new Error(`gradient of leaf ${i} has shape [${analytic.shape}], wanted [${value.shape}]`);
    for (let at = 0; at < value.size; at++) {
      const x = value.data[at] as number;
      value.data[at] = x + step;
      const [high, up] = [value.data[at] as number, await lossOf()];
      value.data[at] = x - step;
      const [low, down] = [value.data[at] as number, await lossOf()];
      value.data[at] = x;
      const numeric = (up - down) / (high - low);
      worst = Math.max(worst, Math.abs(numeric - (analytic.data[at] as number)) / (1 + Math.abs(numeric)));
    }
  }
  await backward.dispose();
  await plain.dispose();
  return worst;
}
