import { stat } from 'node:fs/promises';
import { OctetError } from '../errors.js';
import { sizeOf } from '../tensor/tensor.js';
import type { ArchiveEntry, OpenArchive } from './archive.js';
import { TextLabels } from './class-names.js';
import {
  checkSamples,
  checkUnlabelled,
  collectTargets,
  type FurtherArray,
  type Materialised,
  stateOf,
  type Upload,
  writeSamples,
} from './materialise.js';
import { type NpyHeader, npyBlocks, npyBytes, npyTexts, numericType, readNpyHeader } from './npy.js';
import { chooseArrays, roleOf } from './npz-names.js';
import { commonFolder } from './parts.js';
import { ByteReader, type ByteSource, fileBytes, fileHead, gunzipped, isGzip, unpackedLimit } from './stream.js';
import type { Targets } from './targets.js';

interface Member {
  name: string;
  header: NpyHeader;
  source: () => ByteSource;
}

/** A .npy file: samples without labels. */
export async function materialiseNpy(upload: Upload): Promise<Materialised> {
  const { size } = await stat(upload.path);
  const packed = isGzip(await fileHead(upload.path, 3));
  const source = (): ByteSource =>
    packed ? gunzipped(fileBytes(upload.path), unpackedLimit(size, upload.limits), upload.name) : fileBytes(upload.path);
  checkUnlabelled(upload, 'only one array');
  const header = await headerOf(source(), upload.name);
  if (!packed) checkLength(header, size, upload.name);
  return writeX(upload, { name: upload.name, header, source }, 'npy', undefined);
}

/** An .npz archive: arrays by name, or by order where there are two. */
export async function materialiseNpz(upload: Upload): Promise<Materialised> {
  const archive = upload.archive as OpenArchive;
  const members = new Map<string, Member>();
  const entries = archive.entries.filter((e) => e.name.endsWith('.npy'));
  const folder = commonFolder(entries);
  for (const entry of entries) {
    const name = entry.name.slice(folder.length, -'.npy'.length);
    members.set(name, await memberOf(archive, entry, name));
  }
  const inputs = upload.fit ? [upload.fit.name ?? '', ...upload.others.map((input) => input.name)] : [];
  const meant = new Set([upload.config.x, upload.config.y, ...inputs]);
  const arrays = [...members.values()].filter((member) => member.header.shape.length > 0);
  const candidates = arrays.filter(({ name, header }) => header.type || meant.has(name) || meant.has(`${name}.npy`) || roleOf(name));
  const aside = arrays.filter((member) => !candidates.includes(member));
  const { x, y, others } = chooseArrays(
    candidates.map((m) => ({ name: m.name, count: m.header.shape[0] as number })),
    [...members.keys()],
    upload.config,
    upload.name,
    inputs,
  );
  const samples = members.get(x) as Member;
  const further = others.map((name) => members.get(name) as Member);
  const whole = await writeX(upload, samples, 'npz', y === undefined ? undefined : members.get(y));
  if (aside.length > 0) {
    const names = aside.map(({ name, header }) => `"${name}" (${header.descr.replaceAll("'", '')})`).join(', ');
    whole.assumptions.push(`Arrays that hold something other than numbers are left out: ${names}.`);
  }
  if (!further.length) return whole;
  const inputArrays: FurtherArray[] = [];
  for (const [index, member] of further.entries()) inputArrays.push(await writeFurther(upload, member, whole.samples, index));
  return { ...whole, several: { name: x, others: inputArrays } };
}

/** An array of samples beside the first, which has `count` of them. */
async function writeFurther(upload: Upload, member: Member, count: number, index: number): Promise<FurtherArray> {
  const { name } = member;
  const { dtype } = numericType(member.header, name);
  const [own, sampleShape] = samplesOf(upload, member);
  if (own !== count) throw new OctetError('DATASET_SHAPE', `"${name}" has ${own} rows, the arrays beside it ${count}.`, { file: name });
  const x = await withBlocks(member, upload, (blocks) => writeSamples(upload, blocks, dtype, count, sampleShape, `input-${index}.bin`));
  return { name, dtype, sampleShape, x };
}

