import { createRequire } from 'node:module';
import type * as Tf from '@tensorflow/tfjs-core';
import { OctetError } from '../../errors.js';
import { roundHalfEven } from '../../tensor/affine.js';

const require = createRequire(import.meta.url);

export type TfModule = typeof Tf;

/** What can carry TF.js kernels, the fastest first. */
export const tfjsBackends = ['native', 'wasm', 'cpu'] as const;
export type TfjsBackend = (typeof tfjsBackends)[number];

/** Names that TF.js registers the backends under. */
const registered: Record<TfjsBackend, string> = { native: 'tensorflow', wasm: 'wasm', cpu: 'cpu' };

const packages: Record<TfjsBackend, string> = {
  native: '@tensorflow/tfjs-node',
  wasm: '@tensorflow/tfjs-backend-wasm',
  cpu: '@tensorflow/tfjs-backend-cpu',
};

export interface LoadedBackend {
  tf: TfModule;
  name: TfjsBackend;
  /** Version of TF.js. */
  version: string;
  /** Half to even: the backend's own kernel where it computes what `roundHalfEven` does. */
  round: (x: Tf.Tensor) => Tf.Tensor;
  /** Faster backends that could not be loaded, each with the reason and the way out. */
  missing: { name: TfjsBackend; why: string }[];
}

const halves = [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 0.49999997, -0.50000006, 8388609];

/** Rounding has one owner, `roundHalfEven`; a kernel of TF.js stands in for it only where it gives the same. */
function rounding(tf: TfModule): LoadedBackend['round'] {
  const same = tf.tidy(() =>
    tf
      .round(tf.tensor1d(halves))
      .dataSync()
      .every((v, i) => v === roundHalfEven(Math.fround(halves[i] as number))),
  );
  if (same) return (x) => tf.round(x);
  return (x) => tf.tensor(Float32Array.from(x.dataSync(), roundHalfEven), x.shape, 'float32');
}

/** The WASM backend hooks into uncaught errors and rejections of the whole process, for pages of the web; here they belong to the program. */
async function withoutHandlers(body: () => Promise<void>): Promise<void> {
  const events = ['uncaughtException', 'unhandledRejection'];
  const before = new Map(events.map((event) => [event, process.listeners(event as NodeJS.Signals)]));
  try {
    await body();
  } finally {
    for (const [event, known] of before)
      for (const listener of process.listeners(event as NodeJS.Signals))
        if (!known.includes(listener)) process.removeListener(event, listener);
  }
}

/** Loads one package; replaced in tests. */
export type Load = (name: string) => unknown;

/** Why a package could not be loaded, in one line that says what to do. */
function reason(backend: TfjsBackend, error: unknown, version: string): string {
  const text = (error instanceof Error ? error.message : String(error)).split('\n')[0] as string;
  const name = packages[backend];
  if (backend !== 'native') return `${name} cannot be loaded: ${text}`;
  const absent = (error as { code?: string }).code === 'MODULE_NOT_FOUND' && text.includes(`'${name}'`);
  return absent
    ? `${name} is not installed; "npm install --no-save ${name}@${version}" adds it (its install step downloads libtensorflow)`
    : `${name} is installed, but its native part cannot be loaded: ${text}; "npm rebuild ${name} --build-addon-from-source" builds it`;
}

/** One after the other: a backend that starts is the current one of the process while it does. */
let loading: Promise<unknown> = Promise.resolve();

/**
 * The fastest TF.js backend that loads here, or the one that is asked for. Nothing of TF.js is loaded before.
 * Throws ENGINE_UNAVAILABLE with the reason for each backend that was tried.
 */
export function loadBackend(wish?: TfjsBackend, load: Load = require): Promise<LoadedBackend> {
  const loaded = loading.then(() => firstThatLoads(wish ? [wish] : tfjsBackends, load));
  loading = loaded.catch(() => undefined);
  return loaded;
}

async function firstThatLoads(names: readonly TfjsBackend[], load: Load): Promise<LoadedBackend> {
  const missing: LoadedBackend['missing'] = [];
  let version = '4';
  for (const name of names) {
    try {
      const tf = load('@tensorflow/tfjs-core') as TfModule;
      version = tf.version_core;
      // Without this, TF.js checks every result for NaN and advises on the console which package to install.
      tf.enableProdMode();
      await withoutHandlers(async () => {
        load(packages[name]);
        if (!(await tf.setBackend(registered[name]))) throw new Error(`TF.js could not start the backend "${registered[name]}"`);
      });
      return { tf, name, version, round: rounding(tf), missing };
    } catch (error) {
      missing.push({ name, why: reason(name, error, version) });
    }
  }
  throw new OctetError('ENGINE_UNAVAILABLE', missing.map(({ why }) => why).join('; '));
}

/** Make a backend that is loaded the current one: TF.js has one for the whole process. Done when it returns, without waiting. */
export function useBackend({ tf, name }: LoadedBackend): void {
  if (tf.getBackend() !== registered[name]) void tf.setBackend(registered[name]);
}
