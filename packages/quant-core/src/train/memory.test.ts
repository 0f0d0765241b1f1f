import { describe, expect, it } from 'vitest';
import { inferShapes } from '../ir/infer.js';
import { parse } from '../ir/text.js';
import { peakBytes } from './memory.js';

const of = (text: string) => {
  const graph = parse(`graph g (x: float32[100]) opset 18\n${text}\n`, new Map());
  inferShapes(graph);
  return peakBytes(graph) / 400;
};

describe('values that are alive at once', () => {
  it('an operator needs its input and its result', () => {
    expect(of('y = Exp(x)\nreturn y')).toBe(2);
  });

  it('a chain never holds more than two results beside the input', () => {
    expect(of('a = Exp(x)\nb = Exp(a)\nc = Exp(b)\nd = Exp(c)\nreturn d')).toBe(3);
  });

  it('what is read late is held until then', () => {
    expect(of('a = Exp(x)\nb = Exp(a)\nc = Exp(b)\nd = Add(c, a)\nreturn d')).toBe(4);
  });

  it('outputs are held to the end', () => {
    expect(of('a = Exp(x)\nb = Exp(a)\nc = Exp(b)\nreturn a, b, c')).toBe(4);
  });

  it('another shape of a value is not a copy, and keeps it alive', () => {
    expect(of('a = Exp(x)\nr = Reshape(a, s=int64[2]{10, 10})\nb = Exp(r)\nreturn b')).toBeCloseTo(3 + 16 / 400, 9);
    expect(of('a = Exp(x)\nr = Reshape(a, s=int64[2]{10, 10})\nb = Exp(x)\nc = Exp(b)\nd = Exp(r)\nreturn c, d')).toBeCloseTo(
      4 + 16 / 400,
      9,
    );
  });
});
