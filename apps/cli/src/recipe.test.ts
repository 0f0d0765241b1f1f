import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ConfigError } from '@octet/contracts';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CliError } from './errors.js';
import { recipeOptions } from './options.js';
import { planJob, type RecipeFlags } from './recipe.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'octet-cli-recipe-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** The plan of these arguments, read by commander as the commands read them. */
const plan = (...args: string[]) =>
  planJob(
    recipeOptions(new Command().exitOverride().configureOutput({ writeErr: () => undefined }))
      .parse(args, { from: 'user' })
      .opts<RecipeFlags>(),
  );
const file = async (name: string, text: string) => {
  const target = path.join(directory, name);
  await writeFile(target, text);
  return target;
};
const refused = async (...args: string[]) => {
  const error = await plan(...args).catch((thrown: unknown) => thrown);
  if (!(error instanceof ConfigError) && !(error instanceof CliError)) throw new Error(`expected a refusal, got ${JSON.stringify(error)}`);
  return error;
};

describe('flags', () => {
  it('leave every default alone when there are none', async () => {
    const { settings, datasetConfig } = await plan();
    expect(settings).toMatchObject({ method: 'qat', target: 'onnxruntime', seed: 0, training: { epochs: 3 }, gate: {} });
    expect(datasetConfig).toEqual({});
  });

  it('state the defaults of the recipe in their help', async () => {
    const { settings } = await plan();
    const help = recipeOptions(new Command()).helpInformation().replace(/\s+/g, ' ');
    const defaults = Object.fromEntries(
      [...help.matchAll(/--([a-z-]+) <[^>]*> [^-]*?\(default: ([^)]*)\)/g)].map(([, name, value]) => [name, value]),
    );
    expect(defaults).toMatchObject({
      method: settings.method,
      target: settings.target,
      epochs: String(settings.training.epochs),
      'batch-size': String(settings.training.batchSize),
      'learning-rate': String(settings.training.learningRate),
      optimizer: settings.training.optimizer,
      observer: settings.calibration.observer,
      'calibration-samples': String(settings.calibration.samples),
      metric: settings.evaluation.metric,
      seed: String(settings.seed),
    });
  });

  it('set the fields that their help names', async () => {
    const args =
      '--method ptq --target qnnpack --epochs 7 --batch-size 32 --learning-rate 0.01 --optimizer adam --bits 4,8 --per-tensor --observer minmax --calibration-samples 99';
    const { settings } = await plan(
      ...args.split(' '),
      ...'--placement auto --metric top5 --expect-float 0.93 --max-drop 0.25 --seed 5 --threads 2 --skip /fc* --skip head --set training.schedule=step --set training.stepEpochs=2'.split(
        ' ',
      ),
    );
    expect(settings).toMatchObject({
      method: 'ptq',
      target: 'qnnpack',
      quantization: {
        weights: { bits: 4, perChannel: false },
        activations: { bits: 8 },
        layers: [
          { name: '/fc*', skip: true },
          { name: 'head', skip: true },
        ],
        placement: 'auto',
      },
      calibration: { observer: 'minmax', samples: 99 },
      training: { epochs: 7, batchSize: 32, learningRate: 0.01, optimizer: 'adam', schedule: 'step', stepEpochs: 2 },
      evaluation: { metric: 'top5', expectedFloat: 0.93 },
      gate: { maxDrop: 0.25 },
      seed: 5,
      threads: 2,
    });
  });

  it('win over the file, and leave the rest of it', async () => {
    const config = await file(
      'config.json',
      JSON.stringify({ training: { epochs: 9, batchSize: 16 }, quantization: { layers: [{ op: 'Gemm', skip: true }] } }),
    );
    const { settings } = await plan('--config', config, '--epochs', '2', '--skip', 'stem');
    expect(settings.training).toMatchObject({ epochs: 2, batchSize: 16 });
    expect(settings.quantization.layers).toEqual([
      { op: 'Gemm', skip: true },
      { name: 'stem', skip: true },
    ]);
  });

  it('are named when their value is wrong', async () => {
    const error = await refused('--epochs', '0', '--set', 'training.nothing=1');
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toContain('/training/epochs: must be a whole number from 1 to 1000, not 0 (given by --epochs)');
    expect(error.message).toContain('/training/nothing: unknown field "nothing" (given by --set)');
  });

  it('do not reach beyond the recipe', async () => {
    expect((await refused('--set', '__proto__.polluted=true')).code).toBe('CONFIG_INVALID');
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
  });

  it.each([
    ['--epochs', 'two'],
    ['--bits', '4,8,8'],
    ['--bits', 'four'],
    ['--max-drop', ''],
    ['--set', '=1'],
    ['--seed', '1.5'],
  ])('are refused by commander: %s %s', async (...args) => {
    expect(() => plan(...args)).toThrow(/is invalid/);
  });
});

describe('configuration', () => {
  it('may be JSON on the command line, with the readings of the datasets as in a one-shot request', async () => {
    const { datasetConfig, evaluationConfig, settings } = await plan('-c', '{"seed": 3, "datasetConfig": {"scale": 0.5}}');
    expect(settings.seed).toBe(3);
    expect(datasetConfig).toEqual({ scale: 0.5 });
    expect(evaluationConfig).toEqual({ scale: 0.5 });
  });

  it('of a dataset by flag wins, and the evaluation set may be read otherwise', async () => {
    const { datasetConfig, evaluationConfig } = await plan(
      '-c',
      '{"datasetConfig": {"scale": 0.5}}',
      '--data-config',
      '{"scale": 1}',
      '--eval-config',
      await file('eval.json', '{"mean": 2}'),
    );
    expect(datasetConfig).toEqual({ scale: 1 });
    expect(evaluationConfig).toEqual({ mean: 2 });
  });

  it('takes names of classes by flag, for both datasets', async () => {
    const { datasetConfig, evaluationConfig } = await plan('--classes', 'ant, bee,cow', '--eval-config', '{"mean": 2}');
    expect(datasetConfig).toEqual({ classes: ['ant', 'bee', 'cow'] });
    expect(evaluationConfig).toEqual({ mean: 2, classes: ['ant', 'bee', 'cow'] });
    expect((await refused('--classes', 'ant,ant')).message).toContain('/datasetConfig/classes');
  });

  it('names the wrong field of a dataset', async () => {
    const error = await refused('--data-config', '{"layout": "CHW"}');
    expect(error.code).toBe('DATASET_CONFIG');
    expect(error.message).toContain('/datasetConfig/layout');
  });

  it.each([
    ['a file that is not there', 'nowhere.json', 'FILE_UNREADABLE'],
    ['JSON cut off', '{"seed": ', 'CONFIG_UNREADABLE'],
    ['JSON that is not an object', '[1]', 'FILE_UNREADABLE'],
  ])('refuses %s', async (_what, source, code) => {
    expect((await refused('--config', source)).code).toBe(code);
  });

  it('refuses a file that holds no object', async () => {
    const error = await refused('--config', await file('list.json', '[1]'));
    expect(error).toMatchObject({ code: 'CONFIG_UNREADABLE', place: { file: expect.stringContaining('list.json') } });
  });
});
