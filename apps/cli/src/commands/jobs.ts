import path from 'node:path';
import { hasResult, isTerminal, type JobBody } from '@octet/contracts';
import type { Report } from '@octet/quant-core';
import { Client } from '../client/client.js';
import { download } from '../client/download.js';
import { followJob } from '../client/follow.js';
import { submitJob } from '../client/submit.js';
import { CliError, Interrupted } from '../errors.js';
import { exitCodes } from '../exit-codes.js';
import { placeFile, requireFile, requireWritable } from '../files.js';
import { failureOfJob, renderJob, renderJobs, showEvent, showJob } from '../output/job.js';
import { Progress } from '../output/progress.js';
import { keyFigures, renderResult } from '../output/result.js';
import { planJob, type RecipeFlags } from '../recipe.js';
import { interruptible } from '../signals.js';

/** The commands that speak with a server. Each gives the exit code. */

export interface ServerFlags {
  server: string;
  key?: string;
  json?: boolean;
}

export interface SubmitFlags extends ServerFlags, RecipeFlags {
  data: string;
  eval?: string;
  watch?: boolean;
  reuse: boolean;
}

/** `octet submit`: prints the id of the job, or with --watch its result. */
export function submitCommand(model: string, flags: SubmitFlags): Promise<number> {
  return connected(flags, async (client, signal) => {
    const plan = await planJob(flags);
    const progress = new Progress();
    let job: JobBody;
    try {
      job = await submitJob(client, { model, data: flags.data, evaluation: flags.eval }, plan, {
        reuse: flags.reuse,
        onSent: uploadShown(progress),
      });
    } finally {
      progress.close({ finished: false });
    }
    if (flags.watch) return watch(client, job.id, flags, signal);
    process.stdout.write(flags.json ? json(job) : `${job.id}\n`);
    if (!flags.json)
      process.stderr.write(
        `${job.reused ? 'An earlier job has this result already' : `The job is ${job.state}`}; follow it with: octet watch ${job.id}\n`,
      );
    return exitCodes.ok;
  });
}

/** Shows how much of an upload is sent, and then that the service looks into it. */
export function uploadShown(progress: Progress): (sent: number, total: number) => void {
  return (sent, total) =>
    sent < total ? progress.activity('uploading', sent, total) : progress.activity('the service inspects the files');
}

/** `octet status`: the job as it stands. */
export function statusCommand(id: string, flags: ServerFlags): Promise<number> {
  return connected(flags, async (client) => {
    const job = await client.job(id);
    process.stdout.write(flags.json ? json(job) : renderJob(job));
    return exitCodes.ok;
  });
}

/** `octet watch`: follows the job to its end and prints the result. */
export function watchCommand(id: string, flags: ServerFlags): Promise<number> {
  return connected(flags, (client, signal) => watch(client, id, flags, signal));
}

async function watch(client: Client, id: string, flags: ServerFlags, signal: AbortSignal): Promise<number> {
  const job = await watchJob(client, id, signal).catch((error: unknown) => {
    if (!(signal.reason instanceof Interrupted)) throw error;
    process.stderr.write(
      `${id} goes on without being watched. See it again with "octet watch ${id}", or end it with "octet cancel ${id}".\n`,
    );
    throw error;
  });
  if (!hasResult(job.state)) throw failureOfJob(job);
  const report = await client.json<Report>(`/v1/jobs/${id}/accuracy-diff`);
  if (flags.json) process.stdout.write(json({ job: id, state: job.state, gatePassed: report.gate.passed, ...keyFigures(report) }));
  else process.stdout.write(`\n${renderResult(report)}\nFetch the model with: octet download ${id}\n`);
  return report.gate.passed ? exitCodes.ok : exitCodes.gateFailed;
}

