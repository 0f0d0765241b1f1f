import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { JobBody } from '@octet/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { classifier, points, splitClassifier } from './support/samples.js';
import { freePort, until } from './support/services.js';

/** The command line as it is built: processes, exit codes, what is printed where, and what is left behind. */

const root = fileURLToPath(new URL('..', import.meta.url));
const main = path.join(root, 'apps/cli/dist/main.js');
/** Settings that make a job short. */
const quick = ['--epochs', '1', '--set', 'evaluation.latencyRuns=5', '--set', 'calibration.samples=16'];

let directory: string;
let model: string;
let train: string;
let evaluation: string;
const started = new Set<ChildProcess>();
beforeAll(async () => {
  if (!existsSync(main)) throw new Error('apps/cli is not built; run "npm run build" first');
  directory = await mkdtemp(path.join(tmpdir(), 'octet-test-cli-'));
  [model, train, evaluation] = ['model.onnx', 'train.npz', 'eval.npz'].map((name) => path.join(directory, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(model, classifier());
  await writeFile(train, points({ samples: 120 }));
  await writeFile(evaluation, points({ samples: 60 }));
});
afterAll(async () => {
  for (const child of started) child.kill('SIGKILL');
  await rm(directory, { recursive: true, force: true });
});

interface Running {
  child: ChildProcess;
  out: () => string;
  err: () => string;
  /** Exit code, or the name of the signal that ended it. */
  ended: Promise<number | string | null>;
}

function octet(args: string[], environment: Record<string, string> = {}): Running {
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(OCTET_|DATABASE_URL|REDIS_URL|PORT|HOST|DEBUG|LOG_LEVEL)/.test(name)),
  );
  const child = spawn(process.execPath, [main, ...args], {
    cwd: directory,
    env: { ...inherited, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started.add(child);
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const ended = new Promise<number | string | null>((resolve) =>
    child.once('close', (code, signal) => {
      started.delete(child);
      resolve(code ?? signal);
    }),
  );
  return { child, out: () => out, err: () => err, ended };
}

async function run(
  args: string[],
  environment: Record<string, string> = {},
): Promise<{ code: number | string | null; out: string; err: string }> {
  const running = octet(args, environment);
  const code = await running.ended;
  return { code, out: running.out(), err: running.err() };
}

/** Processes that descend from this one, however far. Linux only. */
async function descendants(pid: number): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (stat !== '' && fields[0] !== 'Z') parents.set(Number(name), Number(fields[1]));
  }
  const found = [pid];
  for (const one of found) for (const [child, parent] of parents) if (parent === one) found.push(child);
  return found.slice(1);
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe('octet quantize', () => {
  it('writes model and reports, prints the table, and exits with 0', async () => {
    const output = path.join(directory, 'out.onnx');
    const { code, out, err } = await run(['quantize', model, '--data', train, '--eval', evaluation, '-o', output, ...quick]);
    expect({ code, err }).toMatchObject({ code: 0 });
    expect(out).toMatch(/float +\d+\.\d+ % .*\nPTQ int8 .*\nQAT int8 /);
    expect(out).toMatch(/Parity .*\n(.*\n)*Verdict /);
    expect(err).toContain('train (QAT) ...');
    expect(err).not.toContain('\x1b');
    const report = JSON.parse(await readFile(path.join(directory, 'report.json'), 'utf8')) as {
      provenance: { artifactSha256: string };
      samples: object;
    };
    expect(report.samples).toMatchObject({ evaluation: 60 });
    expect(
      createHash('sha256')
        .update(await readFile(output))
        .digest('hex'),
    ).toBe(report.provenance.artifactSha256);
    expect(await readFile(path.join(directory, 'report.md'), 'utf8')).toContain('# Accuracy report');
    expect((await readdir(directory)).filter((name) => name.endsWith('.part'))).toEqual([]);
  });

  it('finds the external data of a model beside it, and names the file that is not there', async () => {
    const { model: file, weights } = splitClassifier();
    const split = path.join(directory, 'split.onnx');
    await writeFile(split, file);
    const args = ['quantize', split, '-d', train, '--method', 'ptq', '-o', path.join(directory, 'split.int8.onnx'), ...quick];
    const missing = await run(args);
    expect(missing.code).toBe(1);
    expect(missing.err).toMatch(/FILE_UNREADABLE(.|\n)*net\.onnx\.data/);
    await writeFile(path.join(directory, 'net.onnx.data'), weights);
    const { code, err } = await run(args);
    expect({ code, err }).toMatchObject({ code: 0 });
  });

  it('exits with 2 when the gate is missed, and --json is one object on standard output', async () => {
    const args = [
      'quantize',
      model,
      '-d',
      train,
      '--method',
      'ptq',
      '--bits',
      '3,3',
      '--metric',
      'agreement',
      '--max-drop',
      '0',
      '-o',
      path.join(directory, 'gate.onnx'),
      '--report',
      path.join(directory, 'gate.json'),
      '--json',
      ...quick,
    ];
    const { code, out } = await run(args);
    expect(code).toBe(2);
    const printed = JSON.parse(out) as object;
    expect(printed).toMatchObject({
      gatePassed: false,
      gate: { maxDrop: 0, passed: false },
      metric: { name: 'agreement' },
      qat: null,
      files: { markdown: path.join(directory, 'gate.md') },
    });
    expect(existsSync(path.join(directory, 'gate.onnx'))).toBe(true);
  });

  it('exits with 1 on an error and says code, place and hint, never a stack', async () => {
    const broken = path.join(directory, 'broken.onnx');
    await writeFile(broken, 'not a model');
    const { code, out, err } = await run(['quantize', broken, '--data', train, '-o', path.join(directory, 'never.onnx')]);
    expect(code).toBe(1);
    expect(out).toBe('');
    expect(err).toMatch(/^octet: .* \(MODEL_NOT_ONNX\)\n(.*\n)* {2}Hint: /m);
    expect(err).not.toMatch(/^\s+at /m);
    expect(existsSync(path.join(directory, 'never.onnx'))).toBe(false);
    const asJson = await run(['quantize', broken, '--data', train, '--json']);
    expect(asJson.code).toBe(1);
    expect(JSON.parse(asJson.out)).toMatchObject({ error: { code: 'MODEL_NOT_ONNX' } });
  });

  it.each([
    ['an unknown option', ['--data', 'x', '--epoch', '1'], 'Did you mean --epochs'],
    [
      'a value out of range',
      ['--data', 'train.npz', '--bits', '9'],
      '/quantization/weights/bits: must be a whole number from 2 to 8, not 9 (given by --bits)',
    ],
    ['a file that is not there', ['--data', 'nowhere.npz'], 'FILE_UNREADABLE'],
    ['an output that is an input', ['--data', 'train.npz', '-o', 'train.npz'], 'would be overwritten'],
  ])('exits with 1 and says so on %s', async (_what, args, message) => {
    const { code, err } = await run(['quantize', 'model.onnx', ...args]);
    expect(code).toBe(1);
    expect(err.replace(/\s+/g, ' ')).toContain(message);
  });

  it('leaves no process and no file behind on Ctrl-C', async () => {
    const temporary = await mkdtemp(path.join(directory, 'tmp-'));
    const long = ['--set', 'training.epochs=1000', '-o', path.join(directory, 'interrupted.onnx')];
    const { child, err, ended } = octet(['quantize', model, '--data', train, ...long], { OCTET_TEMP: temporary });
    await until(() => err().includes('train (QAT) ...'), 'training to begin');
    const processes = await descendants(child.pid!);
    expect(processes).not.toEqual([]);
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    await until(() => !processes.some(alive), 'the job process to end');
    expect(await readdir(temporary)).toEqual([]);
    expect(existsSync(path.join(directory, 'interrupted.onnx'))).toBe(false);
  });
});

describe('octet serve and its clients', () => {
  let service: Running;
  let server: { OCTET_SERVER: string };
  let data: string;
  const serve = async (port: number) => {
    service = octet(['serve', '--port', String(port), '--data', data, '--log-level', 'warn']);
    await Promise.race([
      until(() => service.out().includes('Try it:'), 'the service to listen', 60_000),
      service.ended.then(() => {
        throw new Error(`the service ended: ${service.err()}`);
      }),
    ]);
  };
  beforeAll(async () => {
    data = path.join(directory, 'data');
    const port = await freePort();
    server = { OCTET_SERVER: `http://127.0.0.1:${port}` };
    await serve(port);
  });

  let job: string;
  it('submits files and prints the id alone', async () => {
    const { code, out, err } = await run(['submit', model, '--data', train, '--eval', evaluation, ...quick], server);
    expect({ code, err }).toMatchObject({ code: 0 });
    expect(out).toMatch(/^job_[0-9a-z]{26}\n$/);
    job = out.trim();
  });

  it('watches to the result', async () => {
    const { code, out, err } = await run(['watch', job], server);
    expect({ code, err }).toMatchObject({ code: 0 });
    // The job may be over before this process looks; what it says on the way is looked at below, where a job is cancelled.
    expect(out).toMatch(/QAT int8 /);
  });

  it('downloads the model that the report speaks of', async () => {
    const target = path.join(directory, 'downloaded.onnx');
    expect(await run(['download', job, '-o', target], server)).toMatchObject({ code: 0 });
    const { code, out } = await run(['report', job, '--json'], server);
    expect(code).toBe(0);
    const { provenance } = JSON.parse(out) as { provenance: { artifactSha256: string } };
    expect(
      createHash('sha256')
        .update(await readFile(target))
        .digest('hex'),
    ).toBe(provenance.artifactSha256);
    expect((await run(['report', job], server)).out).toContain('# Accuracy report');
  });

  it('makes the same model as octet quantize does', async () => {
    expect((await readFile(path.join(directory, 'downloaded.onnx'))).equals(await readFile(path.join(directory, 'out.onnx')))).toBe(true);
  });

  it('sends the external data of a model with it', async () => {
    const { model: file, weights } = splitClassifier('sent.onnx.data');
    const split = path.join(directory, 'sent.onnx');
    await writeFile(split, file);
    await writeFile(path.join(directory, 'sent.onnx.data'), weights);
    const { code, out, err } = await run(['submit', split, '--data', train, '--method', 'ptq', ...quick], server);
    expect({ code, err }).toMatchObject({ code: 0 });
    expect(out).toMatch(/^job_/);
  });

  it('shows status and list', async () => {
    expect((await run(['status', job], server)).out).toContain('succeeded');
    const { out } = await run(['list', '--json', '--state', 'succeeded'], server);
    expect((JSON.parse(out) as { items: JobBody[] }).items.map(({ id }) => id)).toContain(job);
    expect((await run(['list'], server)).out).toContain(job);
  });

  it('exits with 2 on a missed gate, by ids of uploads that are there', async () => {
    const { model: modelId, dataset } = JSON.parse((await run(['status', job, '--json'], server)).out) as JobBody;
    const { code, out } = await run(
      [
        'submit',
        modelId,
        '--data',
        dataset,
        '--method',
        'ptq',
        '--bits',
        '3,3',
        '--metric',
        'agreement',
        '--max-drop',
        '0',
        '--watch',
        '--json',
        ...quick,
      ],
      server,
    );
    expect(code).toBe(2);
    expect(JSON.parse(out)).toMatchObject({ state: 'gate_failed', gatePassed: false });
  });

  it('cancels, and watching a cancelled job is an error', async () => {
    const { out } = await run(['submit', model, '--data', train, '--set', 'training.epochs=1000'], server);
    const id = out.trim();
    const watching = octet(['watch', id], server);
    await until(() => watching.err().includes('train (QAT) ...'), 'training to begin');
    expect(await run(['cancel', id, '--wait'], server)).toMatchObject({ code: 0, out: `${id} is cancelled\n` });
    expect(await watching.ended).toBe(1);
    expect(watching.err()).toContain('(CANCELLED)');
  });

  it('passes on what the service refuses', async () => {
    const { code, err } = await run(['status', 'job_00000000000000000000000000'], server);
    expect(code).toBe(1);
    expect(err).toContain('(NOT_FOUND)');
    const refused = await run(['submit', train, '--data', train], server);
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(/\(MODEL_\w+\)/);
  });

  it('refuses a data directory in use', async () => {
    const second = await run(['serve', '--port', '0', '--data', data]);
    expect(second.code).toBe(1);
    expect(second.err).toContain('(DATA_DIRECTORY_IN_USE)');
  });

  const jobOf = async (id: string) => (await (await fetch(`${server.OCTET_SERVER}/v1/jobs/${id}`)).json()) as JobBody;
  const restart = () => serve(Number(new URL(server.OCTET_SERVER).port));

  it('goes on after kill -9 in the middle of a job: nothing is lost, no process is left', async () => {
    const id = (await run(['submit', model, '--data', train, '--set', 'training.epochs=1000'], server)).out.trim();
    await until(async () => (await jobOf(id)).stage === 'train', 'training to begin');
    const processes = await descendants(service.child.pid!);
    service.child.kill('SIGKILL');
    await service.ended;
    await until(() => !processes.some(alive), 'database and job process to end');
    await restart();
    expect((await jobOf(job)).state).toBe('succeeded');
    expect(['queued', 'running']).toContain((await jobOf(id)).state);
    expect((await run(['cancel', id], server)).out).toMatch(/is cancell(ed|ing)/);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('stops on %s with nothing left running, and can start again', async (signal) => {
    const processes = await descendants(service.child.pid!);
    expect(processes.length).toBeGreaterThan(3);
    service.child.kill(signal);
    expect(await service.ended).toBe(0);
    await until(() => !processes.some(alive), 'every process to end');
    expect(existsSync(path.join(data, 'postgres', 'data', 'postmaster.pid'))).toBe(false);
    expect(await readdir(path.join(data, 'files', 'jobs'))).toEqual([]);
    if (signal === 'SIGINT') await restart();
  });

  it('says that nothing answers', async () => {
    const { code, err } = await run(['list'], server);
    expect(code).toBe(1);
    expect(err).toContain('(SERVER_UNREACHABLE)');
  });
});
