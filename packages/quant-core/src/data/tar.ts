import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { extract, type Header } from 'tar-stream';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';
import { type ArchiveEntry, isLitter, type PartedArchive } from './archive.js';
import { type ByteSource, fileBytes, gunzipped, unpackedLimit } from './stream.js';

/**
 * A tar, plain or gzipped, that was read through once: its members lie one after the other in a file of their own, and are read from there by
 * position. Paths are relative and without `..`, no name stands twice, links and devices are refused, and the limits on entries and bytes hold.
 */
export class TarArchive implements PartedArchive {
  readonly kind = 'tar';

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    readonly entries: readonly ArchiveEntry[],
    readonly directories: readonly string[],
    /** The folder that is taken for the root, with a slash at the end; `undefined` where it has to be found. */
    readonly root?: string,
  ) {}

  /**
   * @param directory where the file with the members is made; it goes away with close()
   * @throws OctetError DATASET_ARCHIVE, DATASET_TOO_LARGE, DATASET_UNREADABLE
   */
  static async open(
    source: { path: string; name: string; bytes: number; gzip: boolean },
    directory: string,
    limits: Limits,
  ): Promise<TarArchive> {
    const { path, name, bytes, gzip } = source;
    const most = gzip ? unpackedLimit(bytes, limits) : limits.archiveBytes;
    const target = join(directory, `tar-${randomUUID()}`);
    const file = await open(target, 'wx+');
    try {
      const listing = new Listing(limits);
      await unpack(gzip ? gunzipped(fileBytes(path), most, name) : fileBytes(path), file, listing, most);
      return new TarArchive(target, file, listing.entries, listing.directories);
    } catch (error) {
      await file.close();
      await rm(target, { force: true });
      if (error instanceof OctetError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new OctetError('DATASET_ARCHIVE', `The tar "${name}" cannot be read: ${reason}.`, { file: name }, { cause: error });
    }
  }

  /** Some of the entries as an archive of their own. It shares the file: closing one closes both. */
  within(entries: readonly ArchiveEntry[], directories: readonly string[], root?: string): TarArchive {
    return new TarArchive(this.path, this.file, entries, directories, root);
  }

  /** The contents of an entry as a stream. */
  async *stream({ offset, size }: ArchiveEntry): AsyncGenerator<Buffer> {
    yield* fileBytes(this.path, offset, offset + size);
  }

  /** The whole of a small entry. Entries beyond `most` bytes are refused. */
  async read({ name, offset, size }: ArchiveEntry, most: number): Promise<Buffer> {
    if (size > most) throw new OctetError('DATASET_TOO_LARGE', `"${name}" is larger than ${most} bytes.`, { file: name });
    const data = Buffer.alloc(size);
    const { bytesRead } = await this.file.read(data, 0, size, offset);
    if (bytesRead < size) throw new OctetError('INTERNAL', `The scratch file "${this.path}" has been cut off.`);
    return data;
  }

  async close(): Promise<void> {
    await this.file.close();
    await rm(this.path, { force: true });
  }
}

/** What a tar holds, checked member by member. */
class Listing {
  readonly entries: ArchiveEntry[] = [];
  readonly directories: string[] = [];
  private readonly names = new Set<string>();

  constructor(private readonly limits: Limits) {}

  /** Note a member whose contents will lie at `offset`; gives whether the contents are wanted. */
  add({ name: written, type, size }: Header, offset: number): boolean {
    const name = written.replace(/^(\.\/)+/, '');
    if (name === '' || name === '.') return false;
    if (name.startsWith('/') || name.includes('\\') || name.split('/').includes('..'))
      throw new OctetError('DATASET_ARCHIVE', `The archive holds the path "${name}"; only relative paths without ".." are read.`, {
        file: name,
      });
    if (this.names.has(name)) throw new OctetError('DATASET_ARCHIVE', `The archive holds "${name}" twice.`, { file: name });
    if (this.names.size >= this.limits.archiveEntries)
      throw new OctetError('DATASET_TOO_LARGE', `The archive holds more than ${this.limits.archiveEntries} entries.`);
    this.names.add(name);
    if (isLitter(name)) return false;
    if (type === 'directory') {
      this.directories.push(name.replace(/\/$/, ''));
      return false;
    }
    if (type !== 'file' && type !== 'contiguous-file')
      throw new OctetError(
        'DATASET_ARCHIVE',
        `"${name}" is a ${type}, not a file.`,
        { file: name },
        { hint: 'Pack with tar --dereference.' },
      );
    this.entries.push({ name, offset, packed: size, size, method: 0, crc: 0 });
    return true;
  }
}

/** Write the contents of all members to `file`, one after the other. */
async function unpack(source: ByteSource, file: FileHandle, listing: Listing, most: number): Promise<void> {
  const members = extract();
  const feed = pipeline(source, members);
  feed.catch(() => undefined);
  let written = 0;
  try {
    for await (const member of members) {
      const wanted = listing.add(member.header, written);
      for await (const chunk of member as AsyncIterable<Buffer>) {
        if (!wanted) continue;
        written += chunk.length;
        if (written > most) throw new OctetError('DATASET_ARCHIVE', `The archive unpacks to more than ${most} bytes.`);
        await file.appendFile(chunk);
      }
    }
    await feed;
  } catch (error) {
    if (error instanceof OctetError) throw error;
    members.destroy();
    throw await feed.then(
      () => error,
      (cause: unknown) => (cause instanceof OctetError ? cause : error),
    );
  } finally {
    members.destroy();
  }
}
