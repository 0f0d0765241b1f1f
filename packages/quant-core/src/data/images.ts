import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';
import type { ArchiveEntry, OpenArchive } from './archive.js';
import { byName } from './class-names.js';
import { decodeImage, mostImageBytes, surveyImage, type Target } from './image/decode.js';
import { findImages } from './image/find.js';
import { type Folder, readFolders } from './image/folders.js';
import type { ImageSize } from './image/resize.js';
import { labelMembers, readLabels } from './image/webdataset.js';
import {
  checkSamples,
  checkUnlabelled,
  type Inspected,
  type Materialised,
  type SampleSpec,
  stateOf,
  type Upload,
  writeSamples,
} from './materialise.js';
import { heed } from './stream.js';
import { classTargets, type Targets } from './targets.js';

/** What is wanted of the images: sizes not stated anywhere are left open. */
type Wish = Partial<Target>;

/**
 * A zip of image folders: one class a folder, in the order of their names; samples in the order of class, then name.
 * Stored as [height, width, channels] bytes. Images are decoded in parallel, at most `threads` × 2 at a time.
 */
export async function materialiseImages(upload: Upload): Promise<Materialised> {
  const listing = await list(upload);
  const { images, assumptions } = listing;
  const wish = wishOf(upload.config, upload.fit);
  const looked = isSettled(wish) ? undefined : await lookAt(upload, images);
  const target = isSettled(wish) ? wish : settle(wish, looked as Looked);
  const shape = checkSamples(images.length, [target.height, target.width, target.channels], upload.limits, upload.name);
  const cutOff: string[] = [];
  const x = await writeSamples(upload, decoded(upload, images, target, cutOff), 'uint8', images.length, shape);
  sayCutOff(cutOff, assumptions);
  return {
    format: 'images',
    dtype: 'uint8',
    sampleShape: shape,
    ...stateOf(x),
    targets: listing.targets,
    assumptions,
    ...(looked && { imageSizes: looked.sizes }),
  };
}

/** Decode every image in its own size, without keeping any. The sample shape is the size that is most common. */
export async function inspectImages(upload: Upload): Promise<Inspected> {
  const { images, targets, assumptions } = await list(upload);
  const looked = await lookAt(upload, images);
  sayCutOff(looked.cutOff, assumptions);
  const { smallest, largest } = looked.sizes;
  if (!sameSize(smallest, largest))
    assumptions.push(`Images of several sizes (${smallest.join('×')} to ${largest.join('×')}) are resized to the size of the model input.`);
  const wish = wishOf(upload.config, undefined);
  const { height, width } = { ...looked.common, ...wish };
  const sampleShape = [height, width, wish.channels ?? (looked.colour ? 3 : 1)];
  return {
    format: 'images',
    dtype: 'uint8',
    sampleShape,
    samples: images.length,
    range: looked.range,
    targets,
    assumptions,
    imageSizes: looked.sizes,
  };
}

interface Listing {
  images: ArchiveEntry[];
  targets: Targets | undefined;
  assumptions: string[];
}

async function list(upload: Upload): Promise<Listing> {
  const assumptions: string[] = [];
  const archive = upload.archive as OpenArchive;
  const { images: found, others } = await findImages(archive);
  if (found.length === 0) throw new OctetError('DATASET_EMPTY', `"${upload.name}" holds no images.`, { file: upload.name });
  const labels =
    upload.config.task === 'unlabelled' || archive.kind !== 'tar'
      ? undefined
      : labelMembers(
          found.sort((a, b) => byName(a.name, b.name)),
          others,
        );
  if (labels) {
    checkSamples(found.length, [1], upload.limits, upload.name);
    return { images: found, targets: await readLabels(upload, labels, assumptions), assumptions };
  }
  if (others.length > 0) assumptions.push(`${others.length} files that are not images are left out (the first: "${others[0]?.name}").`);
  const folders = readFolders(archive, found, upload.config, upload.name, assumptions, upload.classes);
  const images = folders.flatMap((folder) => folder.images);
  checkSamples(images.length, [1], upload.limits, upload.name);
  return { images, targets: targetsOf(folders, upload), assumptions };
}

function targetsOf(folders: readonly Folder[], upload: Upload): Targets | undefined {
  if (folders[0]?.className === undefined) {
    checkUnlabelled(upload, 'no class folder');
    return undefined;
  }
  const labels = Int32Array.from(folders.flatMap((folder, label) => folder.images.map(() => label)));
  return classTargets(
    labels,
    folders.length,
    folders.map((folder) => folder.className as string),
  );
}

/**
 * Size and channels as the config says, or as the model input has them; what neither states is left open.
 * @throws OctetError DATASET_SHAPE when they contradict each other
 */
export function wishOf(config: DatasetConfig, fit: SampleSpec | undefined): Wish {
  const [height, width] = config.size ?? [];
  const said: Wish = { ...(height && width && { height, width }), ...(config.channels && { channels: config.channels }) };
  const wanted = fit ? imageInput(fit, said) : {};
  for (const key of ['height', 'width', 'channels'] as const) {
    if (said[key] !== undefined && wanted[key] !== undefined && said[key] !== wanted[key]) {
      throw new OctetError(
        'DATASET_SHAPE',
        `The config asks for images with ${key} ${said[key]}, the model input [${fit?.shape.map((d) => d ?? '?')}] wants ${wanted[key]}.`,
        {
          pointer: key === 'channels' ? '/channels' : '/size',
        },
      );
    }
  }
  return { ...wanted, ...said };
}

