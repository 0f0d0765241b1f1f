import { staticShape } from '../../ir/builder.js';
import { sizeOf, Tensor } from '../../tensor/tensor.js';
import { offsets } from '../conv.js';
import { type GradientRule, normalised, rule, untrainable, zeros } from '../rule.js';

/** Rows are added up where an index occurs more than once. */
const gather: GradientRule<'Gather'> = rule((node, dy, _wanted, b) => {
  const shape = staticShape(node.input(0));
  const axis = normalised(node.attr('axis'), shape.length);
  const indexShape = staticShape(node.input(1));
  const count = sizeOf(indexShape);
  const flat = [...shape.slice(0, axis), count, ...shape.slice(axis + 1)];
  const spread = b.op('Expand', [
    b.reshape(
      node.input(1),
      flat.map((dim, i) => (i === axis ? dim : 1)),
    ),
    b.ints(flat),
  ]);
  return [b.op('ScatterElements', [zeros(b, shape), spread, b.reshape(dy, flat)], { axis, reduction: 'add' }), undefined];
});

const gatherElements: GradientRule<'GatherElements'> = rule((node, dy, _wanted, b) => [
  b.op('ScatterElements', [zeros(b, staticShape(node.input(0))), node.input(1), dy], { axis: node.attr('axis'), reduction: 'add' }),
  undefined,
]);

/** Batch axes are written into the indices, so that ScatterND can add up. */
const gatherND: GradientRule<'GatherND'> = rule((node, dy, _wanted, b) => {
  const batch = node.attr('batch_dims');
  const shape = staticShape(node.input(0));
  const outer = staticShape(node.input(1)).slice(0, -1);
  let indices = node.input(1);
  if (batch > 0) {
    const positions = offsets(outer).flatMap((at) => at.slice(0, batch));
    indices = b.op('Concat', [b.constant(Tensor.int64([...outer, batch], positions), 'batch_positions'), indices], { axis: -1 });
  }
  return [b.op('ScatterND', [zeros(b, shape), indices, dy], { reduction: 'add' }), undefined];
});

/** What is written over gets nothing, and what is written gets its place. */
const scatterElements: GradientRule<'ScatterElements'> = rule((node, dy, wanted, b) => {
  const [reduction, axis, indices] = [node.attr('reduction'), node.attr('axis'), node.input(1)];
  if (reduction !== 'none' && reduction !== 'add') throw untrainable(node, `reduction "${reduction}" has no gradient`);
  const data = () => (reduction === 'add' ? dy : b.op('ScatterElements', [dy, indices, zeros(b, staticShape(indices))], { axis }));
  return [wanted[0] ? data() : undefined, undefined, wanted[2] ? b.op('GatherElements', [dy, indices], { axis }) : undefined];
});

const scatterND: GradientRule<'ScatterND'> = rule((node, dy, wanted, b) => {
  const [reduction, indices] = [node.attr('reduction'), node.input(1)];
  if (reduction !== 'none' && reduction !== 'add') throw untrainable(node, `reduction "${reduction}" has no gradient`);
  const data = () => (reduction === 'add' ? dy : b.op('ScatterND', [dy, indices, zeros(b, staticShape(node.input(2)))]));
  return [wanted[0] ? data() : undefined, undefined, wanted[2] ? b.op('GatherND', [dy, indices]) : undefined];
});

/** Each value goes back to where it was found. */
const topK: GradientRule<'TopK'> = rule((node, dy, _wanted, b) => [
  b.op('ScatterElements', [zeros(b, staticShape(node.input(0))), node.output(1), dy], { axis: node.attr('axis'), reduction: 'add' }),
  undefined,
]);

export const indexingRules = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  ScatterElements: scatterElements,
  ScatterND: scatterND,
  TopK: topK,
};
