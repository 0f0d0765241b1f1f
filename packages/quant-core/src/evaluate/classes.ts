import type { FlippedSample, Report } from '../report/schema.js';
import { confidenceIn, type Outputs, topLabel } from './outputs.js';

/** Above this many classes the confusion matrix is left out: it would hold more numbers than anybody reads. */
const mostConfusionLabels = 200;

/** Of one class: how many samples (or positions) have it, and how many of them each model names. */
interface ClassCounts {
  samples: Float64Array;
  float: Float64Array;
  int8: Float64Array;
}

/** Accuracy of each class that has samples (positions, where there are several a sample), float against candidate, worst change first. Null without labels. */
export function perClass(float: Outputs, candidate: Outputs, names?: readonly string[]): Report['classes'] {
  const counts = float.positions ? countPositions(float, candidate) : countSamples(float, candidate);
  if (!counts) return null;
  const rows = [];
  for (let label = 0; label < float.classes; label++) {
    const n = counts.samples[label] as number;
    if (n === 0) continue;
    const name = names?.[label];
    const right = counts.float[label] as number;
    const kept = counts.int8[label] as number;
    rows.push({
      label,
      ...(name === undefined ? {} : { name }),
      samples: n,
      float: right / n,
      int8: kept / n,
      changePoints: (100 * (kept - right)) / n,
    });
  }
  return rows.sort((a, b) => a.changePoints - b.changePoints || a.label - b.label);
}

function countSamples(float: Outputs, candidate: Outputs): ClassCounts | null {
  const { labels, classes } = float;
  if (!labels || classes === 0) return null;
  const counts = { samples: new Float64Array(classes), float: new Float64Array(classes), int8: new Float64Array(classes) };
  for (let i = 0; i < float.samples; i++) {
    const truth = labels[i] as number;
    counts.samples[truth]!++;
    if (topLabel(float, i) === truth) counts.float[truth]!++;
    if (topLabel(candidate, i) === truth) counts.int8[truth]!++;
  }
  return counts;
}

function countPositions(float: Outputs, candidate: Outputs): ClassCounts | null {
  const [before, after] = [float.positions?.byClass, candidate.positions?.byClass];
  if (!before || !after) return null;
  const sum = (of: Uint32Array) => {
    const all = new Float64Array(float.classes);
    for (let i = 0; i < of.length; i++) all[i % float.classes]! += of[i]!;
    return all;
  };
  return { samples: sum(before.truth), float: sum(before.both), int8: sum(after.both) };
}

/** Rows are true classes, columns named classes. Null without labels or with more than 200 classes. */
export function confusion(float: Outputs, candidate: Outputs): Report['confusion'] {
  const { classes } = float;
  if (!float.labels || classes === 0 || classes > mostConfusionLabels) return null;
  return { labels: classes, float: confusionOf(float, float.labels), int8: confusionOf(candidate, float.labels) };
}

function confusionOf(outputs: Outputs, labels: Int32Array): number[][] {
  const { classes } = outputs;
  const table = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let i = 0; i < outputs.samples; i++) {
    const named = topLabel(outputs, i);
    if (named >= 0) table[labels[i] as number]![named]!++;
  }
  return table;
}

/**
 * Samples whose class changed, those that lost most margin first. With the class `a` that the float model names and
 * `b` that the candidate names, the margin lost is `(p(a) - p(b))` of the float model less that of the candidate.
 */
export function flips(float: Outputs, candidate: Outputs, most = 50): FlippedSample[] {
  if (!float.top || !candidate.top) return [];
  const found: { i: number; lost: number }[] = [];
  for (let i = 0; i < float.samples; i++) {
    const a = topLabel(float, i);
    const b = topLabel(candidate, i);
    if (a === b) continue;
    const lost = confidenceIn(float, i, a) - confidenceIn(float, i, b) - (confidenceIn(candidate, i, a) - confidenceIn(candidate, i, b));
    found.push({ i, lost });
  }
  found.sort((x, y) => y.lost - x.lost || x.i - y.i);
  return found.slice(0, most).map(({ i, lost }) => ({
    index: float.indices[i] as number,
    truth: float.labels ? (float.labels[i] as number) : null,
    float: best(float, i),
    int8: best(candidate, i),
    marginLost: lost,
  }));
}

function best(outputs: Outputs, i: number): { label: number; confidence: number }[] {
  const top = outputs.top!;
  return Array.from({ length: Math.min(3, top.k) }, (_, j) => ({
    label: top.labels[i * top.k + j] as number,
    confidence: top.confidences[i * top.k + j] as number,
  }));
}
