import { OctetError } from '../errors.js';
import type { StoreArray } from './elements.js';
import { type FlatFile, FlatReader } from './flat.js';
import type { InputType, SampleSpec } from './materialise.js';

/** Least and greatest value of each integer type, as far as whole numbers are exact. */
const bounds: Record<Exclude<InputType, 'float32'>, readonly [number, number]> = {
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int16: [-(2 ** 15), 2 ** 15 - 1],
  int8: [-128, 127],
  uint16: [0, 2 ** 16 - 1],
  uint8: [0, 255],
  bool: [0, 1],
};

/** Whole numbers beyond this may have been rounded on their way through float32. */
const exactInFloat32 = 2 ** 24;

/** Samples looked at in one go when the wrong one is searched for. */
const searchSamples = 256;

/**
 * Whether stored samples may go into an integer input: whole numbers that its type holds, and rows of the table they are looked up in.
 * ONNX counts negative indices from the end of a table.
 * @throws OctetError DATASET_VALUES naming the first sample and value that may not
 */
export function checkValues(file: FlatFile, spec: SampleSpec): void {
  const { dtype, table, name = 'of the model' } = spec;
  if (dtype === 'float32') return;
  let [least, most] = bounds[dtype];
  let why = `input ${name} is ${dtype}`;
  if (file.dtype === 'float32' && exactInFloat32 < most) {
    [least, most] = [Math.max(least, -exactInFloat32), exactInFloat32];
    why = `input ${name} is ${dtype}, and float32 holds whole numbers up to ${exactInFloat32} only`;
  }
  if (table && table.rows - 1 <= most) {
    [least, most] = [Math.max(least, -table.rows), table.rows - 1];
    why = `input ${name} is looked up in ${table.name}, which has ${table.rows} rows`;
  }
  if (file.whole && file.min >= least && file.max <= most) return;
  const found = firstOf(file, (value) => value !== Math.trunc(value) || value < least || value > most);
  if (!found) return;
  const { sample, element, value } = found;
  throw new OctetError(
    'DATASET_VALUES',
    Number.isInteger(value)
      ? `Sample ${sample} holds ${value} at element ${element}; ${why}.`
      : `Sample ${sample} holds ${value} at element ${element}; input ${name} is ${dtype} and takes whole numbers.`,
    { sample, ...(spec.name === undefined ? {} : { tensor: spec.name }) },
  );
}

function firstOf(file: FlatFile, wrong: (value: number) => boolean): { sample: number; element: number; value: number } | undefined {
  const reader = new FlatReader(file);
  try {
    for (let first = 0; first < file.samples; first += searchSamples) {
      const count = Math.min(searchSamples, file.samples - first);
      const block: StoreArray = reader.allocate(count);
      reader.read(
        Uint32Array.from({ length: count }, (_, i) => first + i),
        block,
      );
      const at = block.findIndex(wrong);
      if (at >= 0) return { sample: first + Math.floor(at / file.elements), element: at % file.elements, value: block[at] as number };
    }
    return undefined;
  } finally {
    reader.close();
  }
}
