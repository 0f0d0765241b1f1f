import Type, { type Static } from 'typebox';
import type { CalibratedRange } from '../calibrate/calibrate.js';
import { OctetError } from '../errors.js';
import { PlacementSchema } from '../fakequant/placementRecord.js';
import type { QuantPlan } from '../fakequant/plan.js';
import type { WeightRange } from '../fakequant/scales.js';
import type { Graph, Node } from '../ir/graph.js';
import { CalibrationSchema } from '../report/schema.js';
import { Tensor } from '../tensor/tensor.js';
import type { NamedArrays } from '../train/arrays.js';
import type { Context } from './context.js';
import type { PreparedModel } from './model.js';
import { type Placed, planWith } from './placement.js';
import type { PtqStart, PtqWeights } from './ptq.js';

/** What the stages "calibrate" and "ptq" found out by looking at data, and what a job that goes on need not look for again. */
export interface PtqState {
  placed: Placed;
  equalized: PtqStart;
  weights: PtqWeights;
  /** Warnings of the stage "calibrate", for the report. */
  warnings: Context['warnings'];
}

/** A weight or bias that differs from that of the graph before, by the first place it stands in; `values` names its array. */
const ConstantSchema = Type.Object({
  node: Type.String(),
  port: Type.Integer({ minimum: 0 }),
  name: Type.String(),
  shape: Type.Array(Type.Integer({ minimum: 0 })),
  values: Type.String(),
});
const RangesSchema = Type.Object({ names: Type.Array(Type.String()), values: Type.String() });
const WeightRangeSchema = Type.Object({
  weight: Type.String(),
  kind: Type.Enum(['share', 'scale']),
  values: Type.String(),
  zeroPoint: Type.Optional(Type.Array(Type.Integer())),
});

const { equalizedPairs: _, ...figures } = CalibrationSchema.properties;
export const SavedPtqSchema = Type.Object({
  placement: Type.Union([PlacementSchema, Type.Null()]),
  calibrated: RangesSchema,
  equalized: Type.Union([
    Type.Object({ pairs: Type.Integer(), calibrated: RangesSchema, constants: Type.Array(ConstantSchema) }),
    Type.Null(),
  ]),
  rounded: Type.Union([Type.Object({ constants: Type.Array(ConstantSchema), ranges: Type.Array(WeightRangeSchema) }), Type.Null()]),
  /** Against the rounded graph, where there is one. */
  constants: Type.Array(ConstantSchema),
  ranges: Type.Array(WeightRangeSchema),
  figures: Type.Object(figures),
  warnings: Type.Array(
    Type.Object({ code: Type.String(), text: Type.String(), place: Type.Optional(Type.Record(Type.String(), Type.Unknown())) }),
  ),
});
type SavedPtq = Static<typeof SavedPtqSchema>;
type SavedConstant = Static<typeof ConstantSchema>;
type SavedWeightRange = Static<typeof WeightRangeSchema>;

/** As JSON and arrays; weights are not copied. Graphs are told by what differs from `model`. */
export function packPtq({ placed, equalized, weights, warnings }: PtqState, model: PreparedModel): { ptq: SavedPtq; arrays: NamedArrays } {
  const arrays: Record<string, Float32Array | Float64Array> = {};
  const put = (array: Float32Array | Float64Array): string => {
    const name = `ptq/${Object.keys(arrays).length}`;
    arrays[name] = array;
    return name;
  };
  const { rounded } = weights;
  const ptq = {
    placement: placed.placement,
    calibrated: packRanges(placed.calibrated, put),
    equalized:
      equalized.model === model
        ? null
        : {
            pairs: equalized.equalizedPairs,
            calibrated: packRanges(equalized.calibrated, put),
            constants: packConstants(model.graph, equalized.model.graph, put),
          },
    rounded: rounded
      ? { constants: packConstants(equalized.model.graph, rounded.graph, put), ranges: packWeightRanges(rounded.ranges, put) }
      : null,
    constants: packConstants((rounded ?? equalized.model).graph, weights.graph, put),
    ranges: packWeightRanges(weights.weightRanges, put),
    figures: weights.figures,
    warnings: warnings as SavedPtq['warnings'],
  };
  return { ptq, arrays };
}

