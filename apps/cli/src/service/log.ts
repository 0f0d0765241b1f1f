import { Writable } from 'node:stream';
import { loggerOptions } from '@octet/api';
import { type DestinationStream, type Logger, pino } from 'pino';

/** The log of a service in one process: JSON lines, or short lines where a person looks on. */
export function openLog({
  level,
  destination,
  readable,
}: {
  level: string;
  destination: NodeJS.WritableStream | DestinationStream;
  readable: boolean;
}): Logger {
  return pino(loggerOptions(level), readable ? readableLines(destination) : destination);
}

interface Line {
  level: number;
  time: number;
  msg?: string;
  req?: { method?: string; url?: string };
  res?: { statusCode?: number };
  responseTime?: number;
  err?: { message?: string; code?: string; type?: string } | string | null;
  [key: string]: unknown;
}

/** What a line says beside its message. */
const shown = ['jobId', 'attempt', 'code', 'detail', 'reason', 'role', 'times', 'seconds', 'stage', 'migration', 'concurrency', 'signal'];

function readableLines(destination: { write(text: string): unknown }): Writable {
  return new Writable({
    decodeStrings: false,
    write(chunk: string | Buffer, _encoding, done) {
      for (const text of chunk.toString().split('\n')) {
        const line = text === '' ? undefined : readable(JSON.parse(text) as Line);
        if (line !== undefined) destination.write(`${line}\n`);
      }
      done();
    },
  });
}

/** One line for people; a request is one line when it is answered, and none when it comes in. */
function readable(line: Line): string | undefined {
  if (line.req !== undefined && line.res === undefined && line.err === undefined && line.level <= pino.levels.values.info!)
    return undefined;
  const time = new Date(line.time).toTimeString().slice(0, 8);
  const level = pino.levels.labels[line.level] ?? '';
  const facts = shown.flatMap((name) => (line[name] === undefined || line[name] === null ? [] : [`${name}=${String(line[name])}`]));
  if (line.err !== undefined) facts.push(reason(line.err));
  const said =
    line.res === undefined
      ? (line.msg ?? '')
      : `${line.req?.method ?? 'request'} ${line.req?.url ?? String(line.reqId ?? '')} ${line.res.statusCode ?? ''} in ${Math.round(line.responseTime ?? 0)} ms`;
  return `${time} ${level.padEnd(5)} ${[said, ...facts].join(' ')}`;
}

/** Why, in one line: code and message of an error, or whatever was thrown in its place. */
function reason(err: Line['err']): string {
  if (typeof err !== 'object' || err === null) return `error: ${String(err)}`;
  return `${err.code ?? err.type ?? 'error'}: ${err.message ?? JSON.stringify(err)}`.replaceAll('\n', ' ');
}
