import { ServiceError } from '@octet/contracts';
import { headerParameters } from './header-parameters.js';

/** Reads multipart/form-data (RFC 7578, RFC 2046 section 5.1) as it comes, and refuses at once what is not that. */

/** One part: its name, the name of its file, and its bytes, which are to be read to their end before the next part is asked for. */
export interface Part {
  name: string;
  /** `filename` of the part; undefined when it has none. */
  fileName: string | undefined;
  body: AsyncIterable<Buffer>;
}

const most = { preambleBytes: 8_192, headerBytes: 16_384, paddingBytes: 256, parts: 16, nameLength: 100 };
const lineEnd = Buffer.from('\r\n');
const headersEnd = Buffer.from('\r\n\r\n');

/**
 * The boundary that a Content-Type header gives.
 * @throws ServiceError MULTIPART_INVALID
 */
export function boundaryOf(contentType: string): string {
  const boundary = headerParameters(contentType)?.parameters.get('boundary') ?? '';
  if (boundary === '')
    throw broken(
      'The Content-Type has no boundary',
      'Let the HTTP client write the Content-Type of a multipart body, or add its boundary.',
    );
  if (boundary.length > 70) throw broken('The boundary has more than 70 characters');
  return boundary;
}

/**
 * The parts of a multipart body, in order. Memory stays at one chunk of the source.
 * @param source the body
 * @throws ServiceError MULTIPART_INVALID, and whatever the source throws
 */
export async function* partsOf(source: AsyncIterable<Buffer>, boundary: string): AsyncGenerator<Part, void> {
  const input = new Input(source);
  const delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1');
  const missing = `The body does not begin with the boundary "--${boundary}" of its Content-Type`;
  for await (const skipped of input.until(delimiter, missing)) input.count(skipped, most.preambleBytes, missing);
  for (let parts = 1; ; parts++) {
    if (await input.atClosingDashes()) return;
    if (parts > most.parts) throw broken(`The body has more than ${most.parts} parts`);
    const { name, fileName } = readHeaders(await input.text(headersEnd, most.headerBytes, 'the headers of a part'));
    yield {
      name,
      fileName,
      body: input.until(delimiter, `The body ends inside the part "${name}", before its closing boundary "--${boundary}--"`),
    };
  }
}

/** The source, cut at delimiters. */
class Input {
  readonly #source: AsyncIterator<Buffer>;
  // A line end in front makes the first boundary one like the others.
  #rest: Buffer = lineEnd;
  #counted = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The bytes before a delimiter; the delimiter itself is taken away. */
  async *until(delimiter: Buffer, atEnd: string): AsyncGenerator<Buffer, void> {
    for (;;) {
      const at = this.#rest.indexOf(delimiter);
      const take = at >= 0 ? at : Math.max(0, this.#rest.length - delimiter.length + 1);
      const bytes = this.#rest.subarray(0, take);
      this.#rest = this.#rest.subarray(at >= 0 ? at + delimiter.length : take);
      if (bytes.length > 0) yield bytes;
      if (at >= 0) return;
      if (!(await this.#more())) throw broken(atEnd);
    }
  }

  /** A short text before a delimiter, which is taken away. */
  async text(delimiter: Buffer, limit: number, what: string): Promise<string> {
    for (;;) {
      const at = this.#rest.indexOf(delimiter);
      if (at > limit || (at < 0 && this.#rest.length > limit)) throw broken(`More than ${limit} bytes were sent as ${what}`);
      if (at >= 0) {
        const text = this.#rest.toString('utf8', 0, at);
        this.#rest = this.#rest.subarray(at + delimiter.length);
        return text;
      }
      if (!(await this.#more())) throw broken(`The body ends inside ${what}`);
    }
  }

  /** After a boundary: two dashes end the body, anything else but a line end is not a boundary. The line end stays. */
  async atClosingDashes(): Promise<boolean> {
    for (;;) {
      const line = this.#rest.toString('latin1', 0, most.paddingBytes);
      if (line.startsWith('--')) return true;
      const padding = /^[ \t]*(?=\r\n)/.exec(line);
      if (padding !== null) {
        this.#rest = this.#rest.subarray(padding[0].length);
        return false;
      }
      if (!/^(-|[ \t]*\r?)$/.test(line) || line.length === most.paddingBytes)
        throw broken('A boundary is followed by something other than a line end');
      if (!(await this.#more())) throw broken('The body ends after a boundary that does not close it');
    }
  }

  count(bytes: Buffer, limit: number, message: string): void {
    this.#counted += bytes.length;
    if (this.#counted > limit) throw broken(message);
  }

  async #more(): Promise<boolean> {
    const { value, done } = await this.#source.next();
    if (done) return false;
    this.#rest = this.#rest.length === 0 ? value : Buffer.concat([this.#rest, value]);
    return true;
  }
}

/** @param block the header lines of a part, each after a line end */
function readHeaders(block: string): { name: string; fileName: string | undefined } {
  const headers = new Map<string, string>();
  for (const line of block.split('\r\n').slice(1)) {
    const [, name, value] = /^([\w!#$%&'*+.^`|~-]+):(.*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined)
      throw broken(`A part has the header line ${JSON.stringify(line.slice(0, 80))}, which is not a header`);
    if (headers.has(name.toLowerCase())) throw broken(`A part has the header ${name} twice`);
    headers.set(name.toLowerCase(), value.trim());
  }
  const disposition = headers.get('content-disposition');
  if (disposition === undefined) throw broken('A part has no Content-Disposition');
  const { value, parameters } = headerParameters(disposition) ?? {};
  const name = parameters?.get('name') ?? '';
  if (value !== 'form-data' || name === '')
    throw broken(`A part has the Content-Disposition ${JSON.stringify(disposition.slice(0, 80))}, not form-data with a name`);
  if (name.length > most.nameLength) throw broken(`A part has a name of more than ${most.nameLength} characters`);
  const encoding = headers.get('content-transfer-encoding') ?? 'binary';
  if (!/^(binary|8bit|7bit)$/i.test(encoding))
    throw broken(
      `The part "${name}" has the Content-Transfer-Encoding ${JSON.stringify(encoding.slice(0, 40))}`,
      'Send the bytes of the file as they are.',
    );
  return { name, fileName: parameters?.get('filename*') ?? parameters?.get('filename') };
}

function broken(what: string, hint?: string): ServiceError {
  return new ServiceError('MULTIPART_INVALID', `${what}.`, {
    hint:
      hint ??
      'Begin each part with "--boundary", a line with Content-Disposition: form-data; name="…" and an empty line, and end the body with "--boundary--"; all lines end with CR LF.',
  });
}
