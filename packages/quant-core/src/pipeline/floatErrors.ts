import type { MetricName } from '../choices.js';
import { OctetError } from '../errors.js';
import type { ClassOrder } from '../evaluate/classOrder.js';
import { betterOf, isNear } from '../evaluate/floatCheck.js';
import { metricFacts } from '../evaluate/metrics.js';
import { causes, type Trial } from '../evaluate/readings.js';
import { configText, readingAdvice } from '../report/baseline.js';
import { count, intervalText, metricText } from '../report/format.js';
import type { MetricValue } from '../report/schema.js';
import type { Work } from './work.js';

/** One reading that was tried, and what came of it. */
export interface Tried {
  trial: Trial;
  value: MetricValue;
  order: ClassOrder | null;
  /** What is still poor about the float model. */
  poor: string | null;
}

/** All that was tried. */
export interface Trials {
  samples: number;
  asConfigured: MetricValue;
  tried: Tried[];
}

/** The reading under which the metric is best. */
export const bestOf = (metric: MetricName, tried: readonly Tried[]): Tried | undefined =>
  tried.reduce<Tried | undefined>((a, b) => (a && !betterOf(metric, b.value.value, a.value.value) ? a : b), undefined);

/** The classes in the order of the outputs that was found, as a field of the config; labels without names are told one by one. */
function orderAdvice({ data }: Work, { outputOf, offset }: ClassOrder): string {
  if (offset !== null)
    return `Labels stand ${offset > 0 ? 'one too low' : 'one too high'}: label n is output n ${offset > 0 ? '+' : '−'} 1 of the model. Number the labels anew.`;
  const names = data.dataset.classNames;
  if (!names) {
    const moved = outputOf.flatMap((output, label) => (output === label ? [] : [`${label} → ${output}`]));
    return `Number the labels anew (label → output): ${moved.slice(0, 20).join(', ')}${moved.length > 20 ? ', …' : ''}.`;
  }
  const ordered = new Array<string>(outputOf.length).fill('');
  outputOf.forEach((output, label) => {
    ordered[output] = names[label] ?? '';
  });
  while (ordered.length && ordered.at(-1) === '') ordered.pop();
  return `Set {"classes": ${JSON.stringify(ordered)}} in the config of the dataset.`;
}

const share = (value: number) => metricText(value, 'fraction');

export function contradicted(on: Work, order: ClassOrder, trial: Trial | null): OctetError {
  const { before, after, samples, offset } = order;
  const advice = orderAdvice(on, order);
  const set = trial ? `${readingOf(trial)} ` : '';
  return new OctetError(
    'FLOAT_CLASS_ORDER',
    `With the labels as they are numbered the float model is right in ${share(before)} of ${count(samples)} samples, and in ${share(after)} ${offset === null ? 'with the classes in another order' : 'with the labels moved by one'}${trial ? ` and ${trial.name}` : ''}: its confusion matrix is nearly a permutation. Nothing was trained.`,
    { pointer: '/datasetConfig/classes' },
    { hint: `${set}${advice} If the labels are right, state what the float model reaches as evaluation.expectedFloat.` },
  );
}

export function readOtherwise(
  { data }: Work,
  metric: MetricName,
  poor: string,
  { samples, asConfigured }: Trials,
  better: Tried,
): OctetError {
  const { unit, label } = metricFacts[metric];
  const { name } = better.trial;
  return new OctetError(
    'FLOAT_READ_OTHERWISE',
    `The float model ${poor}. On ${count(samples)} samples its ${label} is ${metricText(asConfigured.value, unit)} as they are read, and ${metricText(better.value.value, unit)} with ${name}. ${assumed(data.assumptions)}Nothing was trained.`,
    { pointer: '/datasetConfig' },
    {
      hint: `${readingOf(better.trial)} If the samples are read rightly, state what the float model reaches as evaluation.expectedFloat.`,
    },
  );
}

const assumed = (assumptions: readonly string[]) =>
  assumptions
    .filter((text) => /scale|bytes/i.test(text))
    .map((text) => `${text} `)
    .join('');

export function notAsExpected(
  on: Work,
  metric: MetricName,
  { measured, expected, samples, compared }: { measured: MetricValue; expected: number; samples: number; compared: 'worse' | 'better' },
  order: ClassOrder | null,
  trials: Trials | null,
): OctetError {
  const { unit, label } = metricFacts[metric];
  const text = (value: number) => metricText(value, unit);
  const figures = `The float model has ${label} ${text(measured.value)} (95 % ${intervalText(measured.ci95, unit)}, ${count(samples)} samples), and ${text(expected)} was stated (evaluation.expectedFloat).`;
  const pointer = { pointer: '/evaluation/expectedFloat' };
  if (compared === 'better') {
    return new OctetError('FLOAT_NOT_AS_EXPECTED', `${figures} It is better than stated.`, pointer, {
      hint: 'Check whether it was trained on these samples, and whether the value belongs to another metric or dataset; or state what it reaches here.',
    });
  }
  const best = trials ? bestOf(metric, trials.tried) : undefined;
  const gains = best && trials && betterOf(metric, best.value.value, trials.asConfigured.value) ? best : undefined;
  const near = gains && isNear(metric, gains.value, expected, measured.value) ? gains : undefined;
  const ordered = bestOrder([{ order, trial: null }, ...(trials?.tried ?? [])]);
  const list = [causes.scale, causes.normalisation, causes.channels, causes.layout, causes.classes, causes.offset].join(', ');
  const tried = trials
    ? ` Tried on ${count(trials.samples)} samples (as configured: ${text(trials.asConfigured.value)}): ${trials.tried.map(({ trial, value }) => `${trial.name} ${text(value.value)}`).join('; ')}.`
    : '';
  const orderTried = ordered
    ? ` With the classes in another order${ordered.trial ? ` and ${ordered.trial.name}` : ''}: ${share(ordered.order.after)}.`
    : ' No other order of the classes is better.';
  const advice = near
    ? `${readingOf(near.trial)} It brings ${text(near.value.value)} on ${count(trials?.samples ?? 0)} samples.`
    : ordered
      ? `${ordered.trial ? `${readingOf(ordered.trial)} ` : ''}${orderAdvice(on, ordered.order)} It brings ${share(ordered.order.after)} on ${count(ordered.order.samples)} samples.`
      : `None of these brings the float model near ${text(expected)}${gains ? `; the best is ${gains.trial.name}${gains.trial.config ? ` (${configText(gains.trial.config)})` : ''}` : ''}. Check what else was done to the samples in training: cropping, resizing, the order of the classes.`;
  return new OctetError(
    'FLOAT_NOT_AS_EXPECTED',
    `${figures} Likely causes, in this order: ${list}.${tried}${orderTried} Nothing was quantized.`,
    pointer,
    {
      hint: advice,
    },
  );
}

const readingOf = ({ name, cause, config }: Trial): string => readingAdvice({ name, cause: causes[cause], config });

/** The other order of classes that names most samples rightly, and the reading it was found under. */
export function bestOrder(
  found: readonly { order: ClassOrder | null; trial: Trial | null }[],
): { order: ClassOrder; trial: Trial | null } | undefined {
  let best: { order: ClassOrder; trial: Trial | null } | undefined;
  for (const { order, trial } of found) if (order && order.after > (best?.order.after ?? 0)) best = { order, trial };
  return best;
}
