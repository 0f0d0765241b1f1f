import type { DatasetConfig } from '../recipe.js';
import type { ArchiveEntry, OpenArchive, PartedArchive } from './archive.js';
import { sampleKey } from './image/find.js';
import { roleOf, splitOf } from './npz-names.js';

/** What a part of a dataset is for. */
export type Part = 'training' | 'evaluation';

/** An archive that holds data to train on beside data to evaluate with. */
export interface Parts {
  training: PartOf;
  evaluation: PartOf;
  /** Names of files and folders that belong to neither. */
  aside: string[];
}

interface PartOf {
  /** What it is called in the archive: a folder, or its first file. */
  name: string;
  archive: OpenArchive;
}

/** An entry, and the split that its folder or its name says. */
interface Sorted {
  entry: ArchiveEntry;
  split: string | undefined;
}

const leaflets = /(^|\/)(readme|licen[cs]e|changelog)[^/]*$|\.(md|txt|rst|ya?ml|json|pdf|html?)$/i;

/**
 * The parts of an archive that holds several: folders `train/` and `test/` (or `val/`) around everything, or files (arrays of an .npz, pairs of
 * IDX files, tables) that are called so: `x_train` and `x_test`, `train-images` and `t10k-images`, `train.csv` and `test.csv`. With
 * `val` and `test` the latter is the evaluation data. `undefined` where the archive is one dataset, or the config names its arrays or files.
 */
export function partsOf(archive: PartedArchive, { x, y }: DatasetConfig): Parts | undefined {
  const data = archive.entries.filter((entry) => !leaflets.test(entry.name));
  const named = (x ?? y) !== undefined && !data.every((entry) => isTableName(entry.name));
  return named ? undefined : (byFolder(archive, data) ?? byFile(archive, data));
}

/** Whether an entry is a file that is a dataset by itself, by its name. */
export function isTableName(name: string): boolean {
  return /\.(csv|tsv|npz|jsonl|ndjson|parquet)(\.gz)?$/i.test(name);
}

function byFolder(archive: PartedArchive, data: readonly ArchiveEntry[]): Parts | undefined {
  const root = commonFolder(data);
  const folderOf = (name: string) => (name.startsWith(root) ? name.slice(root.length).split('/').slice(0, -1)[0] : undefined);
  const sorted = data.map((entry) => ({ entry, folder: folderOf(entry.name) }));
  if (sorted.some(({ folder }) => folder === undefined || splitOf(folder, true) === undefined)) return undefined;
  return partsFrom(
    sorted.map(({ entry, folder }) => ({ entry, split: splitOf(folder as string, true) })),
    (entry) => root + folderOf(entry.name),
    (entries) => {
      const folder = `${root}${folderOf((entries[0] as ArchiveEntry).name)}/`;
      const directories = archive.directories.filter((directory) => directory.startsWith(folder));
      return archive.within([...entries, ...labelsBeside(archive, entries)], directories, folder);
    },
  );
}

/** Texts and JSON that stand beside a file of data with its name: labels of a WebDataset. */
function labelsBeside(archive: OpenArchive, entries: readonly ArchiveEntry[]): ArchiveEntry[] {
  const keys = new Set(entries.map(({ name }) => sampleKey(name)));
  return archive.entries.filter(({ name }) => /\.(json|txt)$/i.test(name) && keys.has(sampleKey(name)));
}

function byFile(archive: PartedArchive, data: readonly ArchiveEntry[]): Parts | undefined {
  const baseOf = (name: string) => name.slice(name.lastIndexOf('/') + 1);
  const view = (entries: ArchiveEntry[]) => archive.within(entries, []);
  const arrays = data.filter((entry) => entry.name.endsWith('.npy'));
  if (arrays.length > 0) {
    const roles = arrays.map((entry) => roleOf(baseOf(entry.name).slice(0, -'.npy'.length)));
    if (roles.some((role) => role?.role === 'x' && role.split === '')) return undefined;
    const sorted = arrays.map((entry, i) => ({ entry, split: roles[i]?.split || undefined }));
    const hasParts =
      partsFrom(
        sorted.filter((_, i) => roles[i]?.role === 'x'),
        nameOf,
        view,
      ) !== undefined;
    return hasParts ? partsFrom(sorted, nameOf, view) : undefined;
  }
  if (!data.every((entry) => isTableName(entry.name) || /idx|ubyte/i.test(baseOf(entry.name)))) return undefined;
  const sorted = data.map((entry) => ({ entry, split: splitOf(baseOf(entry.name), false) }));
  return partsFrom(sorted, nameOf, view);
}

const nameOf = (entry: ArchiveEntry) => entry.name.replace(/\.npy$/, '');

function partsFrom(
  sorted: readonly Sorted[],
  name: (entry: ArchiveEntry) => string,
  view: (entries: ArchiveEntry[]) => OpenArchive,
): Parts | undefined {
  const entriesOf = (split: string) => sorted.filter((one) => one.split === split).map(({ entry }) => entry);
  const part = (entries: ArchiveEntry[]): PartOf => ({ name: name(entries[0] as ArchiveEntry), archive: view(entries) });
  const train = entriesOf('train');
  const evaluated = ['test', 'val'].find((split) => entriesOf(split).length > 0);
  if (train.length === 0 || evaluated === undefined) return undefined;
  const aside = sorted.filter(({ split }) => split !== 'train' && split !== evaluated).map(({ entry }) => name(entry));
  return { training: part(train), evaluation: part(entriesOf(evaluated)), aside: [...new Set(aside)] };
}

/** Folders that all entries lie in, with a slash at the end; '' where there are none. */
export function commonFolder(entries: readonly ArchiveEntry[]): string {
  const [first, ...others] = entries.map(({ name }) => name.split('/').slice(0, -1));
  let depth = 0;
  while (first?.[depth] !== undefined && others.every((folders) => folders[depth] === first[depth])) depth++;
  return (first ?? [])
    .slice(0, depth)
    .map((folder) => `${folder}/`)
    .join('');
}
