import type { Interval } from '../evaluate/statistics.js';
import type { Report } from './schema.js';

/** How numbers are written for people. A real minus sign is used, so that "−0.2" does not break over a line. */

const minus = (text: string) => text.replace(/^-/, '−');

export function fixed(value: number, digits: number): string {
  const text = value.toFixed(digits);
  return minus(Number(text) === 0 ? (0).toFixed(digits) : text);
}

export const percent = (share: number, digits = 2) => `${fixed(100 * share, digits)} %`;

/** Signed, so that a gain and a loss are told apart at a glance. */
export function signed(value: number, digits = 2): string {
  const text = fixed(value, digits);
  return value > 0 && Number(value.toFixed(digits)) !== 0 ? `+${text}` : text;
}

/** A count with thousands separated by commas. */
export const count = (value: number) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ',');

/** A metric or loss: five significant digits. */
export const figure = (value: number) => minus(Number(value.toPrecision(5)).toString());

/** A value of a metric in its unit. */
export const metricText = (value: number, unit: 'fraction' | 'value') => (unit === 'fraction' ? percent(value) : figure(value));

export const intervalText = ([low, high]: Interval, unit: 'fraction' | 'value') =>
  unit === 'fraction' ? `${fixed(100 * low, 2)} … ${fixed(100 * high, 2)} %` : `${figure(low)} … ${figure(high)}`;

/** A change in points (or metric units) with its interval; an end that is not 0 does not read as 0. */
export function changeText(points: number, ci95: Interval, unit: 'fraction' | 'value'): string {
  if (unit === 'fraction') {
    let digits = 2;
    while (digits < 6 && [points, ...ci95].some((value) => value !== 0 && Number(value.toFixed(digits)) === 0)) digits++;
    const text = (value: number) => signed(value, digits);
    return `${text(points)} points (95 % ${text(ci95[0])} … ${text(ci95[1])})`;
  }
  const sign = (value: number) => (value > 0 ? `+${figure(value)}` : figure(value));
  return `${sign(points)} (95 % ${sign(ci95[0])} … ${sign(ci95[1])})`;
}

export function bytes(value: number): string {
  if (value < 1000) return `${Math.round(value)} B`;
  if (value < 1e6) return `${fixed(value / 1e3, 1)} kB`;
  if (value < 1e9) return `${fixed(value / 1e6, 2)} MB`;
  return `${fixed(value / 1e9, 2)} GB`;
}

export const milliseconds = (value: number) => `${fixed(value, value < 10 ? 3 : 1)} ms`;

/** A p value; below 0.0001 the digits say nothing more. */
export const pValue = (p: number) => (p < 0.0001 ? '< 0.0001' : p.toFixed(4));

export const decibels = (value: number) => `${fixed(value, 1)} dB`;

/** "1.9× faster", from a ratio of times. */
export function speed(ratio: number): string {
  if (!Number.isFinite(ratio) || ratio <= 0) return '—';
  if (ratio >= 0.995 && ratio < 1.005) return 'same speed';
  return ratio > 1 ? `${fixed(ratio, 2)}× faster` : `${fixed(1 / ratio, 2)}× slower`;
}

/**
 * How fast int8 is beside float, at batch 1 or 32, as far as the measurement tells: nothing where the machine was busy, and no difference where the interval of
 * the ratio holds 1. Reports of before 0.4 have medians alone.
 */
export function speedOf(latency: Report['latency'], size: 'batch1' | 'batch32'): string {
  const { float, int8, ratio, busy } = latency;
  if (busy) return 'not told: busy machine';
  if (!ratio) return size === 'batch1' ? speed(float.p50Ms / int8.p50Ms) : speed(float.batch32.p50Ms / int8.batch32.p50Ms);
  const [low, high] = ratio[size].ci95;
  return low <= 1 && high >= 1 ? 'no clear difference' : speed(1 / ratio[size].value);
}

/** Singular or plural with its number. */
export const plural = (n: number, one: string, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
