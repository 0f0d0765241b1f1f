// Hosts ONNX Runtime sessions in a worker thread, each under a number. Plain JavaScript, so that the same file runs from sources and from the build.
import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort } from 'node:worker_threads';
import { bindFeeds, bindResults, unbindResults } from './binding.js';

const ort = createRequire(import.meta.url)('onnxruntime-node');

// The runtime starts with its first session, also with one that cannot be: here it does so while the other thread has something else to do.
await ort.InferenceSession.create(new Uint8Array(0)).catch(() => undefined);

/** @type {Map<number, { session: import('onnxruntime-node').InferenceSession, vectors: import('./vectors.js').Vectors }>} */
const hosts = new Map();

/** Collects garbage now: a thread that waits would keep the buffers of a session that is gone, which may be large, until it is busy again. */
function collect() {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

/**
 * `create` makes a session, `run` runs it once, `release` frees it. The memory of the feeds, and of vectors among the results, is lent by the
 * other thread and goes back to it.
 * @param {{ host: number } & ({ kind: 'create', bytes: Uint8Array, options: object, vectors: import('./vectors.js').Vectors }
 *   | { kind: 'run', feeds: Record<string, import('./binding.js').Plain>, memory: Record<string, Float32Array> } | { kind: 'release' })} request
 */
async function answer(request) {
  if (request.kind === 'create') {
    hosts.set(request.host, { session: await ort.InferenceSession.create(request.bytes, request.options), vectors: request.vectors });
    return nothing;
  }
  if (request.kind === 'release') {
    const host = hosts.get(request.host);
    hosts.delete(request.host);
    await host?.session.release();
    setImmediate(collect);
    return nothing;
  }
  const { feeds, memory } = request;
  const { session, vectors } = hosts.get(request.host);
  const outputs = await session.run(bindFeeds(ort.Tensor, feeds, vectors), bindResults(ort.Tensor, session.outputNames, vectors, memory));
  const lent = [...Object.values(feeds).map(({ data }) => data.buffer), ...Object.values(memory).map(({ buffer }) => buffer)];
  return { feeds, results: unbindResults(outputs, vectors, memory), lent };
}

const nothing = { feeds: {}, results: {}, lent: [] };

async function reply(request) {
  try {
    const { feeds, results, lent } = await answer(request);
    parentPort.postMessage({ id: request.id, feeds, results }, lent);
  } catch (error) {
    parentPort.postMessage({ id: request.id, error: error instanceof Error ? error.message : String(error) });
  }
}

// One after the other, as they were asked for.
let last = Promise.resolve();
parentPort.on('message', (request) => {
  last = last.then(() => reply(request));
});
