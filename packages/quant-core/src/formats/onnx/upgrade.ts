import { Tensor } from '../../tensor/tensor.js';
import { int, nameOf, type RewriteRule, refuse, rewriteGraph, setInput, take, text } from './rewrite.js';
import { type GraphProto, standardDomain, toBigInt, toNumber } from './schema.js';

/** Attribute of integers → int64 input at `port`; nothing where it is absent or empty. */
const intsToInput =
  (attribute: string, port: number): RewriteRule =>
  (node, up) => {
    const found = take(node, attribute);
    if (!found?.ints?.length) return;
    setInput(
      node,
      port,
      up.constant(`${nameOf(node)}_${attribute}`, new Tensor('int64', [found.ints.length], BigInt64Array.from(found.ints, toBigInt))),
    );
  };

const clip: RewriteRule = (node, up) => {
  const input = node.input?.[0] ?? '';
  for (const [port, key] of [
    [1, 'min'],
    [2, 'max'],
  ] as const) {
    const found = take(node, key);
    if (found) setInput(node, port, up.scalar(`${nameOf(node)}_${key}`, found.f ?? 0, input));
  }
};

const dropout: RewriteRule = (node, up) => {
  const ratio = take(node, 'ratio');
  if (ratio) setInput(node, 1, up.constant(`${nameOf(node)}_ratio`, Tensor.scalar(ratio.f ?? 0)));
};

/** Before opset 10 the mask had the type of the data. */
const dropoutMask: RewriteRule = (node, up) => {
  if (up.isRead(node.output?.[1])) throw refuse(node, 'gives a mask that is read, in the form of before opset 10');
  node.output = (node.output ?? []).slice(0, 1);
};

const sliceInputs: RewriteRule = (node, up) => {
  intsToInput('starts', 1)(node, up);
  intsToInput('ends', 2)(node, up);
  intsToInput('axes', 3)(node, up);
};

const pad: RewriteRule = (node, up) => {
  intsToInput('pads', 1)(node, up);
  const value = take(node, 'value');
  if (value?.f) setInput(node, 2, up.scalar(`${nameOf(node)}_value`, value.f, node.input?.[0] ?? ''));
};

const splitCount: RewriteRule = (node) => {
  if ((node.input?.length ?? 0) < 2 || node.input?.[1] === '')
    node.attribute = [...(node.attribute ?? []), int('num_outputs', node.output?.length ?? 0)];
};

const spatial: RewriteRule = (node) => {
  const found = take(node, 'spatial');
  if (found && toNumber(found.i) === 0) throw refuse(node, 'normalises every position on its own (spatial = 0)');
};

/** Up to opset 13 more than one output meant training; the last two of five were for the gradient only. */
const trainingBatchNorm: RewriteRule = (node, up) => {
  const outputs = node.output ?? [];
  if (!outputs.slice(1).some((name) => name !== '')) return;
  for (const name of outputs.slice(3)) if (up.isRead(name)) throw refuse(node, `gives the saved statistic "${name}" to another node`);
  node.output = outputs.slice(0, 3);
  node.attribute = [...(node.attribute ?? []), int('training_mode', 1)];
};

/**
 * Before opset 13, Softmax and its kin flatten the input to two dimensions at `axis` (default 1) and work on the second one.
 * That is the present form where `axis` is the last; elsewhere it is written out as Flatten, Softmax, Reshape.
 */
const flatSoftmax: RewriteRule = (node, up) => {
  const attribute = take(node, 'axis');
  const axis = attribute ? toNumber(attribute.i) : 1;
  const [input = ''] = node.input ?? [];
  const [output = ''] = node.output ?? [];
  const rank = up.trace.rank(input);
  if (axis === -1 || (rank !== undefined && (axis === rank - 1 || (rank === 1 && axis === 0)))) {
    node.attribute = [...(node.attribute ?? []), int('axis', axis)];
    return;
  }
  const shape = up.name(`${nameOf(node)}_shape`);
  const flat = up.name(`${nameOf(node)}_flat`);
  const normal = up.name(`${nameOf(node)}_2d`);
  up.before.push(
    { opType: 'Shape', name: shape, input: [input], output: [shape] },
    { opType: 'Flatten', name: flat, input: [input], output: [flat], attribute: [int('axis', axis)] },
  );
  node.input = [flat];
  node.output = [normal];
  node.attribute = [...(node.attribute ?? []), int('axis', -1)];
  up.after.push({ opType: 'Reshape', name: up.name(`${nameOf(node)}_back`), input: [normal, shape], output: [output] });
};

