import { stat } from 'node:fs/promises';
import { OctetError } from '../errors.js';
import type { Archive, ArchiveEntry } from './archive.js';
import { checkSamples, checkUnlabelled, collectTargets, type Materialised, stateOf, type Upload, writeSamples } from './materialise.js';
import { type NpyHeader, npyBlocks, npyBytes, numericType, readNpyHeader } from './npy.js';
import { chooseArrays } from './npz-names.js';
import { ByteReader, type ByteSource, fileBytes, fileHead, gunzipped, isGzip, unpackedLimit } from './stream.js';

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
  const archive = upload.archive as Archive;
  const members = new Map<string, Member>();
  for (const entry of archive.entries.filter((e) => e.name.endsWith('.npy'))) {
    const name = entry.name.slice(0, -'.npy'.length);
    members.set(name, await memberOf(archive, entry, name));
  }
  const numeric = [...members.values()].filter((member) => member.header.type && member.header.shape.length > 0);
  const { x, y } = chooseArrays(
    numeric.map((m) => ({ name: m.name, count: m.header.shape[0] as number })),
    [...members.keys()],
    upload.config,
    upload.name,
  );
  const samples = members.get(x) as Member;
  return writeX(upload, samples, 'npz', y === undefined ? undefined : members.get(y));
}

async function writeX(upload: Upload, x: Member, format: 'npy' | 'npz', y: Member | undefined): Promise<Materialised> {
  const type = numericType(x.header, x.name);
  const [count, ...shape] = x.header.shape;
  if (count === undefined)
    throw new OctetError('DATASET_SHAPE', `"${x.name}" is a single number, not an array of samples.`, { file: x.name });
  const sampleShape = checkSamples(count, shape, upload.limits, x.name);
  const targets =
    y &&
    (await withBlocks(y, upload, (blocks) => {
      const [targetCount = 0, ...targetShape] = y.header.shape;
      return collectTargets(
        upload,
        blocks,
        { name: y.name, dtype: numericType(y.header, y.name).dtype, count: targetCount, shape: targetShape },
        count,
      );
    }));
  const file = await withBlocks(x, upload, (blocks) => writeSamples(upload, blocks, type.dtype, count, sampleShape));
  return { format, dtype: type.dtype, sampleShape, ...stateOf(file), targets, assumptions: [] };
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

async function memberOf(archive: Archive, entry: ArchiveEntry, name: string): Promise<Member> {
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
  if (!header.type) return;
  const stated = npyBytes(header, header.type);
  const held = size - header.length;
  if (stated !== held) {
    throw new OctetError(
      'DATASET_UNREADABLE',
      `"${file}" states shape (${header.shape}) of ${header.descr}, ${stated} bytes, but holds ${held}.`,
      { file },
    );
  }
}
