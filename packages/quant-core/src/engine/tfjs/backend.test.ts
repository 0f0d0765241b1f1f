import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { failure } from '../../data/testing/files.js';
import { graphOf, randomFeeds } from '../../normalise/testing/oracle.js';
import { roundHalfEven } from '../../tensor/affine.js';
import { Random } from '../../tensor/random.js';
import { OrtEngine } from '../ort/ort.js';
import { chooseEngine } from '../select.js';
import { type Load, loadBackend } from './backend.js';
import { TfjsEngine } from './tfjs.js';

const require = createRequire(import.meta.url);
const loaded = () => Object.keys(require.cache).filter((file) => file.includes('@tensorflow'));

// First: nothing below may have loaded TF.js yet.
it('nothing of TF.js is loaded for a job in ONNX Runtime', async () => {
  const { engine } = await chooseEngine('auto', undefined);
  const graph = graphOf('graph g (x: float32[2, 3]) opset 18\ny = Tanh(x)\nreturn y');
  const program = await engine.compile(graph, { threads: 1, mode: 'train' });
  await program.run(randomFeeds(graph));
  await program.dispose();
  expect(new OrtEngine().name).toBe('onnxruntime');
  expect(loaded()).toEqual([]);
});

it('leaves the errors of the process to the process', async () => {
  const handlers = () => ['uncaughtException', 'unhandledRejection'].map((event) => process.listenerCount(event));
  const before = handlers();
  await loadBackend('wasm');
  expect(loaded().some((file) => file.includes('wasm'))).toBe(true);
  expect(handlers()).toEqual(before);
});

/** A loader in which some packages fail. */
const lacking =
  (failing: Record<string, Error>): Load =>
  (name) => {
    if (failing[name]) throw failing[name];
    return require(name);
  };

const node = '@tensorflow/tfjs-node';
const absent = Object.assign(new Error(`Cannot find module '${node}'\nRequire stack:\n- here`), { code: 'MODULE_NOT_FOUND' });
const broken = new Error('libtensorflow.so.2: cannot open shared object file');
const wasm = new Error('no WebAssembly');

describe('the fastest backend that loads', () => {
  it('is WASM where the native one is not installed, and says how to get it', async () => {
    const { name, missing, version } = await loadBackend(undefined, lacking({ [node]: absent }));
    expect(name).toBe('wasm');
    const add = `npm install --no-save ${node}@${version}`;
    expect(missing).toEqual([
      { name: 'native', why: `${node} is not installed; "${add}" adds it (its install step downloads libtensorflow)` },
    ]);
  });

  it('tells a package that is broken from one that is not there', async () => {
    const { missing } = await loadBackend(undefined, lacking({ [node]: broken }));
    expect(missing[0]?.why).toBe(
      `${node} is installed, but its native part cannot be loaded: ${broken.message}; "npm rebuild ${node} --build-addon-from-source" builds it`,
    );
  });

  it('is plain JavaScript where nothing else is', async () => {
    const engine = await TfjsEngine.create(undefined, lacking({ [node]: absent, '@tensorflow/tfjs-backend-wasm': wasm }));
    expect(engine.backend).toBe('cpu');
    expect(engine.version).toMatch(/^\d+\.\d+\.\d+ cpu$/);
    expect(engine.missing.map(({ name }) => name)).toEqual(['native', 'wasm']);
  });

  it('that is asked for is not replaced by another', async () => {
    const error = await failure('ENGINE_UNAVAILABLE', () => loadBackend('native', lacking({ [node]: absent })));
    expect(error.message).toContain('is not installed');
  });
});

it('two backends live side by side, and what runs on one stays there', async () => {
  const graph = graphOf('graph g (x: float32[2, 3]) opset 18\ny = Tanh(x)\nreturn y');
  const engines = await Promise.all((['wasm', 'cpu'] as const).map((name) => TfjsEngine.create(name)));
  expect(engines.map((engine) => engine.backend)).toEqual(['wasm', 'cpu']);
  const { tf } = await loadBackend('wasm');
  const programs = await Promise.all(engines.map((engine) => engine.compile(graph, { threads: 1, mode: 'train' })));
  const used: string[] = [];
  const results = await Promise.all(
    [...programs, ...programs].map(async (program) => {
      const ran = program.run(randomFeeds(graph));
      used.push(tf.getBackend());
      return ran;
    }),
  );
  expect(used).toEqual(['wasm', 'cpu', 'wasm', 'cpu']);
  expect(results.every((result) => result.y?.size === 6)).toBe(true);
  await Promise.all(programs.map((program) => program.dispose()));
});

it.each(['wasm', 'cpu'] as const)('%s rounds as the one rounding function does', async (name) => {
  const { tf, round } = await loadBackend(name);
  const random = new Random(5);
  const values = Float32Array.from({ length: 4000 }, (_, i) => (i < 1200 ? i / 2 - 300 : random.normal() * 100));
  const got = round(tf.tensor1d(values)).dataSync();
  for (const [i, value] of values.entries()) expect((got[i] as number) + 0).toBe(roundHalfEven(value) + 0);
});

it('a kernel that rounds halves up is not used', async () => {
  const load: Load = (name) => {
    const real = require(name) as {
      round: (x: unknown) => unknown;
      floor: (x: unknown) => unknown;
      add: (a: unknown, b: number) => unknown;
    };
    return name === '@tensorflow/tfjs-core' ? { ...real, round: (x: unknown) => real.floor(real.add(x, 0.5)) } : real;
  };
  const { tf, round } = await loadBackend('cpu', load);
  expect([...round(tf.tensor1d([0.5, 1.5, 2.5])).dataSync()]).toEqual([0, 2, 2]);
});
