import { execFile, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { StepFigures, StepOptions } from './octet.js';

const script = fileURLToPath(new URL('../peers/resnet20.py', import.meta.url));
const run = promisify(execFile);

/** The first Python that can import torch, or nothing. Debian installs it for its own interpreter, which need not be the first on the path. */
export function findPyTorch(wish: string | undefined): string | undefined {
  const candidates = wish ? [wish] : ['python3', '/usr/bin/python3'];
  return candidates.find((python) => spawnSync(python, ['-c', 'import torch.ao.quantization'], { stdio: 'ignore' }).status === 0);
}

/** Time the same steps in PyTorch, in a process of its own. */
export async function measurePeer(python: string, options: StepOptions): Promise<StepFigures & { version: string }> {
  const { stdout } = await run(
    python,
    [
      ...['-W', 'ignore', script],
      ...['--mode', options.quantized ? 'qat' : 'float'],
      ...['--batch', String(options.batch)],
      ...['--threads', String(options.threads)],
      ...['--warmup', String(options.warmup)],
      ...['--steps', String(options.steps)],
      '--fuse',
    ],
    { maxBuffer: 1 << 20 },
  );
  return JSON.parse(stdout) as StepFigures & { version: string };
}
