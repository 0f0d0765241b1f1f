import type { MetricName } from '../choices.js';
import { metricFacts } from '../evaluate/metrics.js';
import { judgeChange } from '../evaluate/paired.js';
import { leastParity, parityIsBroken } from '../evaluate/parity.js';
import { changeWords } from './change.js';
import { judgedByFidelity } from './fidelity.js';
import { bytes, changeText, count, fixed, intervalText, metricText, milliseconds, percent, plural, pValue, speedOf } from './format.js';
import { baselineParts, expectedText, outputParts } from './markdown-outputs.js';
import { classSection, flipSection, layerSection, provenanceSection, sizeSection, trainingSection } from './markdown-sections.js';
import type { LatencyFigures, MetricValue, PairedChange, Report } from './schema.js';
import { inline, table } from './table.js';

const decisions = { ship: '🟢 Ship it', inspect: '🟡 Look closer', do_not_ship: '🔴 Do not ship' } as const;

/** The report as Markdown: the verdict first, then the ten sections, each drawn from the same data as the JSON. */
export function renderMarkdown(report: Report): string {
  return `${[
    top(report),
    accuracySection(report),
    pairedSection(report),
    classSection(report),
    flipSection(report),
    layerSection(report),
    trainingSection(report),
    paritySection(report),
    sizeSection(report),
    adviceSection(report),
    provenanceSection(report),
  ].join('\n\n')}\n`;
}

function top(report: Report): string {
  const { verdict, metric, float, int8, change, size, latency, agreement, samples } = report;
  const times = (pick: (figures: LatencyFigures) => { p50Ms: number; p95Ms: number }, batch: 'batch1' | 'batch32') => {
    const cell = (figures: LatencyFigures) => `${milliseconds(pick(figures).p50Ms)} (p95 ${milliseconds(pick(figures).p95Ms)})`;
    return [cell(latency.float), cell(latency.int8), speedOf(latency, batch)];
  };
  const own = judgedByFidelity(report)
    ? [labelOf(report), '', metricText(int8.value, metric.unit), `n = ${count(samples.evaluation)}`]
    : [
        labelOf(report),
        metricText(float.value, metric.unit),
        metricText(int8.value, metric.unit),
        `${changeText(change.points, change.ci95, metric.unit)}, n = ${count(samples.evaluation)}`,
      ];
  const rows = [
    own,
    ['Model file', bytes(size.floatBytes), bytes(size.int8Bytes), `${fixed(size.ratio, 2)}× smaller`],
    ['Latency p50, batch 1', ...times((figures) => figures, 'batch1')],
    ['Latency p50, batch 32', ...times((figures) => figures.batch32, 'batch32')],
    ...(agreement === null || metric.name === 'agreement' ? [] : [[sameClassLabel(report), '', percent(agreement), '']]),
  ];
  const machine = [
    plural(latency.threads, 'thread'),
    inline(latency.cpu) || 'unknown processor',
    latency.cpuFeatures.join(' ') || 'features unknown',
  ];
  return [
    '# Accuracy report: float against int8',
    `**${decisions[verdict.decision]}.** ${inline(verdict.text)}`,
    `**Next step:** ${inline(verdict.nextStep)}`,
    table(['', 'float', 'int8', 'change'], rows),
    `Measured with ${machine.join(', ')}.${latency.note ? ` ${inline(latency.note)}` : ''}`,
  ].join('\n\n');
}

const labelOf = (report: Report) => {
  const label = metricFacts[report.metric.name as MetricName]?.label ?? report.metric.name;
  return label.charAt(0).toUpperCase() + label.slice(1);
};

/** What `agreement` counts: samples, or the positions of dense outputs. */
const sameClassLabel = ({ outputs, task }: Report) => {
  const positions = outputs.find(({ labelled }) => labelled || task === 'unlabelled')?.fidelity?.positions ?? 1;
  return positions > 1 ? 'Positions with the class of float' : 'Same top-1 as float';
};

/** `├──●──┤` over the span of all intervals. */
function errorBar({ value, ci95 }: MetricValue, span: readonly [number, number]): string {
  const size = 25;
  const at = (x: number) => Math.min(size - 1, Math.max(0, Math.round(((x - span[0]) / (span[1] - span[0] || 1)) * (size - 1))));
  const [low, high] = [at(ci95[0]), at(ci95[1])];
  const cells: string[] = Array.from({ length: size }, (_, i) => (i === low ? '├' : i === high ? '┤' : i > low && i < high ? '─' : '·'));
  cells[at(value)] = '●';
  return `\`${cells.join('')}\``;
}