/** Upsample, and Resize of opset 10, count pixels from the corner; nearest is the pixel below when growing and the one above when shrinking. */
const oldResize: RewriteRule = (node, up) => {
  const attribute = take(node, 'scales');
  const scales = attribute?.floats ?? up.trace.floats(node.input?.[1] ?? '');
  const mode = Buffer.from(take(node, 'mode')?.s ?? 'nearest').toString();
  const grows = scales?.every((scale) => scale >= 1) ?? node.opType === 'Upsample';
  if (mode === 'nearest' && !grows && !scales?.every((scale) => scale <= 1)) {
    const why = scales ? 'grows one axis and shrinks another' : 'has scales that are not constant';
    throw refuse(node, `${why}, in the form of before opset 11`);
  }
  const input = attribute
    ? up.constant(`${nameOf(node)}_scales`, Tensor.float32([scales?.length ?? 0], scales ?? []))
    : (node.input?.[1] as string);
  node.opType = 'Resize';
  node.input = [node.input?.[0] ?? '', '', input];
  node.attribute = [
    text('mode', mode === 'bilinear' ? 'linear' : mode),
    text('coordinate_transformation_mode', 'asymmetric'),
    text('nearest_mode', grows ? 'floor' : 'ceil'),
  ];
};

const halfPixelResize: RewriteRule = (node) => {
  const mode = node.attribute?.find((attribute) => attribute.name === 'coordinate_transformation_mode')?.s;
  if (mode && Buffer.from(mode).toString() === 'tf_half_pixel_for_nn')
    throw refuse(node, 'uses tf_half_pixel_for_nn, which opset 13 took away');
};

const rename =
  (opType: string): RewriteRule =>
  (node) => {
    node.opType = opType;
  };

const defaultText =
  (name: string, value: string): RewriteRule =>
  (node) => {
    if (!node.attribute?.some((attribute) => attribute.name === name)) node.attribute = [...(node.attribute ?? []), text(name, value)];
  };

const axesToInput = intsToInput('axes', 1);

/** Rules by operator, in ascending order of the opset that brought the newer form. Source: the operator changelog of ONNX. */
const rules: Readonly<Record<string, readonly (readonly [since: number, rule: RewriteRule])[]>> = {
  BatchNormalization: [
    [9, spatial],
    [14, trainingBatchNorm],
  ],
  Clip: [[11, clip]],
  Dropout: [
    [10, dropoutMask],
    [12, dropout],
  ],
  Hardmax: [[13, flatSoftmax]],
  LogSoftmax: [[13, flatSoftmax]],
  Pad: [[11, pad]],
  ReduceL1: [[18, axesToInput]],
  ReduceL2: [[18, axesToInput]],
  ReduceLogSum: [[18, axesToInput]],
  ReduceLogSumExp: [[18, axesToInput]],
  ReduceMax: [[18, axesToInput]],
  ReduceMean: [[18, axesToInput]],
  ReduceMin: [[18, axesToInput]],
  ReduceProd: [[18, axesToInput]],
  ReduceSum: [[13, axesToInput]],
  ReduceSumSquare: [[18, axesToInput]],
  Resize: [
    [11, oldResize],
    [13, halfPixelResize],
  ],
  RoiAlign: [[16, defaultText('coordinate_transformation_mode', 'output_half_pixel')]],
  Scan: [
    [
      9,
      (node) => {
        throw refuse(node, 'is of the form of opset 8');
      },
    ],
  ],
  Scatter: [[18, rename('ScatterElements')]],
  Slice: [[10, sliceInputs]],
  Softmax: [[13, flatSoftmax]],
  Split: [
    [13, intsToInput('split', 1)],
    [18, splitCount],
  ],
  Squeeze: [[13, axesToInput]],
  TopK: [
    [
      10,
      (node, up) => {
        const k = take(node, 'k');
        if (k) setInput(node, 1, up.constant(`${nameOf(node)}_k`, new Tensor('int64', [1], BigInt64Array.of(toBigInt(k.i ?? 0)))));
      },
    ],
  ],
  Unsqueeze: [[13, axesToInput]],
  Upsample: [[18, oldResize]],
};

/**
 * Rewrite the nodes of a graph, in place and subgraphs included, from the forms of `opset` (7 to 17) to those of opset 18.
 * Throws MODEL_UNSUPPORTED_OP naming the node for a form that has no equal in opset 18.
 */
export function upgradeGraph(graph: GraphProto, opset: number): void {
  rewriteGraph(graph, (node) => {
    const known = standardDomain(node.domain) === '' && Object.hasOwn(rules, node.opType ?? '');
    return (known ? (rules[node.opType ?? ''] ?? []) : []).filter(([since]) => opset < since).map(([, rule]) => rule);
  });
}
