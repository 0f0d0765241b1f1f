import { readFile, stat, writeFile } from 'node:fs/promises';
import { decode, encode } from '../formats/onnx/schema.js';
import type { Graph } from '../ir/graph.js';

/** What a report says of an output that was exposed. */
export const onlyForTheJob = 'ZipMap makes its maps of it: it is judged in their place, and is no output of the file.';

/**
 * A classifier of scikit-learn, as skl2onnx writes it, gives a label and a sequence of maps from class to probability: no tensor of floats that could be compared.
 * What ZipMap makes the maps of becomes an output beside them while the job runs, in place. Returns the names of such outputs; none where the model has floats to judge.
 */
export function exposeScores(graph: Graph): string[] {
  if (graph.outputs.some((value) => value.dtype === 'float32')) return [];
  const scores = graph.outputs
    .filter((value) => value.producer?.opName === 'ZipMap')
    .flatMap((value) => value.producer?.inputs[0] ?? [])
    .filter((value) => value.dtype === 'float32' && value.producer !== undefined);
  graph.outputs.push(...scores);
  return scores.map((value) => value.name);
}

/** Write the model that is returned: the candidate without the outputs that were there for the job alone. Returns its bytes. */
export async function withoutExposed(candidate: string, path: string, exposed: readonly string[]): Promise<number> {
  const bytes = await readFile(candidate);
  if (!exposed.length) {
    await writeFile(path, bytes);
    return bytes.byteLength;
  }
  const model = decode('Model', bytes);
  const { graph } = model;
  if (graph?.output) graph.output = graph.output.filter(({ name }) => !exposed.includes(name ?? ''));
  await writeFile(path, encode('Model', model));
  return (await stat(path)).size;
}
