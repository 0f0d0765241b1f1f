import type { ArchiveEntry, OpenArchive } from '../archive.js';
import { headOf } from '../stream.js';
import { headBytes, kindOf } from './kinds.js';

const imageName = /\.(jpe?g|jpe|jfif|png|apng|webp|gif|tiff?|bmp|dib|p[bgpn]m)$/i;
/** Files that are not images, whatever they begin with. */
const otherName = /\.(txt|md|csv|tsv|jsonl?|cls|xml|ya?ml|html?|py|np[yz]|gz|pdf|log)$/i;

/** Whether a file is an image by its name. */
export function isImageName(name: string): boolean {
  return imageName.test(name);
}

/** Whether a file is an image by its name or, where that leaves it open, by its first bytes. */
export async function isImage(archive: OpenArchive, entry: ArchiveEntry): Promise<boolean> {
  if (isImageName(entry.name)) return true;
  if (entry.size === 0 || otherName.test(entry.name)) return false;
  return kindOf(await headOf(archive.stream(entry), headBytes)) !== undefined;
}

/** The images of an archive, and the files that are none. */
export async function findImages(archive: OpenArchive): Promise<{ images: ArchiveEntry[]; others: ArchiveEntry[] }> {
  const images: ArchiveEntry[] = [];
  const others: ArchiveEntry[] = [];
  for (const entry of archive.entries) ((await isImage(archive, entry)) ? images : others).push(entry);
  return { images, others };
}

/** What the members of one sample of a WebDataset have in common: their path up to the first dot of the file name. */
export function sampleKey(name: string): string {
  const start = name.lastIndexOf('/') + 1;
  const dot = name.indexOf('.', start);
  return dot < 0 ? name : name.slice(0, dot);
}
