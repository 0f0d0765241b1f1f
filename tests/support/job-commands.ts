import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorPlace, ModelSummary, PipelineEvent, PipelineResult, QuantizeJob, Report } from '@octet/quant-core';

/**
 * Commands for tests of the runner and the worker, in place of quant-core's: the bytes of the model say what happens.
 * Everything around them is the real thing: processes, messages, files. The file imports nothing at run time, so that
 * global-setup.ts can transpile it by itself and a process with it starts at once.
 */

class OctetError extends Error {
  override readonly name = 'OctetError';
  constructor(
    readonly code: string,
    detail: string,
    readonly place: ErrorPlace = {},
  ) {
    super(detail);
  }
  toJSON(): object {
    return { code: this.code, detail: this.message, place: this.place, hint: `hint of ${this.code}` };
  }
}

const modelSummary: ModelSummary = {
  format: 'onnx',
  producer: 'test',
  irVersion: 8,
  opset: 17,
  inputs: [],
  outputs: [],
  ops: {},
  nodes: 1,
  parameters: 10,
  bytes: 100,
  quantizable: [],
  float: [],
  trainable: true,
};

/** What is to happen: the name itself, or the bytes of the file of that name. */
export async function inspectModel(name: string): Promise<ModelSummary> {
  const behaviour = path.isAbsolute(name) ? await readFile(name, 'utf8') : name;
  if (behaviour.startsWith('until ')) while (!existsSync(behaviour.slice(6))) await sleep(20);
  switch (behaviour) {
    case 'environment':
      return {
        ...modelSummary,
        ops: {},
        producer: JSON.stringify({ environment: Object.keys(process.env), nice: (await import('node:os')).getPriority() }),
      };
    case 'throw':
      throw new TypeError('cannot read properties of the moon');
    case 'refuse':
      throw new OctetError('MODEL_CYCLIC', 'a feeds b feeds a', { node: 'a' });
    case 'exit':
      console.error('last words before leaving');
      return process.exit(1);
    case 'segfault':
      process.kill(process.pid, 'SIGSEGV');
      return sleep(10_000, modelSummary);
    case 'rejection':
      void Promise.reject(new Error('nobody caught me'));
      return sleep(10_000, modelSummary);
    case 'heap': {
      const hoard: string[][] = [];
      for (;;) hoard.push(Array.from({ length: 100_000 }, (_, i) => `${hoard.length} ${i}`));
    }
    case 'memory': {
      const hoard: Buffer[] = [];
      for (;;) {
        hoard.push(Buffer.alloc(16 * 2 ** 20, hoard.length + 1));
        await sleep(20);
      }
    }
    case 'hang':
      for (;;) Math.sqrt(2);
    default:
      return modelSummary;
  }
}

export async function inspectDataset(): Promise<never> {
  throw new OctetError('DATASET_EMPTY', 'no samples');
}

export async function quantize(
  job: QuantizeJob,
  { signal, onEvent }: { signal: AbortSignal; onEvent: (event: PipelineEvent) => void },
): Promise<PipelineResult> {
  const behaviour = (await readFile(job.modelPath, 'utf8')).trim();
  onEvent({ type: 'stage', stage: 'load' });
  if (behaviour === 'crash') process.kill(process.pid, 'SIGSEGV');
  if (behaviour === 'killed once' && /-1\/output$/.test(job.outputDirectory)) process.kill(process.pid, 'SIGKILL');
  if (behaviour === 'full') await writeFile('/dev/full', 'more');
  if (behaviour === 'refuse') throw new OctetError('MODEL_NOT_TRAINABLE', 'the loss cannot reach fc1', { node: 'fc1' });
  onEvent({ type: 'stage', stage: 'train' });
  if (behaviour === 'flood') {
    for (let i = 1; i <= 200_000; i++)
      onEvent({ type: 'progress', stage: 'train', done: i, total: 200_000, unit: 'steps', figures: { loss: 1 / i } });
  }
  if (behaviour === 'slow' || behaviour === 'deaf') {
    for (let i = 1; i <= 6_000; i++) {
      if (behaviour === 'slow') signal.throwIfAborted();
      onEvent({ type: 'progress', stage: 'train', done: i, total: 6_000, unit: 'steps', figures: { loss: 1 / i } });
      await sleep(20);
    }
  }
  onEvent({ type: 'epoch', epoch: 1, loss: 0.5, holdoutLoss: 0.6, holdoutMetric: 0.9, learningRate: 0.01, seconds: 1, best: true });
  onEvent({ type: 'log', level: 'info', message: 'epoch done' });
  onEvent({ type: 'stage', stage: 'report' });
  await mkdir(job.outputDirectory, { recursive: true });
  const files = {
    modelPath: path.join(job.outputDirectory, 'model.int8.onnx'),
    reportPath: path.join(job.outputDirectory, 'report.json'),
    markdownPath: path.join(job.outputDirectory, 'report.md'),
  };
  const gatePassed = behaviour !== 'gate';
  await writeFile(files.modelPath, `int8 of ${behaviour}`);
  await writeFile(files.reportPath, JSON.stringify(report(gatePassed)));
  await writeFile(files.markdownPath, '# Report\n');
  return { gatePassed, ...files };
}

function report(passed: boolean): Pick<
  Report,
  'schemaVersion' | 'verdict' | 'metric' | 'float' | 'ptq' | 'qat' | 'int8' | 'change' | 'size' | 'samples' | 'gate'
> & {
  latency: object;
} {
  const value = (v: number) => ({ value: v, ci95: [v - 0.01, v + 0.01] as [number, number] });
  const latency = { p50Ms: 1, p95Ms: 2, batch32: { p50Ms: 20, p95Ms: 30 } };
  return {
    schemaVersion: '1.0',
    verdict: { decision: passed ? 'ship' : 'do_not_ship', text: 'as tested', nextStep: 'none' },
    metric: { name: 'top1', unit: 'fraction', higherIsBetter: true },
    float: value(0.9),
    ptq: value(0.85),
    qat: value(0.89),
    int8: { ...value(0.89), from: 'qat', why: 'better', selection: { split: 'holdout', samples: 10, ptq: 0.85, qat: 0.89 } },
    change: { points: -1, ci95: [-2, 0], mcnemarP: 0.5, bothRight: 8, onlyFloat: 1, onlyInt8: 0, bothWrong: 1 },
    size: { floatBytes: 400, int8Bytes: 100, ratio: 4 },
    latency: { float: latency, int8: latency },
    samples: { training: 10, calibration: 5, holdout: 2, evaluation: 10 },
    gate: { maxDrop: passed ? null : 0.5, passed },
  };
}
