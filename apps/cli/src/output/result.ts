import { metricFacts, type Report, reportFidelity, reportText } from '@octet/quant-core';
import { columns, printable, wrap } from './text.js';

const { bytes, changeText, count, fixed, intervalText, metricText, milliseconds, percent, speedOf } = reportText;
const { judgedByFidelity, outputCells, showsOutputs } = reportFidelity;
const decisions = { ship: 'Ship it.', inspect: 'Look closer.', do_not_ship: 'Do not ship.' } as const;
const width = 100;

/** The result of a job for a terminal: accuracy of float, PTQ and QAT with intervals, size, latency, parity, verdict. */
export function renderResult(report: Report): string {
  const { metric, float, ptq, qat, int8, changes, gate, size, latency, parity, runtime, samples, verdict } = report;
  const unit = metric.unit;
  const fidelity = judgedByFidelity(report);
  const row = (name: 'ptq' | 'qat', value: Report['ptq'], change: Report['change']) => [
    `${name.toUpperCase()} int8`,
    metricText(value.value, unit),
    intervalText(value.ci95, unit),
    ...(fidelity ? [] : [changeText(change.points, change.ci95, unit)]),
    ...(int8.from === name ? ['<- returned'] : []),
  ];
  const table = columns(
    [
      ['', labelOf(metric.name), '95 % interval', ...(fidelity ? [] : ['change against float (95 % interval)'])],
      ...(fidelity ? [] : [['float', metricText(float.value, unit), intervalText(float.ci95, unit), '']]),
      row('ptq', ptq, changes.ptq),
      ...(qat === null || changes.qat === null ? [] : [row('qat', qat, changes.qat)]),
    ],
    [1],
  );
  const times = (title: string, before: number, after: number, batch: 'batch1' | 'batch32') =>
    `${title} ${milliseconds(before)} -> ${milliseconds(after)} (${speedOf(latency, batch)})`;
  const machine = `p50, ${latency.threads} thread${latency.threads === 1 ? '' : 's'}, ${latency.cpu || 'unknown processor'}`;
  const facts = [
    ...(qat === null ? [] : [['Returned', returnedText(report)]]),
    [
      'Samples',
      `${count(samples.evaluation)} to judge by, ${count(samples.training)} to train on, ${count(samples.holdout)} held out to choose by`,
    ],
    ['Size', `${bytes(size.floatBytes)} -> ${bytes(size.int8Bytes)} (${fixed(size.ratio, 2)}× smaller)`],
    [
      'Latency',
      `${times('batch 1', latency.float.p50Ms, latency.int8.p50Ms, 'batch1')}, ${times('batch 32', latency.float.batch32.p50Ms, latency.int8.batch32.p50Ms, 'batch32')}; ${machine}`,
    ],
    [
      'Integer',
      `${runtime.integerNodes} nodes compute on integers in ${runtime.name} ${runtime.version}, ${runtime.floatNodes} in float, ${runtime.boundaryNodes} convert between`,
    ],
    [
      'Parity',
      parity.top1Agreement === null
        ? `simulation and saved model differ by at most ${parity.maxAbsDifference === 0 ? '0' : `${parity.maxAbsDifference.toPrecision(3)} (${parity.maxSteps.toPrecision(2)} steps)`} on ${count(parity.samples)} samples`
        : `${percent(parity.top1Agreement)} of ${count(parity.samples)} samples: simulation and saved model name the same class`,
    ],
    [
      'Gate',
      gate.maxDrop === null
        ? 'none set'
        : `at most ${fixed(gate.maxDrop, 2)} ${unit === 'fraction' ? 'points' : 'units'} may be lost: ${gate.passed ? 'passed' : 'MISSED'}`,
    ],
    ['Verdict', `${decisions[verdict.decision]} ${verdict.text}`],
    ['Next', verdict.nextStep],
  ];
  return `${[table, ...outputTable(report)].join('\n\n')}\n\n${facts.map(([name, text]) => fact(name ?? '', text ?? '')).join('\n')}\n`;
}

export const fact = (name: string, text: string) => `${name.padEnd(9)}${wrap(printable(text), width - 9, ' '.repeat(9))}`;

/** Why this one of the two is returned, above all where the other has the better figure in the table. */
function returnedText({ int8, ptq, qat, metric }: Report): string {
  const [own, other] = int8.from === 'qat' ? [qat, ptq] : [ptq, qat];
  const lead = `${int8.from.toUpperCase()}. ${int8.why}`;
  if (!own || !other || own.value === other.value || own.value > other.value === metric.higherIsBetter) return lead;
  return `${lead} The table shows the evaluation samples, where ${int8.from === 'qat' ? 'PTQ' : 'QAT'} has the better figure; choosing by them would flatter the result.`;
}

/** A row for each output, where there are several, or no labels that say how good they are. */
function outputTable(report: Report): string[] {
  if (!showsOutputs(report)) return [];
  const rows = report.outputs.slice(0, 20).map((output) => [printable(output.name), ...outputCells(output)]);
  const more = report.outputs.length > 20 ? [`… and ${report.outputs.length - 20} more in the report`] : [];
  return [[columns([['output', 'kind', 'error / spread', 'SQNR', 'cosine', 'same class'], ...rows], [2, 3, 4, 5]), ...more].join('\n')];
}

/** The keys of the report that tools rely on, as `--json` prints them. */
export function keyFigures(report: Report): object {
  const { schemaVersion, verdict, metric, baseline, float, ptq, qat, int8, change, gate, parity, outputs, size, latency, samples } = report;
  return {
    schemaVersion,
    verdict,
    metric,
    baseline,
    float,
    ptq,
    qat,
    int8: { value: int8.value, ci95: int8.ci95, from: int8.from },
    change,
    gate,
    parity,
    outputs,
    size,
    latency: { float: latency.float, int8: latency.int8, threads: latency.threads, cpu: latency.cpu },
    samples,
    provenance: {
      modelSha256: report.provenance.modelSha256,
      datasetSha256: report.provenance.datasetSha256,
      artifactSha256: report.provenance.artifactSha256,
    },
  };
}

function labelOf(name: string): string {
  return Object.entries(metricFacts).find(([known]) => known === name)?.[1].label ?? name;
}
