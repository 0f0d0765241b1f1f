import { describe, expect, it } from 'vitest';
import { Tensor } from '../tensor/tensor.js';
import { Graph, type Node, type Value } from './graph.js';
import { inferShapes } from './infer.js';
import { type Pass, runPasses } from './pass.js';
import { parse, print } from './text.js';
import { verify } from './verify.js';

const good = () => {
  const g = parse('graph g (x: float32[N, 3]) opset 18\na = Relu(x)\nb = Add(a, c=float32[3]{1})\nreturn b\n');
  inferShapes(g);
  return g;
};
const at = (g: Graph, i: number): Node => g.nodes[i] as Node;

describe('verify', () => {
  it('passes a sound graph', () => verify(good()));

  it.each<[string, (g: Graph) => void, RegExp]>([
    ['order', (g) => g.nodes.reverse(), /Add "b": reads "a", which nothing before it writes/],
    ['a removed node still read', (g) => g.nodes.shift(), /lists a reader that is not in the graph|reads "a"/],
    ['a lost reader', (g) => (at(g, 0).output().readers.length = 0), /reads "a" 1 times, which lists it 0 times/],
    ['a stale reader', (g) => at(g, 0).input(0).readers.push(at(g, 1)), /Add "b": is listed as a reader of "x"/],
    ['a name taken', (g) => (at(g, 1).output().name = 'x'), /the name "x" is taken/],
    ['a missing input', (g) => at(g, 1).setInput(1, undefined), /input 1 is missing/],
    ['too many inputs', (g) => at(g, 0).setInput(1, g.inputs[0] as Value), /has 2 inputs, at most 1/],
    ['an unknown attribute', (g) => (at(g, 0).attrs = { alpha: 1 } as never), /attribute "alpha" is not one of Relu/],
    ['a missing type', (g) => (at(g, 0).output().type = undefined), /"a" has no type/],
    ['an output of elsewhere', (g) => g.outputs.push(new Graph().input('y', { dtype: 'float32' })), /reads "y"/],
    ['a node standing twice', (g) => g.nodes.push(at(g, 1)), /twice/],
    ['a constant whose type lies', (g) => (at(g, 1).input(1).type = { dtype: 'float32', shape: [4] }), /constant "c" is float32\[3\]/],
    ['a constant that is produced', (g) => (at(g, 0).output().constant = Tensor.scalar(1)), /is a constant/],
  ])('refuses %s', (_, spoil, message) => {
    const g = good();
    spoil(g);
    expect(() => verify(g)).toThrow(message);
  });

  it('refuses an attribute of the wrong kind', () => {
    const g = parse('graph g (x: float32[N, 3]) opset 18\na = LeakyRelu(x) {alpha=0.5}\nreturn a\n');
    inferShapes(g);
    (at(g, 0).attrs as Record<string, unknown>).alpha = 'much';
    expect(() => verify(g)).toThrow(/attribute "alpha" is not of kind float/);
  });
});

describe('batch', () => {
  it('puts and takes nodes at the end, in order', () => {
    const g = good();
    g.batch(() => {
      const add = at(g, 1);
      const neg = g.node('Neg', [at(g, 0).output()], {}, { before: add });
      g.node('Abs', [g.inputs[0]], {}, { before: neg });
      g.replaceAll(at(g, 0).output(), neg.output());
      neg.setInput(0, g.inputs[0]);
      g.remove(at(g, 0));
      expect(g.nodes.length).toBe(2);
    });
    inferShapes(g);
    verify(g);
    expect(g.nodes.map((node) => node.op)).toEqual(['Abs', 'Neg', 'Add']);
  });
});

describe('runPasses', () => {
  const dropRelu: Pass = {
    name: 'dropRelu',
    run(g) {
      const relu = g.nodes.find((node) => node.op === 'Relu');
      if (!relu) return false;
      g.replaceAll(relu.output(), relu.input(0));
      g.remove(relu);
      return true;
    },
  };
  it('runs until nothing changes and infers again', () => {
    const g = parse('graph g (x: float32[N, 3]) opset 18\na = Relu(x)\nb = Relu(a)\nc = Neg(b)\nreturn c\n');
    expect(runPasses(g, [dropRelu])).toBe(true);
    expect(print(g)).toBe('graph g (x: float32[N, 3]) opset 18\nc: float32[N, 3] = Neg(x)\nreturn c\n');
    expect(runPasses(g, [dropRelu])).toBe(false);
  });
  it('names a pass that breaks the graph', () => {
    const g = good();
    expect(() => runPasses(g, [{ name: 'careless', run: (graph) => graph.nodes.shift() !== undefined }])).toThrow(/after pass careless/);
  });
  it('does not run for ever', () => {
    expect(() => runPasses(good(), [{ name: 'restless', run: () => true }])).toThrow(/restless do not come to rest/);
  });
});
