import { closeSync, existsSync, fstatSync, openSync } from 'node:fs';
import { Fields } from './count.js';

/** ModelProto.graph, GraphProto.initializer, TensorProto.external_data, and key and value of StringStringEntryProto. */
const [graphField, initializerField, externalField, keyField, valueField] = [7, 5, 13, 1, 2];
/** A file name of more bytes is none. */
const longestName = 4096;

/**
 * The files that an ONNX file says its weights lie in, as it writes them, each once; read without the weights in the file itself. Nothing for a file that is not a model:
 * whoever reads it whole says what is wrong with it.
 */
export function externalLocations(path: string): string[] {
  if (!existsSync(path)) return [];
  const fd = openSync(path, 'r');
  try {
    const fields = new Fields(fd);
    const locations = new Set<string>();
    for (const graph of fields.between(0, fstatSync(fd).size)) {
      if (graph.field !== graphField) continue;
      for (const tensor of fields.between(graph.from, graph.to)) {
        if (tensor.field !== initializerField) continue;
        for (const entry of fields.between(tensor.from, tensor.to)) {
          const location = entry.field === externalField ? locationOf(fields, entry) : undefined;
          if (location) locations.add(location);
        }
      }
    }
    return [...locations];
  } catch (error) {
    if (error instanceof RangeError) return [];
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** The value of an entry whose key is "location". */
function locationOf(fields: Fields, entry: { from: number; to: number }): string | undefined {
  let [key, value] = ['', ''];
  for (const { field, from, to } of fields.between(entry.from, entry.to)) {
    if (to - from > longestName) continue;
    if (field === keyField) key = fields.text(from, to);
    if (field === valueField) value = fields.text(from, to);
  }
  return key === 'location' ? value : undefined;
}
