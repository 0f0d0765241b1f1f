import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { QuantizeJob } from '../events.js';
import { WeightFile } from '../formats/onnx/weightFile.js';
import { writeOnnx } from '../formats/onnx/write.js';
import type { Report } from '../report/schema.js';
import { octetVersion } from '../version.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import type { PreparedModel } from './model.js';
import { highWater } from './peak.js';

/** Digest of files, one after the other. */
async function sha256(...paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) await pipeline(createReadStream(path), hash, { end: false });
  return hash.digest('hex');
}

/** Digest of the float model as it came: of its file, followed by the files of external data beside it in the order that it names them. */
const digestOf = (job: QuantizeJob, { source }: PreparedModel): Promise<string> => sha256(job.modelPath, ...source.files);

/**
 * The float model as a file that a runtime can load: the upload itself; or, where that is a zip, was brought to inference form or has outputs for the job alone, the model written anew, with large weights in
 * a file beside it.
 */
export async function floatFile(job: QuantizeJob, model: PreparedModel): Promise<string> {
  const file = await open(job.modelPath);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  await file.close();
  const zipped = bytesRead === 4 && buffer.toString('latin1') === 'PK\u0003\u0004';
  if (!zipped && model.notes.length === 0 && model.exposed.length === 0) return job.modelPath;
  const path = join(job.workDirectory, 'float.onnx');
  const weights = new WeightFile(join(job.workDirectory, 'float.weights'));
  await writeFile(path, writeOnnx(model.original, weights));
  weights.close();
  return path;
}

/** Digests, versions, settings and times, and the command that makes the same model again. */
export async function provenanceOf(
  context: Context,
  model: PreparedModel,
  data: JobData,
  artifactPath: string,
  estimatedBytes: number,
): Promise<Report['provenance']> {
  const { job, engine, seconds } = context;
  const { recipe } = job;
  const evaluation = job.evaluationDataset;
  const command = [
    'octet quantize',
    basename(job.modelPath),
    '--data',
    basename(job.dataset.path),
    ...(evaluation ? ['--eval', basename(evaluation.path)] : []),
    '--config',
    'config.json',
    '-o',
    basename(artifactPath),
  ].join(' ');
  return {
    modelSha256: await digestOf(job, model),
    datasetSha256: await sha256(job.dataset.path),
    evaluationDatasetSha256: evaluation ? await sha256(evaluation.path) : null,
    artifactSha256: await sha256(artifactPath),
    seed: recipe.seed,
    recipe,
    dataset: data.dataset.summary,
    datasetConfig: job.dataset.config,
    versions: { octet: octetVersion, ...engine.versions, node: process.versions.node },
    platform: `${process.platform} ${process.arch}`,
    seconds: { ...seconds },
    memory: { estimatedBytes, peakBytes: highWater(), peakBytesByStage: { ...context.peakBytes } },
    command,
  };
}
