/** Conditional and range requests (RFC 9110, sections 13 and 14). */

/** First and last byte, both included. */
export interface ByteRange {
  start: number;
  end: number;
}

/** Strong entity tag of content with this SHA-256. */
export function entityTag(sha256: string): string {
  return `"${sha256}"`;
}

/**
 * Whether an If-None-Match header names the tag (weak comparison, as section 13.1.2 wants).
 * @param header value as sent; undefined when absent
 */
export function noneMatchNames(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  return header.split(',').some((candidate) => candidate.trim().replace(/^W\//, '') === tag);
}

/**
 * Whether an If-Match header lets the request through: it is absent, `*`, or names the tag (strong comparison, section 13.1.1).
 * @param header value as sent; undefined when absent
 */
export function matchAllows(header: string | undefined, tag: string): boolean {
  if (header === undefined || header.trim() === '*') return true;
  return header.split(',').some((candidate) => candidate.trim() === tag);
}

/** A date of If-Modified-Since or If-Unmodified-Since in milliseconds; undefined where it is absent or broken, which a server ignores. */
export function readDate(header: string | undefined): number | undefined {
  const time = header === undefined || !header.endsWith('GMT') ? Number.NaN : Date.parse(header);
  return Number.isNaN(time) ? undefined : time;
}

/** Whether an If-Range header lets a Range header count. Only a strong tag can; dates are not offered here. */
export function rangeStillCounts(ifRange: string | undefined, tag: string): boolean {
  return ifRange === undefined || ifRange.trim() === tag;
}

/**
 * Read a Range header against content of `size` bytes.
 * @returns the range, `undefined` where the whole content is to be sent (no header, another unit, a broken or a multiple range, which
 * a server may ignore), or `'unsatisfiable'` where 416 is due
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined | 'unsatisfiable' {
  const match = /^bytes=\s*(\d*)-(\d*)\s*$/.exec(header ?? '');
  if (!match) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '' && last === '') return undefined;
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? 'unsatisfiable' : { start: size - length, end: size - 1 };
  }
  const start = Number(first);
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= size ? 'unsatisfiable' : { start, end };
}

/** Value of Repr-Digest (RFC 9530) for a SHA-256 given in hex. */
export function reprDigest(sha256: string): string {
  return `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`;
}

/**
 * Content-Disposition that saves the file under a name. Characters outside a safe set become `_`; the full name travels as RFC 8187.
 */
export function contentDisposition(fileName: string): string {
  const plain = fileName.replace(/[^\w.\- ]+/g, '_');
  const encoded = encodeURIComponent(fileName).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return plain === fileName ? `attachment; filename="${plain}"` : `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}
