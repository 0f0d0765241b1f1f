import { OctetError } from '../../errors.js';
import type { DatasetConfig } from '../../recipe.js';
import type { ArchiveEntry, OpenArchive } from '../archive.js';

/** One class, or all images where there are no classes. */
export interface Folder {
  /** Absent when the images have no classes. */
  className: string | undefined;
  images: ArchiveEntry[];
}

/** Order of the bytes of UTF-8, which is the order of code points. */
export function byName(a: { name: string }, b: { name: string }): number {
  return compare(a.name, b.name);
}

function compare(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * Sort images of an archive into classes: the folder that holds an image is its class. Folders around all
 * classes are looked through; anything deeper or unclear is refused. What is taken for granted is added to `assumptions`.
 * @throws OctetError DATASET_AMBIGUOUS, DATASET_LABELS
 */
export function readFolders(archive: OpenArchive, images: ArchiveEntry[], config: DatasetConfig, assumptions: string[]): Folder[] {
  images.sort(byName);
  if (config.task === 'unlabelled') return [{ className: undefined, images }];

  const root = commonRoot(images);
  const depthOf = (entry: ArchiveEntry) => entry.name.split('/').length - root.length - 1;
  const loose = images.find((entry) => depthOf(entry) === 0);
  const deep = images.find((entry) => depthOf(entry) > 1);
  if (loose && images.every((entry) => depthOf(entry) === 0)) {
    if (root.length === 0) return [{ className: undefined, images }];
    throw new OctetError(
      'DATASET_AMBIGUOUS',
      `All images lie in the one folder "${root.join('/')}".`,
      { file: root.join('/') },
      {
        hint: 'Zip one folder for each class, or say {"task": "unlabelled"} in the config of the dataset.',
      },
    );
  }
  if (loose) throw new OctetError('DATASET_LABELS', `"${loose.name}" lies outside the class folders.`, { file: loose.name });
  if (deep) {
    throw new OctetError(
      'DATASET_AMBIGUOUS',
      `"${deep.name}" lies deeper than one folder for each class.`,
      { file: deep.name },
      {
        hint: 'Zip one folder for each class; send the folders "train" and "test" as two datasets.',
      },
    );
  }
  const classes = new Map<string, ArchiveEntry[]>();
  for (const image of images) {
    const name = image.name.split('/')[root.length] as string;
    const folder = classes.get(name);
    if (folder) folder.push(image);
    else classes.set(name, [image]);
  }
  refuseEmptyFolders(archive, root, classes);
  const names = orderClasses([...classes.keys()], assumptions);
  return names.map((className) => ({ className, images: classes.get(className) as ArchiveEntry[] }));
}

/** Leading folders that all images share. */
function commonRoot(images: readonly ArchiveEntry[]): string[] {
  const root = (images[0] as ArchiveEntry).name.split('/').slice(0, -1);
  for (const image of images) {
    const parts = image.name.split('/').slice(0, -1);
    let same = 0;
    while (same < root.length && root[same] === parts[same]) same++;
    root.length = same;
  }
  return root;
}

function refuseEmptyFolders(archive: OpenArchive, root: readonly string[], classes: ReadonlyMap<string, unknown>): void {
  const prefix = root.map((part) => `${part}/`).join('');
  const folders = [...archive.directories, ...archive.entries.map((entry) => entry.name.split('/').slice(0, -1).join('/'))];
  for (const folder of folders) {
    if (!folder.startsWith(prefix)) continue;
    const name = folder.slice(prefix.length).split('/')[0];
    if (name && !classes.has(name)) {
      throw new OctetError(
        'DATASET_LABELS',
        `The class folder "${name}" holds no images.`,
        { file: folder },
        { hint: 'Put images into the folder, or take it out of the archive.' },
      );
    }
  }
}

/** By name; numbers by value. */
function orderClasses(names: string[], assumptions: string[]): string[] {
  names.sort(compare);
  if (!names.every((name) => /^\d{1,9}$/.test(name))) return names;
  const numeric = [...names].sort((a, b) => Number(a) - Number(b));
  if (numeric.some((name, i) => name !== names[i]))
    assumptions.push('The class folders are numbers and are taken in numeric order (torchvision would sort them as text).');
  if (numeric.some((name, i) => Number(name) !== i))
    assumptions.push(`The class folders are numbers, but not 0 to ${names.length - 1}: the first of them, "${numeric[0]}", is class 0.`);
  return numeric;
}
