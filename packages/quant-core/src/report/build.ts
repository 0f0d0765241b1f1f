import type { MetricName } from '../choices.js';
import type { Choice } from '../evaluate/choose.js';
import { confusion, flips, perClass } from '../evaluate/classes.js';
import type { Cpu } from '../evaluate/cpu.js';
import { measureOf, metricFacts, metricValue } from '../evaluate/metrics.js';
import { type ModelOutputs, type Outputs, topLabel } from '../evaluate/outputs.js';
import { isReal, pairedChange, recoveredShare } from '../evaluate/paired.js';
import { tasks } from '../tasks/index.js';
import type { ModelOutput } from '../tasks/output.js';
import type { ReportBlock } from '../tasks/task.js';
import { isSlowByItself, isSlower, latencyNote, slownessAdvice } from './advice.js';
import { plural } from './format.js';
import { outputRows } from './outputs.js';
import type { LayerReport, PairedChange, Report } from './schema.js';
import { gatePasses, judge } from './verdict.js';

/** Version of the report format: the first number changes when a key is removed or changes its meaning. */
const reportVersion = '1.0';

/** What the pipeline gathers; the report is computed from this alone. */
export interface ReportInput {
  metric: MetricName;
  /** The outputs of each model for the evaluation samples, in one order. `qat` is null for method "ptq". */
  outputs: { float: ModelOutputs; ptq: ModelOutputs; qat: ModelOutputs | null };
  /** What was found out about the float model before it was quantized. */
  baseline: Report['baseline'];
  /** Every output of the model, in the order of the file. */
  outputList: readonly ModelOutput[];
  /** The candidate returned, and its figures on the held-out split. */
  choice: Choice & { samples: number; ptq: number; qat: number | null };
  maxDrop: number | null;
  parity: Report['parity'];
  size: { floatBytes: number; int8Bytes: number };
  latency: Omit<Report['latency'], 'cpu' | 'cpuFeatures' | 'note'>;
  cpu: Cpu;
  runtime: Report['runtime'];
  samples: { training: number; calibration: number; holdout: number };
  layers: readonly LayerReport[];
  calibration: Report['calibration'];
  placement: Report['placement'];
  training: Report['training'];
  warnings: Report['warnings'];
  provenance: Report['provenance'];
}

/** The accuracy report from what the pipeline gathered. Pure: the same input gives the same report. */
export function buildReport(input: ReportInput): Report {
  const { metric, choice, provenance } = input;
  const all = input.outputs;
  const outputs = { float: all.float[0], ptq: all.ptq[0], qat: all.qat?.[0] ?? null };
  const { float } = outputs;
  const returned = choice.from === 'qat' && all.qat ? all.qat : all.ptq;
  const [chosen] = returned;
  const blocks = tasks[float.task].blocks;
  const has = <T>(block: ReportBlock, make: () => T, none: T): T => (blocks.includes(block) ? make() : none);
  const value = (candidate: Outputs) => metricValue(metric, candidate, provenance.seed);
  const change = (candidate: Outputs) => pairedChange(metric, float, candidate, provenance.seed);
  const values = { float: value(float), ptq: value(outputs.ptq), qat: outputs.qat && value(outputs.qat) };
  const changes = { ptq: change(outputs.ptq), qat: outputs.qat && change(outputs.qat) };
  const own = chosen === outputs.qat ? { value: values.qat!, change: changes.qat! } : { value: values.ptq, change: changes.ptq };
  const { unit, higherIsBetter } = metricFacts[metric];
  const { floatBytes, int8Bytes } = input.size;
  const report: Omit<Report, 'verdict'> = {
    schemaVersion: reportVersion,
    task: float.task,
    metric: { name: metric, unit, higherIsBetter },
    baseline: input.baseline,
    ...values,
    int8: {
      ...own.value,
      from: choice.from,
      why: choice.why,
      selection: { split: 'holdout', samples: choice.samples, ptq: choice.ptq, qat: choice.qat },
    },
    recovered: changes.qat && recoveredShare(changes.ptq, changes.qat),
    change: own.change,
    changes,
    gate: { maxDrop: input.maxDrop, passed: gatePasses(own.change, input.maxDrop) },
    parity: { ...input.parity, maxAbsDifference: Math.min(Number.MAX_VALUE, input.parity.maxAbsDifference) },
    agreement: chosen.comparison.positions ? measureOf('agreement', chosen).value() : null,
    outputs: outputRows(input.outputList, all.float, returned),
    size: { floatBytes, int8Bytes, ratio: int8Bytes > 0 ? floatBytes / int8Bytes : 0 },
    latency: {
      ...input.latency,
      cpu: input.cpu.model,
      cpuFeatures: input.cpu.features,
      note: latencyNote(input.latency, input.runtime, input.cpu),
    },
    runtime: input.runtime,
    samples: { ...input.samples, evaluation: float.samples },
    classes: has('classes', () => perClass(float, chosen, provenance.dataset.classNames), null),
    confusion: has('confusion', () => confusion(float, chosen), null),
    flips: has('flips', () => flips(float, chosen), []),
    layers: input.layers.map(finiteOnly),
    calibration: input.calibration,
    placement: input.placement,
    training: input.training,
    warnings: [...input.warnings],
    provenance,
  };
  report.warnings.push(...warningsOf(report, pairedBetween(input)));
  return {
    ...orderedTop(
      report,
      judge({
        report,
        notFinite: Math.max(...returned.map((one) => one.notFinite)),
        output: float.output.name,
        classDiscordance: discordance(float, chosen),
      }),
    ),
  };
}

