import { expect, it } from 'vitest';
import { OctetError } from '../errors.js';
import { allocate, type DType } from '../tensor/dtype.js';
import { Random } from '../tensor/random.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { type Dim, Graph, type Value, type ValueType } from './graph.js';
import { inferShapes } from './infer.js';
import { type AttributeValue, type Attrs, type OpType, ops, spec } from './ops.js';

const types: readonly DType[] = ['float32', 'float32', 'int64', 'bool', 'uint8', 'float16'];
const sizes: readonly Dim[] = [1, 2, 3, 4, 'N', 'H'];
const numbers: readonly number[] = [0, 1, 2, 3, -1, -2, 7, 2 ** 31, -(2 ** 31), Number.MAX_SAFE_INTEGER, Number.NaN, 0.5];

class Wild {
  constructor(private readonly random: Random) {}

  of<T>(list: readonly T[]): T {
    return list[this.random.below(list.length)] as T;
  }

  list<T>(longest: number, item: () => T): T[] {
    return Array.from({ length: this.random.below(longest + 1) }, item);
  }

  type(): ValueType {
    return this.random.below(8) === 0 ? { dtype: this.of(types) } : { dtype: this.of(types), shape: this.list(4, () => this.of(sizes)) };
  }

  tensor(): Tensor {
    const dtype = this.of(types);
    const shape = this.list(2, () => this.of([0, 1, 2, 3, 4]));
    const data = allocate(dtype, sizeOf(shape));
    for (let i = 0; i < data.length; i++) {
      const number = this.of(numbers);
      if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(Number.isInteger(number) ? number : 0);
      else data[i] = number;
    }
    return new Tensor(dtype, shape, data);
  }

  attribute(kind: string): AttributeValue {
    const int = () => this.of(numbers.filter(Number.isInteger));
    if (kind === 'int') return int();
    if (kind === 'float') return this.of(numbers);
    if (kind === 'ints') return this.list(5, int);
    if (kind === 'floats') return this.list(3, () => this.of(numbers));
    if (kind === 'dtype') return this.of(types);
    return kind === 'tensor' ? this.tensor() : this.of(['SAME_UPPER', 'VALID', 'NOTSET', 'reflect', '']);
  }

  input(graph: Graph): Value {
    return this.random.below(3) === 0 ? graph.constant('c', this.tensor()) : graph.input('x', this.type());
  }
}

/** Whatever a file holds, inference ends with types or with an error that says where. */
it.each(Object.keys(ops).filter((op) => op !== 'Opaque') as OpType[])('%s with any inputs and attributes', (op) => {
  const wild = new Wild(Random.for(3, op));
  const { inputs, outputs, attrs } = spec(op);
  for (let round = 0; round < 150; round++) {
    const graph = new Graph();
    const most = Math.min(inputs[1], inputs[0] + 3);
    const count = wild.of(Array.from({ length: most - inputs[0] + 1 }, (_, i) => inputs[0] + i));
    const given = Array.from({ length: count }, () => wild.input(graph));
    const chosen = Object.entries(attrs ?? {}).filter(() => wild.of([true, false]));
    const values = Object.fromEntries(chosen.map(([name, { kind }]) => [name, wild.attribute(kind)]));
    const node = graph.node(op, given, values as Attrs<OpType>, { outputs: Math.min(outputs?.[1] ?? 1, 2) });
    // Shape arithmetic after it sees what it leaves.
    graph.node('Reshape', [graph.node('Shape', [node.output()]).output(), graph.node('Cast', [node.output()], { to: 'int64' }).output()]);
    try {
      inferShapes(graph);
    } catch (error) {
      if (!(error instanceof OctetError)) throw error;
      expect(error.code).toMatch(/^MODEL_/);
      expect(error.place.node ?? error.place.tensor).toBeTruthy();
    }
  }
});
