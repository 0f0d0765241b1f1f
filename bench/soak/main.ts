import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { classifier, points } from '../../tests/support/samples.js';

/**
 * Memory of `octet serve` under small jobs one after another, reads, and event streams, on loopback: npm run bench -- soak --minutes 7 --heap 96
 * The resident memory of the last quarter is compared with that of the second; the first is the warm-up. With `--heap` the heap of V8 may
 * have so many MiB: what is flat then is a heap that fills when it may, and no leak.
 */

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '7' }, heap: { type: 'string' }, readers: { type: 'string', default: '4' } },
});
const readEveryMs = 20;
const sampleEveryMs = 5_000;
const streams = 8;
/** Growth after the warm-up that counts as none. */
const flat = 1.1;

const median = (numbers: number[]) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? 0;

async function residentMiB(pid: number): Promise<number> {
  return Number(/^VmRSS:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

interface Load {
  url: string;
  over: AbortSignal;
  counts: { jobs: number; reads: number; events: number; errors: number };
  job: string;
}

/** One small job after another. */
async function submit(load: Load): Promise<void> {
  for (let n = 0; !load.over.aborted; n++) {
    const body = new FormData();
    body.append('model', new Blob([new Uint8Array(classifier())]), 'model.onnx');
    body.append('dataset', new Blob([new Uint8Array(points({ samples: 120 }))]), 'train.npz');
    body.append('config', JSON.stringify({ method: 'ptq', seed: n, evaluation: { latencyRuns: 5 }, calibration: { samples: 16 } }));
    const made = (await (await fetch(`${load.url}/v1/jobs`, { method: 'POST', body })).json()) as { id: string };
    load.job = made.id;
    for (let state = 'queued'; ['queued', 'running'].includes(state) && !load.over.aborted; )
      ({ state } = (await (await fetch(`${load.url}/v1/jobs/${made.id}?wait=5`)).json()) as { state: string });
    load.counts.jobs++;
  }
}

async function read(load: Load): Promise<void> {
  const paths = ['/v1/jobs', '/v1/models?limit=5', '/openapi.json', '/readyz'];
  for (let n = 0; !load.over.aborted; n++) {
    const answer = await fetch(load.url + (n % 5 === 4 && load.job !== '' ? `/v1/jobs/${load.job}/events` : paths[n % 4]));
    await answer.arrayBuffer();
    load.counts.reads++;
    if (answer.status >= 500) load.counts.errors++;
    await sleep(readEveryMs);
  }
}

/** Follows whatever job is the newest. */
async function follow(load: Load): Promise<void> {
  while (!load.over.aborted) {
    if (load.job !== '') {
      const answer = await fetch(`${load.url}/v1/jobs/${load.job}/events`, { headers: { accept: 'text/event-stream' }, signal: load.over });
      for await (const piece of answer.body ?? []) load.counts.events += Buffer.from(piece).toString().split('\n\n').length - 1;
    }
    await sleep(200);
  }
}

async function main(): Promise<void> {
  const data = await mkdtemp(path.join(tmpdir(), 'octet-soak-'));
  const heap = values.heap === undefined ? [] : [`--max-old-space-size=${values.heap}`];
  const child = spawn(
    process.execPath,
    [...heap, path.join(root, 'apps/cli/dist/main.js'), 'serve', '--port', '0', '--data', data, '--log-level', 'warn'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, OCTET_RATE_LIMIT: '0' },
    },
  );
  const ended = new Promise((resolve) => child.once('exit', resolve));
  try {
    const url = await new Promise<string>((resolve, reject) => {
      let said = '';
      child.stdout.on('data', (bytes: Buffer) => {
        said += bytes.toString();
        const found = /Octet listens on (\S+)/.exec(said)?.[1];
        if (found !== undefined) resolve(found);
      });
      child.once('exit', (code) => reject(new Error(`octet serve ended with ${code}`)));
    });
    const minutes = Number(values.minutes);
    const load: Load = { url, over: AbortSignal.timeout(minutes * 60_000), counts: { jobs: 0, reads: 0, events: 0, errors: 0 }, job: '' };
    const quietly = (work: Promise<void>) => work.catch((error: unknown) => (load.over.aborted ? undefined : Promise.reject(error)));
    const work = [
      submit(load),
      ...Array.from({ length: Number(values.readers) }, () => read(load)),
      ...Array.from({ length: streams }, () => follow(load)),
    ];
    const samples: number[] = [];
    const sampling = (async () => {
      while (!load.over.aborted) {
        await sleep(sampleEveryMs);
        samples.push(await residentMiB(child.pid!));
        if (samples.length % 6 === 0)
          console.log(
            `${String((samples.length * sampleEveryMs) / 1000).padStart(4)} s  ${samples.at(-1)?.toFixed(0)} MiB  ${JSON.stringify(load.counts)}`,
          );
      }
    })();
    await Promise.all([...work.map(quietly), sampling]);
    const quarter = Math.floor(samples.length / 4);
    const [second, last] = [median(samples.slice(quarter, 2 * quarter)), median(samples.slice(-quarter))];
    console.log(`second quarter ${second.toFixed(0)} MiB, last ${last.toFixed(0)} MiB: ${last <= flat * second ? 'flat' : 'grows'}`);
    if (last > flat * second || load.counts.errors > 0) process.exitCode = 1;
  } finally {
    child.kill('SIGTERM');
    await ended;
    await rm(data, { recursive: true, force: true });
  }
}

await main();
