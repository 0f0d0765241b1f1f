import { execFile, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { StepFigures, StepOptions } from './options.js';

const peer = fileURLToPath(new URL('../peers/step.py', import.meta.url));
const contender = fileURLToPath(new URL('./contender.ts', import.meta.url));
const run = promisify(execFile);

/** The last line of what a program prints, read as JSON. */
async function figures(program: string, given: readonly string[]): Promise<StepFigures> {
  const { stdout } = await run(program, [...given], { maxBuffer: 1 << 20 });
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as StepFigures;
}

/** The first Python that can import torch, or nothing. Debian installs it for its own interpreter, which need not be the first on the path. */
export function findPyTorch(wish: string | undefined): string | undefined {
  const candidates = wish ? [wish] : ['python3', '/usr/bin/python3'];
  return candidates.find((python) => spawnSync(python, ['-c', 'import torch.ao.quantization'], { stdio: 'ignore' }).status === 0);
}

/** Time steps in PyTorch, in a process of its own. */
export function measurePyTorch(python: string, options: StepOptions): Promise<StepFigures> {
  return figures(python, [
    ...['-W', 'ignore', peer],
    ...['--network', options.network],
    ...['--mode', options.quantized ? 'qat' : 'float'],
    ...['--batch', String(options.batch)],
    ...['--threads', String(options.threads)],
    ...['--warmup', String(options.warmup)],
    ...['--steps', String(options.steps)],
  ]);
}

/** Time steps in one of Octet's engines, in a process of its own. */
export function measureOctet(engine: 'ort' | 'tfjs', options: StepOptions): Promise<StepFigures> {
  return figures(process.execPath, [...process.execArgv, contender, engine, JSON.stringify(options)]);
}
