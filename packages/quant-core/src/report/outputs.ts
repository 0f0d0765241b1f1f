import { measureOf, metricFacts, sqnrOf } from '../evaluate/metrics.js';
import type { ModelOutputs, Outputs } from '../evaluate/outputs.js';
import { tasks } from '../tasks/index.js';
import type { ModelOutput } from '../tasks/output.js';
import { fidelityMetrics } from '../tasks/task.js';
import type { OutputReport } from './schema.js';

/** One row for every output of a model: what it is, how far int8 is from float, and what it is worth against the labels. */
export function outputRows(list: readonly ModelOutput[], float: ModelOutputs, int8: ModelOutputs): OutputReport[] {
  return list.map((declared): OutputReport => {
    const at = float.findIndex(({ output }) => output.name === declared.name);
    const [before, after] = [float[at], int8[at]];
    const { name, dtype, kind, axis, judged, why } = before?.output ?? declared;
    const labelled = before !== undefined && before.task !== 'unlabelled';
    return {
      name,
      dtype,
      kind,
      axis,
      judged,
      why,
      labelled,
      fidelity: after ? fidelityOf(after) : null,
      metrics: labelled && after ? metricsOf(before, after) : [],
    };
  });
}

function fidelityOf(outputs: Outputs): NonNullable<OutputReport['fidelity']> {
  return {
    sqnrDb: sqnrOf(outputs),
    relativeError: measureOf('relative_error', outputs).value(),
    cosine: measureOf('cosine', outputs).value(),
    positions: outputs.comparison.positions,
    agreement: outputs.comparison.positions ? measureOf('agreement', outputs).value() : null,
  };
}

/** Every metric of the task that these outputs have. */
function metricsOf(before: Outputs, after: Outputs): OutputReport['metrics'] {
  const fidelity: readonly string[] = fidelityMetrics(before.output);
  return tasks[before.task].metrics(before.output).flatMap((name) => {
    if (fidelity.includes(name) && before.task !== 'regression') return [];
    if (name === 'top5' && before.classes <= 5) return [];
    const [float, int8] = [metricFacts[name].measure(before), metricFacts[name].measure(after)];
    return typeof float === 'string' || typeof int8 === 'string' ? [] : [{ name, float: float.value(), int8: int8.value() }];
  });
}
