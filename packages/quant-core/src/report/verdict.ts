import type { MetricName } from '../choices.js';
import { metricFacts } from '../evaluate/metrics.js';
import { judgeChange } from '../evaluate/paired.js';
import { leastParity, parityIsBroken } from '../evaluate/parity.js';
import { mcnemarExact } from '../evaluate/statistics.js';
import { accuracyAdvice, isSlowByItself, parityAdvice, slownessAdvice } from './advice.js';
import { floatProblem } from './baseline.js';
import { changeWords, lossLimits, lossOf } from './change.js';
import { fidelityHeadline, indifferenceNote, judgedByFidelity, judgeOutputs } from './fidelity.js';
import { bytes, changeText, count, fixed, metricText, percent, plural } from './format.js';
import type { PairedChange, Report } from './schema.js';
import { moreSamples, smallSets } from './smallSets.js';

/** Everything but the verdict, and what only the outputs tell. */
export interface Evidence {
  report: Omit<Report, 'verdict'>;
  /** int8 samples whose outputs are not numbers. */
  notFinite: number;
  /** Name of the output that the metric is taken of. */
  output: string;
  /** Of each class: samples only float got right, and only int8. */
  classDiscordance: { label: number; onlyFloat: number; onlyInt8: number }[];
}

interface Problem {
  severity: 'inspect' | 'do_not_ship';
  text: string;
  nextStep: string;
}

/** Whether the gate holds: the metric lost no more than `maxDrop` points (to rounding). */
export function gatePasses(change: PairedChange, maxDrop: number | null): boolean {
  return maxDrop === null || -change.points <= maxDrop + 1e-9;
}

function accuracyProblem(report: Omit<Report, 'verdict'>): Problem | null {
  const { change, gate, metric } = report;
  const { unit } = metric;
  if (!gate.passed) {
    return {
      severity: 'do_not_ship',
      text: `The gate allows a loss of ${fixed(gate.maxDrop ?? 0, 2)}${unit === 'fraction' ? ' points' : ''}; ${fixed(-change.points, 2)} were lost.`,
      nextStep: accuracyAdvice(report),
    };
  }
  if (gate.maxDrop !== null || judgedByFidelity(report)) return null;
  const loss = lossOf(change.points, report);
  const { inspect, refuse } = lossLimits[unit];
  if (judgeChange(change) === 'loss' && loss > inspect) {
    return {
      severity: loss > refuse ? 'do_not_ship' : 'inspect',
      text: 'The loss is larger than chance explains, and not small.',
      nextStep: accuracyAdvice(report),
    };
  }
  if (lossOf(change.ci95[0], report) > refuse) {
    return {
      severity: 'inspect',
      text: `With ${plural(report.samples.evaluation, 'sample')} a loss of ${unit === 'fraction' ? `${fixed(-change.ci95[0], 1)} points` : fixed(-change.ci95[0], 3)} cannot be ruled out.`,
      nextStep: 'Evaluate on more samples before deciding.',
    };
  }
  return null;
}

/** Outputs that no label judges, by their distance from the float model's; a gate applies to the output that has the metric. */
function outputProblems({ report, output }: Evidence): Problem[] {
  const own = judgedByFidelity(report) && report.gate.maxDrop === null;
  const outputs = report.outputs.filter(({ name }) => own || name !== output);
  return judgeOutputs(outputs).map((problem) => ({ ...problem, nextStep: accuracyAdvice(report) }));
}

/** A handful of samples calibrates, chooses or judges. */
function smallProblem(report: Omit<Report, 'verdict'>): Problem | null {
  const small = smallSets(report);
  if (!small?.handful) return null;
  return {
    severity: 'inspect',
    text: small.text,
    nextStep: small.starved ? moreSamples(report) : 'Evaluate on more samples before deciding.',
  };
}