/** What `packPtq` took apart. Throws CHECKPOINT_MISMATCH when the parts do not fit the model. */
export function unpackPtq(saved: SavedPtq, arrays: NamedArrays, context: Context, model: PreparedModel, full: QuantPlan): PtqState {
  const calibrated = unpackRanges(saved.calibrated, arrays);
  const { placement } = saved;
  const placed: Placed = { plan: planWith(context, model, full, placement), calibrated, placement };
  const equalized: PtqStart = saved.equalized
    ? {
        model: { ...model, graph: withConstants(model.graph, saved.equalized.constants, arrays) },
        calibrated: unpackRanges(saved.equalized.calibrated, arrays),
        equalizedPairs: saved.equalized.pairs,
      }
    : { model, calibrated, equalizedPairs: 0 };
  const before = equalized.model.graph;
  const rounded = saved.rounded && {
    graph: withConstants(before, saved.rounded.constants, arrays),
    ranges: unpackWeightRanges(saved.rounded.ranges, arrays),
  };
  const weights: PtqWeights = {
    graph: withConstants(rounded?.graph ?? before, saved.constants, arrays),
    weightRanges: unpackWeightRanges(saved.ranges, arrays),
    ...(rounded ? { rounded } : {}),
    figures: saved.figures,
  };
  return { placed, equalized, weights, warnings: saved.warnings as Context['warnings'] };
}

type Put = (array: Float32Array | Float64Array) => string;

/** Four numbers a value: the range to quantize, and the average that training goes on from. */
function packRanges(ranges: ReadonlyMap<string, CalibratedRange>, put: Put): Static<typeof RangesSchema> {
  const numbers = [...ranges.values()].flatMap(({ range, average }) => [range.min, range.max, average.min, average.max]);
  return { names: [...ranges.keys()], values: put(Float64Array.from(numbers)) };
}

function unpackRanges({ names, values }: Static<typeof RangesSchema>, arrays: NamedArrays): Map<string, CalibratedRange> {
  const numbers = arrayOf(arrays, values, 4 * names.length);
  return new Map(
    names.map((name, at) => {
      const [low, high, averageLow, averageHigh] = numbers.subarray(4 * at, 4 * at + 4) as unknown as [number, number, number, number];
      return [name, { range: { min: low, max: high }, average: { min: averageLow, max: averageHigh } }];
    }),
  );
}

function packWeightRanges(ranges: ReadonlyMap<string, WeightRange>, put: Put): SavedWeightRange[] {
  return [...ranges].map(([weight, range]) =>
    'share' in range
      ? { weight, kind: 'share', values: put(range.share) }
      : { weight, kind: 'scale', values: put(range.scale), ...(range.zeroPoint ? { zeroPoint: [...range.zeroPoint] } : {}) },
  );
}

function unpackWeightRanges(saved: readonly SavedWeightRange[], arrays: NamedArrays): Map<string, WeightRange> {
  return new Map(
    saved.map(({ weight, kind, values, zeroPoint }): [string, WeightRange] => {
      const numbers = floatsOf(arrays, values);
      if (kind === 'share') return [weight, { share: numbers }];
      return [weight, { scale: numbers, ...(zeroPoint ? { zeroPoint: Int8Array.from(zeroPoint) } : {}) }];
    }),
  );
}

/** The constants of `after` that are not those of `before`, of which it is a copy, in the order of the nodes. */
function packConstants(before: Graph, after: Graph, put: Put): SavedConstant[] {
  const seen = new Set<unknown>();
  return after.nodes.flatMap((node, at) =>
    node.inputs.flatMap((value, port) => {
      const tensor = value?.constant;
      if (!value || !tensor || seen.has(value) || before.nodes[at]?.inputs[port]?.constant === tensor) return [];
      seen.add(value);
      return [{ node: node.name, port, name: value.name, shape: [...tensor.shape], values: put(tensor.as('float32').data) }];
    }),
  );
}

/** A copy of the graph with these constants in the place of its own; the graph itself where there are none. */
function withConstants(graph: Graph, constants: readonly SavedConstant[], arrays: NamedArrays): Graph {
  if (!constants.length) return graph;
  const copy = graph.clone();
  const nodes = new Map<string, Node>(copy.nodes.map((node) => [node.name, node]));
  for (const { node: name, port, name: constant, shape, values } of constants) {
    const node = nodes.get(name);
    const value = node?.inputs[port];
    if (!node || !value?.constant) throw misfit(`the model has no weights at input ${port} of ${name}`);
    const tensor = Tensor.float32(shape, floatsOf(arrays, values));
    if (value.name === constant) {
      value.constant = tensor;
      value.type = { dtype: 'float32', shape };
    } else node.setInput(port, copy.constant(constant, tensor));
  }
  return copy;
}

function arrayOf(arrays: NamedArrays, name: string, length?: number): Float32Array | Float64Array {
  const array = arrays[name];
  if (!array || (length !== undefined && array.length !== length)) throw misfit(`its array ${name} is missing or of another length`);
  return array;
}

function floatsOf(arrays: NamedArrays, name: string): Float32Array {
  const array = arrayOf(arrays, name);
  if (!(array instanceof Float32Array)) throw misfit(`its array ${name} is not float32`);
  return array;
}

const misfit = (why: string) => new OctetError('CHECKPOINT_MISMATCH', `The checkpoint does not fit the job: ${why}`);
