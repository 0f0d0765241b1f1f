import type { OutputKind } from '../choices.js';
import { OctetError } from '../errors.js';
import type { Dim, Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';

/** What class scores are: any numbers, shares of 1, or the logarithms of shares. */
export type ScoreForm = 'logits' | 'probabilities' | 'log_probabilities';

/** What one output of a model is, and how that is known. Plain data: an inspection shows it. */
export interface ModelOutput {
  name: string;
  /** Element type; `unknown` where it is not a tensor (a sequence, a map). */
  dtype: string;
  /** As declared, the batch first; null where the model does not say. */
  shape: (number | string)[] | null;
  kind: OutputKind;
  /** `classes`: the axis that counts the classes, the batch being axis 0. */
  axis: number | null;
  form: ScoreForm;
  /** Elements of one sample; null where open. */
  width: number | null;
  /** Whether it is compared with the float model's. Others are kept as they are and computed as before. */
  judged: boolean;
  /** The tensor whose values it holds, under whatever shape and softmax: outputs of one tensor say the same. */
  of: string;
  /** How kind and axis are known, or why the output is not judged. */
  why: string;
  /** Whether the graph, the job or the labels say so; otherwise it is a guess that losses and verdicts do not build on. */
  certain: boolean;
}

/** What a job says about an output. */
interface Wish {
  name: string;
  kind: OutputKind;
  axis?: number;
}

/** Elements of one sample. */
const widthOf = (shape: readonly Dim[] | null | undefined): number | null => {
  const row = shape?.slice(1);
  return row?.every((dim) => typeof dim === 'number') ? (row as number[]).reduce((a, b) => a * b, 1) : null;
};

/**
 * What the outputs of a model are, from its graph: what they end in (Softmax, Sigmoid, a norm), what is computed from them (ArgMax, TopK) and
 * their shapes. What a job says (`wishes`) goes first.
 * @param wishes entries that name no output raise CONFIG_IMPOSSIBLE
 */
export function describeOutputs(graph: Graph, wishes: readonly Wish[] = []): ModelOutput[] {
  const lost = wishes.findIndex((wish) => !graph.outputs.some((value) => value.name === wish.name));
  if (lost >= 0) {
    throw new OctetError(
      'CONFIG_IMPOSSIBLE',
      `outputs[${lost}] names "${wishes[lost]?.name}"; the model has the outputs ${graph.outputs.map((value) => `"${value.name}"`).join(', ')}`,
      { pointer: `/outputs/${lost}/name` },
    );
  }
  const batch = graph.inputs[0]?.shape?.[0];
  const ranked = classAxes(graph);
  return graph.outputs.map((value) => {
    const wish = wishes.findLastIndex((one) => one.name === value.name);
    const output = describe(value, batch, ranked.get(lookThrough(value)));
    return wish < 0 ? output : wished(output, wishes[wish] as Wish, wish);
  });
}

function describe(value: Value, batch: Dim | undefined, ranked: { axis: number; op: string } | undefined): ModelOutput {
  const shape = value.shape ? [...value.shape] : null;
  const facts = {
    name: value.name,
    dtype: value.dtype ?? 'unknown',
    shape,
    width: widthOf(shape),
    of: lookThrough(logitsOf(value).logits).name,
  };
  const unjudged = (why: string): ModelOutput => ({
    ...facts,
    kind: 'other',
    axis: null,
    form: 'logits',
    judged: false,
    why,
    certain: true,
  });
  if (value.producer?.opName === 'ZipMap') return unjudged('It is a list of maps, which ZipMap makes: export the model with zipmap=False.');
  if (value.dtype !== 'float32')
    return unjudged(`It is ${value.dtype ?? 'no tensor of numbers'}: kept, and computed as in the float model.`);
  if (shape && !shape.length) return unjudged('It has no batch dimension.');
  if (shape && batch !== undefined && shape[0] !== batch && !(typeof shape[0] === 'string' && typeof batch === 'string'))
    return unjudged(`Its first dimension is ${shape[0]} and not the batch (${batch}).`);
  const is = (kind: OutputKind, why: string, more: Partial<ModelOutput> = {}): ModelOutput => ({
    ...facts,
    kind,
    axis: null,
    form: 'logits',
    judged: true,
    why,
    certain: true,
    ...more,
  });
  const end = lookThrough(value).producer;
  const { form, axis } = scoresOf(value);
  if (form !== 'logits' && axis !== undefined) return is('classes', `It ends in ${end?.op}.`, { axis, form });
  if (end?.op === 'Sigmoid') return is('binary', 'It ends in Sigmoid.', { form: 'probabilities' });
  if (end?.op === 'TopK') return is('values', 'It holds the largest values (TopK), not one for each class.');
  if (ranked) return is('classes', `${ranked.op} is taken of it.`, { axis: ranked.axis });
  if (end && normalises(end)) return is('embedding', 'Its rows are brought to length 1.');
  if (/logit/i.test(value.name) && shape && shape.length === 2) return is('classes', 'Its name says logits.', { axis: 1, certain: false });
  return is('values', 'Nothing in the graph says that it is class scores.', { certain: false });
}

function wished(output: ModelOutput, { kind, axis }: Wish, position: number): ModelOutput {
  if (!output.judged) {
    throw new OctetError('CONFIG_IMPOSSIBLE', `Output "${output.name}" is not judged: ${output.why}`, { pointer: `/outputs/${position}` });
  }
  const why = 'The job says so.';
  if (kind !== 'classes') return { ...output, kind, axis: null, why, certain: true };
  const rank = output.shape?.length ?? 2;
  const counted = axis === undefined ? 1 : axis < 0 ? axis + rank : axis;
  if (counted < 1 || counted >= rank) {
    throw new OctetError(
      'CONFIG_IMPOSSIBLE',
      `outputs[${position}].axis is ${axis ?? 1}; output "${output.name}" has the axes 1 to ${rank - 1} besides the batch`,
      { pointer: `/outputs/${position}/axis` },
    );
  }
  return { ...output, kind, axis: counted, why, certain: true };
}

/** The value an output is a copy or another shape of. */
function lookThrough(output: Value): Value {
  let at = output;
  while (at.producer && spec(at.producer.op).keepsElements === 'reshaped') at = at.producer.input(0);
  return at;
}

/** The logits that an output is made of, where a last Softmax, LogSoftmax or Sigmoid shows them (reshapes after it are looked through), and its form. */
export function logitsOf(output: Value): { logits: Value; form: ScoreForm; axis?: number } {
  const { producer } = lookThrough(output);
  if (producer?.op === 'Sigmoid') return { logits: producer.input(0), form: 'probabilities' };
  if (producer?.is('Softmax', 'LogSoftmax')) {
    const logits = producer.input(0);
    return {
      logits,
      form: producer.is('Softmax') ? 'probabilities' : 'log_probabilities',
      axis: fromFront(producer.attr('axis'), logits.shape?.length ?? 2),
    };
  }
  return { logits: output, form: 'logits' };
}

/** Form and class axis of an output that ends in a softmax; the axis is that of the output, where its shape still shows it. */
function scoresOf(output: Value): { form: ScoreForm; axis?: number } {
  const end = lookThrough(output);
  const { producer } = end;
  const { form } = logitsOf(output);
  if (!producer?.is('Softmax', 'LogSoftmax')) {
    const moved = producer?.is('Transpose') ? producer : undefined;
    const before = moved && lookThrough(moved.input(0)).producer;
    if (!moved || !before?.is('Softmax', 'LogSoftmax')) return { form: 'logits' };
    const rank = moved.input(0).shape?.length ?? 0;
    const perm = moved.attr('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
    const axis = perm.indexOf(fromFront(before.attr('axis'), rank));
    return axis > 0 ? { form: before.is('Softmax') ? 'probabilities' : 'log_probabilities', axis } : { form: 'logits' };
  }
  const axis = fromFront(producer.attr('axis'), end.shape?.length ?? 2);
  const moved = movedAxis(end.shape, output.shape, axis);
  return moved > 0 ? { form, axis: moved } : { form };
}

/** An axis counted from the front. */
const fromFront = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** Where `axis` of `from` stands in `to`, axes of size 1 put in or left out; 1 for one row a sample, -1 where that cannot be told. */
function movedAxis(from: readonly Dim[] | undefined, to: readonly Dim[] | undefined, axis: number): number {
  if (!from || !to) return axis;
  if (from.length === to.length && from.every((dim, i) => dim === to[i] || typeof dim === 'string')) return axis;
  const size = from[axis];
  const found = to.flatMap((dim, i) => (i > 0 && dim === size ? [i] : []));
  return found.length === 1 ? (found[0] as number) : -1;
}

/** Values that an ArgMax, TopK or softmax is taken of, with the axis. */
function classAxes(graph: Graph): Map<Value, { axis: number; op: string }> {
  const found = new Map<Value, { axis: number; op: string }>();
  for (const node of graph.nodes) {
    if (!node.is('ArgMax', 'TopK', 'Softmax', 'LogSoftmax')) continue;
    const from = node.input(0);
    const axis = fromFront(node.attr('axis'), from.shape?.length ?? 2);
    if (axis <= 0) continue;
    for (const value of [from, logitsOf(from).logits]) found.set(lookThrough(value), { axis, op: node.op });
  }
  return found;
}

/** Whether a node divides rows by their length. */
function normalises(node: Node): boolean {
  if (node.op === 'LpNormalization') return true;
  const by = node.op === 'Div' ? node.inputs[1] : undefined;
  let at = by?.producer;
  for (let steps = 0; at && steps < 4; steps++) {
    if (at.op === 'ReduceL2') return true;
    if (at.op === 'Sqrt') return at.input(0).producer?.op === 'ReduceSum' || at.input(0).producer?.op === 'ReduceSumSquare';
    at = ['Clip', 'Max', 'Expand', 'Add', 'Identity'].includes(at.op) ? at.inputs[0]?.producer : undefined;
  }
  return false;
}
