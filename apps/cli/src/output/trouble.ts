import type { ErrorPlace } from '@octet/quant-core';
import { Interrupted, troubleOf } from '../errors.js';
import { exitCodes } from '../exit-codes.js';
import { exitCodeOf } from '../signals.js';
import { printable, wrap } from './text.js';

const width = 100;

/** Tells a person of an error, and with --json a program too; gives the exit code. */
export function tellError(error: unknown, json: boolean): number {
  if (json) process.stdout.write(troubleJson(error));
  if (error instanceof Interrupted) {
    process.stderr.write(`octet: ${error.message}\n`);
    return exitCodeOf(error.signal);
  }
  process.stderr.write(renderTrouble(error));
  return exitCodes.error;
}

/** An error for people: what it is, where, why, and the way out. The stack is shown only when DEBUG is set. */
export function renderTrouble(error: unknown, environment: NodeJS.ProcessEnv = process.env): string {
  const { code, title, detail, place, hint, errors, logTail } = troubleOf(error);
  const where = placeText(place);
  const lines = [`octet: ${title} (${code})`];
  const add = (name: string, text: string) => lines.push(`  ${name.padEnd(7)} ${wrap(printable(text), width - 10, ' '.repeat(10))}`);
  if (where !== '') add('Where:', where);
  if (errors.length > 1)
    for (const one of errors) add('Why:', `${one.pointer || '/'} ${one.detail}${one.hint === undefined ? '' : ` (${one.hint})`}`);
  else add('Why:', detail);
  if (hint !== '') add('Hint:', hint);
  if (logTail !== undefined && logTail !== '')
    lines.push(
      '  Last words of the job process:',
      ...printable(logTail)
        .split('\n')
        .slice(-8)
        .map((line) => `    ${line}`),
    );
  if (environment.DEBUG && error instanceof Error)
    lines.push(String(error.stack), ...(error.cause instanceof Error ? [`Caused by: ${error.cause.stack}`] : []));
  return `${lines.join('\n')}\n`;
}

/** The same as one JSON object, for --json. */
export function troubleJson(error: unknown): string {
  const { code, title, detail, place, hint, errors } = troubleOf(error);
  return `${JSON.stringify({ error: { code, title, detail, place, hint, errors } }, null, 2)}\n`;
}

function placeText(place: ErrorPlace): string {
  const { node, op, tensor, sample, file, pointer } = place;
  return [
    ...(node === undefined ? [] : [`node "${node}"${op === undefined ? '' : ` (${op})`}`]),
    ...(node === undefined && op !== undefined ? [`operator ${op}`] : []),
    ...(tensor === undefined ? [] : [`tensor "${tensor}"`]),
    ...(sample === undefined ? [] : [`sample ${sample}`]),
    ...(file === undefined ? [] : [`file "${file}"`]),
    ...(pointer === undefined || pointer === '' ? [] : [`setting ${pointer}`]),
  ].join(', ');
}