/** The verdict right after the version, as people read it. */
function orderedTop({ schemaVersion, ...rest }: Omit<Report, 'verdict'>, verdict: Report['verdict']): Report {
  return { schemaVersion, verdict, ...rest };
}

/** Infinity and NaN have no form in JSON: such a figure is left out. */
function finiteOnly(layer: LayerReport): LayerReport {
  return Object.fromEntries(
    Object.entries(layer).filter(
      ([, value]) =>
        value !== undefined &&
        (typeof value !== 'number' || Number.isFinite(value)) &&
        !(Array.isArray(value) && !value.every(Number.isFinite)),
    ),
  ) as unknown as LayerReport;
}

/** QAT against PTQ on the evaluation samples, where both exist and there is a truth to judge both by. */
function pairedBetween({ metric, outputs: { ptq, qat }, provenance }: ReportInput): PairedChange | null {
  if (!qat || ptq[0].task === 'unlabelled' || metric === 'agreement') return null;
  return pairedChange(metric, ptq[0], qat[0], provenance.seed);
}

function warningsOf(report: Omit<Report, 'verdict'>, qatOverPtq: PairedChange | null): Report['warnings'] {
  const warnings: Report['warnings'] = [];
  if (qatOverPtq && isReal(qatOverPtq)) {
    const better = qatOverPtq.points > 0 ? 'qat' : 'ptq';
    if (better === 'ptq')
      warnings.push({ code: 'QAT_WORSE_THAN_PTQ', text: 'Training made the model worse than calibration alone; lower the learning rate.' });
    if (better !== report.int8.from) {
      warnings.push({
        code: 'CHOICE_NOT_BEST',
        text: `On the evaluation set ${better.toUpperCase()} is better than what the held-out split chose. The choice is kept: choosing on the evaluation set would bias the result.`,
      });
    }
  }
  const { gate, change } = report;
  if (gate.maxDrop !== null && gate.passed && -change.ci95[0] > gate.maxDrop) {
    warnings.push({
      code: 'GATE_UNCERTAIN',
      text: `The gate holds, but with ${plural(report.samples.evaluation, 'sample')} the 95 % interval of the change reaches beyond it.`,
    });
  }
  if (isSlower(report.latency) && !isSlowByItself(report)) {
    warnings.push({
      code: 'SLOWER_ON_THIS_PROCESSOR',
      text: `${report.latency.note ?? 'int8 is slower than float on this processor.'} ${slownessAdvice(report)}`,
    });
  }
  const floats = report.layers.filter((layer) => layer.precision === 'float' && layer.parameters > 0);
  if (floats.length > 0) {
    warnings.push({
      code: 'LAYERS_STAY_FLOAT',
      text: `${plural(floats.length, 'layer with weights stays', 'layers with weights stay')} float: ${floats
        .slice(0, 5)
        .map((layer) => layer.name)
        .join(', ')}${floats.length > 5 ? ', …' : ''}.`,
    });
  }
  return warnings;
}

/** Of each class: samples only float got right, and only int8. */
function discordance(float: Outputs, int8: Outputs): { label: number; onlyFloat: number; onlyInt8: number }[] {
  const { labels } = float;
  if (!labels) return [];
  const rows = Array.from({ length: float.classes }, (_, label) => ({ label, onlyFloat: 0, onlyInt8: 0 }));
  for (let i = 0; i < float.samples; i++) {
    const truth = labels[i] as number;
    const before = topLabel(float, i) === truth;
    const after = topLabel(int8, i) === truth;
    if (before && !after) rows[truth]!.onlyFloat++;
    if (after && !before) rows[truth]!.onlyInt8++;
  }
  return rows;
}
