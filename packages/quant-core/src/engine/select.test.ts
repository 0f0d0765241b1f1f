import { expect, it } from 'vitest';
import { failure } from '../data/testing/files.js';
import { OctetError } from '../errors.js';
import { graphOf, randomFeeds } from '../normalise/testing/oracle.js';
import type { Engine } from './engine.js';
import { OrtEngine } from './ort/ort.js';
import { chooseEngine, type EngineMakers } from './select.js';
import { TfjsEngine } from './tfjs/tfjs.js';

const none: EngineMakers['ort'] = () => {
  throw new OctetError('ENGINE_UNAVAILABLE', 'onnxruntime-node cannot be loaded on darwin x64: no binary');
};
const here: EngineMakers = { ort: () => new OrtEngine(), tfjs: () => TfjsEngine.create('wasm') };
const without: EngineMakers = { ...here, ort: none };
const codes = (notes: readonly { code: string }[]) => notes.map((note) => note.code);
const never: EngineMakers['tfjs'] = () => Promise.reject(new Error('TF.js is not wanted'));

it('is ONNX Runtime unless something else is asked for, and TF.js is not touched', async () => {
  for (const wish of ['auto', 'ort'] as const) {
    const { engine, notes } = await chooseEngine(wish, undefined, { ...here, tfjs: never });
    expect([engine.name, notes]).toEqual(['onnxruntime', []]);
  }
});

it('asks the recipe first, then the machine', async () => {
  const tfjs = async (recipe: 'auto' | 'ort' | 'tfjs', machine: string) =>
    'tfjs' in (await chooseEngine(recipe, machine, here)).engine.versions;
  expect(await tfjs('auto', 'tfjs')).toBe(true);
  expect(await tfjs('ort', 'tfjs')).toBe(false);
  expect(await tfjs('tfjs', 'ort')).toBe(true);
  expect(await tfjs('auto', '')).toBe(false);
  const error = await failure('CONFIG_INVALID', () => chooseEngine('auto', 'fast', here));
  expect(error.hint).toContain('auto, ort, tfjs');
});

it('trains in TF.js and measures in ONNX Runtime where both load', async () => {
  const { engine, notes } = await chooseEngine('tfjs', undefined, here);
  expect(engine.name).toBe('onnxruntime');
  expect(Object.keys(engine.versions)).toEqual(['onnxruntime', 'tfjs']);
  expect(codes(notes)).toEqual(['ENGINE_TFJS']);
  const graph = graphOf('graph g (x: float32[2, 3]) opset 18\ny = Tanh(x)\nreturn y');
  const ran: string[] = [];
  const named = (name: string, of: Engine): Engine => ({
    ...of,
    compile: (...given) => {
      ran.push(name);
      return of.compile(...given);
    },
    compileSharded: (...given) => {
      ran.push(`${name} shards`);
      return of.compileSharded(...given);
    },
    load: (...given) => {
      ran.push(`${name} file`);
      return of.load(...given);
    },
  });
  const tfjs = await TfjsEngine.create('cpu');
  const split = await chooseEngine('tfjs', undefined, {
    ort: () => named('ort', new OrtEngine()),
    tfjs: async () => ({ ...named('tfjs', tfjs), backend: tfjs.backend, missing: tfjs.missing }),
  });
  for (const mode of ['train', 'infer'] as const) await (await split.engine.compile(graph, { threads: 1, mode })).dispose();
  const shards = await split.engine.compileSharded(graph, { threads: 1, shards: 1 });
  expect((await shards.run([randomFeeds(graph)]))[0]?.y?.shape).toEqual([2, 3]);
  await shards.dispose();
  await split.engine.load('nowhere.onnx', { threads: 1, mode: 'infer' }).catch(() => undefined);
  expect(ran).toEqual(['tfjs', 'ort', 'tfjs shards', 'ort file']);
});

it('falls back to TF.js where ONNX Runtime has no binary, and says what that means', async () => {
  const { engine, notes } = await chooseEngine('auto', undefined, without);
  expect(engine.name).toBe('tfjs');
  expect(codes(notes)).toEqual(['ENGINE_FALLBACK', 'NOT_RUN_ON_INTEGERS']);
  expect(notes[0]?.text).toContain('onnxruntime-node cannot be loaded on darwin x64: no binary');
  expect(codes((await chooseEngine('tfjs', undefined, without)).notes)).toEqual(['ENGINE_TFJS', 'NOT_RUN_ON_INTEGERS']);
  await failure('ENGINE_UNAVAILABLE', () => chooseEngine('ort', undefined, without));
});
