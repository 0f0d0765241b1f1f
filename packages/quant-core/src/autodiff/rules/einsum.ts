import { staticShape } from '../../ir/builder.js';
import { subscriptsOf } from '../../ir/shapes/einsum.js';
import { type GradientRule, rule, untrainable } from '../rule.js';

/**
 * The gradient of an operand is the product of dy and the other operands, summed over what the operand does not have; an axis that only the
 * operand has was summed, and every element along it gets the same.
 */
export const einsum: GradientRule<'Einsum'> = rule((node, dy, wanted, b) => {
  const shapes = node.inputs.map((value) => value && staticShape(value)) as number[][];
  const subscripts = subscriptsOf(
    node.attr('equation'),
    shapes.map((shape) => shape.length),
  );
  if (!subscripts) throw untrainable(node, 'its equation cannot be read');
  const sizes = new Map<string, number>();
  for (const [i, letters] of subscripts.inputs.entries())
    for (const [axis, letter] of letters.entries()) sizes.set(letter, Math.max(sizes.get(letter) ?? 1, shapes[i]?.[axis] as number));
  // One letter an axis, those of an ellipsis included.
  const names = new Map([...sizes.keys()].map((letter, i) => [letter, String.fromCharCode(97 + i)]));
  if (names.size > 26) throw untrainable(node, 'it has more than 26 axes');
  const write = (letters: readonly string[]) => letters.map((letter) => names.get(letter)).join('');
  return node.inputs.map((_, port) => {
    if (!wanted[port]) return undefined;
    const own = subscripts.inputs[port] as string[];
    if (new Set(own).size !== own.length) throw untrainable(node, 'a diagonal has no gradient');
    const others = subscripts.inputs.flatMap((letters, at) =>
      at === port ? [] : [{ letters, value: node.input(at), shape: shapes[at] as number[] }],
    );
    const known = new Set([...subscripts.output, ...others.flatMap(({ letters }) => letters)]);
    const found = own.filter((letter) => known.has(letter));
    // An operand that was broadcast is written out, so that a letter has one size.
    const operands = others.map(({ letters, value, shape }) => {
      const full = letters.map((letter) => sizes.get(letter) as number);
      return full.join() === shape.join() ? value : b.op('Expand', [value, b.ints(full)]);
    });
    const equation = `${[write(subscripts.output), ...others.map(({ letters }) => write(letters))].join()}->${write(found)}`;
    const part = b.op('Einsum', [dy, ...operands], { equation });
    const full = own.map((letter) => sizes.get(letter) as number);
    const spread =
      found.length === own.length
        ? part
        : b.op('Expand', [
            b.reshape(
              part,
              own.map((letter) => (known.has(letter) ? (sizes.get(letter) as number) : 1)),
            ),
            b.ints(full),
          ]);
    return b.unbroadcast(spread, full, shapes[port] as number[]);
  });
});
