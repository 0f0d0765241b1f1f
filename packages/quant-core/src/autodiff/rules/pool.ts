import { staticShape } from '../../ir/builder.js';
import { sizeOf, Tensor } from '../../tensor/tensor.js';
import { offsets, windowOf } from '../conv.js';
import { type GradientRule, optionalOutput, rule, untrainable, zeros } from '../rule.js';

/** The gradient goes to the first largest element of each window: ONNX Runtime names it in the second output. */
const maxPool: GradientRule<'MaxPool'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  if (node.attr('storage_order')) throw untrainable(node, 'indices in column order have no gradient');
  const indices = optionalOutput(b, node, 1, 'int64', staticShape(node.output()));
  const count = sizeOf(staticShape(node.output()));
  const scattered = b.op('ScatterElements', [zeros(b, [sizeOf(shape)]), b.reshape(indices, [count]), b.reshape(dy, [count])], {
    axis: 0,
    reduction: 'add',
  });
  return [b.reshape(scattered, shape)];
});

/** Each element of a window gets dy over the number of elements that were averaged. */
const averagePool: GradientRule<'AveragePool'> = rule((node, dy, _wanted, b) => {
  const xs = staticShape(node.input(0));
  const ys = staticShape(node.output());
  const w = windowOf(node, node.attr('kernel_shape'), xs.slice(2), ys.slice(2));
  const out = ys.slice(2);
  const count = new Float32Array(sizeOf(out));
  const taps = offsets(w.kernel);
  offsets(out).forEach((position, index) => {
    // A window that ceil_mode pushes past the padded image counts only what lies inside the padding.
    const inside = taps.filter((tap) =>
      tap.every((k, axis) => {
        const at = (position[axis] as number) * (w.strides[axis] as number) + k * (w.dilations[axis] as number) - (w.begin[axis] as number);
        const size = xs[axis + 2] as number;
        return node.attr('count_include_pad') ? at < size + (w.end[axis] as number) : at >= 0 && at < size;
      }),
    );
    count[index] = 1 / Math.max(1, inside.length);
  });
  const even = count.every((v) => v === count[0]);
  const scaled = b.op('Mul', [dy, even ? b.scalar(count[0] as number) : b.constant(Tensor.float32([1, 1, ...out], count), 'pool_share')]);
  // Scatter by adding: for every offset, place the scaled gradient at its strided positions.
  const padded = xs
    .slice(2)
    .map((size, i) =>
      Math.max(
        size + (w.begin[i] as number) + (w.end[i] as number),
        ((out[i] as number) - 1) * (w.strides[i] as number) + ((w.kernel[i] as number) - 1) * (w.dilations[i] as number) + 1,
      ),
    );
  const channels = xs[1] as number;
  const flat = b.reshape(scaled, [(xs[0] as number) * channels, 1, ...out]);
  const ones = b.constant(Tensor.float32([1, 1, ...w.kernel], new Float32Array(sizeOf(w.kernel)).fill(1)), 'pool_ones');
  const spread = b.op('ConvTranspose', [flat, ones], { kernel_shape: w.kernel, strides: w.strides, dilations: w.dilations });
  const reach = out.map(
    (size, i) => (size - 1) * (w.strides[i] as number) + ((w.kernel[i] as number) - 1) * (w.dilations[i] as number) + 1,
  );
  const full = b.pad(spread, [...new Array<number>(out.length + 2).fill(0), 0, 0, ...reach.map((size, i) => (padded[i] as number) - size)]);
  const axes = out.map((_, i) => i + 2);
  const cropped = b.slice(
    full,
    axes,
    w.begin,
    w.begin.map((begin, i) => begin + (xs[i + 2] as number)),
  );
  return [b.reshape(cropped, xs)];
});

const globalAverage: GradientRule<'GlobalAveragePool'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  return [b.op('Expand', [b.op('Mul', [dy, b.scalar(1 / sizeOf(shape.slice(2)))]), b.ints(shape)])];
});

const globalMax: GradientRule<'GlobalMaxPool'> = rule((node, dy, _wanted, b) => {
  const x = node.input(0);
  const axes = staticShape(x)
    .map((_, i) => i)
    .slice(2);
  const hit = b.toFloat(b.op('Equal', [x, node.output()]));
  return [b.op('Mul', [hit, b.op('Div', [dy, b.sum(hit, axes, true)])])];
});

export const poolRules = { MaxPool: maxPool, AveragePool: averagePool, GlobalAveragePool: globalAverage, GlobalMaxPool: globalMax };
