import { OctetError } from '../../../errors.js';
import type { Graph, Value } from '../../../ir/graph.js';
import { Random } from '../../../tensor/random.js';
import { sizeOf, Tensor } from '../../../tensor/tensor.js';
import { tfjsBackends } from '../backend.js';
import { TfjsEngine } from '../tfjs.js';

/** The engine on every backend that loads here. */
export async function enginesHere(): Promise<TfjsEngine[]> {
  const engines: TfjsEngine[] = [];
  for (const backend of tfjsBackends) {
    try {
      engines.push(await TfjsEngine.create(backend));
    } catch (error) {
      if (!(error instanceof OctetError && error.code === 'ENGINE_UNAVAILABLE')) throw error;
    }
  }
  return engines;
}

/** Random elements for an input: normal floats, integers of its type, small ones for int64, which are indices. */
function feedFor(input: Value, random: Random): Tensor {
  const shape = input.shape?.map((dim) => (typeof dim === 'number' ? dim : 3)) ?? [];
  const draw = (f: () => number) => Array.from({ length: sizeOf(shape) }, f);
  switch (input.dtype) {
    case 'int64':
      return Tensor.int64(
        shape,
        draw(() => random.below(3)),
      );
    case 'int32':
      return new Tensor('int32', shape, Int32Array.from(draw(() => random.below(2001) - 1000)));
    case 'uint8':
      return new Tensor('uint8', shape, Uint8Array.from(draw(() => random.below(256))));
    case 'int8':
      return new Tensor('int8', shape, Int8Array.from(draw(() => random.below(256) - 128)));
    case 'bool':
      return new Tensor('bool', shape, Uint8Array.from(draw(() => random.below(2))));
    default:
      return Tensor.float32(
        shape,
        draw(() => random.normal()),
      );
  }
}

/** Feeds for every input of a graph, open sizes being 3. */
export function feedsFor(graph: Graph, seed = 1): Record<string, Tensor> {
  const random = new Random(seed);
  return Object.fromEntries(graph.inputs.map((input) => [input.name, feedFor(input, random)]));
}
