import { spawnSync } from 'node:child_process';
import { figuresOf, figuresOfNode, pathOf } from '../children.js';
import type { StepFigures, StepOptions } from './options.js';

/** The first Python that can import torch, or nothing. Debian installs it for its own interpreter, which need not be the first on the path. */
export function findPyTorch(wish: string | undefined): string | undefined {
  const candidates = wish ? [wish] : ['python3', '/usr/bin/python3'];
  return candidates.find((python) => spawnSync(python, ['-c', 'import torch.ao.quantization'], { stdio: 'ignore' }).status === 0);
}

/** Time steps in PyTorch, in a process of its own. */
export function measurePyTorch(python: string, options: StepOptions): Promise<StepFigures> {
  return figuresOf(python, [
    ...['-W', 'ignore', pathOf('peers/step.py')],
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
  return figuresOfNode('engine/contender.ts', [engine, JSON.stringify(options)]);
}