function accuracySection(report: Report): string {
  const { metric, float, ptq, qat, changes, samples } = report;
  const fidelity = judgedByFidelity(report);
  const models: { name: string; value: MetricValue; change: PairedChange | null }[] = [
    ...(fidelity ? [] : [{ name: 'float', value: float, change: null }]),
    { name: 'PTQ int8', value: ptq, change: changes.ptq },
    ...(qat ? [{ name: 'QAT int8', value: qat, change: changes.qat }] : []),
  ];
  const span = [Math.min(...models.map(({ value }) => value.ci95[0])), Math.max(...models.map(({ value }) => value.ci95[1]))] as const;
  const rows = models.map(({ name, value, change }) => [
    name.startsWith(report.int8.from.toUpperCase()) ? `**${name}**` : name,
    metricText(value.value, metric.unit),
    intervalText(value.ci95, metric.unit),
    errorBar(value, span),
    ...(fidelity ? [] : [change ? changeText(change.points, change.ci95, metric.unit) : '']),
  ]);
  const better = `${metric.higherIsBetter ? 'higher' : 'lower'} is better`;
  const lead = fidelity
    ? `${labelOf(report)} on ${plural(samples.evaluation, 'sample')}; ${better}. ${report.task === 'unlabelled' ? 'There are no labels: the float model is what int8 is compared with.' : 'The metric compares with the float model, not with the labels.'}`
    : `${labelOf(report)} on the same ${plural(samples.evaluation, 'sample')}; ${better}. Changes are positive when int8 is better.`;
  return [
    `## 1. Float, PTQ and QAT`,
    ...baselineParts(report),
    lead,
    table(
      ['model', { head: 'value', right: true }, '95 % interval', 'interval drawn', ...(fidelity ? [] : ['change against float'])],
      rows,
    ),
    ...outputParts(report),
    ...accuracyLines(report),
  ].join('\n\n');
}

/** Why this model is returned, what training won back, and the gate. */
function accuracyLines(report: Report): string[] {
  const { metric, int8, gate } = report;
  const { selection } = int8;
  return [
    `Returned: **${int8.from.toUpperCase()}**. ${inline(int8.why)} (${plural(selection.samples, 'held-out sample')}: PTQ ${metricText(selection.ptq, metric.unit)}${selection.qat === null ? '' : `, QAT ${metricText(selection.qat, metric.unit)}`}.)`,
    ...recoveredText(report),
    ...expectedText(report),
    gate.maxDrop === null
      ? 'No gate was set.'
      : `Gate: at most ${fixed(gate.maxDrop, 2)} ${metric.unit === 'fraction' ? 'points' : 'units'} lost: ${gate.passed ? 'passed' : '🔴 **missed**'}.`,
  ];
}

function recoveredText(report: Report): string[] {
  const { qat, recovered, changes } = report;
  if (!qat || judgedByFidelity(report)) return [];
  if (recovered !== null) {
    return [
      recovered <= 0 ? 'Training won back nothing of what PTQ lost.' : `Training won back ${percent(recovered, 0)} of what PTQ lost.`,
    ];
  }
  const texts = {
    loss: '',
    none: 'PTQ lost nothing, so there was nothing for training to win back.',
    gain: 'PTQ lost nothing: it is better than float here, so there was nothing for training to win back.',
    unclear: 'The change by PTQ cannot be told from chance, so the share that was won back is not given.',
  };
  return [texts[judgeChange(changes.ptq)]];
}

function pairedSection(report: Report): string {
  const { change, metric, samples } = report;
  const title = '## 2. Paired comparison';
  if (judgedByFidelity(report)) return `${title}\n\nint8 is compared with float here: without labels there is nothing to pair both by.`;
  const words = changeWords(change, report);
  const verdict = `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
  if (change.mcnemarP === null) {
    return `${title}\n\nChange ${changeText(change.points, change.ci95, metric.unit)}, by paired bootstrap over ${plural(samples.evaluation, 'sample')}. ${verdict}`;
  }
  const rows = [
    ['**float right**', count(change.bothRight), count(change.onlyFloat)],
    ['**float wrong**', count(change.onlyInt8), count(change.bothWrong)],
  ];
  return [
    title,
    table(['', { head: 'int8 right', right: true }, { head: 'int8 wrong', right: true }], rows),
    `${plural(change.onlyFloat, 'sample is', 'samples are')} lost and ${count(change.onlyInt8)} won: ${changeText(change.points, change.ci95, metric.unit)}; exact McNemar p ${change.mcnemarP < 0.0001 ? '' : '= '}${pValue(change.mcnemarP)}. ${verdict}`,
  ].join('\n\n');
}

function paritySection({ parity, runtime }: Report): string {
  const good = !parityIsBroken(parity);
  const text = `The simulation used in training and the saved file in ${runtime.name} ${runtime.version} agree on ${percent(parity.agreement)} of ${plural(parity.samples, 'sample')}; the largest difference of an output is ${parity.maxAbsDifference === 0 ? '0' : parity.maxAbsDifference.toPrecision(3)}.`;
  return `## 7. Parity of simulation and artifact\n\n${good ? text : `🔴 **${text} Below ${percent(leastParity, 1)} is a defect.**`}`;
}

function adviceSection({ verdict, warnings }: Report): string {
  const list = warnings.map(({ code, text, place }) => {
    const where = place ? Object.entries(place).map(([key, value]) => `${key} ${value}`) : [];
    return `- **${code}** ${inline(text)}${where.length > 0 ? ` (${inline(where.join(', '))})` : ''}`;
  });
  return [
    '## 9. Advice',
    `${decisions[verdict.decision]}. ${inline(verdict.nextStep)}`,
    list.length > 0 ? list.join('\n') : 'No warnings.',
  ].join('\n\n');
}
