import type * as Tf from '@tensorflow/tfjs-core';
import { sizeOf } from '../../../tensor/tensor.js';
import type { TfModule } from '../backend.js';
import { type Kernel, lacking, tensorAt } from './kernel.js';

/** A tensor with a letter for each axis. */
interface Labelled {
  tensor: Tf.Tensor;
  labels: string;
}

const without = (labels: string, ...others: string[]) =>
  [...labels].filter((label) => !others.some((other) => other.includes(label))).join('');
const common = (a: string, b: string) => [...a].filter((label) => b.includes(label)).join('');

/** Axes in the order of `labels`. */
function ordered(tf: TfModule, { tensor, labels }: Labelled, wanted: string): Tf.Tensor {
  return tf.transpose(
    tensor,
    [...wanted].map((label) => labels.indexOf(label)),
  );
}

/** Sum over every axis that is not asked for later. */
function summed(tf: TfModule, x: Labelled, wanted: string): Labelled {
  const gone = without(x.labels, wanted);
  if (!gone) return x;
  return {
    tensor: tf.sum(
      x.tensor,
      [...gone].map((label) => x.labels.indexOf(label)),
    ),
    labels: without(x.labels, gone),
  };
}

/** Two operands as one batched matrix product: shared axes that are wanted, own axes, shared axes that are summed. */
function contracted(tf: TfModule, left: Labelled, right: Labelled, wanted: string): Labelled {
  const [a, b] = [summed(tf, left, wanted + right.labels), summed(tf, right, wanted + left.labels)];
  const shared = common(a.labels, b.labels);
  const batch = common(shared, wanted);
  const inner = without(shared, batch);
  const [rows, columns] = [without(a.labels, shared), without(b.labels, shared)];
  const sizes = (x: Labelled, labels: string) => [...labels].map((label) => x.tensor.shape[x.labels.indexOf(label)] as number);
  const flat = (x: Labelled, labels: [string, string, string]) =>
    tf.reshape(ordered(tf, x, labels.join('')), labels.map((part) => sizeOf(sizes(x, part))) as [number, number, number]);
  const product = tf.matMul(flat(a, [batch, rows, inner]), flat(b, [batch, inner, columns]));
  return { tensor: tf.reshape(product, [...sizes(a, batch), ...sizes(a, rows), ...sizes(b, columns)]), labels: batch + rows + columns };
}

/** Products of operands from left to right. Labels twice in one operand and the ellipsis are not known here. */
export const einsum: Kernel<'Einsum'> = (call) => {
  const { tf, node } = call;
  const equation = node.attr('equation').replaceAll(' ', '');
  const [from, to] = equation.split('->') as [string, string | undefined];
  const terms = from.split(',');
  if (equation.includes('...') || terms.some((term) => new Set(term).size < term.length)) throw lacking(node, `the equation "${equation}"`);
  const all = terms.join('');
  const output =
    to ??
    [...new Set(all)]
      .filter((label) => all.split(label).length === 2)
      .sort()
      .join('');
  const [first, ...rest] = terms.map((labels, port): Labelled => ({ tensor: tensorAt(call, port), labels }));
  const result = rest.reduce(
    (sum, operand, i) =>
      contracted(
        tf,
        sum,
        operand,
        output +
          rest
            .slice(i + 1)
            .map(({ labels }) => labels)
            .join(''),
      ),
    first as Labelled,
  );
  return ordered(tf, summed(tf, result, output), output);
};
