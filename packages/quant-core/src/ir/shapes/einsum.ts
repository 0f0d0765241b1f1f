import type { Dim, Node } from '../graph.js';
import { neverEqual } from './dim.js';
import { commonDType, misfit, type Types, typed } from './rule.js';

/** An equation with every axis under a letter of its own; those of an ellipsis are numbered. */
export interface Subscripts {
  inputs: string[][];
  output: string[];
}

/**
 * `"...ij,jk->...ik"` → the letters of each axis. `ranks` are those of the inputs. Without `->` the output has the axes of the ellipsis and the
 * letters that occur once, in alphabetic order. Undefined for an equation that does not fit.
 */
export function subscriptsOf(equation: string, ranks: readonly number[]): Subscripts | undefined {
  const text = equation.replaceAll(' ', '');
  const [left = '', right, ...more] = text.split('->');
  const terms = left.split(',');
  if (more.length || terms.length !== ranks.length || !/^[A-Za-z,.]*$/.test(left + (right ?? ''))) return undefined;
  let widest = 0;
  const inputs: string[][] = [];
  for (const [i, term] of terms.entries()) {
    const parts = term.split('...');
    const letters = parts.join('');
    if (parts.length > 2 || letters.includes('.')) return undefined;
    const rest = (ranks[i] as number) - letters.length;
    if (rest < 0 || (parts.length === 1 && rest !== 0)) return undefined;
    if (parts.length === 2) widest = Math.max(widest, rest);
    // Axes of an ellipsis are counted from its end, as broadcasting does.
    const filler = parts.length === 2 ? Array.from({ length: rest }, (_, axis) => `…${rest - axis}`) : [];
    inputs.push([...(parts[0] ?? ''), ...filler, ...(parts[1] ?? '')]);
  }
  const ellipsis = Array.from({ length: widest }, (_, axis) => `…${widest - axis}`);
  const known = new Set(inputs.flat());
  if (right === undefined) {
    const all = inputs.flat().filter((letter) => !letter.startsWith('…'));
    const once = [...new Set(all)].filter((letter) => all.indexOf(letter) === all.lastIndexOf(letter)).sort();
    return { inputs, output: [...ellipsis, ...once] };
  }
  const parts = right.split('...');
  const output = [...(parts[0] ?? ''), ...(parts.length === 2 ? ellipsis : []), ...(parts[1] ?? '')];
  if (parts.length > 2 || new Set(output).size !== output.length || !output.every((letter) => known.has(letter))) return undefined;
  return { inputs, output };
}

/** Every letter has one size; an axis of an ellipsis broadcasts. */
export function einsum(node: Node<'Einsum'>): Types {
  const dtype = commonDType(
    node,
    node.inputs.map((_, port) => port),
  );
  const equation = node.attr('equation');
  const shapes = node.inputs.map((value) => value?.shape);
  if (!shapes.every((shape) => shape !== undefined)) return [typed(dtype, undefined)];
  const subscripts = subscriptsOf(
    equation,
    shapes.map((shape) => shape.length),
  );
  if (!subscripts)
    throw misfit(
      node,
      `equation "${equation}" does not fit inputs of ${shapes.map((shape) => shape.length).join(' and ')} axes`,
      node.inputs[0],
    );
  const sizes = new Map<string, Dim>();
  for (const [i, letters] of subscripts.inputs.entries()) {
    for (const [axis, letter] of letters.entries()) {
      const dim = shapes[i]?.[axis] as Dim;
      const before = sizes.get(letter);
      if (before === undefined || before === 1) sizes.set(letter, dim);
      else if (dim !== 1 && neverEqual(before, dim)) throw misfit(node, `"${letter}" stands for ${before} and for ${dim}`, node.inputs[i]);
      else if (typeof dim === 'number' && dim !== 1) sizes.set(letter, dim);
    }
  }
  return [
    typed(
      dtype,
      subscripts.output.map((letter) => sizes.get(letter) as Dim),
    ),
  ];
}
