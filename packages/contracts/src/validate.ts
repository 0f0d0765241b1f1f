import type { ErrorCode } from '@octet/quant-core';
import Type, { type Static, type TSchema } from 'typebox';
import Value from 'typebox/value';
import { ConfigError, type FieldError } from './errors.js';

/**
 * Checks a value against a schema, fills defaults, and names every wrong field.
 * Nothing is converted: "3" is not 3.
 *
 * @throws ConfigError with `code` and one FieldError for each unknown key, missing field and wrong value.
 */
export function parseAgainst<S extends TSchema>(schema: S, value: unknown, code: ErrorCode): Static<S> {
  const filled: unknown = isRecord(value) ? Value.Default(schema, structuredClone(value)) : value;
  const errors = fieldErrors(schema, filled);
  if (errors.length > 0) throw new ConfigError(code, errors);
  return filled as Static<S>;
}

/** Every wrong field of a value, with JSON pointers. Empty when the value fits the schema. */
export function fieldErrors(schema: TSchema, value: unknown): FieldError[] {
  const errors: FieldError[] = [];
  walk(schema, value, '', errors);
  return errors;
}

function walk(schema: TSchema, value: unknown, pointer: string, errors: FieldError[]): void {
  if (Type.IsObject(schema)) {
    if (!isRecord(value)) {
      errors.push({ pointer, detail: `must be an object, not ${show(value)}` });
      return;
    }
    const known = Object.keys(schema.properties);
    const required: readonly string[] = schema.required ?? [];
    for (const key of Object.keys(value)) {
      const property = Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined;
      if (property !== undefined) {
        if (value[key] !== undefined || required.includes(key)) walk(property, value[key], `${pointer}/${escapePointer(key)}`, errors);
      } else if ('additionalProperties' in schema && schema.additionalProperties === false) {
        errors.push({ pointer: `${pointer}/${escapePointer(key)}`, detail: `unknown field "${key}"`, hint: suggest(key, known) });
      }
    }
    for (const key of required)
      if (!(key in value))
        errors.push({ pointer: `${pointer}/${escapePointer(key)}`, detail: `is missing; it must be ${describe(schema.properties[key])}` });
    return;
  }
  if (Type.IsArray(schema) && Array.isArray(value) && Type.IsObject(schema.items)) {
    for (const [i, item] of value.entries()) walk(schema.items, item, `${pointer}/${i}`, errors);
    const { maxItems } = schema as { maxItems?: number };
    if (maxItems !== undefined && value.length > maxItems)
      errors.push({ pointer, detail: `has ${value.length} entries, more than ${maxItems}` });
    return;
  }
  if (!Value.Check(schema, value)) {
    const allowed = describe(schema);
    const choices = literals(schema);
    const hint = typeof value === 'string' && choices.length > 1 ? suggest(value, choices.map(String)) : `Allowed: ${allowed}.`;
    errors.push({ pointer, detail: `must be ${allowed}, not ${show(value)}`, hint });
  }
}

function literals(schema: TSchema): unknown[] {
  if (Type.IsLiteral(schema)) return [schema.const];
  if (Type.IsEnum(schema)) return schema.enum;
  if (Type.IsUnion(schema)) return schema.anyOf.flatMap(literals);
  return [];
}

/** A schema in words: `"qat" or "ptq"`, `a whole number from 1 to 1000`. */
export function describe(schema: TSchema | undefined): string {
  if (schema === undefined) return 'something else';
  if (Type.IsLiteral(schema)) return JSON.stringify(schema.const);
  if (Type.IsEnum(schema)) return listed(schema.enum.map((value) => JSON.stringify(value)));
  if (Type.IsUnion(schema)) return listed(schema.anyOf.map(describe));
  if (Type.IsInteger(schema)) return `a whole number${rangeOf(schema)}`;
  if (Type.IsNumber(schema)) return `a number${rangeOf(schema)}`;
  if (Type.IsBoolean(schema)) return 'true or false';
  if (Type.IsString(schema)) {
    const { pattern, maxLength } = schema as { pattern?: string | RegExp; maxLength?: number };
    if (pattern !== undefined) return `a text that matches ${String(pattern)}`;
    return maxLength === undefined ? 'a text' : `a text of at most ${maxLength} characters`;
  }
  if (Type.IsArray(schema)) return `a list of which each entry is ${describe(schema.items)}`;
  if (Type.IsRecord(schema)) return 'an object of short texts';
  return 'an object';
}

function listed(parts: string[]): string {
  return parts.length > 1 ? `${parts.slice(0, -1).join(', ')} or ${parts.at(-1)}` : (parts[0] ?? 'nothing');
}

function rangeOf(schema: TSchema): string {
  const { minimum, exclusiveMinimum, maximum, exclusiveMaximum } = schema as {
    minimum?: number;
    exclusiveMinimum?: number;
    maximum?: number;
    exclusiveMaximum?: number;
  };
  const low = minimum !== undefined ? ` from ${minimum}` : exclusiveMinimum !== undefined ? ` above ${exclusiveMinimum}` : '';
  const high = maximum !== undefined ? ` to ${maximum}` : exclusiveMaximum !== undefined ? ` below ${exclusiveMaximum}` : '';
  return low + high;
}

function suggest(word: string, known: readonly string[]): string {
  let best = '';
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const d = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (d < bestDistance) [best, bestDistance] = [candidate, d];
  }
  const allowed = `Allowed: ${known.join(', ')}.`;
  return bestDistance <= Math.max(2, best.length / 3) ? `Did you mean "${best}"? ${allowed}` : allowed;
}

/** Levenshtein distance, cut at 64 characters. */
function editDistance(a: string, b: string): number {
  const from = a.slice(0, 64);
  const to = b.slice(0, 64);
  let previous = Array.from({ length: to.length + 1 }, (_, j) => j);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      row.push(Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)));
    }
    previous = row;
  }
  return previous[to.length] ?? 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function escapePointer(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
