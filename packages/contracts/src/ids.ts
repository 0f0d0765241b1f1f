import { randomBytes } from 'node:crypto';

/** Crockford's base 32: no i, l, o, u, so that ids survive being read aloud. */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

const prefixes = { model: 'mdl_', dataset: 'dst_', job: 'job_', artifact: 'art_' } as const;
export type IdKind = keyof typeof prefixes;

/**
 * A new id: prefix, ten characters of time (48 bits of milliseconds) and sixteen random ones (80 bits, the layout of ULID).
 * Ids sort by the time they were made.
 */
export function newId(kind: IdKind, now = Date.now()): string {
  let time = '';
  for (let rest = now, i = 0; i < 10; i++) {
    time = alphabet[rest % 32] + time;
    rest = Math.floor(rest / 32);
  }
  let random = '';
  for (const byte of randomBytes(16)) random += alphabet[byte % 32];
  return `${prefixes[kind]}${time}${random}`;
}

/** Pattern of an id of this kind, for schemas. */
export function idPattern(kind: IdKind): string {
  return `^${prefixes[kind]}[0-9a-hjkmnp-tv-z]{26}$`;
}
