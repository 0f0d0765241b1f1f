import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';
import { sizeOf } from '../tensor/tensor.js';
import type { SampleSpec } from './materialise.js';
import type { Order, Reading, Stored } from './reading.js';
import { scalingOf, unscaled } from './scaling.js';

type Layout = NonNullable<DatasetConfig['layout']>;

interface Candidate {
  shape: number[];
  order: Order;
  channels: number;
}

/**
 * Decide the one reading of stored samples as inputs of shape `spec` (as they are when there is none). Values for integer inputs, and for models with
 * `several` inputs, go in as they are.
 * @throws OctetError DATASET_AMBIGUOUS when there are two, DATASET_SHAPE when there is none, DATASET_CONFIG
 */
export function fitSamples(stored: Stored, config: DatasetConfig, spec: SampleSpec | undefined, several = false): Reading {
  const assumptions: string[] = [];
  const layout = stored.format === 'images' ? 'NHWC' : config.layout;
  const chosen = spec
    ? choose(stored.sampleShape, spec.shape, layout, assumptions)
    : { shape: [...stored.sampleShape], order: 'same' as const, channels: 1 };
  const integer = spec && spec.dtype !== 'float32' ? `input ${spec.name ?? ''} of the model is ${spec.dtype}` : undefined;
  const asTheyAre = integer ?? (several ? 'the model has several inputs' : undefined);
  const scaling = asTheyAre
    ? unscaled(config, asTheyAre)
    : scalingOf(stored, config, chosen.shape, channelAxis(chosen.order, layout), assumptions);
  return { ...chosen, scaling, dtype: spec?.dtype ?? 'float32', assumptions };
}

/** Where the channels are once samples are in the order of the model, as far as it is known. */
function channelAxis(order: Order, layout: Layout | undefined): 'first' | 'last' | undefined {
  if (order === 'lastToFirst') return 'first';
  if (order === 'firstToLast') return 'last';
  return layout && (layout === 'NCHW' ? 'first' : 'last');
}

function choose(stored: readonly number[], wanted: SampleSpec['shape'], layout: Layout | undefined, assumptions: string[]): Candidate {
  const kept = reshapes(stored, wanted).map((shape): Candidate => ({ shape, order: 'same', channels: 1 }));
  const moved = [...moves(stored, wanted, layout), ...unflattenings(stored, wanted, layout)];
  const exact = kept.length === 1 && wanted.every((dim) => dim !== undefined);
  if (kept.length === 1 && (moved.length === 0 || (exact && !layout))) return kept[0] as Candidate;
  if (kept.length === 0 && moved.length === 1) return moved[0] as Candidate;
  if (kept.length === 0 && moved.length === 0) {
    throw new OctetError(
      'DATASET_SHAPE',
      `Samples of shape ${show(stored)} cannot be brought to the model input ${show(wanted)}${layout ? ` when they are stored as ${layout}` : ''}.`,
      {},
      {
        hint: 'Send samples in the shape of the model input (without the batch dimension), with channels first or last.',
      },
    );
  }
  if (layout && kept.length <= 1 && moved.length === 1) {
    const candidate = (layout === 'NHWC' ? moved[0] : kept[0]) as Candidate;
    assumptions.push(
      `Samples ${show(stored)} fit the model input ${show(wanted)} in either layout; the model is taken to want channels first, as ONNX has it.`,
    );
    return candidate;
  }
  throw new OctetError(
    'DATASET_AMBIGUOUS',
    `Samples of shape ${show(stored)} can be read as the model input ${show(wanted)} in more than one way.`,
    {},
    {
      hint: 'Say {"layout": "NHWC"} or {"layout": "NCHW"} in the config of the dataset: how the samples are stored.',
    },
  );
}

/** Readings that keep the order of elements: the same shape, axes of size 1 put in or left out, or flattened. */
function reshapes(stored: readonly number[], wanted: SampleSpec['shape']): number[][] {
  if (stored.length === wanted.length && wanted.every((dim, i) => dim === undefined || dim === stored[i])) return [[...stored]];
  const shapes = align(
    stored.filter((dim) => dim !== 1),
    wanted,
  );
  if (shapes.length > 0) return shapes;
  const elements = sizeOf(stored);
  if (wanted.length === 1) return wanted[0] === undefined || wanted[0] === elements ? [[elements]] : [];
  return [];
}

/** Every way to give `dims` (none of them 1) to `wanted` in order, the rest being 1. */
function align(dims: readonly number[], wanted: SampleSpec['shape']): number[][] {
  if (wanted.length === 0) return dims.length === 0 ? [[]] : [];
  const [dim, ...rest] = wanted;
  const found: number[][] = [];
  const [head, ...tail] = dims;
  if (head !== undefined && (dim === undefined || dim === head)) found.push(...align(tail, rest).map((shape) => [head, ...shape]));
  if (dim === undefined || dim === 1) found.push(...align(dims, rest).map((shape) => [1, ...shape]));
  return found;
}

/** Readings that move the channels from one end to the other. */
function moves(stored: readonly number[], wanted: SampleSpec['shape'], layout: Layout | undefined): Candidate[] {
  if (stored.length !== wanted.length || stored.length < 2 || (stored.length === 2 && !layout)) return [];
  const first = stored[0] as number;
  const last = stored.at(-1) as number;
  const fits = (shape: readonly number[]) => wanted.every((dim, i) => dim === undefined || dim === shape[i]);
  const found: Candidate[] = [];
  const toFirst = [last, ...stored.slice(0, -1)];
  if (layout !== 'NCHW' && last !== 1 && fits(toFirst)) found.push({ shape: toFirst, order: 'lastToFirst', channels: last });
  const toLast = [...stored.slice(1), first];
  if (layout !== 'NHWC' && first !== 1 && fits(toLast)) found.push({ shape: toLast, order: 'firstToLast', channels: first });
  return found;
}

/** Readings of flat samples as images: kept in order for one channel, otherwise as the layout says. */
function unflattenings(stored: readonly number[], wanted: SampleSpec['shape'], layout: Layout | undefined): Candidate[] {
  const dims = stored.filter((dim) => dim !== 1);
  const shape = wanted.filter((dim) => dim !== undefined);
  if (dims.length !== 1 || shape.length !== wanted.length || shape.filter((dim) => dim !== 1).length < 2 || sizeOf(shape) !== dims[0])
    return [];
  const same: Candidate = { shape, order: 'same', channels: 1 };
  if (shape.length < 3 || shape[0] === 1 || shape.at(-1) === 1) return [same];
  const channelsLast = couldBeColours(shape.at(-1) as number) && !couldBeColours(shape[0] as number);
  const moved: Candidate = channelsLast
    ? { shape, order: 'firstToLast', channels: shape.at(-1) as number }
    : { shape, order: 'lastToFirst', channels: shape[0] as number };
  if (!layout) return [same, moved];
  return [(layout === 'NHWC') === channelsLast ? same : moved];
}

/** Images have 3 or 4 channels at one end; models without such an end are taken to have channels first. */
function couldBeColours(dim: number): boolean {
  return dim === 3 || dim === 4;
}

function show(shape: readonly (number | undefined)[]): string {
  return `[${shape.map((dim) => dim ?? '?').join(', ')}]`;
}