/** Follows a job with live progress; gives the job at its end, whatever that is. */
export async function watchJob(client: Client, id: string, signal: AbortSignal, progress = new Progress()): Promise<JobBody> {
  let finished = false;
  try {
    const first = await client.job(id);
    showJob(progress, { ...first, progress: null, stage: null });
    const last = isTerminal(first.state)
      ? first
      : await followJob(client, id, { onEvent: (event) => showEvent(progress, event), onJob: (job) => showJob(progress, job), signal });
    finished = hasResult(last.state);
    return last;
  } finally {
    progress.close({ finished });
  }
}

/** `octet cancel`: asks for the end of a job; with --wait until it is there. */
export function cancelCommand(id: string, flags: ServerFlags & { wait?: boolean }): Promise<number> {
  return connected(flags, async (client) => {
    let job = await client.cancel(id);
    while (flags.wait && !isTerminal(job.state)) job = await client.waitForJob(id, 30);
    process.stdout.write(flags.json ? json(job) : `${id} is ${job.state}\n`);
    return exitCodes.ok;
  });
}

/** `octet list`: the newest jobs first. */
export function listCommand(flags: ServerFlags & { state?: string; limit: number }): Promise<number> {
  return connected(flags, async (client) => {
    const query: Record<string, string> = { limit: String(flags.limit), ...(flags.state === undefined ? {} : { state: flags.state }) };
    const page = await client.jobs(query);
    if (flags.json) process.stdout.write(json(page));
    else if (page.items.length === 0) process.stderr.write('There are no such jobs.\n');
    else process.stdout.write(renderJobs(page.items));
    return exitCodes.ok;
  });
}

/** `octet download`: the int8 model, checked against the digest that the service states. */
export function downloadCommand(id: string, flags: ServerFlags & { output?: string }): Promise<number> {
  return connected(flags, async (client, signal) => {
    const url = `/v1/jobs/${encodeURIComponent(id)}/model`;
    const target = flags.output ?? (await nameOf(client, url));
    await requireWritable(target);
    const progress = new Progress();
    try {
      const { bytes, sha256 } = await download(client, url, target, {
        onProgress: (done, total) => progress.activity('downloading', done, total),
        signal,
      });
      process.stdout.write(flags.json ? json({ job: id, file: target, bytes, sha256 }) : `${target}: ${bytes} bytes, SHA-256 ${sha256}\n`);
      return exitCodes.ok;
    } finally {
      progress.close({ finished: false });
    }
  });
}

/** The file name that the service proposes, without any directory. */
async function nameOf(client: Client, url: string): Promise<string> {
  const head = await client.send(url, { method: 'HEAD' });
  head.body.resume();
  const proposed = /filename="([^"]+)"/.exec(String(head.headers['content-disposition'] ?? ''))?.[1] ?? 'model.int8.onnx';
  const name = path.basename(proposed);
  // A name that the user did not type replaces no file.
  if (
    await requireFile(name).then(
      () => true,
      () => false,
    )
  )
    throw new CliError('FILE_UNWRITABLE', `${name} exists already`, {
      place: { file: name },
      hint: 'Say with --output where the model goes.',
    });
  return name;
}

/** `octet report`: the accuracy report as Markdown, or as JSON. */
export function reportCommand(id: string, flags: ServerFlags & { output?: string }): Promise<number> {
  return connected(flags, async (client) => {
    const accept = flags.json ? 'application/json' : 'text/markdown';
    const text = await client.text(await client.send(`/v1/jobs/${encodeURIComponent(id)}/accuracy-diff`, { headers: { accept } }));
    if (flags.output === undefined) process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
    else await placeFile({ text }, flags.output);
    return exitCodes.ok;
  });
}

/** Runs a command with a client that Ctrl-C stops. */
function connected(flags: ServerFlags, run: (client: Client, signal: AbortSignal) => Promise<number>): Promise<number> {
  return interruptible(async (signal) => {
    const client = new Client({ server: flags.server, key: flags.key, signal });
    try {
      return await run(client, signal);
    } finally {
      await client.close();
    }
  });
}

const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
