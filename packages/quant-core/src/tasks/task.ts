import type { MetricName, OutputKind } from '../choices.js';
import { labelOffsetOf } from '../data/label-offset.js';
import type { RowFacts } from '../data/targets.js';
import { sizeOf } from '../tensor/tensor.js';
import type { ModelOutput } from './output.js';

/** How a loss compares an output with its targets. */
export type LossKind = 'cross_entropy' | 'binary_cross_entropy' | 'mse' | 'huber';

/** What evaluation keeps of an output beside its distance from the float model's. */
export type Collected = 'classes' | 'soft' | 'binary' | 'positions' | 'values' | 'nothing';

/** Parts of a report that only some tasks have. */
export type ReportBlock = 'classes' | 'confusion' | 'flips';

/** What a dataset tells about its targets, without a model. */
export interface TargetFacts {
  /** Class labels: the largest label + 1, or the number of names. */
  classes?: number;
  /** Samples of each class; `classNames` where labels are names. */
  classCounts?: readonly number[];
  classNames?: readonly string[];
  /** Set where labels that start at 1 have been brought to start at 0. */
  labelOffset?: 0 | 1;
  /** Rows of numbers: shape of one. */
  targetShape?: readonly number[];
  targetFacts?: RowFacts;
}

/** Targets of a batch, as the dataset holds them. */
export interface Truth {
  /** Class of each sample. */
  labels?: Int32Array;
  /** [n, …target] rows of numbers. */
  values?: { data: Float32Array };
}

/** How the class axis lies in one sample: [outer, classes, inner], the positions being outer × inner. */
export interface ClassLayout {
  outer: number;
  classes: number;
  inner: number;
}

/** @param shape of one sample, the batch left out; `axis` counts the batch as axis 0 */
export function layoutOf(shape: readonly number[], axis: number): ClassLayout {
  const at = axis - 1;
  return { outer: sizeOf(shape.slice(0, at)), classes: shape[at] ?? 1, inner: sizeOf(shape.slice(at + 1)) };
}

/** Labels a position that count for nothing. */
export const isIgnored = (label: number, classes: number, ignoreIndex: number | undefined): boolean =>
  label < 0 || label === ignoreIndex || (ignoreIndex === undefined && label === 255 && classes <= 255);

/** One row of the table of tasks: everything that depends on what the labels are. */
export interface Task {
  /** For sentences: "a dataset of …". */
  readonly label: string;
  /** What the output is, once labels of this kind belong to it. */
  readonly kind: OutputKind | undefined;
  /** Why the targets cannot be those of this output; undefined where they fit. `shape` is that of one sample, open sizes undefined. */
  refuses(targets: TargetFacts, output: ModelOutput): string | undefined;
  /** The class axis of the output for these targets, the batch being axis 0. */
  axis(targets: TargetFacts, output: ModelOutput): number | null;
  /** Losses that can be asked for; the first is "auto". Empty: there is nothing to compare with but the float model. */
  losses(output: ModelOutput): readonly LossKind[];
  /** Metrics that can be asked for, for an output of this kind; the first is "auto". */
  metrics(output: ModelOutput): readonly MetricName[];
  /** Target rows `from … to` of a batch in the shape of the output, as the loss wants them. */
  targets(truth: Truth, target: TargetSpec, from: number, to: number): Float32Array;
  readonly collects: Collected;
  readonly blocks: readonly ReportBlock[];
}

/** What target rows are made for. */
export interface TargetSpec {
  /** Elements of one output row. */
  width: number;
  layout: ClassLayout;
  ignoreIndex: number | undefined;
}

/** Rows of numbers as they are. */
export function sameRows({ values }: Truth, { width }: Pick<TargetSpec, 'width'>, from: number, to: number): Float32Array {
  return (values as { data: Float32Array }).data.subarray(from * width, to * width);
}

/** Elements of one row of an output; undefined where open. */
export const elements = ({ width }: ModelOutput): number | undefined => width ?? undefined;

/** What an output without labels is compared by: agreement where there is a class axis, and its distance from the float model's. */
export function fidelityMetrics({ kind }: Pick<ModelOutput, 'kind'>): readonly MetricName[] {
  const distance = ['relative_error', 'cosine', 'mae', 'rmse', 'r2'] as const;
  return kind === 'classes' || kind === 'binary' ? ['agreement', ...distance] : [...distance, 'agreement'];
}

/** 1 where labels count from 1: no sample has class 0, and the model has one output less than the largest label says. */
export const labelOffset = ({ classCounts, classNames, labelOffset: known }: TargetFacts, width: number | undefined): 0 | 1 =>
  classNames || known !== undefined ? 0 : labelOffsetOf(classCounts, width);
