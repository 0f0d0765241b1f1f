// Hosts one ONNX Runtime session in a worker thread. Plain JavaScript, so that the same file runs from sources and from the build.
import { createRequire } from 'node:module';
import { parentPort } from 'node:worker_threads';

const ort = createRequire(import.meta.url)('onnxruntime-node');
/** @type {import('onnxruntime-node').InferenceSession | undefined} */
let session;
/** Memory of this thread for each feed. @type {Map<string, ArrayBuffer>} */
const own = new Map();
/** Shared memory for each result of each shard. @type {Map<string, SharedArrayBuffer>} */
const shared = new Map();

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
 * @param {string} slot
 * @param {{ type: string, dims: readonly number[], data: Float32Array }} tensor
 */
function resultOf(slot, { type, dims, data }) {
  let buffer = shared.get(slot);
  if (buffer === undefined || buffer.byteLength < data.byteLength) {
    buffer = new SharedArrayBuffer(data.byteLength);
    shared.set(slot, buffer);
  }
  const copy = new /** @type {Float32ArrayConstructor} */ (data.constructor)(buffer, 0, data.length);
  copy.set(data);
  return { dtype: type, shape: dims, data: copy };
}

/**
 * `create` makes the session of this thread, `run` runs it once.
 * @param {{ kind: 'create', bytes: Uint8Array, options: object } | { kind: 'run', shard: number, feeds: Record<string, { dtype: string, shape: number[], data: Float32Array }> }} request
 */
async function answer(request) {
  if (request.kind === 'create') {
    session = await ort.InferenceSession.create(request.bytes, request.options);
    return {};
  }
  const feeds = Object.fromEntries(Object.entries(request.feeds).map(([name, feed]) => [name, feedOf(name, feed)]));
  const outputs = await session.run(feeds);
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, resultOf(`${request.shard} ${name}`, tensor)]));
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
