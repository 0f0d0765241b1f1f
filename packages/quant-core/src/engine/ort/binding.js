// Feeds and results of a session by the names it has. Plain JavaScript, because the training threads read it from sources and from the build.

/** @typedef {import('./vectors.js').Vectors} Vectors */
/** @typedef {{ dtype: string, shape: readonly number[], data: Float32Array }} Plain */
/** @typedef {import('onnxruntime-node').Tensor} Tensor */

/**
 * @param {typeof import('onnxruntime-node').Tensor} OrtTensor
 * @param {Readonly<Record<string, Plain>>} feeds
 * @param {Vectors} vectors
 * @returns {Record<string, Tensor>} views of the same memory
 */
export function bindFeeds(OrtTensor, feeds, vectors) {
  /** @type {Record<string, Tensor>} */
  const bound = {};
  for (const [name, { dtype, shape, data }] of Object.entries(feeds)) {
    const pieces = vectors.feeds[name];
    if (!pieces) bound[name] = new OrtTensor(/** @type {'float32'} */ (dtype), data, shape);
    else
      for (const piece of pieces)
        bound[piece.name] = new OrtTensor('float32', data.subarray(piece.offset, piece.offset + piece.size), piece.shape);
  }
  return bound;
}

/**
 * Where a session writes its results to; `null` for those that it allocates itself.
 * @param {typeof import('onnxruntime-node').Tensor} OrtTensor
 * @param {readonly string[]} names results of the session
 * @param {Vectors} vectors
 * @param {Readonly<Record<string, Float32Array>>} memory for each vector, by the name of the result outside
 * @returns {Record<string, Tensor | null>}
 */
export function bindResults(OrtTensor, names, vectors, memory) {
  /** @type {Record<string, Tensor | null>} */
  const bound = Object.fromEntries(names.map((name) => [name, null]));
  for (const [vector, { pieces }] of Object.entries(vectors.results)) {
    for (const { name, shape, offset, size } of pieces)
      bound[name] = new OrtTensor('float32', memory[vector].subarray(offset, offset + size), shape);
  }
  return bound;
}

/**
 * What a session gave, by the names outside.
 * @param {Readonly<Record<string, Tensor>>} results
 * @param {Vectors} vectors
 * @param {Readonly<Record<string, Float32Array>>} memory
 * @returns {Record<string, Plain>}
 */
export function unbindResults(results, vectors, memory) {
  const inside = new Set(Object.values(vectors.results).flatMap(({ pieces }) => pieces.map(({ name }) => name)));
  /** @type {Record<string, Plain>} */
  const plain = {};
  for (const [name, tensor] of Object.entries(results)) {
    if (!inside.has(name)) plain[name] = { dtype: tensor.type, shape: tensor.dims, data: /** @type {Float32Array} */ (tensor.data) };
  }
  for (const [name, { size }] of Object.entries(vectors.results)) plain[name] = { dtype: 'float32', shape: [size], data: memory[name] };
  return plain;
}
