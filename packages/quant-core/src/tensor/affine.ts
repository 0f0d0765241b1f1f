/** The affine quantization map and the only rounding in Octet. */

/** An integer grid: values `qmin … qmax`, stored as int8 or uint8. */
export interface QuantGrid {
  dtype: 'int8' | 'uint8';
  qmin: number;
  qmax: number;
  symmetric: boolean;
}

/** A closed range of real values. */
export interface Range {
  min: number;
  max: number;
}

export interface AffineParams {
  scale: number;
  zeroPoint: number;
}

/** Smallest scale Octet writes: below it float32 division loses meaning. */
export const minScale = 2 ** -100;

/** Round half to even, as ONNX QuantizeLinear does. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const fraction = x - floor;
  if (fraction < 0.5) return floor;
  if (fraction > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Range → scale and zero point. Affine: `scale = (max(max,0) - min(min,0)) / (qmax - qmin)`,
 * `zeroPoint = clamp(qmin - round(min / scale))`. Symmetric: `scale = max|x| / qmax`, zero point in the
 * middle of the grid. 0 is always representable. Scale is a float32 value.
 */
export function affineFromRange(min: number, max: number, grid: QuantGrid): AffineParams {
  if (grid.symmetric) {
    const middle = grid.dtype === 'uint8' ? Math.floor((grid.qmin + grid.qmax + 1) / 2) : 0;
    const steps = Math.min(grid.qmax - middle, middle - grid.qmin);
    const scale = Math.fround(Math.max(Math.abs(min), Math.abs(max)) / steps);
    return { scale: scale >= minScale ? scale : 1, zeroPoint: middle };
  }
  const low = Math.min(min, 0);
  const high = Math.max(max, 0);
  const scale = Math.fround((high - low) / (grid.qmax - grid.qmin));
  if (!(scale >= minScale)) return { scale: 1, zeroPoint: grid.qmin <= 0 ? 0 : grid.qmin };
  const zeroPoint = roundHalfEven(grid.qmin - low / scale);
  return { scale, zeroPoint: Math.min(grid.qmax, Math.max(grid.qmin, zeroPoint)) };
}

/** `clamp(round(x / scale) + zeroPoint, qmin, qmax)`, with the division in float32 as the runtime does it. */
export function quantizeValue(x: number, params: AffineParams, qmin: number, qmax: number): number {
  const q = roundHalfEven(Math.fround(Math.fround(x) / params.scale)) + params.zeroPoint;
  return q < qmin ? qmin : q > qmax ? qmax : q;
}

/**
 * The integer below `x / scale`, with the division in float32 as `quantizeValue` has it, and how far above it `x` lies (0 to 1): for rounding that is
 * learned. Neither zero point nor grid come in.
 */
export function splitValue(x: number, scale: number): { floor: number; fraction: number } {
  const steps = Math.fround(Math.fround(x) / scale);
  const floor = Math.floor(steps);
  return { floor, fraction: steps - floor };
}

/** `(q - zeroPoint) * scale` in float32. */
export function dequantizeValue(q: number, params: AffineParams): number {
  return Math.fround((q - params.zeroPoint) * params.scale);
}
