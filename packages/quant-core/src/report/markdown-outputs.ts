import type { MetricName } from '../choices.js';
import { metricFacts } from '../evaluate/metrics.js';
import { configText } from './baseline.js';
import { outputCells, showsOutputs } from './fidelity.js';
import { intervalText, metricText, plural } from './format.js';
import type { Report } from './schema.js';
import { type Column, code, cut, inline, table } from './table.js';

const right = (head: string): Column => ({ head, right: true });

/** Parts of section 1 that speak of outputs: a row each, and every metric of the labelled one. */
export function outputParts(report: Report): string[] {
  return [...(showsOutputs(report) ? outputTable(report) : []), ...metricTable(report)];
}

function outputTable({ outputs }: Report): string[] {
  const shown = cut(outputs, 40, 'outputs');
  const kept = outputs.filter(({ judged }) => !judged);
  return [
    `**Outputs**: int8 against float. The error is the root mean square over the spread (standard deviation) of the float output.`,
    table(
      ['output', 'kind', right('error'), right('SQNR'), right('cosine'), right('same class')],
      shown.rows.map((output) => [code(output.name), ...outputCells(output)]),
    ),
    ...shown.note,
    ...(kept.length > 0 ? [`Not judged: ${kept.map(({ name, why }) => `${code(name)} (${inline(why)})`).join(', ')}`] : []),
  ];
}

function metricTable({ outputs, metric }: Report): string[] {
  const labelled = outputs.find((output) => output.labelled);
  const rows = (labelled?.metrics ?? []).filter(({ name }) => name !== metric.name);
  if (!labelled || rows.length === 0) return [];
  return [
    `**Further metrics** of ${code(labelled.name)} against the labels:`,
    table(
      ['metric', right('float'), right('int8')],
      rows.map(({ name, float, int8 }) => {
        const facts = metricFacts[name as MetricName];
        return [facts?.label ?? name, metricText(float, facts?.unit ?? 'value'), metricText(int8, facts?.unit ?? 'value')];
      }),
    ),
  ];
}

/** What was tried because the float model is poor for its kind. */
export function baselineParts({ baseline, metric }: Report): string[] {
  if (!baseline?.poor) return [];
  const { tried, asConfigured, samples, better, poor } = baseline;
  const lead = `🔴 **The float model ${inline(poor)}.**`;
  if (!asConfigured) return [`${lead} No other reading of the samples could be tried.`];
  return [
    `${lead} Other readings of the samples, tried on ${plural(samples, 'sample')}${better === null ? '; none is plainly better' : ''}:`,
    table(
      ['reading', right('value'), '95 % interval', 'config of the dataset'],
      [
        ['as configured', metricText(asConfigured.value, metric.unit), intervalText(asConfigured.ci95, metric.unit), ''],
        ...tried.map(({ name, value, ci95, config }) => [
          name === better ? `**${inline(name)}**` : inline(name),
          metricText(value, metric.unit),
          intervalText(ci95, metric.unit),
          config === null ? '' : code(configText(config)),
        ]),
      ],
    ),
  ];
}

/** What of a float model was stated and found. */
export const expectedText = ({ baseline, metric }: Report): string[] =>
  baseline?.expected === null || baseline?.expected === undefined
    ? []
    : [`The float model reaches what was stated for it (${metricText(baseline.expected, metric.unit)}).`];
