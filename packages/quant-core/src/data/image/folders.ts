import { OctetError } from '../../errors.js';
import type { DatasetConfig } from '../../recipe.js';
import type { ArchiveEntry, OpenArchive } from '../archive.js';
import { byName, type ClassOrder, orderClasses } from '../class-names.js';

/** One class, or all images where there are no classes. */
export interface Folder {
  /** Absent when the images have no classes. */
  className: string | undefined;
  images: ArchiveEntry[];
}

/**
 * Sort images of an archive into classes: the folder that holds an image is its class. Folders around all
 * classes are looked through; anything deeper or unclear is refused. What is taken for granted is added to `assumptions`.
 * @throws OctetError DATASET_AMBIGUOUS, DATASET_LABELS, DATASET_CLASSES
 */
export function readFolders(
  archive: OpenArchive,
  images: ArchiveEntry[],
  config: DatasetConfig,
  file: string,
  assumptions: string[],
  order?: ClassOrder,
): Folder[] {
  images.sort((a, b) => byName(a.name, b.name));
  if (config.task === 'unlabelled') return [{ className: undefined, images }];

  const root = archive.root?.split('/').slice(0, -1) ?? commonRoot(images);
  // Data to evaluate with may hold a single class of those that are known.
  if (root.length > 0 && order?.names.includes(root.at(-1) as string)) root.pop();
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
        hint: 'Zip one folder for each class, or such folders in two that are called "train" and "test".',
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
  const empty = emptyFolders(archive, root, classes);
  if (empty.length > 0)
    assumptions.push(
      `The class folder "${empty[0]}" holds no images${empty.length > 1 ? `, and ${empty.length - 1} others` : ''}: a class without samples.`,
    );
  const names = orderClasses([...classes.keys(), ...empty], order, assumptions, file, (found) => sortFolders(found, assumptions));
  return names.map((className) => ({ className, images: classes.get(className) ?? [] }));
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

/**
 * Names of class folders that hold nothing at all: classes without samples.
 * @throws OctetError DATASET_LABELS for a folder with files that are not images
 */
function emptyFolders(archive: OpenArchive, root: readonly string[], classes: ReadonlyMap<string, unknown>): string[] {
  const prefix = root.map((part) => `${part}/`).join('');
  const nameOf = (folder: string) => (folder.startsWith(prefix) ? folder.slice(prefix.length).split('/')[0] : undefined);
  for (const { name: file } of archive.entries) {
    const folder = file.split('/').slice(0, -1).join('/');
    const name = nameOf(folder);
    if (!name || classes.has(name)) continue;
    throw new OctetError(
      'DATASET_LABELS',
      `The class folder "${name}" holds files, but no images.`,
      { file: folder },
      { hint: 'Put images into the folder, or take it out of the archive.' },
    );
  }
  const names = archive.directories.map(nameOf).filter((name) => name !== undefined && name !== '' && !classes.has(name));
  return [...new Set(names as string[])];
}

/** By name; numbers by value. */
function sortFolders(names: string[], assumptions: string[]): string[] {
  names.sort(byName);
  if (!names.every((name) => /^\d{1,9}$/.test(name))) return names;
  const numeric = [...names].sort((a, b) => Number(a) - Number(b));
  if (numeric.some((name, i) => name !== names[i]))
    assumptions.push('The class folders are numbers and are taken in numeric order (torchvision would sort them as text).');
  if (numeric.some((name, i) => Number(name) !== i))
    assumptions.push(`The class folders are numbers, but not 0 to ${names.length - 1}: the first of them, "${numeric[0]}", is class 0.`);
  return numeric;
}
