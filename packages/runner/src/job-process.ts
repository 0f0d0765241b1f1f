import type { JobMessage, PipelineEvent, SerializedError } from '@octet/quant-core';
import { type CommandModule, execute, type Order } from './commands.js';

/**
 * The entry of a job process: runs one command on files and tells its parent by IPC. It knows no database, no queue and no network,
 * and ends when its parent is gone.
 */

/** Progress comes at every step; the parent is told so often. */
const progressEveryMs = 50;
/** Messages not yet taken by the parent, above which progress and log lines are left out. */
const backlogLimit = 1_000;

const abort = new AbortController();
let backlog = 0;
let leftOut = 0;
let lastProgress = 0;

process.on('disconnect', () => process.exit(0));
process.on('SIGTERM', () => abort.abort());
process.on('uncaughtException', (error) => void finish(failure(error)));
process.on('unhandledRejection', (error) => void finish(failure(error)));
process.on('message', (order: Order) => {
  if (order.kind === 'abort') abort.abort();
  else void run(order);
});

async function run({ command, payload, module }: Extract<Order, { kind: 'run' }>): Promise<void> {
  try {
    const commands = (await import(module)) as CommandModule;
    const result = await execute(commands, command, payload, abort.signal, report);
    if (leftOut > 0)
      await send({ kind: 'event', event: { type: 'log', level: 'warn', message: `${leftOut} events came too fast and were left out` } });
    await finish({ kind: 'result', result });
  } catch (error) {
    await finish(failure(error));
  }
}

function report(event: PipelineEvent): void {
  if (event.type === 'progress') {
    const now = performance.now();
    if (event.done < event.total && now - lastProgress < progressEveryMs) return;
    lastProgress = now;
  }
  if (backlog > backlogLimit && (event.type === 'progress' || event.type === 'log')) leftOut++;
  else void send({ kind: 'event', event });
}

function failure(error: unknown): JobMessage {
  if (isOctetError(error)) return { kind: 'error', error: error.toJSON() };
  if (!abort.signal.aborted) console.error(error);
  return {
    kind: 'error',
    error: { code: 'INTERNAL', detail: error instanceof Error ? error.message : String(error), place: {}, hint: '' },
  };
}

/** By name: this entry loads nothing but the module of the commands. */
function isOctetError(error: unknown): error is Error & { toJSON(): SerializedError } {
  return error instanceof Error && error.name === 'OctetError' && 'toJSON' in error;
}

function send(message: JobMessage): Promise<void> {
  backlog++;
  return new Promise((resolve) => {
    const sent = () => {
      backlog--;
      resolve();
    };
    if (process.connected && process.send !== undefined) process.send(message, undefined, {}, sent);
    else sent();
  });
}

async function finish(message: JobMessage): Promise<void> {
  await send(message);
  process.exit(0);
}
