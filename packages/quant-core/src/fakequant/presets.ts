import { OctetError } from '../errors.js';
import type { Recipe, Target, WeightStorage } from '../recipe.js';
import type { QuantGrid } from '../tensor/affine.js';

interface WeightChoice {
  bits: number;
  perChannel: boolean;
  symmetric: boolean;
  reduceRange: boolean;
  storage?: WeightStorage;
}

interface ActivationChoice {
  bits: number;
  symmetric: boolean;
  reduceRange: boolean;
}

/**
 * Backend presets, named as PyTorch users know them. Sources: torch.ao.quantization qconfig defaults; ONNX Runtime's quantizer.
 * `onnxruntime` keeps weights to 7 bits: the u8·s8 kernel of x86 without VNNI adds pairs in saturating int16, and
 * 2·255·63 stays below 2^15 (docs/decisions/0002-seven-bit-weights.md).
 */
const presets: Record<Target, { weights: WeightChoice; activations: ActivationChoice }> = {
  onnxruntime: {
    weights: { bits: 8, perChannel: true, symmetric: true, reduceRange: true },
    activations: { bits: 8, symmetric: false, reduceRange: false },
  },
  x86: {
    weights: { bits: 8, perChannel: true, symmetric: true, reduceRange: false },
    activations: { bits: 8, symmetric: false, reduceRange: true },
  },
  fbgemm: {
    weights: { bits: 8, perChannel: true, symmetric: true, reduceRange: false },
    activations: { bits: 8, symmetric: false, reduceRange: true },
  },
  qnnpack: {
    weights: { bits: 8, perChannel: false, symmetric: true, reduceRange: false },
    activations: { bits: 8, symmetric: false, reduceRange: false },
  },
};

export interface LayerChoice {
  skip: boolean;
  weights: QuantGrid & { perChannel: boolean; bits: number; storage: WeightStorage };
  activations: QuantGrid & { bits: number };
}

/** The integer grid of weights: symmetric is `-(2^(b-1)-1) … 2^(b-1)-1`, so that int8 is -127..127. */
function weightGrid(choice: WeightChoice): QuantGrid {
  const bits = choice.bits - (choice.reduceRange ? 1 : 0);
  const top = 2 ** (bits - 1) - 1;
  return { dtype: 'int8', qmin: choice.symmetric ? -top : -top - 1, qmax: top, symmetric: choice.symmetric };
}

/** The integer grid of activations: uint8, `0 … 2^b-1`. */
function activationGrid(choice: ActivationChoice): QuantGrid {
  const bits = choice.bits - (choice.reduceRange ? 1 : 0);
  return { dtype: 'uint8', qmin: 0, qmax: 2 ** bits - 1, symmetric: choice.symmetric };
}

/** Glob with `*` (anything) and `?` (one character); a name without them must match whole. */
function matches(pattern: string, name: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${source}$`).test(name);
}

/**
 * The settings of one layer: the preset, then the job's own settings, then each override that matches, in order. Activations are those it
 * writes; with `input` those it reads from the caller.
 */
export function layerChoice(recipe: Recipe, name: string, op: string, input = false): LayerChoice {
  const preset = presets[recipe.target];
  let skip = false;
  const reduceSaid = {
    weights: recipe.quantization.weights?.reduceRange !== undefined,
    activations: recipe.quantization.activations?.reduceRange !== undefined,
  };
  let weights: WeightChoice = { ...preset.weights, ...recipe.quantization.weights };
  let activations: ActivationChoice = { ...preset.activations, ...recipe.quantization.activations };
  for (const layer of recipe.quantization.layers) {
    if ((layer.name !== undefined && !matches(layer.name, name)) || (layer.op !== undefined && layer.op !== op)) continue;
    skip = layer.skip ?? skip;
    weights = { ...weights, ...layer.weights };
    reduceSaid.weights ||= layer.weights?.reduceRange !== undefined;
    reduceSaid.activations ||= layer.activations?.reduceRange !== undefined;
    activations = { ...activations, ...layer.activations };
  }
  if (input) activations = { ...activations, bits: recipe.quantization.inputBits };
  // Fewer bits cannot saturate: the preset takes its bit from whole bytes only, unless the job itself says so.
  if (!reduceSaid.weights && weights.bits < 8) weights = { ...weights, reduceRange: false };
  if (!reduceSaid.activations && activations.bits < 8) activations = { ...activations, reduceRange: false };
  if (weights.perChannel && !weights.symmetric) {
    throw new OctetError(
      'CONFIG_IMPOSSIBLE',
      `${op} ${name}: per-channel weights must be symmetric, no int8 runtime executes them otherwise`,
      { node: name, op, pointer: '/quantization' },
      { hint: 'Set weights.symmetric to true or weights.perChannel to false.' },
    );
  }
  for (const [kind, choice] of [
    ['weights', weights],
    ['activations', activations],
  ] as const) {
    if (choice.bits - (choice.reduceRange ? 1 : 0) < 2)
      throw new OctetError(
        'CONFIG_IMPOSSIBLE',
        `${op} ${name}: ${kind} of ${choice.bits} bits cannot be reduced further`,
        { node: name, op, pointer: '/quantization' },
        { hint: 'Set reduceRange to false or use more bits.' },
      );
  }
  return {
    skip,
    weights: { ...weightGrid(weights), perChannel: weights.perChannel, bits: weights.bits, storage: weights.storage ?? 'int8' },
    activations: { ...activationGrid(activations), bits: activations.bits },
  };
}

/** Overrides that match no layer are mistakes worth telling. */
export function unmatchedOverrides(recipe: Recipe, layers: readonly { name: string; op: string }[]): number[] {
  return recipe.quantization.layers.flatMap((override, index) => {
    const hit = layers.some(
      (layer) =>
        (override.name === undefined || matches(override.name, layer.name)) && (override.op === undefined || override.op === layer.op),
    );
    return hit ? [] : [index];
  });
}
