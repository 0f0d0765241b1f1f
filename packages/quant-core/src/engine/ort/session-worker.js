// Hosts ONNX Runtime sessions in a worker thread, each under a number. Plain JavaScript, so that the same file runs from sources and from the build.
import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort } from 'node:worker_threads';

const ort = createRequire(import.meta.url)('onnxruntime-node');

/**
 * A session and the shared memory for each result of each of its shards.
 * @typedef {{ session: import('onnxruntime-node').InferenceSession, shared: Map<string, SharedArrayBuffer> }} Host
 */
/** @type {Map<number, Host>} */
const hosts = new Map();
/** Memory of this thread for each feed by its name. One session runs at a time, so that all of them share it. @type {Map<string, ArrayBuffer>} */
const own = new Map();

/**
 * A feed as the runtime takes it. It refuses shared memory, so the values are copied into memory of this thread, which is kept for the next run.
 * @param {string} name
 * @param {{ dtype: string, shape: number[], data: Float32Array }} feed values in shared memory
 */
function feedOf(name, { dtype, shape, data }) {
  let buffer = own.get(name);
  if (buffer === undefined || buffer.byteLength < data.byteLength) {
    buffer = new ArrayBuffer(data.byteLength);
    own.set(name, buffer);
  }
  const copy = new /** @type {Float32ArrayConstructor} */ (data.constructor)(buffer, 0, data.length);
  copy.set(data);
  return new ort.Tensor(dtype, copy, shape);
}

/**
 * A result on its way to the other thread, in shared memory that is kept for the next run of the shard.
 * @param {Map<string, SharedArrayBuffer>} shared
 * @param {string} slot
 * @param {{ type: string, dims: readonly number[], data: Float32Array }} tensor
 */
function resultOf(shared, slot, { type, dims, data }) {
  let buffer = shared.get(slot);
  if (buffer === undefined || buffer.byteLength < data.byteLength) {
    buffer = new SharedArrayBuffer(data.byteLength);
    shared.set(slot, buffer);
  }
  const copy = new /** @type {Float32ArrayConstructor} */ (data.constructor)(buffer, 0, data.length);
  copy.set(data);
  return { dtype: type, shape: dims, data: copy };
}

/** Collects garbage now: a thread that waits would keep the buffers of a session that is gone, which may be large, until it is busy again. */
function collect() {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

/**
 * `create` makes a session, `run` runs it once, `release` frees it.
 * @param {{ host: number } & ({ kind: 'create', bytes: Uint8Array, options: object } | { kind: 'run', shard: number, feeds: Record<string, { dtype: string, shape: number[], data: Float32Array }> } | { kind: 'release' })} request
 */
async function answer(request) {
  if (request.kind === 'create') {
    hosts.set(request.host, { session: await ort.InferenceSession.create(request.bytes, request.options), shared: new Map() });
    return {};
  }
  const host = hosts.get(request.host);
  if (request.kind === 'release') {
    hosts.delete(request.host);
    await host?.session.release();
    if (!hosts.size) own.clear();
    setImmediate(collect);
    return {};
  }
  const feeds = Object.fromEntries(Object.entries(request.feeds).map(([name, feed]) => [name, feedOf(name, feed)]));
  const outputs = await host.session.run(feeds);
  return Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => [name, resultOf(host.shared, `${request.shard} ${name}`, tensor)]),
  );
}

async function reply(request) {
  try {
    parentPort.postMessage({ id: request.id, results: await answer(request) });
  } catch (error) {
    parentPort.postMessage({ id: request.id, error: error instanceof Error ? error.message : String(error) });
  }
}

// One after the other: a run uses the memory of the one before it.
let last = Promise.resolve();
parentPort.on('message', (request) => {
  last = last.then(() => reply(request));
});
