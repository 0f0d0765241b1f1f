import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseRecipe, ServiceError } from '@octet/contracts';
import { defaultLimits, type PipelineEvent } from '@octet/quant-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { runJobProcess } from './run.js';

const module = inject('jobCommands');
const log = { debug: () => undefined, warn: () => undefined };
const roomy = { seconds: 60, memoryBytes: 2 ** 30 };

const inspect = (behaviour: string, options: { seconds?: number; memoryBytes?: number; signal?: AbortSignal } = {}) =>
  runJobProcess({
    command: 'inspect-model',
    payload: { path: behaviour, limits: defaultLimits, recipe: parseRecipe({}) },
    signal: options.signal,
    limits: { ...roomy, ...options },
    log,
    module,
  });

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'octet-test-runner-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function quantize(behaviour: string, options: { signal?: AbortSignal; onEvent?: (event: PipelineEvent) => void } = {}) {
  const modelPath = path.join(directory, behaviour);
  await writeFile(modelPath, behaviour);
  const payload = {
    modelPath,
    dataset: { path: modelPath, config: {} },
    recipe: parseRecipe({}),
    outputDirectory: path.join(directory, 'out'),
    workDirectory: directory,
    limits: defaultLimits,
  };
  return runJobProcess({ command: 'quantize', payload, ...options, limits: roomy, log, module });
}

describe('a process that works', () => {
  test('gives the result of its command', async () => {
    expect(await inspect('fine')).toMatchObject({ format: 'onnx', trainable: true });
  });

  test('sees no credentials and runs with lower priority', async () => {
    process.env.DATABASE_URL = 'postgresql://secret';
    process.env.REDIS_URL = 'redis://secret';
    process.env.AWS_SECRET_ACCESS_KEY = 'secret';
    process.env.OCTET_ENGINE = 'ort';
    const { environment, nice } = JSON.parse((await inspect('environment')).producer);
    expect(environment).toEqual(expect.arrayContaining(['PATH', 'OCTET_ENGINE']));
    for (const name of ['DATABASE_URL', 'REDIS_URL', 'AWS_SECRET_ACCESS_KEY']) expect(environment).not.toContain(name);
    expect(nice).toBe(10);
  });

  test('passes events on, few of them when they come in floods, always the last', async () => {
    const events: PipelineEvent[] = [];
    await quantize('flood', { onEvent: (event) => events.push(event) });
    const progress = events.filter((event) => event.type === 'progress');
    expect(progress.length).toBeLessThan(2_000);
    expect(progress.at(-1)).toMatchObject({ done: 200_000, total: 200_000 });
    expect(events.map((event) => event.type).filter((type) => type !== 'progress')).toEqual(['stage', 'stage', 'epoch', 'log', 'stage']);
  });
});

describe('a process that fails says why', () => {
  test('an error of the catalogue arrives as it was thrown', async () => {
    await expect(inspect('refuse')).rejects.toMatchObject({ code: 'MODEL_CYCLIC', message: 'a feeds b feeds a', place: { node: 'a' } });
  });

  test('a plain exception becomes INTERNAL with its stack in the log', async () => {
    await expect(inspect('throw')).rejects.toMatchObject({
      code: 'INTERNAL',
      message: 'cannot read properties of the moon',
      logTail: expect.stringContaining('job-commands.mjs'),
    });
    await expect(inspect('rejection')).rejects.toMatchObject({ code: 'INTERNAL', message: 'nobody caught me' });
  });

  test('a crash names the signal or the exit code and the last words', async () => {
    await expect(inspect('segfault')).rejects.toMatchObject({ code: 'JOB_CRASHED', message: expect.stringContaining('SIGSEGV') });
    await expect(inspect('exit')).rejects.toMatchObject({
      code: 'JOB_CRASHED',
      message: expect.stringMatching(/exit code 1 .*last words before leaving/),
      logTail: 'last words before leaving',
    });
  });

  test('too much memory, of the heap and beside it', async () => {
    await expect(inspect('memory', { memoryBytes: 400 * 2 ** 20 })).rejects.toMatchObject({
      code: 'JOB_OUT_OF_MEMORY',
      message: expect.stringContaining('400 MiB'),
    });
    await expect(inspect('heap', { memoryBytes: 2 ** 28 })).rejects.toMatchObject({ code: 'JOB_OUT_OF_MEMORY' });
  });
});

describe('a process that is stopped', () => {
  test('one that never looks up is killed when its time is over', async () => {
    await expect(inspect('hang', { seconds: 1 })).rejects.toMatchObject({ code: 'INSPECTION_TIMED_OUT' });
  });

  test('one that heeds the signal ends by itself; the reason of the signal is the error', async () => {
    const cancel = new AbortController();
    const waiting = quantize('slow', { signal: cancel.signal, onEvent: (event) => event.type === 'progress' && cancel.abort() });
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
    const leave = new AbortController();
    const leaving = quantize('slow', {
      signal: leave.signal,
      onEvent: (event) => event.type === 'progress' && leave.abort(new ServiceError('SHUTTING_DOWN', 'bye')),
    });
    await expect(leaving).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    await expect(inspect('fine', { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test('one that does not heed it is killed', async () => {
    const cancel = new AbortController();
    const waiting = quantize('deaf', { signal: cancel.signal, onEvent: (event) => event.type === 'progress' && cancel.abort() });
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
