import { OutputCollector, type Outputs } from '../outputs.js';

/** Classifier outputs from rows of scores. */
export function classOutputs(rows: readonly (readonly number[])[], labels?: readonly number[]): Outputs {
  const collector = new OutputCollector(labels ? 'classification' : 'unlabelled');
  collector.add(Float32Array.from(rows.flat()), rows.length, { indices: rows.map((_, i) => i), ...(labels ? { labels } : {}) });
  return collector.finish(1);
}

/** Outputs of a classifier that names `named[i]` for sample i, with truth `labels`. */
export function naming(named: readonly number[], labels: readonly number[], classes: number): Outputs {
  return classOutputs(
    named.map((label) => Array.from({ length: classes }, (_, c) => (c === label ? 2 : 0))),
    labels,
  );
}

/** Regressor outputs from rows of values. */
export function valueOutputs(rows: readonly (readonly number[])[], targets?: readonly (readonly number[])[]): Outputs {
  const collector = new OutputCollector('regression');
  collector.add(Float32Array.from(rows.flat()), rows.length, {
    indices: rows.map((_, i) => i),
    ...(targets ? { values: targets.flat() } : {}),
  });
  return collector.finish(1);
}
