// Hosts one ONNX Runtime session in a worker thread. Plain JavaScript, so that the same file runs from sources and from the build.
import { createRequire } from 'node:module';
import { parentPort } from 'node:worker_threads';

const ort = createRequire(import.meta.url)('onnxruntime-node');
/** @type {import('onnxruntime-node').InferenceSession | undefined} */
let session;
/** Memory of this thread for each feed. @type {Map<string, ArrayBuffer>} */
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
 * `create` makes the session of this thread, `run` runs it once.
 * @param {{ id: number, kind: 'create', bytes: Uint8Array, options: object } | { id: number, kind: 'run', feeds: Record<string, { dtype: string, shape: number[], data: Float32Array }> }} request
 */
async function answer(request) {
  if (request.kind === 'create') {
    session = await ort.InferenceSession.create(request.bytes, request.options);
    return { results: {}, transfer: [] };
  }
  const feeds = Object.fromEntries(Object.entries(request.feeds).map(([name, feed]) => [name, feedOf(name, feed)]));
  const outputs = await session.run(feeds);
  const results = {};
  const transfer = [];
  for (const [name, tensor] of Object.entries(outputs)) {
    // The runtime owns the memory of its results: a copy can be handed to the other thread.
    const data = tensor.data.slice();
    transfer.push(data.buffer);
    results[name] = { dtype: tensor.type, shape: tensor.dims, data };
  }
  return { results, transfer };
}

async function reply(request) {
  try {
    const { results, transfer } = await answer(request);
    parentPort.postMessage({ id: request.id, results }, transfer);
  } catch (error) {
    parentPort.postMessage({ id: request.id, error: error instanceof Error ? error.message : String(error) });
  }
}

// One after the other: a run uses the memory of the one before it.
let last = Promise.resolve();
parentPort.on('message', (request) => {
  last = last.then(() => reply(request));
});
