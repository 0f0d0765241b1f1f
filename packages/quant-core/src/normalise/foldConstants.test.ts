import { expect, it, vi } from 'vitest';
import { inferShapes } from '../ir/infer.js';
import { runPasses } from '../ir/pass.js';
import { verify } from '../ir/verify.js';
import { deadCode } from './deadCode.js';
import { foldConstants, inlineConstants } from './foldConstants.js';
import { difference, expectUntouched, graphOf, linesOf, randomFeeds, runGraph } from './testing/oracle.js';

async function fold(text: string, times = 1): Promise<string[]> {
  const graph = graphOf(text);
  const feeds = randomFeeds(graph);
  const before = await runGraph(graph, feeds);
  const evaluate = vi.fn(runGraph);
  expect(await foldConstants(graph, evaluate)).toBe(times > 0);
  expect(evaluate).toHaveBeenCalledTimes(times);
  inferShapes(graph);
  verify(graph);
  runPasses(graph, [deadCode]);
  verify(graph);
  expect(difference(before, await runGraph(graph, feeds))).toBeLessThan(1e-6);
  expect(await foldConstants(graph, evaluate)).toBe(false);
  return linesOf(graph);
}

it('computes what depends on constants alone, once', async () => {
  const lines = await fold(`graph g (x: float32[N, 3]) opset 18
    wt = Transpose(w=float32[4, 3]#)
    half = Mul(wt, c=float32[]{0.5})
    a = MatMul(x, half)
    b = Add(a, d=float32[4]{1})
    shifted = Add(half, c)
    y = MatMul(x, shifted)
    return b, y`);
  expect(lines).toEqual([
    'a: float32[N, 4] = MatMul(x, half=float32[3, 4])',
    'b: float32[N, 4] = Add(a, d=float32[4]{1})',
    'y: float32[N, 4] = MatMul(x, shifted=float32[3, 4])',
    'return b, y',
  ]);
});

it('leaves a constant that is an output to be computed', async () => {
  const lines = await fold('graph g (x: float32[N]) opset 18\nk = Neg(c=float32[]{2})\ny = Add(x, k)\nreturn y, k');
  expect(lines[1]).toMatch(/^y: float32\[N\] = Add\(x, k_1=float32\[\]\{-2\}\)/);
  expect(lines[0]).toMatch(/^k: /);
});

it('does not expand what is far larger than what it is made from', async () => {
  const lines = await fold(
    'graph g (x: float32[N]) opset 18\nbig = ConstantOfShape(s=int64[2]{4097, 1024})\nsum = ReduceSum(big) {keepdims=0}\ny = Add(x, sum)\nreturn y',
    0,
  );
  expect(lines.length).toBe(4);
});

it('leaves quantization and what depends on inputs alone', async () => {
  await fold(
    'graph g (x: float32[N]) opset 18\nw = DequantizeLinear(q=int8[]{3}, s=float32[]{0.5})\ny = Add(x, w)\nz = Neg(x)\nreturn y, z',
    0,
  );
});

it('turns Constant nodes into constants', () => {
  const graph = graphOf(
    'graph g (x: float32[N]) opset 18\nc = Constant() {value=float32[]{2}}\ny = Add(x, c)\nk = Constant() {value=float32[]{3}}\nreturn y, k',
  );
  expect(runPasses(graph, [inlineConstants])).toBe(true);
  expect(linesOf(graph)).toEqual([
    'y: float32[N] = Add(x, c=float32[]{2})',
    'k: float32[] = Identity(k_1=float32[]{3}) @Identity',
    'return y, k',
  ]);
  expectUntouched('graph g (x: float32[N]) opset 18\ny = Add(x, c=float32[]{2})\nreturn y', inlineConstants);
});
