import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TaskName } from '../choices.js';
import { failure } from '../data/testing/files.js';
import { zip } from '../data/testing/zip.js';
import type { QuantizeJob } from '../events.js';
import { defaultRecipe, type Recipe } from '../recipe.js';
import type { Assignment } from '../tasks/assign.js';
import type { ModelOutput } from '../tasks/output.js';
import { modelOutput } from '../tasks/testing/specs.js';
import { images, smallNet } from '../train/testing/jobs.js';
import { Context } from './context.js';
import { type JobData, loadData } from './data.js';
import { prepareModel } from './model.js';
import { quickRecipe, Workshop } from './testing/jobs.js';
import { lossFor } from './training.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

async function load<T>(count: number, recipe: Recipe, use: (data: JobData) => T, rest: Partial<QuantizeJob> = {}): Promise<T> {
  const job = shop.job(await shop.model(smallNet()), await shop.npz(images(Math.max(count, 1))), recipe, {
    workDirectory: shop.directory,
    ...rest,
  });
  const context = new Context(job, {});
  const data = await loadData(context, await prepareModel(job.modelPath, job.limits, context.engine));
  try {
    return use(data);
  } finally {
    await data.close();
  }
}

const sorted = (...parts: Uint32Array[]) => parts.flatMap((part) => [...part]).sort((a, b) => a - b);

describe('what samples are for', () => {
  it('evaluation, held-out and training samples never overlap, and are all there is', async () => {
    for (const seed of [0, 1, 4_294_967_295]) {
      await load(101, { ...quickRecipe(), seed }, (data) => {
        expect(sorted(data.train, data.holdout, data.evaluationIndices)).toEqual(Array.from({ length: 101 }, (_, i) => i));
        expect(data.evaluationIndices).toHaveLength(20);
        expect(data.holdout).toHaveLength(8);
        expect(new Set([...data.calibration].filter((i) => data.train.includes(i))).size).toBe(data.calibration.length);
        expect(data.calibration).toHaveLength(64);
        for (const part of [data.holdout, data.evaluationIndices]) {
          const ones = part.filter((i) => data.dataset.labels?.[i] === 1).length;
          expect(Math.abs(ones - part.length / 2)).toBeLessThanOrEqual(1);
        }
      });
    }
  });

  it('is the same for a seed, and another for another one', async () => {
    const parts = (seed: number) =>
      load(100, { ...quickRecipe(), seed }, ({ train, holdout, calibration }) =>
        [train, holdout, calibration].map((part) => [...part].join()),
      );
    expect(await parts(3)).toEqual(await parts(3));
    expect(await parts(3)).not.toEqual(await parts(4));
  });

  it('an evaluation dataset leaves the whole of the other one to train on', async () => {
    const evaluationDataset = { path: await shop.npz(images(30)), config: {} };
    await load(
      100,
      quickRecipe(),
      (data) => {
        expect(sorted(data.train, data.holdout)).toHaveLength(100);
        expect([...data.evaluationIndices]).toEqual(Array.from({ length: 30 }, (_, i) => i));
        expect(data.evaluationSamples).not.toBe(data.dataset);
      },
      { evaluationDataset },
    );
  });

  it('an evaluation dataset of another task is refused', async () => {
    const evaluationDataset = { path: await shop.npz(images(30, 'unlabelled')), config: {} };
    await failure('DATASET_LABELS', () => load(100, quickRecipe(), () => undefined, { evaluationDataset }));
  });

  /** One line a sample, as many of each class as told. */
  const named = (counts: Record<string, number>) => {
    const labels = Object.entries(counts).flatMap(([label, count]) => new Array<string>(count).fill(label));
    return shop.file(
      'named.jsonl',
      Buffer.from(labels.map((label, i) => `${JSON.stringify({ x: new Array(64).fill(i), label })}\n`).join('')),
    );
  };

  it('an evaluation dataset may lack a named class, and counts as the training data do', async () => {
    const dataset = { path: await named({ ant: 10, cow: 10 }), config: {} };
    const open = async (counts: Record<string, number>) => ({ path: await named(counts), config: {} });
    const evaluationDataset = await open({ cow: 3 });
    await load(
      0,
      quickRecipe(),
      (data) => {
        expect(data.dataset.classNames).toEqual(['ant', 'cow']);
        expect([...(data.evaluationSamples.labels ?? [])]).toEqual([1, 1, 1]);
      },
      { dataset, evaluationDataset },
    );
    const strange = await open({ cow: 3, owl: 1 });
    const error = await failure('DATASET_CLASSES', () => load(0, quickRecipe(), () => undefined, { dataset, evaluationDataset: strange }));
    expect(error.message).toContain('"owl"');
  });

  it('the parts of one archive train and judge', async () => {
    const [train, evaluation] = [await readFile(await named({ ant: 10, cow: 10 })), await readFile(await named({ cow: 4 }))];
    const archive = zip([
      { name: 'train.jsonl', data: train },
      { name: 'test.jsonl', data: evaluation },
    ]);
    const dataset = { path: await shop.file('parts.zip', archive), config: {} };
    await load(
      0,
      quickRecipe(),
      (data) => {
        expect(sorted(data.train, data.holdout)).toHaveLength(20);
        expect([...(data.evaluationSamples.labels ?? [])]).toEqual([1, 1, 1, 1]);
      },
      { dataset },
    );
  });

  it('two samples are too few to part', async () => {
    await failure('DATASET_EMPTY', () => load(2, quickRecipe(), () => undefined));
  });
});

