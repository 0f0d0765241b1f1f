import type { Recipe } from '../recipe.js';
import type { PlacedLayer, Placement } from './placementRecord.js';
import type { QuantPlan } from './plan.js';

/** What was measured of one layer alone, ms at each batch size. */
export interface LayerTimes {
  name: string;
  op: string;
  float: readonly number[];
  /** In int8, with the conversions of its input and its result. */
  int8: readonly number[];
  /** One conversion of its input between float and int8, and one of its result. */
  input: readonly number[];
  output: readonly number[];
}

/** Runs two mixed models in turns, each given by the layers it leaves in float: ms of each at each batch size. */
export type Compare = (
  candidate: readonly string[],
  current: readonly string[],
) => Promise<{ candidate: readonly number[]; current: readonly number[] }>;

export interface SearchOptions {
  /** In the order of the model. */
  layers: readonly LayerTimes[];
  /** The whole model in float, and with all layers in int8; ms at each batch size. */
  whole: { float: readonly number[]; int8: readonly number[] };
  compare: Compare;
  /** Whether there is time for one more comparison. */
  mayGoOn: () => boolean;
}

/** How much weightier it is to be slower than float than to be slower than need be. */
const slownessWeight = 2;
/** Gain of a step in `score` below which it may be noise: 2.5 % at each of two batch sizes, or 1.7 % where float is faster. */
const leastGain = 0.05;
/** What a candidate may promise to lose and still be tried: layers alone are not layers in a model. */
const trialMargin = 0.03;
/** Candidates of a round, and rounds. */
const [trialsEach, mostRounds] = [6, 6];
/** Above so many layers only short runs of them are looked at. */
const [manyLayers, shortRun] = [128, 8];

/** How good times relative to float are: the sum of their logarithms, those above 1 counted more. Lower is better. */
export function score(ratios: readonly number[]): number {
  return ratios.reduce((sum, ratio) => sum + Math.log(ratio) + slownessWeight * Math.max(0, Math.log(ratio)), 0);
}

/**
 * What a model would take with some layers in float, from the times of layers alone: layers in a row, a conversion wherever the form changes, and at both
 * ends of the model where int8 stands there. ms at each batch size.
 */
export function predict(layers: readonly LayerTimes[], left: ReadonlySet<string>): number[] {
  const sizes = Math.max(0, ...layers.map((layer) => layer.float.length));
  return Array.from({ length: sizes }, (_, b) => {
    const at = (times: readonly number[]) => times[b] ?? 0;
    let sum = 0;
    let float = true;
    for (const [index, layer] of layers.entries()) {
      const now = left.has(layer.name);
      if (now !== float) sum += at(index > 0 && now ? (layers[index - 1] as LayerTimes).output : layer.input);
      sum += now ? at(layer.float) : Math.max(0, at(layer.int8) - at(layer.input) - at(layer.output));
      float = now;
    }
    return sum + (float ? 0 : at((layers.at(-1) as LayerTimes).output));
  });
}

/**
 * Choices that are worth a trial, the most promising first: a run of layers more in float than now, or a run of them back in int8.
 */
export function propose(
  layers: readonly LayerTimes[],
  left: readonly string[],
  ratios: readonly number[],
  tried: ReadonlySet<string>,
): string[][] {
  const base = predict(layers, new Set(left));
  const now = score(ratios);
  const longest = layers.length > manyLayers ? shortRun : layers.length;
  const found = new Map<string, { left: string[]; gain: number }>();
  const consider = (set: ReadonlySet<string>) => {
    const names = layers.flatMap(({ name }) => (set.has(name) ? [name] : []));
    const key = keyOf(names);
    if (set.size === layers.length || tried.has(key) || found.has(key)) return;
    const predicted = predict(layers, set);
    const gain = now - score(ratios.map((ratio, b) => (ratio * (predicted[b] as number)) / Math.max(base[b] as number, 1e-9)));
    if (gain > -trialMargin) found.set(key, { left: names, gain });
  };
  for (let from = 0; from < layers.length; from++) {
    const [more, fewer] = [new Set(left), new Set(left)];
    for (const { name } of layers.slice(from, from + longest)) {
      if (!more.has(name)) consider(more.add(name));
      else if (fewer.delete(name)) consider(fewer);
    }
  }
  return [...found.values()]
    .sort((a, b) => b.gain - a.gain)
    .slice(0, trialsEach)
    .map((one) => one.left);
}

