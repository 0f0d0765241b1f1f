import { OctetError } from '../errors.js';
import type { DatasetSummary } from '../events.js';
import type { DType } from '../tensor/dtype.js';
import { ImageSpool } from './image-spool.js';
import { checkSamples, checkUnlabelled, type Inspected, type Materialised, stateOf, type Upload, writeSamples } from './materialise.js';
import { type Chosen, chooseFields, type Fields, imageBytes, type Layout, layoutOf, writeField } from './record-fields.js';
import { RecordLabels } from './record-labels.js';
import { heed } from './stream.js';
import type { Targets } from './targets.js';

/** Samples whose values have names, as a format reads them. */
export interface Records {
  format: DatasetSummary['format'];
  /** How many there are, where that is known beforehand. */
  count: number | undefined;
  /** Every field of the first record. */
  first: Fields;
  /** Element type of a field. */
  dtypeOf(field: string): DType;
  /** Names of the classes whose numbers a field holds, where the dataset says them. */
  classNames?(field: string): readonly string[] | undefined;
  /** All records, with at least these fields. */
  read(fields: readonly string[]): AsyncIterable<Fields>;
}

/** Elements gathered before they are written. */
const blockElements = 256 * 1024;

export async function materialiseRecords(upload: Upload, records: Records): Promise<Materialised> {
  const assumptions: string[] = [];
  const chosen = chooseFields(records.first, upload.config, upload.name, assumptions);
  if (!chosen.images) return writeRecords(upload, records, chosen, assumptions);
  return withImages(upload, records, chosen, assumptions, async (images) => (await import('./images.js')).materialiseImages(images));
}

/** Images are looked at in their own sizes; other samples are laid out as when they are opened. */
export async function inspectRecords(upload: Upload, records: Records): Promise<Inspected> {
  const assumptions: string[] = [];
  const chosen = chooseFields(records.first, upload.config, upload.name, assumptions);
  if (!chosen.images) return writeRecords(upload, records, chosen, assumptions);
  return withImages(upload, records, chosen, assumptions, async (images) => (await import('./images.js')).inspectImages(images));
}

async function writeRecords(upload: Upload, records: Records, chosen: Chosen, assumptions: string[]): Promise<Materialised> {
  const { name, limits } = upload;
  const layouts = chosen.x.map((field) => layoutOf(field, records.first[field]));
  const shape = shapeOf(layouts);
  const sampleShape = checkSamples(records.count ?? 1, shape, limits, name);
  const types = new Set(chosen.x.map((field) => records.dtypeOf(field)));
  const dtype = types.size === 1 ? ([...types][0] as DType) : 'float32';
  const labels = chosen.label === undefined ? undefined : new RecordLabels(upload, chosen.label);
  try {
    const blocks = blocksOf(upload, records, chosen, layouts, labels);
    const x = await writeSamples(upload, blocks, dtype, records.count ?? 0, sampleShape);
    checkSamples(x.samples, sampleShape, limits, name);
    return {
      format: records.format,
      dtype,
      sampleShape,
      ...stateOf(x),
      targets: await finishLabels(upload, labels, chosen, records, assumptions),
      assumptions,
    };
  } catch (error) {
    await labels?.abandon();
    throw error;
  }
}

/** One field keeps its shape; several are features in a row. */
function shapeOf(layouts: readonly Layout[]): number[] {
  return layouts.length === 1 ? (layouts[0] as Layout).shape : [layouts.reduce((sum, { size }) => sum + size, 0)];
}

async function finishLabels(
  upload: Upload,
  labels: RecordLabels | undefined,
  { label }: Chosen,
  records: Records,
  assumptions: string[],
): Promise<Targets | undefined> {
  if (!labels || label === undefined) {
    checkUnlabelled(upload, 'no label');
    return undefined;
  }
  return labels.finish(assumptions, records.classNames?.(label));
}

async function* blocksOf(
  upload: Upload,
  records: Records,
  chosen: Chosen,
  layouts: readonly Layout[],
  labels: RecordLabels | undefined,
): AsyncGenerator<Float64Array> {
  const size = layouts.reduce((sum, layout) => sum + layout.size, 0);
  const block = new Float64Array(Math.max(1, Math.floor(blockElements / Math.max(1, size))) * size);
  let filled = 0;
  for await (const { fields, where } of eachOf(upload, records, chosen)) {
    for (const layout of layouts) {
      writeField(fields[layout.name], layout, block, filled, where);
      filled += layout.size;
    }
    await labels?.add(fields[chosen.label as string], where);
    if (filled < block.length) continue;
    yield block;
    filled = 0;
  }
  if (filled > 0) yield block.subarray(0, filled);
}

async function* eachOf(upload: Upload, records: Records, { x, label }: Chosen) {
  const { limits, name: file, signal } = upload;
  let sample = 0;
  for await (const fields of records.read(label === undefined ? x : [...x, label])) {
    heed(signal);
    if (sample >= limits.datasetSamples)
      throw new OctetError('DATASET_TOO_LARGE', `"${file}" holds more than ${limits.datasetSamples} samples.`, { file });
    yield { fields, where: { sample: sample++, file } };
  }
}

/** The images of the records, read as a folder of images without classes; the labels are those of the records. */
async function withImages<R extends Inspected>(
  upload: Upload,
  records: Records,
  chosen: Chosen,
  assumptions: string[],
  read: (images: Upload) => Promise<R>,
): Promise<R> {
  const field = chosen.x[0] as string;
  const labels = chosen.label === undefined ? undefined : new RecordLabels(upload, chosen.label);
  const spool = await ImageSpool.create(upload);
  try {
    for await (const { fields, where } of eachOf(upload, records, chosen)) {
      const image = imageBytes(fields[field]);
      if (!image?.bytes) throw noBytes(field, image?.path, where.sample, upload.name);
      await spool.add(image.bytes);
      await labels?.add(fields[chosen.label as string], where);
    }
    const targets = await finishLabels(upload, labels, chosen, records, assumptions);
    const result = await read({ ...upload, archive: spool, config: { ...upload.config, task: 'unlabelled' } });
    return { ...result, targets, assumptions: [...assumptions, ...result.assumptions] };
  } catch (error) {
    await labels?.abandon();
    throw error;
  } finally {
    await spool.close();
  }
}

function noBytes(field: string, path: string | undefined, sample: number, file: string): OctetError {
  return new OctetError(
    'DATASET_UNREADABLE',
    `Sample ${sample} of "${file}" has no bytes of an image in field "${field}"${path === undefined ? '' : `, only the path "${path}"`}.`,
    { sample, file },
    { hint: 'Write the images into the file (datasets.Image with embedded bytes), or zip them as image folders.' },
  );
}