describe('the loss a recipe asks for', () => {
  const scores = (width: number, more: Partial<ModelOutput> = {}) => modelOutput('y', width === 1 ? 'binary' : 'classes', [width], more);
  const values = (width: number) => modelOutput('y', 'values', [width]);
  const of = (loss: Recipe['training']['loss'], task: TaskName, output: ModelOutput, weight: number | 'auto' = 0.25, samples = 20_000) => {
    const base = defaultRecipe();
    const recipe = { ...base, training: { ...base.training, loss, distillation: { weight, temperature: 3 } } };
    const assignment = { task, outputs: [{ output, task }] as Assignment['outputs'], labelOffset: 0 as const, assumptions: [] };
    const [{ kind, distillationWeight, weight: factor }] = lossFor(recipe, assignment, samples, [4]).terms;
    return [kind, distillationWeight, factor];
  };

  it.each([
    ['auto', 'classification', scores(10), ['cross_entropy', 0.25, 1]],
    ['auto', 'classification', scores(1), ['binary_cross_entropy', 0.25, 1]],
    ['auto', 'regression', values(3), ['mse', 0.25, 1]],
    ['huber', 'regression', values(3), ['huber', 0.25, 1]],
    ['auto', 'unlabelled', scores(10), ['cross_entropy', 1, 1]],
    ['auto', 'unlabelled', scores(1), ['binary_cross_entropy', 1, 1]],
    ['auto', 'unlabelled', values(10), ['mse', 1, 0.25]],
    ['distillation', 'classification', scores(10), ['cross_entropy', 1, 1]],
    ['distillation', 'classification', scores(1), ['binary_cross_entropy', 1, 1]],
    ['distillation', 'regression', values(1), ['mse', 1, 0.25]],
    ['auto', 'multi_label', modelOutput('y', 'binary', [5]), ['binary_cross_entropy', 0.25, 1]],
    ['auto', 'dense_classification', modelOutput('y', 'classes', [5, 4, 4]), ['cross_entropy', 0.25, 1]],
  ] as const)('%s for %s', (loss, task, output, wanted) => {
    expect(of(loss, task, output)).toEqual(wanted);
  });

  it('takes the float model as a teacher where labels are few', () => {
    expect(of('auto', 'classification', scores(10), 'auto', 9_999)).toEqual(['cross_entropy', 0.5, 1]);
    expect(of('auto', 'classification', scores(10), 'auto', 10_000)).toEqual(['cross_entropy', 0, 1]);
    expect(of('auto', 'regression', values(3), 'auto', 10)).toEqual(['mse', 0.5, 1]);
    expect(of('auto', 'classification', scores(10), 0, 10)).toEqual(['cross_entropy', 0, 1]);
  });

  it('outputs without labels are taught by the float model, and weigh the same', () => {
    const outputs = [
      { output: scores(10), task: 'classification' },
      { output: values(4), task: 'unlabelled' },
    ] as Assignment['outputs'];
    const { terms } = lossFor(defaultRecipe(), { task: 'classification', outputs, labelOffset: 0, assumptions: [] }, 20_000, [2, 4]);
    expect(terms.map(({ kind, distillationWeight, weight }) => [kind, distillationWeight, weight])).toEqual([
      ['cross_entropy', 0, 0.5],
      ['mse', 1, 0.125],
    ]);
  });
});