/** Classes that lost more than 2 points beyond chance (exact McNemar, Bonferroni over classes). */
function classProblem({ report, classDiscordance }: Evidence): Problem | null {
  const classes = report.classes ?? [];
  const bad = classes.filter(({ label, changePoints }) => {
    const pairs = classDiscordance.find((row) => row.label === label);
    return changePoints < -2 && pairs !== undefined && mcnemarExact(pairs.onlyFloat, pairs.onlyInt8) < 0.05 / classes.length;
  });
  if (bad.length === 0) return null;
  const names = bad.slice(0, 3).map((row) => `${row.name ?? row.label} (${fixed(row.changePoints, 1)} points)`);
  return {
    severity: 'inspect',
    text: `${plural(bad.length, 'class loses', 'classes lose')} more than chance explains: ${names.join(', ')}.`,
    nextStep: accuracyAdvice(report),
  };
}

function problemsOf(evidence: Evidence): Problem[] {
  const { report, notFinite } = evidence;
  const problems: (Problem | null)[] = [];
  if (parityIsBroken(report.parity)) {
    problems.push({
      severity: 'do_not_ship',
      text: `Simulation and artifact agree on only ${percent(report.parity.agreement)} of ${plural(report.parity.samples, 'sample')}; at least ${percent(leastParity, 1)} is wanted.`,
      nextStep: parityAdvice,
    });
  }
  if (notFinite > 0) {
    problems.push({
      severity: 'do_not_ship',
      text: `The outputs of the int8 model are not finite for ${plural(notFinite, 'sample')}.`,
      nextStep: accuracyAdvice(report),
    });
  }
  problems.push(floatProblem(report), accuracyProblem(report), ...outputProblems(evidence), smallProblem(report));
  problems.push(classProblem(evidence));
  if (report.runtime.integerNodes === 0) {
    problems.push({
      severity: 'inspect',
      text: 'No node runs on integers in this runtime.',
      nextStep: 'See the layers of this report for why each node stayed float.',
    });
  }
  if (isSlowByItself(report)) {
    problems.push({
      severity: 'inspect',
      text: report.latency.note ?? 'int8 is slower than float here.',
      nextStep: slownessAdvice(report),
    });
  }
  if (report.size.int8Bytes >= report.size.floatBytes) {
    problems.push({
      severity: 'inspect',
      text: `The int8 file (${bytes(report.size.int8Bytes)}) is no smaller than the float file (${bytes(report.size.floatBytes)}).`,
      nextStep: 'Serve the float model: its weights are too few for int8 to pay.',
    });
  }
  return problems.filter((problem) => problem !== null);
}

/** The sentence with the figures. */
function headline(report: Omit<Report, 'verdict'>): string {
  if (judgedByFidelity(report)) return fidelityHeadline(report);
  const { metric, float, int8, change, samples } = report;
  const label = metricFacts[metric.name as MetricName]?.label ?? metric.name;
  const figures = `int8 (${int8.from.toUpperCase()}) has ${label} ${metricText(int8.value, metric.unit)}, float ${metricText(float.value, metric.unit)}`;
  const difference = `${changeText(change.points, change.ci95, metric.unit)}, n = ${count(samples.evaluation)}`;
  return `${figures}: ${difference}; ${changeWords(change, report)}.`;
}

/** What is said and does not speak against the model. */
function notesOf(report: Omit<Report, 'verdict'>): string[] {
  const small = smallSets(report);
  return [indifferenceNote(report.outputs), small && !small.handful ? small.text : null].filter((note) => note !== null);
}

/** Decide, say why, and name one next step. The worst problem decides, and the first of the worst gives the next step. */
export function judge(evidence: Evidence): Report['verdict'] {
  const problems = problemsOf(evidence);
  const worst = problems.find((problem) => problem.severity === 'do_not_ship') ?? problems[0];
  return {
    decision: worst?.severity ?? 'ship',
    text: [headline(evidence.report), ...problems.map((problem) => problem.text), ...notesOf(evidence.report)].join(' '),
    nextStep:
      worst?.nextStep ?? 'Deploy the int8 model in place of the float model: names, types and shapes of inputs and outputs are the same.',
  };
}
