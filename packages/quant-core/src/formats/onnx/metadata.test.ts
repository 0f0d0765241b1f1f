import { expect, it } from 'vitest';
import { modelBytes, node } from '../../testing/onnx.js';
import { addMetadata } from './metadata.js';
import { readOnnx } from './read.js';
import { decode } from './schema.js';
import { writeOnnx } from './write.js';

it('adds entries under octet., keeps those of the file, and replaces its own', () => {
  const metadataProps = [
    { key: 'author', value: 'somebody' },
    { key: 'octet.version', value: '0.1.0' },
  ];
  const graph = readOnnx(modelBytes({ nodes: [node('Relu', ['x'], ['y'])], model: { metadataProps, producerName: 'maker' } }));
  const copy = graph.clone();
  addMetadata(copy, { version: '9', classes: '["a","b"]' });
  const written = decode('Model', writeOnnx(copy));
  expect(written).toMatchObject({
    producerName: 'maker',
    metadataProps: [
      { key: 'author', value: 'somebody' },
      { key: 'octet.version', value: '9' },
      { key: 'octet.classes', value: '["a","b"]' },
    ],
  });
  // The graph that was copied keeps what it had.
  expect(decode('Model', writeOnnx(graph)).metadataProps).toMatchObject(metadataProps);
});
