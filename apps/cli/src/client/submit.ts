import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { JobBody } from '@octet/contracts';
import { externalFiles, requireFile } from '../files.js';
import type { JobPlan } from '../recipe.js';
import type { Client } from './client.js';
import { fileStream, multipartBody, type Part } from './multipart.js';

/** Files on this machine, or ids of earlier uploads. */
export interface JobInputs {
  model: string;
  data: string;
  evaluation?: string | undefined;
}

export interface SubmitOptions {
  /** Whether a finished job that did the same may answer. */
  reuse: boolean;
  metadata?: Record<string, string>;
  /** Bytes of the body handed over so far; after the last the service looks into the files. */
  onSent?: (bytes: number, total: number) => void;
}

const isId = (text: string) => /^(mdl|dst)_[0-9a-z]{26}$/.test(text);

/**
 * Submits a job: one request with all the files, or, where an input is the id of an earlier upload, the other files first and the job then.
 * @throws CliError FILE_UNREADABLE, SERVER_UNREACHABLE; ServerError as the service refuses
 */
export async function submitJob(
  client: Client,
  inputs: JobInputs,
  plan: JobPlan,
  { reuse, metadata = {}, onSent = () => undefined }: SubmitOptions,
): Promise<JobBody> {
  const settings = { ...plan.settings, metadata: { ...plan.settings.metadata, ...metadata } };
  const url = `/v1/jobs?reuse=${reuse}`;
  // A request that is repeated by something on the way makes one job, not two.
  const headers = { 'idempotency-key': randomUUID() };
  const all = [inputs.model, inputs.data, ...(inputs.evaluation === undefined ? [] : [inputs.evaluation])];

  if (!all.some(isId)) {
    const config = { ...settings, datasetConfig: plan.datasetConfig, evaluationDatasetConfig: plan.evaluationConfig };
    const parts: Part[] = [
      { name: 'config', text: JSON.stringify(config), type: 'application/json' },
      { name: 'model', file: inputs.model },
      ...externalFiles(inputs.model).map((file) => ({ name: 'external', file })),
      { name: 'dataset', file: inputs.data },
      ...(inputs.evaluation === undefined ? [] : [{ name: 'evaluation', file: inputs.evaluation }]),
    ];
    const { type, bytes, stream } = await multipartBody(parts, (sent) => onSent(sent, bytes));
    return client.json<JobBody>(url, {
      method: 'POST',
      headers: { ...headers, 'content-type': type, 'content-length': String(bytes) },
      body: stream,
    });
  }

  const sizes = await Promise.all(all.map((input) => (isId(input) ? 0 : requireFile(input))));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  let sent = 0;
  const open = (file: string) =>
    fileStream(file, (bytes) => {
      sent += bytes;
      onSent(sent, total);
    });
  const upload = async (input: string, size: number, send: (name: string, size: number) => Promise<{ id: string }>) =>
    isId(input) ? input : (await send(path.basename(input).slice(0, 200), size)).id;
  const [modelSize = 0, dataSize = 0, evaluationSize = 0] = sizes;
  const model = await upload(inputs.model, modelSize, (name, size) => uploadModel(client, name, inputs.model, size, open));
  const dataset = await upload(inputs.data, dataSize, (name, size) =>
    client.uploadDataset(name, plan.datasetConfig, open(inputs.data), size),
  );
  const { evaluation } = inputs;
  const evaluationDataset =
    evaluation === undefined
      ? {}
      : {
          evaluationDataset: await upload(evaluation, evaluationSize, (name, size) =>
            client.uploadDataset(name, plan.evaluationConfig, open(evaluation), size),
          ),
        };
  return client.post<JobBody>(url, { ...settings, model, dataset, ...evaluationDataset }, headers);
}

/** A model alone is sent as it is; one with external data beside it as parts. */
async function uploadModel(
  client: Client,
  name: string,
  model: string,
  size: number,
  open: (file: string) => ReturnType<typeof fileStream>,
): Promise<{ id: string }> {
  const external = externalFiles(model);
  if (external.length === 0) return client.uploadModel(name, open(model), size);
  const parts = [{ name: 'file', file: model }, ...external.map((file) => ({ name: 'external', file }))];
  const { type, bytes, stream } = await multipartBody(parts);
  return client.uploadModel(name, stream, bytes, type);
}
