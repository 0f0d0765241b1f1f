import { type Cpu, hasInt8Dot } from '../evaluate/cpu.js';
import { bytes, decibels, fixed, percent, plural } from './format.js';
import type { LayerReport, Report } from './schema.js';
import { moreSamples, smallSets } from './smallSets.js';

/** Share of run time in integer nodes from which a model counts as integer. */
const mostlyInteger = 0.6;
/** Times within this factor are called equal. */
const slowerFrom = 1.05;
/** Least loss of accumulated SQNR over one layer that is worth naming, dB. */
const notableDrop = 6;
/** Above this accumulated SQNR a layer is no reason to worry, whatever it lost; dB. */
const soundSqnr = 25;

type Times = Pick<Report['latency'], 'float' | 'int8' | 'ratio' | 'busy' | 'load'>;

/** A difference that chance may explain, or a busy machine, is none. */
const stands = ({ ratio, busy }: Times, batch: 'batch1' | 'batch32') => !busy && (!ratio || ratio[batch].ci95[0] > 1);
const slowerAlone = (times: Times) => times.int8.p50Ms > slowerFrom * times.float.p50Ms && stands(times, 'batch1');
const slowerInBatch = (times: Times) => times.int8.batch32.p50Ms > slowerFrom * times.float.batch32.p50Ms && stands(times, 'batch32');

/** Whether int8 is slower than float for certain, at batch 1 or at 32. */
export const isSlower = (latency: Times) => slowerAlone(latency) || slowerInBatch(latency);

/**
 * Whether slowness is the fault of the model as converted. It is not where most of the time is spent in integer nodes
 * and the processor lacks the instructions: the same model is faster on another machine.
 */
export function isSlowByItself({ latency, runtime }: Pick<Report, 'latency' | 'runtime'>): boolean {
  const lacking = hasInt8Dot({ model: '', features: latency.cpuFeatures }) === false;
  return isSlower(latency) && !(lacking && (runtime.integerTimeShare ?? 0) >= mostlyInteger);
}

/** That times were taken on a busy machine, and how busy it was. */
function busyNote(load: Report['latency']['load']): string {
  const facts = load
    ? ` (other processes kept ${fixed(load.otherCores, 1)} of ${plural(load.cores, 'core')} busy, load average ${fixed(load.average, 1)}, medians known to ±${percent(load.spread, 0)})`
    : '';
  return `Measured on a busy machine${facts}: whether int8 is faster or slower than float cannot be told from these times. Measure again where nothing else runs.`;
}

/**
 * What is to be said of the times: that the machine was busy, or why int8 is slower than float, from what was measured: missing instructions, time outside of
 * integer nodes, many conversions between float and int8. Null when it is not slower and nothing is to be noted.
 */
export function latencyNote(latency: Times, runtime: Report['runtime'], cpu: Cpu): string | null {
  if (latency.busy) return busyNote(latency.load);
  const dot = hasInt8Dot(cpu);
  if (!isSlower(latency)) {
    return dot === false && runtime.integerNodes > 0
      ? 'This processor has no 8-bit dot product (VNNI or alike); on one that has, int8 is faster than measured here.'
      : null;
  }
  const reasons: string[] = [];
  if (runtime.integerNodes === 0) reasons.push('no node runs on integers');
  else if (runtime.integerTimeShare !== null && runtime.integerTimeShare < mostlyInteger) {
    reasons.push(
      `only ${percent(runtime.integerTimeShare, 0)} of the time is spent in integer nodes (${plural(runtime.floatNodes, 'node stays', 'nodes stay')} float)`,
    );
  }
  if (runtime.boundaryNodes > runtime.integerNodes && runtime.integerNodes > 0) {
    reasons.push(
      `${plural(runtime.boundaryNodes, 'conversion')} between float and int8 for ${plural(runtime.integerNodes, 'integer node')}`,
    );
  }
  if (dot === false) reasons.push('this processor has no 8-bit dot product (VNNI or alike)');
  if (latency.float.p50Ms < 0.2 && !slowerInBatch(latency)) {
    reasons.push('at batch 1 the model is so small that the cost of starting each node outweighs the arithmetic');
  }
  return `int8 is slower than float here: ${reasons.length > 0 ? reasons.join('; ') : 'the profile shows no single reason'}.`;
}