/** How many samples an array holds, and the shape of one. */
function samplesOf(upload: Upload, { name, header }: Member): [number, number[]] {
  const [count, ...shape] = header.shape;
  if (count === undefined) throw new OctetError('DATASET_SHAPE', `"${name}" is a single number, not an array of samples.`, { file: name });
  return [count, checkSamples(count, shape, upload.limits, name)];
}

async function writeX(upload: Upload, x: Member, format: 'npy' | 'npz', y: Member | undefined): Promise<Materialised> {
  const type = numericType(x.header, x.name);
  const [count, sampleShape] = samplesOf(upload, x);
  const assumptions: string[] = [];
  const targets = y && (await (y.header.text ? collectTexts(upload, y, count, assumptions) : collectNumbers(upload, y, count)));
  const file = await withBlocks(x, upload, (blocks) => writeSamples(upload, blocks, type.dtype, count, sampleShape));
  return { format, dtype: type.dtype, sampleShape, ...stateOf(file), targets, assumptions };
}

function collectNumbers(upload: Upload, y: Member, count: number): Promise<Targets> {
  const { dtype } = numericType(y.header, y.name);
  const [rows = 0, ...shape] = y.header.shape;
  return withBlocks(y, upload, (blocks) => collectTargets(upload, blocks, { name: y.name, dtype, count: rows, shape }, count));
}

/** Labels that are texts: names of classes. */
async function collectTexts(upload: Upload, { name, header, source }: Member, count: number, assumptions: string[]): Promise<Targets> {
  const { shape, text } = header;
  if (upload.config.task === 'regression' || sizeOf(shape) !== shape[0])
    throw new OctetError(
      'DATASET_LABELS',
      `The array "${name}" of shape [${shape}] holds texts; it cannot be more than one class name a sample.`,
      {
        file: name,
      },
    );
  if (shape[0] !== count)
    throw new OctetError('DATASET_LABELS', `There are ${count} samples but ${shape[0]} targets in "${name}".`, { file: name });
  const labels = new TextLabels(upload.name);
  const reader = new ByteReader(source(), name);
  try {
    let sample = 0;
    for await (const label of npyTexts(reader, await readNpyHeader(reader, name), text as NonNullable<typeof text>, name)) {
      if (label === '') throw new OctetError('DATASET_LABELS', `Sample ${sample} has no label in "${name}".`, { sample, file: name });
      labels.add(label);
      sample++;
    }
  } finally {
    await reader.close();
  }
  assumptions.push(`The texts in "${name}" are taken for names of classes.`);
  return labels.finish(upload.classes, assumptions);
}

async function withBlocks<T>(member: Member, upload: Upload, use: (blocks: ReturnType<typeof npyBlocks>) => Promise<T>): Promise<T> {
  const reader = new ByteReader(member.source(), member.name);
  try {
    const header = await readNpyHeader(reader, member.name);
    return await use(npyBlocks(reader, header, member.name, upload.directory));
  } finally {
    await reader.close();
  }
}

async function memberOf(archive: OpenArchive, entry: ArchiveEntry, name: string): Promise<Member> {
  const source = () => archive.stream(entry);
  const header = await headerOf(source(), entry.name);
  checkLength(header, entry.size, entry.name);
  return { name, header, source };
}

async function headerOf(source: ByteSource, file: string): Promise<NpyHeader> {
  const reader = new ByteReader(source, file);
  try {
    return await readNpyHeader(reader, file);
  } finally {
    await reader.close();
  }
}

/** The header must state exactly the bytes that are there, before any of them is read. */
function checkLength(header: NpyHeader, size: number, file: string): void {
  const stated = npyBytes(header);
  const held = size - header.length;
  if (stated !== undefined && stated !== held) {
    throw new OctetError(
      'DATASET_UNREADABLE',
      `"${file}" states shape (${header.shape}) of ${header.descr}, ${stated} bytes, but holds ${held}.`,
      { file },
    );
  }
}
