import { type Cpu, hasInt8Dot } from '../evaluate/cpu.js';
import { parityIsBroken } from '../evaluate/parity.js';
import { bytes, decibels, percent, plural } from './format.js';
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

type Times = Pick<Report['latency'], 'float' | 'int8'>;

const slowerAlone = ({ float, int8 }: Times) => int8.p50Ms > slowerFrom * float.p50Ms;
const slowerInBatch = ({ float, int8 }: Times) => int8.batch32.p50Ms > slowerFrom * float.batch32.p50Ms;

/** Whether int8 is slower than float, at batch 1 or at 32. */
export const isSlower = (latency: Times) => slowerAlone(latency) || slowerInBatch(latency);

/**
 * Whether slowness is the fault of the model as converted. It is not where most of the time is spent in integer nodes
 * and the processor lacks the instructions: the same model is faster on another machine.
 */
export function isSlowByItself({ latency, runtime }: Pick<Report, 'latency' | 'runtime'>): boolean {
  const lacking = hasInt8Dot({ model: '', features: latency.cpuFeatures }) === false;
  return isSlower(latency) && !(lacking && (runtime.integerTimeShare ?? 0) >= mostlyInteger);
}

/**
 * Why int8 is slower than float, from what was measured: missing instructions, time outside of integer nodes, many
 * conversions between float and int8. Null when it is not slower and nothing is to be noted.
 */
export function latencyNote(latency: Times, runtime: Report['runtime'], cpu: Cpu): string | null {
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
      `${plural(runtime.boundaryNodes, 'conversion')} between float and int8 stand against ${plural(runtime.integerNodes, 'integer node')}`,
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
  if (saturates(report)) return saturationAdvice;
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

/** Whether parity is lost on an x86 processor that sums pairs of products in saturating int16. */
function saturates(report: Omit<Report, 'verdict'>): boolean {
  const { cpuFeatures } = report.latency;
  const x86WithoutVnni = cpuFeatures.includes('avx2') && hasInt8Dot({ model: '', features: cpuFeatures }) === false;
  const reduced = report.provenance.recipe.target === 'x86' || report.provenance.recipe.target === 'fbgemm';
  return x86WithoutVnni && !reduced && parityIsBroken(report.parity);
}

const saturationAdvice =
  'Use target "x86": this processor has no VNNI and sums pairs of 8-bit products in saturating 16 bits, which 7-bit activations avoid (or serve with the session option session.x64quantprecision = 1, which is slower).';

/** What to do about a difference between simulation and artifact. */
export function parityAdvice(report: Omit<Report, 'verdict'>): string {
  return saturates(report) ? saturationAdvice : 'Do not deploy; report this as a defect of Octet, with the model and this report.';
}
