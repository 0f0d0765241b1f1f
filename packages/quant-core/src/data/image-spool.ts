import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { OctetError } from '../errors.js';
import type { ArchiveEntry, OpenArchive } from './archive.js';
import type { Upload } from './materialise.js';
import { type ByteSource, fileBytes } from './stream.js';

/** File names of images by their first bytes: what is not an image is refused by its decoder. */
const endings: readonly (readonly [string, string])[] = [
  ['\xff\xd8', 'jpg'],
  ['\x89PNG', 'png'],
  ['GIF8', 'gif'],
  ['RIFF', 'webp'],
  ['BM', 'bmp'],
  ['II', 'tif'],
  ['MM', 'tif'],
];

/**
 * Images that come one by one, laid out in a file so that they can be read in any order: an archive without folders, whose entries stand in the
 * order in which they came.
 */
export class ImageSpool implements OpenArchive {
  readonly kind = 'zip';
  readonly entries: ArchiveEntry[] = [];
  readonly directories: readonly string[] = [];
  readonly root = '';
  private bytes = 0;

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly upload: Upload,
  ) {}

  static async create(upload: Upload): Promise<ImageSpool> {
    const path = join(upload.directory, 'images.bin');
    return new ImageSpool(path, await open(path, 'w+'), upload);
  }

  /** @throws OctetError DATASET_UNREADABLE for bytes that are no image, DATASET_TOO_LARGE */
  async add(image: Uint8Array): Promise<void> {
    const { limits, name } = this.upload;
    const sample = this.entries.length;
    const head = Buffer.from(image.buffer, image.byteOffset, Math.min(4, image.length)).toString('latin1');
    const ending = endings.find(([start]) => head.startsWith(start))?.[1];
    if (ending === undefined)
      throw new OctetError(
        'DATASET_UNREADABLE',
        `Sample ${sample} of "${name}" is not an image: it starts with ${Buffer.from(head, 'latin1').toString('hex') || 'nothing'}.`,
        {
          sample,
          file: name,
        },
      );
    if (this.bytes + image.length > limits.archiveBytes)
      throw new OctetError('DATASET_TOO_LARGE', `The images of "${name}" take more than ${limits.archiveBytes} bytes.`, { file: name });
    for (let at = 0; at < image.length; ) at += (await this.file.write(image, at, image.length - at, this.bytes + at)).bytesWritten;
    this.entries.push({
      name: `sample ${String(sample).padStart(9, '0')}.${ending}`,
      offset: this.bytes,
      packed: image.length,
      size: image.length,
      method: 0,
      crc: 0,
    });
    this.bytes += image.length;
  }

  stream(entry: ArchiveEntry): AsyncGenerator<Buffer> {
    return chunksOf(fileBytes(this.path, entry.offset, entry.offset + entry.size));
  }

  async read(entry: ArchiveEntry, most: number): Promise<Buffer> {
    if (entry.size > most) throw new OctetError('DATASET_TOO_LARGE', `"${entry.name}" is larger than ${most} bytes.`, { file: entry.name });
    const data = Buffer.alloc(entry.size);
    await this.file.read(data, 0, entry.size, entry.offset);
    return data;
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

async function* chunksOf(source: ByteSource): AsyncGenerator<Buffer> {
  yield* source;
}