const keyOf = (left: readonly string[]): string => JSON.stringify(left);

/**
 * Find layers that make the whole model faster when they stay in float: a run of layers at a time goes to float, or back, tried as a whole model and taken when the
 * model gains more than noise, twice. Never all of them. Returns their names in the order of the model.
 */
export async function searchPlacement({ layers, whole, compare, mayGoOn }: SearchOptions): Promise<{ left: string[]; trials: number }> {
  let left: string[] = [];
  let ratios = whole.int8.map((ms, b) => ms / (whole.float[b] as number));
  const tried = new Set([keyOf([])]);
  let trials = 0;
  const measured = async (candidate: readonly string[]) => {
    trials++;
    const times = await compare(candidate, left);
    return ratios.map((ratio, b) => (ratio * (times.candidate[b] as number)) / (times.current[b] as number));
  };
  for (let round = 0; round < mostRounds; round++) {
    const results: { left: string[]; ratios: number[] }[] = [];
    for (const candidate of propose(layers, left, ratios, tried)) {
      if (!mayGoOn()) break;
      tried.add(keyOf(candidate));
      results.push({ left: candidate, ratios: await measured(candidate) });
    }
    results.sort((a, b) => score(a.ratios) - score(b.ratios));
    const [best] = results;
    if (!best || score(ratios) - score(best.ratios) < leastGain) break;
    const again = await measured(best.left);
    if (score(ratios) - score(again) < leastGain) break;
    ratios = again.map((ratio, b) => Math.sqrt(ratio * (best.ratios[b] as number)));
    left = best.left;
  }
  return { left, trials };
}

/** Whether a mixed model is better than all layers in int8 by more than noise, both measured in turns with float. */
export function holds(whole: { float: readonly number[]; int8: readonly number[]; mixed: readonly number[] }): boolean {
  const against = (ms: readonly number[]) => score(ms.map((value, b) => value / (whole.float[b] as number)));
  return against(whole.int8) - against(whole.mixed) >= leastGain;
}

/** The settings that leave the layers of a placement in float, in any job: `quantization.layers`, after those given already. */
export const overridesOf = (placement: Placement): { name: string; skip: true }[] =>
  placement.layers.flatMap(({ name, left }) => (left ? [{ name, skip: true as const }] : []));

/** The recipe with what was measured written out: the same plan, on any machine. */
export function withPlacement(recipe: Recipe, placement: Placement): Recipe {
  const { quantization } = recipe;
  return { ...recipe, quantization: { ...quantization, placement: 'all', layers: [...quantization.layers, ...overridesOf(placement)] } };
}

const ms = (value: number) => `${value < 1 ? value.toFixed(3) : value.toPrecision(3)} ms`;

/** Why a layer was left in float, with its times alone. */
function reasonOf(layer: PlacedLayer, batches: readonly number[]): string {
  const faster = batches.flatMap((batch, b) => {
    const [float, int8] = [layer.float[b], layer.int8[b]];
    return float !== undefined && int8 !== undefined && float < int8 ? [`${ms(float)} against ${ms(int8)} at batch ${batch}`] : [];
  });
  return faster.length
    ? `left in float: faster so on this machine (${faster.join(', ')})`
    : 'left in float with its neighbours: the model is faster so on this machine';
}

/** The plan with the reasons of a placement in place of "by the configuration". */
export function explain(plan: QuantPlan, { layers, batches }: Placement): QuantPlan {
  const left = new Map(layers.flatMap((layer) => (layer.left ? [[layer.name, layer] as const] : [])));
  const float = plan.float.map((entry) => {
    const layer = left.get(entry.node);
    return layer ? { ...entry, reason: reasonOf(layer, batches) } : entry;
  });
  return { ...plan, float };
}
