import type { Dim, Graph, ValueType } from './graph.js';
import { bindDim } from './shapes/dim.js';

/** Any size: only whether a dimension can be computed from those of the inputs is asked. */
const someSize = 64;

/** The symbols in the shapes of the graph inputs, each with a size, as `bindDim` wants them. */
export function inputSymbols(graph: Graph): Record<string, number> {
  const symbols: Record<string, number> = {};
  for (const { shape } of graph.inputs) for (const dim of shape ?? []) if (typeof dim === 'string') symbols[dim] = someSize;
  return symbols;
}

/** Whether a dimension follows from the sizes of the inputs. */
export const isKnown = (dim: Dim, symbols: Readonly<Record<string, number>>): boolean => typeof bindDim(dim, symbols) === 'number';

/**
 * An inferred type with its gaps filled from a declared one: the type, the shape, and dimensions that do not follow from those of the inputs.
 * Where the two contradict each other, the inferred one stands.
 */
export function fillIn(
  inferred: ValueType | undefined,
  declared: ValueType,
  symbols: Readonly<Record<string, number>>,
): ValueType | undefined {
  if (!inferred) return declared;
  if (inferred.dtype !== declared.dtype || !declared.shape) return inferred;
  const { shape } = inferred;
  if (!shape) return { ...inferred, shape: declared.shape };
  if (shape.length !== declared.shape.length) return inferred;
  let changed = false;
  const filled = shape.map((dim, axis) => {
    const other = declared.shape?.[axis] as Dim;
    if (isKnown(dim, symbols) || !isKnown(other, symbols)) return dim;
    changed = true;
    return other;
  });
  return changed ? { ...inferred, shape: filled } : inferred;
}
