import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { contentDisposition, entityTag, noneMatchNames, parseRange, rangeStillCounts, reprDigest } from './conditional.js';

describe('parseRange', () => {
  it.each([
    ['bytes=0-0', { start: 0, end: 0 }],
    ['bytes=2-', { start: 2, end: 9 }],
    ['bytes=-3', { start: 7, end: 9 }],
    ['bytes=-30', { start: 0, end: 9 }],
    ['bytes=4-400', { start: 4, end: 9 }],
    ['bytes=10-', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=5-2', undefined],
    ['bytes=-', undefined],
    ['bytes=0-1,3-4', undefined],
    ['lines=0-1', undefined],
    [undefined, undefined],
  ])('reads %s of 10 bytes', (header, expected) => {
    expect(parseRange(header, 10)).toEqual(expected);
  });

  it('never leaves the content', () => {
    fc.assert(
      fc.property(fc.string(), fc.nat(), fc.nat(), fc.integer({ min: 1, max: 1000 }), (noise, a, b, size) => {
        for (const header of [noise, `bytes=${a}-${b}`, `bytes=${a}-`, `bytes=-${b}`]) {
          const range = parseRange(header, size);
          if (range === undefined || range === 'unsatisfiable') continue;
          expect(range.start).toBeGreaterThanOrEqual(0);
          expect(range.end).toBeLessThan(size);
          expect(range.start).toBeLessThanOrEqual(range.end);
        }
      }),
    );
  });
});

describe('conditions', () => {
  const tag = entityTag('ab');

  it('compares If-None-Match weakly and in lists', () => {
    expect(noneMatchNames('W/"ab"', tag)).toBe(true);
    expect(noneMatchNames('"x", "ab"', tag)).toBe(true);
    expect(noneMatchNames('*', tag)).toBe(true);
    expect(noneMatchNames('"x"', tag)).toBe(false);
    expect(noneMatchNames(undefined, tag)).toBe(false);
  });

  it('compares If-Range strongly', () => {
    expect(rangeStillCounts('"ab"', tag)).toBe(true);
    expect(rangeStillCounts('W/"ab"', tag)).toBe(false);
    expect(rangeStillCounts('Mon, 01 Jan 2024 00:00:00 GMT', tag)).toBe(false);
  });
});

describe('headers of a download', () => {
  it('writes the digest as a structured field', () => {
    expect(reprDigest('00ff')).toBe('sha-256=:AP8=:');
  });

  it('keeps quotes, line breaks and paths out of the file name', () => {
    expect(contentDisposition('a b-1.onnx')).toBe('attachment; filename="a b-1.onnx"');
    expect(contentDisposition('a"\r\nx.onnx')).toBe('attachment; filename="a_x.onnx"; filename*=UTF-8\'\'a%22%0D%0Ax.onnx');
  });
});
