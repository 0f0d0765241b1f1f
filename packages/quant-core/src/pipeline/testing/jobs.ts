import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Samples } from '../../data/dataset.js';
import { openDataset } from '../../data/dataset.js';
import { bytesOf, idx, npy } from '../../data/testing/files.js';
import { zip } from '../../data/testing/zip.js';
import { defaultLimits, type PipelineEvent, type PipelineResult, type QuantizeJob } from '../../events.js';
import { decode, encode } from '../../formats/onnx/schema.js';
import { writeOnnx } from '../../formats/onnx/write.js';
import type { Graph } from '../../ir/graph.js';
import { quantize } from '../../quantize.js';
import { defaultRecipe, type Recipe } from '../../recipe.js';
import type { Report } from '../../report/schema.js';
import type { PipelineHooks } from '../context.js';

const example = (name: string) => fileURLToPath(new URL(`../../../../../examples/fashion-mnist/${name}`, import.meta.url));

/** A recipe for quick jobs, with parts of it changed. */
export function quickRecipe(change: { [K in keyof Recipe]?: Recipe[K] extends object ? Partial<Recipe[K]> : Recipe[K] } = {}): Recipe {
  const base = defaultRecipe();
  return {
    ...base,
    ...change,
    quantization: { ...base.quantization, ...change.quantization },
    calibration: { ...base.calibration, samples: 64, ...change.calibration },
    training: { ...base.training, epochs: 1, batchSize: 16, learningRate: 0.001, ...change.training },
    evaluation: { ...base.evaluation, latencyRuns: 5, ...change.evaluation },
    gate: { ...base.gate, ...change.gate },
    threads: change.threads ?? 1,
  } as Recipe;
}

export interface Done extends PipelineResult {
  report: Report;
  events: PipelineEvent[];
  model: Buffer;
}

/** The bytes of a model file without what it says of its recipe: jobs with other settings may still make the same model. */
export function withoutMetadata(file: Uint8Array): Uint8Array {
  const model = decode('Model', file);
  delete model.metadataProps;
  return encode('Model', model);
}

/** Files and jobs of one test file, in a scratch directory. */
export class Workshop {
  private made = 0;

  private constructor(readonly directory: string) {}

  static async open(): Promise<Workshop> {
    return new Workshop(await mkdtemp(join(tmpdir(), 'octet-job-')));
  }

  close(): Promise<void> {
    return rm(this.directory, { recursive: true, force: true });
  }

  async file(name: string, data: Uint8Array): Promise<string> {
    const path = join(this.directory, `${this.made++}-${name}`);
    await writeFile(path, data);
    return path;
  }

  model(graph: Graph): Promise<string> {
    return this.file('model.onnx', writeOnnx(graph));
  }

  /** Samples as .npz: x, and y where they have labels or values. */
  async npz(samples: Samples): Promise<string> {
    const { x, labels, values } = await samples.batch(Uint32Array.from({ length: samples.size }, (_, i) => i));
    const entries = [{ name: 'x.npy', data: npy('<f4', x.shape, bytesOf(x.data)) }];
    if (labels) entries.push({ name: 'y.npy', data: npy('<i8', [labels.length], bytesOf(BigInt64Array.from(labels, BigInt))) });
    if (values) entries.push({ name: 'y.npy', data: npy('<f4', values.shape, bytesOf(values.data)) });
    return this.file('data.npz', zip(entries));
  }

  /** Every `every`-th image of the example's training or test set, as an IDX pair; `number` may number the classes anew. */
  async fashion(set: 'train' | 'test', every: number, number = (label: number) => label): Promise<string> {
    const dataset = await openDataset(example(`${set}.zip`), {}, { workDirectory: this.directory, limits: defaultLimits });
    const chosen = Array.from({ length: Math.floor(dataset.size / every) }, (_, i) => i * every);
    const images = Buffer.concat(chosen.map((index) => bytesOf(dataset.rawSample(index).data)));
    const labels = Buffer.from(chosen.map((index) => number(dataset.labels?.[index] as number)));
    await dataset.close();
    return this.file(
      'images.zip',
      zip([
        { name: 'images-idx3-ubyte', data: idx([chosen.length, 28, 28], images) },
        { name: 'labels-idx1-ubyte', data: idx([chosen.length], labels) },
      ]),
    );
  }

  /** A job with its own output and work directories. */
  job(modelPath: string, dataPath: string, recipe: Recipe, rest: Partial<QuantizeJob> = {}): QuantizeJob {
    const directory = join(this.directory, `job-${this.made++}`);
    return {
      modelPath,
      dataset: { path: dataPath, config: {} },
      recipe,
      outputDirectory: join(directory, 'out'),
      workDirectory: join(directory, 'work'),
      limits: defaultLimits,
      checkpointPause: 0,
      ...rest,
    };
  }

  async run(job: QuantizeJob, hooks: PipelineHooks = {}): Promise<Done> {
    const events: PipelineEvent[] = [];
    const result = await quantize(job, {
      ...hooks,
      onEvent: (event) => {
        events.push(event);
        hooks.onEvent?.(event);
      },
    });
    const report = JSON.parse(await readFile(result.reportPath, 'utf8')) as Report;
    return { ...result, report, events, model: await readFile(result.modelPath) };
  }
}

/** The float model of the example. */
export const exampleModel = example('model.onnx');
