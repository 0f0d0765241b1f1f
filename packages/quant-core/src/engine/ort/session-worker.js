// Hosts one ONNX Runtime session in a worker thread. Plain JavaScript, so that the same file runs from sources and from the build.
import { createRequire } from 'node:module';
import { parentPort } from 'node:worker_threads';

const ort = createRequire(import.meta.url)('onnxruntime-node');
/** @type {import('onnxruntime-node').InferenceSession | undefined} */
let session;

/**
 * `create` makes the session of this thread, `run` runs it once.
 * @param {{ id: number, kind: 'create', bytes: Uint8Array, options: object } | { id: number, kind: 'run', feeds: Record<string, { dtype: string, shape: number[], data: ArrayBufferView }> }} request
 */
async function answer(request) {
  if (request.kind === 'create') {
    session = await ort.InferenceSession.create(request.bytes, request.options);
    return { results: {}, transfer: [] };
  }
  const feeds = Object.fromEntries(
    Object.entries(request.feeds).map(([name, { dtype, shape, data }]) => [name, new ort.Tensor(dtype, data, shape)]),
  );
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

parentPort.on('message', async (request) => {
  try {
    const { results, transfer } = await answer(request);
    parentPort.postMessage({ id: request.id, results }, transfer);
  } catch (error) {
    parentPort.postMessage({ id: request.id, error: error instanceof Error ? error.message : String(error) });
  }
});
