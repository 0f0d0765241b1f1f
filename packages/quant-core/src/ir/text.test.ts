import { expect, it } from 'vitest';
import { Tensor } from '../tensor/tensor.js';
import { Graph, type Node } from './graph.js';
import { inferShapes } from './infer.js';
import { parse, print } from './text.js';
import { verify } from './verify.js';

function sample(): Graph {
  const g = new Graph('net');
  const x = g.input('x:0', { dtype: 'float32', shape: ['N', 4] });
  const w = g.constant('w', Tensor.float32([2, 4], [0.1, 2, 3, 4, 5, -0, 1e-30, 8]));
  const b = g.constant('b', Tensor.float32([2], [Number.NaN, Number.NEGATIVE_INFINITY]));
  const fc = g.node('Gemm', [x, w, b], { transB: 1, alpha: Math.fround(0.01) }, { name: 'fc', outputNames: ['y'] });
  const zero = g.constant('zero', Tensor.zeros('float32', [100]));
  const joined = g.node('Concat', [fc.output(), fc.output()], { axis: -1 });
  const clipped = g.node('Clip', [joined.output(), undefined, g.constant('max', Tensor.scalar(6))]);
  const target = g.constant('target', Tensor.ints([0, -1]));
  const reshaped = g.node('Reshape', [clipped.output(), target], {}, { outputNames: ['return'] });
  const opaque = g.node('Opaque', [reshaped.output(), zero], {}, { name: 'odd one', outputs: 2 });
  opaque.opaque = { domain: 'my.domain', opType: 'Odd', proto: undefined, ownInputs: 2 };
  const cast = g.node('Cast', [fc.output()], { to: 'int8' });
  const half = g.node('Constant', [], { value: new Tensor('float16', [3], Uint16Array.from([0x3c01, 0x8001, 0xfc00])) });
  g.outputs.push(opaque.output(), cast.output(), half.output(), g.constant('state', Tensor.ints([7])));
  inferShapes(g);
  return g;
}

it('prints one node a line', () => {
  expect(print(sample())).toBe(`graph net ("x:0": float32[N, 4]) opset 18
y: float32[N, 2] = Gemm("x:0", w=float32[2, 4]{0.1, 2, 3, 4, 5, -0, 1e-30, 8}, b=float32[2]{nan, -inf}) {transB=1, alpha=0.01} @fc
Concat: float32[N, 4] = Concat(y, y) {axis=-1}
Clip: float32[N, 4] = Clip(Concat, _, max=float32[]{6})
"return": float32[N, 4] = Reshape(Clip, target=int64[2]{0, -1})
"odd one_0", "odd one_1" = Opaque<my.domain, Odd, 2>("return", zero=float32[100]{0}) @"odd one"
Cast: int8[N, 2] = Cast(y) {to=int8}
Constant: float16[3] = Constant() {value=float16[3]{1.0009766, -5.9604645e-8, -inf}}
return "odd one_0", Cast, Constant, state=int64[1]{7}
`);
});

it('parses what it prints', () => {
  const text = print(sample());
  const back = parse(text);
  expect(print(back)).toBe(text);
  verify(back);
  inferShapes(back);
  expect(print(back)).toBe(text);
  const half = (back.nodes.at(-1) as Node<'Constant'>).attr('value');
  expect(half?.data).toEqual(Uint16Array.from([0x3c01, 0x8001, 0xfc00]));
});

it('takes long constants from outside', () => {
  const g = new Graph('g');
  const long = Tensor.float32([3, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  g.outputs.push(g.node('Relu', [g.constant('c', long)]).output());
  const text = print(g);
  expect(text).toContain('c=float32[3, 3]#');
  expect(() => parse(text)).toThrow(/elements of c are not in the text/);
  expect(print(parse(text, new Map([['c', long]])))).toBe(text);
});

it.each([
  ['graph g (x: float32[1]) opset 18\nreturn y\n', /line 3.*y is read before it is written/],
  ['graph g (x: float32[1]) opset 18\nx = Relu(x)\nreturn x\n', /written twice/],
  ['graph g (x: float32[1]) opset 18\ny = Rely(x)\nreturn y\n', /unknown op Rely/],
  ['graph g (x: float32[1]) opset 18\ny = Relu(x) {alpha=1}\nreturn y\n', /no attribute alpha/],
  ['graph g (x: float32[1]) opset 18\ny = Relu(x', /wanted \)/],
])('says where the text is wrong', (text, message) => {
  expect(() => parse(text)).toThrow(message);
});
