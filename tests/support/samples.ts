import { bytesOf, npy } from '../../packages/quant-core/src/data/testing/files.js';
import { zip } from '../../packages/quant-core/src/data/testing/zip.js';
import { decode, encode } from '../../packages/quant-core/src/formats/onnx/schema.js';
import { Tensor } from '../../packages/quant-core/src/tensor/tensor.js';
import { info, int, modelBytes, node, ramp } from '../../packages/quant-core/src/testing/onnx.js';

/** A small float classifier: two fully connected layers, input `x` ["batch", 4], output `y` ["batch", 3]. */
export function classifier(): Uint8Array {
  return modelBytes({
    nodes: [
      node('Gemm', ['x', 'w1', 'b1'], ['h'], [int('transB', 1)]),
      node('Relu', ['h'], ['r']),
      node('Gemm', ['r', 'w2', 'b2'], ['y'], [int('transB', 1)]),
    ],
    inputs: [info('x', ['batch', 4])],
    outputs: [info('y', ['batch', 3])],
    initializers: {
      w1: Tensor.float32([8, 4], ramp(32)),
      b1: Tensor.float32([8], ramp(8)),
      w2: Tensor.float32([3, 8], ramp(24)),
      b2: Tensor.float32([3], ramp(3)),
    },
  });
}

/** The same classifier as exporters write it with external data: all weights in the file `location`. */
export function splitClassifier(location = 'net.onnx.data'): { model: Uint8Array; weights: Uint8Array } {
  const whole = decode('Model', classifier());
  const pieces: Uint8Array[] = [];
  let offset = 0;
  for (const tensor of whole.graph?.initializer ?? []) {
    const raw = tensor.rawData ?? new Uint8Array(0);
    pieces.push(raw);
    const fields = { location, offset: String(offset), length: String(raw.length) };
    tensor.externalData = Object.entries(fields).map(([key, value]) => ({ key, value }));
    tensor.dataLocation = 1;
    delete tensor.rawData;
    offset += raw.length;
  }
  return { model: encode('Model', whole), weights: Buffer.concat(pieces) };
}

/** A dataset for it as .npz: `x` [samples, features] and `y` with labels below `classes`. */
export function points({ samples = 60, features = 4, classes = 3 } = {}): Buffer {
  const x = Float32Array.from({ length: samples * features }, (_, i) => Math.sin(i * 1.7) + (((i / features) | 0) % classes));
  const y = BigInt64Array.from({ length: samples }, (_, i) => BigInt(i % classes));
  return zip([
    { name: 'x.npy', data: npy('<f4', [samples, features], bytesOf(x)) },
    { name: 'y.npy', data: npy('<i8', [samples], bytesOf(y)) },
  ]);
}