/** What to do about an int8 model that is slower than float. */
export function slownessAdvice({ provenance, placement }: Pick<Report, 'provenance' | 'placement'>): string {
  const measure = 'Measure on the machine that will serve the model; if it is slower there too, serve float';
  if (placement || provenance.recipe.quantization.placement === 'auto') return `${measure}.`;
  return `${measure}, or set quantization.placement to "auto": it leaves layers in float where the machine of the job runs them faster so.`;
}

/** The int8 layer over which the accumulated SQNR falls most, when that is worth naming. */
function worstLayer(layers: readonly LayerReport[]): { layer: LayerReport; lostDb: number; db: number } | null {
  let worst: { layer: LayerReport; lostDb: number; db: number } | null = null;
  let before: number | undefined;
  for (const layer of layers) {
    const db = layer.sqnrAccumulatedDb;
    if (db === undefined) continue;
    if (
      layer.precision === 'int8' &&
      before !== undefined &&
      db < soundSqnr &&
      before - db >= notableDrop &&
      before - db > (worst?.lostDb ?? 0)
    ) {
      worst = { layer, lostDb: before - db, db };
    }
    before = db;
  }
  if (worst) return worst;
  const local = layers.filter((layer) => layer.precision === 'int8' && (layer.sqnrLocalDb ?? Number.POSITIVE_INFINITY) < 15);
  local.sort((a, b) => (a.sqnrLocalDb as number) - (b.sqnrLocalDb as number));
  const [layer] = local;
  return layer ? { layer, lostDb: Number.NaN, db: layer.sqnrLocalDb as number } : null;
}

/** What to try against a loss of accuracy: the first thing that the data supports. */
export function accuracyAdvice(report: Omit<Report, 'verdict'>): string {
  const { recipe } = report.provenance;
  if (smallSets(report)?.starved) return moreSamples(report);
  const worst = worstLayer(report.layers);
  if (worst) {
    const { layer, lostDb, db } = worst;
    const narrow = (layer.weightBits ?? 8) < 8 || (layer.activationBits ?? 8) < 8;
    const why = Number.isNaN(lostDb) ? `alone brings only ${decibels(db)}` : `loses ${decibels(lostDb)} (${decibels(db)} are left)`;
    if (narrow) {
      return `Give ${layer.name} 8 bits (quantization.layers: [{ "name": "${layer.name}", "weights": { "bits": 8 }, "activations": { "bits": 8 } }]): it ${why}.`;
    }
    return `Keep ${layer.name} in float (quantization.layers: [{ "name": "${layer.name}", "skip": true }]): it ${why}, and float costs ${bytes(layer.floatBytes - layer.int8Bytes)}.`;
  }
  const narrow = report.layers.filter((layer) => (layer.weightBits ?? 8) < 8 || (layer.activationBits ?? 8) < 8).length;
  if (narrow > 0) return `Use 8 bits: ${plural(narrow, 'layer has', 'layers have')} fewer.`;
  const spread = report.layers.filter((layer) => layer.perChannel === false && (layer.channelSpread ?? 1) > 8);
  if (spread.length > 0)
    return `Quantize weights per channel: in ${spread[0]!.name} the ranges of channels differ by a factor of ${Math.round(spread[0]!.channelSpread!)}.`;
  if (recipe.method === 'ptq') return 'Train: submit the job with method "qat".';
  const { training } = report;
  if (training && training.epochs.length > 0 && training.bestEpoch === Math.max(...training.epochs.map((epoch) => epoch.epoch))) {
    return `Train longer: the last of ${plural(training.epochs.length, 'epoch')} was the best.`;
  }
  if (report.samples.calibration < 256) return `Calibrate with more than ${plural(report.samples.calibration, 'sample')}.`;
  return 'Try another learning rate or observer; no single layer stands out.';
}

/**
 * What to do about a difference between simulation and artifact. Both were run with exact sums, so that it does not depend on the processor: what kernels that saturate make of the
 * model is a warning of its own, where it was measured and gives other numbers.
 */
export const parityAdvice = 'Do not deploy; report this as a defect of Octet, with the model and this report.';
