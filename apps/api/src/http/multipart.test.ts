import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { headerParameters } from './header-parameters.js';
import { boundaryOf, partsOf } from './multipart.js';

async function* inChunks(body: Buffer, cuts: readonly number[] = []): AsyncGenerator<Buffer> {
  let from = 0;
  for (const cut of [...cuts.map((one) => one % (body.length + 1)).sort((a, b) => a - b), body.length]) {
    yield body.subarray(from, cut);
    from = cut;
  }
}

async function read(body: Buffer, boundary: string, cuts?: readonly number[]) {
  const parts: { name: string; fileName: string | undefined; content: Buffer }[] = [];
  for await (const { name, fileName, body: bytes } of partsOf(inChunks(body, cuts), boundary)) {
    const chunks: Buffer[] = [];
    for await (const chunk of bytes) chunks.push(chunk);
    parts.push({ name, fileName, content: Buffer.concat(chunks) });
  }
  return parts;
}

/** Bytes that are full of beginnings of the boundary `ab`. */
const trickyBytes = fc
  .array(fc.oneof(fc.constantFrom('\r\n', '\r\n-', '\r\n--', '\r\n--a', '--ab', '\r', '\n', '-'), fc.string({ maxLength: 5 })), {
    maxLength: 20,
  })
  .map((pieces) => Buffer.from(pieces.join('').replaceAll('\r\n--ab', '')))
  .filter((bytes) => !bytes.includes('\r\n--ab'));

describe('partsOf', () => {
  it('gives back what was written, however it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ name: fc.stringMatching(/^[a-z]{1,10}$/), content: trickyBytes }), { minLength: 1, maxLength: 5 }),
        fc.array(fc.nat(), { maxLength: 40 }),
        async (written, cuts) => {
          const body = Buffer.concat([
            ...written.flatMap(({ name, content }) => [
              Buffer.from(`--ab\r\nContent-Disposition: form-data; name="${name}"; filename="${name}.bin"\r\n\r\n`),
              content,
              Buffer.from('\r\n'),
            ]),
            Buffer.from('--ab--\r\n'),
          ]);
          expect(await read(body, 'ab', cuts)).toEqual(written.map((part) => ({ ...part, fileName: `${part.name}.bin` })));
        },
      ),
    );
  });

  it('ends or refuses whatever comes, and gives no part of a body that is cut off', async () => {
    const whole = Buffer.from('--ab\r\nContent-Disposition: form-data; name="x"\r\n\r\n12345\r\n--ab--');
    for (let length = 0; length < whole.length; length++)
      await expect(read(whole.subarray(0, length), 'ab')).rejects.toMatchObject({ code: 'MULTIPART_INVALID' });
    expect(await read(whole, 'ab')).toHaveLength(1);
  });

  it('skips a preamble and what follows the end', async () => {
    const body = Buffer.from('hello\r\n--ab  \r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n--ab--\r\nbye');
    expect(await read(body, 'ab')).toEqual([{ name: 'x', fileName: undefined, content: Buffer.alloc(0) }]);
  });
});

describe('headerParameters', () => {
  it.each([
    ['form-data; name="a"; filename="C:\\models\\net v2.onnx"', { name: 'a', filename: 'C:\\models\\net v2.onnx' }],
    ['form-data; name="say \\"a\\""', { name: 'say "a"' }],
    ['form-data; name="a%22b%0D%0A%20"', { name: 'a"b\r\n%20' }],
    ["form-data; name=a; filename*=UTF-8''%e2%82%ac.onnx", { name: 'a', 'filename*': '€.onnx' }],
    ['FORM-DATA;NAME=a;', { name: 'a' }],
  ])('reads %s', (header, parameters) => {
    const read = headerParameters(header);
    expect(read?.value).toBe('form-data');
    expect(Object.fromEntries(read?.parameters ?? [])).toEqual(parameters);
  });

  it.each(['form-data; name="a"; name="b"', 'form-data; name="a', 'form-data; ="a"', 'form-data; name="a"b'])('refuses %s', (header) =>
    expect(headerParameters(header)).toBeUndefined(),
  );

  it('wants a boundary', () => {
    expect(boundaryOf('multipart/form-data; boundary="a b"')).toBe('a b');
    expect(() => boundaryOf('multipart/form-data')).toThrow(/boundary/);
    expect(() => boundaryOf(`multipart/form-data; boundary=${'x'.repeat(71)}`)).toThrow(/70/);
  });
});
