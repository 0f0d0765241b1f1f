import { tmpdir } from 'node:os';
import type { TaskName } from '../../choices.js';
import type { ModelOutput } from '../../tasks/output.js';
import { modelOutput } from '../../tasks/testing/specs.js';
import { type CollectorOptions, OutputCollector } from '../collector.js';
import type { ModelOutputs, Outputs } from '../outputs.js';

/** What a model said with one output, from rows of numbers; rows are kept, so that others can be compared with it. */
export function collected(
  output: ModelOutput,
  task: TaskName,
  rows: readonly (readonly number[])[],
  truth: { labels?: readonly number[]; values?: readonly (readonly number[])[] } = {},
  options: CollectorOptions = {},
): Outputs {
  const collector = new OutputCollector(output, task, { keepRowsIn: tmpdir(), ...options });
  const { labels, values } = truth;
  collector.add(Float32Array.from(rows.flat()), (output.shape ?? []).slice(1) as number[], {
    indices: rows.map((_, i) => i),
    ...(labels ? { labels: Int32Array.from(labels) } : {}),
    ...(values ? { values: { data: Float32Array.from(values.flat()) } } : {}),
  });
  return collector.finish(1);
}

/** Classifier outputs from rows of scores, compared with `reference` where there is one. */
export function classOutputs(rows: readonly (readonly number[])[], labels?: readonly number[], reference?: Outputs): Outputs {
  const width = rows[0]?.length ?? 1;
  const output = width === 1 ? modelOutput('y', 'binary', [1]) : modelOutput('y', 'classes', [width]);
  return collected(output, labels ? 'classification' : 'unlabelled', rows, labels ? { labels } : {}, { reference });
}

/** Outputs of a classifier that names `named[i]` for sample i, with truth `labels`. */
export function naming(named: readonly number[], labels: readonly number[], classes: number, reference?: Outputs): Outputs {
  return classOutputs(
    named.map((label) => Array.from({ length: classes }, (_, c) => (c === label ? 2 : 0))),
    labels,
    reference,
  );
}

/** Regressor outputs from rows of values. */
export function valueOutputs(rows: readonly (readonly number[])[], targets?: readonly (readonly number[])[], reference?: Outputs): Outputs {
  const output = modelOutput('y', 'values', [rows[0]?.length ?? 1]);
  return collected(output, targets ? 'regression' : 'unlabelled', rows, targets ? { values: targets } : {}, { reference });
}

/** The outputs of a model that has one. */
export const only = (outputs: Outputs): ModelOutputs => [outputs];