/** Read height, width and channels off a model input of images; open sizes stay open. */
function imageInput(spec: SampleSpec, said: Wish): Wish {
  const { shape } = spec;
  const pick = (channels: number | undefined, height: number | undefined, width: number | undefined): Wish => ({
    ...((channels === 1 || channels === 3) && { channels }),
    ...(height !== undefined && width !== undefined && { height, width }),
  });
  const couldBeChannels = (dim: number | undefined) => dim === 1 || dim === 3;
  if (shape.length === 3) {
    const [a, b, c] = shape;
    if (couldBeChannels(a)) return pick(a, b, c);
    if (couldBeChannels(c)) return pick(c, a, b);
    if (a === undefined) return pick(undefined, b, c);
    if (c === undefined) return pick(undefined, a, b);
  }
  if (shape.length === 2) return pick(1, shape[0], shape[1]);
  if (shape.length === 1) {
    const [size] = shape;
    if (size === undefined || (said.height !== undefined && said.channels !== undefined)) return {};
    for (const channels of said.channels ? [said.channels] : [1, 3]) {
      const side = Math.sqrt(size / channels);
      if (Number.isInteger(side)) return pick(channels, side, side);
    }
    return {};
  }
  throw new OctetError('DATASET_SHAPE', `Images cannot be brought to the model input [${shape.map((dim) => dim ?? '?')}].`);
}

interface Looked {
  sizes: { smallest: [number, number]; largest: [number, number] };
  common: ImageSize;
  colour: boolean;
  range: { min: number; max: number };
  /** Names of the images that were grey of 16 bits. */
  cutOff: string[];
}

/** Decode all images in their own sizes, for what they have in common. */
async function lookAt(upload: Upload, images: readonly ArchiveEntry[]): Promise<Looked> {
  const archive = upload.archive as OpenArchive;
  const counts = new Map<string, { size: ImageSize; count: number }>();
  const range = { min: 255, max: 0 };
  const cutOff: string[] = [];
  let colour = false;
  let done = 0;
  for await (const image of inOrder(images, upload, async (entry) => surveyImage(await archive.read(entry, mostImageBytes), entry.name))) {
    if (image.cutOff) cutOff.push(images[done]?.name as string);
    const key = `${image.height}x${image.width}`;
    const seen = counts.get(key);
    if (seen) seen.count++;
    else counts.set(key, { size: { height: image.height, width: image.width }, count: 1 });
    colour ||= image.colour;
    range.min = Math.min(range.min, image.min);
    range.max = Math.max(range.max, image.max);
    upload.onProgress?.(++done, images.length);
  }
  const all = [...counts.values()].sort((a, b) => a.size.height * a.size.width - b.size.height * b.size.width);
  const pair = ({ size }: { size: ImageSize }): [number, number] => [size.height, size.width];
  const sizes = { smallest: pair(all[0] as (typeof all)[0]), largest: pair(all.at(-1) as (typeof all)[0]) };
  return { sizes, common: all.reduce((best, next) => (next.count > best.count ? next : best)).size, colour, range, cutOff };
}

/**
 * Where neither config nor model states a size, all images must have the same.
 * @throws OctetError DATASET_AMBIGUOUS
 */
export function checkOneSize({ smallest, largest }: Looked['sizes']): void {
  if (sameSize(smallest, largest)) return;
  throw new OctetError(
    'DATASET_AMBIGUOUS',
    `The images have sizes from ${smallest.join('×')} to ${largest.join('×')}, and the model input leaves the size open.`,
    {},
    {
      hint: 'Say {"size": [height, width]} in the config of the dataset.',
    },
  );
}

function sameSize(a: readonly number[], b: readonly number[]): boolean {
  return a[0] === b[0] && a[1] === b[1];
}

function isSettled(wish: Wish): wish is Target {
  return wish.height !== undefined && wish.width !== undefined && wish.channels !== undefined;
}

/** The one size all images are brought to, where config and model leave something open. */
function settle(wish: Wish, looked: Looked): Target {
  if (wish.height === undefined) checkOneSize(looked.sizes);
  return { ...looked.common, channels: looked.colour ? 3 : 1, ...wish };
}

/** The pixels of all images. Names of those that were grey of 16 bits are added to `cutOff`. */
async function* decoded(upload: Upload, images: readonly ArchiveEntry[], target: Target, cutOff: string[]): AsyncGenerator<Uint8Array> {
  const archive = upload.archive as OpenArchive;
  yield* inOrder(images, upload, async (entry) => {
    const image = await decodeImage(await archive.read(entry, mostImageBytes), entry.name, target);
    if (image.cutOff) cutOff.push(entry.name);
    return image.data;
  });
}

function sayCutOff(names: readonly string[], assumptions: string[]): void {
  if (names.length > 0)
    assumptions.push(
      `${names.length} grey images of 16 bits are cut off at 255, as Pillow's convert does (one of them: "${names[0]}"); scale them to 8 bits before they are sent.`,
    );
}

/** Map with a bounded number in flight, results in the order of the items. */
async function* inOrder<A, B>(items: readonly A[], upload: Upload, map: (item: A) => Promise<B>): AsyncGenerator<B> {
  const most = Math.max(1, upload.threads) * 2;
  const inFlight: Promise<B>[] = [];
  let next = 0;
  try {
    while (next < items.length || inFlight.length > 0) {
      heed(upload.signal);
      while (inFlight.length < most && next < items.length) {
        const result = map(items[next++] as A);
        result.catch(() => undefined);
        inFlight.push(result);
      }
      yield (await inFlight[0]) as B;
      inFlight.shift();
    }
  } finally {
    await Promise.allSettled(inFlight);
  }
}
