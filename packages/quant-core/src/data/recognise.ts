import { stat } from 'node:fs/promises';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';
import type { DatasetConfig } from '../recipe.js';
import type { ArchiveEntry, OpenArchive, PartedArchive } from './archive.js';
import { isIdx } from './idx.js';
import { isImage, isImageName } from './image/find.js';
import type { DatasetFormat } from './materialise.js';
import { isNpy } from './npy.js';
import { isTableName, type Part, type Parts, partsOf } from './parts.js';
import { fileBytes, fileHead, gunzipped, headOf, isGzip, unpackedLimit } from './stream.js';
import { encodingOfMark, looksLikeUtf16 } from './text-source.js';

/** Whether bytes start as a tar with a POSIX or GNU header. */
function isTar(head: Buffer): boolean {
  return head.toString('latin1', 257, 262) === 'ustar';
}

const headBytes = 64 * 1024;

export interface Recognised {
  format: DatasetFormat;
  /** Open archive where the upload is a zip or a tar, or the part of it that was asked for; the caller closes it. */
  archive: OpenArchive | undefined;
  /** Set where the archive holds data to train on beside data to evaluate with. */
  parts: Parts | undefined;
}

/** An archive whose dataset is a single file in it, which has to be taken out to be recognised. */
interface Nested extends Omit<Recognised, 'format'> {
  archive: OpenArchive;
  inner: ArchiveEntry;
}

/**
 * Tell the format from the contents of a file; the name says nothing. A tar is unpacked below `directory`, until it is closed.
 * @throws OctetError DATASET_UNREADABLE, DATASET_ARCHIVE, DATASET_CONFIG when the config says another format
 */
export async function recognise(
  path: string,
  name: string,
  config: DatasetConfig,
  limits: Limits,
  directory: string,
  part: Part = 'training',
): Promise<Recognised | Nested> {
  const raw = await fileHead(path, headBytes);
  if (raw.length === 0) throw new OctetError('DATASET_EMPTY', `"${name}" is empty.`, { file: name });
  if (raw.toString('latin1', 0, 2) === 'PK' && (raw[2] === 3 || raw[2] === 5))
    return fromArchive(await (await import('./archive.js')).Archive.open(path, limits), name, config, part);
  const head = isGzip(raw) ? await headOf(gunzipped(fileBytes(path), unpackedLimit(raw.length, limits), name), headBytes) : raw;
  if (isTar(head)) {
    const source = { path, name, bytes: (await stat(path)).size, gzip: isGzip(raw) };
    return fromArchive(await (await import('./tar.js')).TarArchive.open(source, directory, limits), name, config, part);
  }
  return { format: settle(formatOf(head, name, config), config, name), archive: undefined, parts: undefined };
}

async function fromArchive(archive: PartedArchive, name: string, config: DatasetConfig, part: Part): Promise<Recognised | Nested> {
  try {
    const parts = partsOf(archive, config);
    const seen = parts?.[part].archive ?? archive;
    const inner = innerFile(seen);
    return inner ? { archive: seen, parts, inner } : { format: settle(await formatsOf(seen), config, name), archive: seen, parts };
  } catch (error) {
    await archive.close();
    throw error;
  }
}

function formatOf(head: Buffer, name: string, config: DatasetConfig): DatasetFormat[] {
  if (isNpy(head)) return ['npy'];
  if (isIdx(head)) return ['idx'];
  if (head.toString('latin1', 0, 4) === 'PAR1') return ['parquet'];
  if (isText(head) && /^[\uFEFF\s]*\{/.test(head.toString('utf8', 0, 256))) return ['jsonl'];
  if (encodingOfMark(head) || config.encoding?.startsWith('utf-16') || isText(head)) return ['csv'];
  if (looksLikeUtf16(head)) {
    throw new OctetError(
      'DATASET_UNREADABLE',
      `"${name}" looks like UTF-16 without a byte order mark: every other byte is 0.`,
      { file: name },
      { hint: 'Save the file as UTF-8, or say {"encoding": "utf-16le"} in the config of the dataset.' },
    );
  }
  throw new OctetError('DATASET_UNREADABLE', `"${name}" is not a format that is known (it starts with ${head.toString('hex', 0, 8)}).`, {
    file: name,
  });
}

/** Text with at least one line break or delimiter and no control characters. */
function isText(head: Buffer): boolean {
  for (const byte of head) if (byte < 32 && byte !== 9 && byte !== 10 && byte !== 13) return false;
  return head.includes(10) || head.includes(13) || head.includes(',');
}

/** The formats an archive could be read as. */
async function formatsOf(archive: OpenArchive): Promise<DatasetFormat[]> {
  if (archive.entries.length === 0) throw new OctetError('DATASET_EMPTY', 'The archive holds no files.');
  const formats: DatasetFormat[] = [];
  if (archive.entries.some((entry) => entry.name.endsWith('.npy'))) formats.push('npz');
  if (archive.entries.some((entry) => isImageName(entry.name))) formats.push('images');
  if (formats.length > 0) return formats;
  for (const entry of archive.entries.slice(0, 64)) {
    if (await isImage(archive, entry)) return ['images'];
    const head = await headOf(archive.stream(entry), 4);
    if (isIdx(head) || isGzip(head)) return ['idx'];
  }
  return formats;
}

/** The one table or .npz of an archive that holds no other data. */
function innerFile(archive: OpenArchive): ArchiveEntry | undefined {
  const files = archive.entries.filter((entry) => isTableName(entry.name));
  const others = archive.entries.filter((entry) => isImageName(entry.name) || entry.name.endsWith('.npy'));
  return files.length === 1 && others.length === 0 ? files[0] : undefined;
}

function settle(formats: readonly DatasetFormat[], config: DatasetConfig, name: string): DatasetFormat {
  const [only, other] = formats;
  if (!only) {
    throw new OctetError(
      'DATASET_UNREADABLE',
      `The archive "${name}" holds neither .npy arrays, nor IDX files, nor images.`,
      { file: name },
      {
        hint: 'Zip one table (CSV, JSONL, Parquet), image folders, or a pair of IDX files; .npz is such an archive already. Parts are called train and test.',
      },
    );
  }
  if (config.format) {
    if (formats.includes(config.format)) return config.format;
    throw new OctetError('DATASET_CONFIG', `The config says "${config.format}", but "${name}" is ${formats.join(' or ')}.`, {
      file: name,
      pointer: '/format',
    });
  }
  if (other) {
    throw new OctetError(
      'DATASET_AMBIGUOUS',
      `The archive "${name}" can be read as ${formats.join(' or as ')}.`,
      { file: name },
      { hint: `Say {"format": "${only}"} or {"format": "${other}"} in the config of the dataset.` },
    );
  }
  return only;
}
