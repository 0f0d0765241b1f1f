import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';
import type { Archive } from './archive.js';
import { decodeImage, type ImageSize, imageInfo, mostImageBytes, toGrey } from './image-decode.js';
import { type Folder, readFolders } from './image-folders.js';
import { checkSamples, checkUnlabelled, type Materialised, type SampleSpec, type Upload, writeSamples } from './materialise.js';
import { heed } from './stream.js';
import { classTargets, type Targets } from './targets.js';

interface Target extends ImageSize {
  channels: 1 | 3;
}

/** What is wanted of the images: sizes not stated anywhere are left open. */
type Wish = Partial<Target>;

/**
 * A zip of image folders: one class a folder, in the order of their names; samples in the order of class, then name.
 * Stored as [height, width, channels] bytes. Images are decoded in parallel, at most `threads` × 2 at a time.
 */
export async function materialiseImages(upload: Upload): Promise<Materialised> {
  const archive = upload.archive as Archive;
  const assumptions: string[] = [];
  const folders = readFolders(archive, upload.config, upload.name, assumptions);
  const files = folders.flatMap((folder) => folder.images);
  checkSamples(files.length, [1], upload.limits, upload.name);
  const wish = wishOf(upload.config, upload.fit);
  const looked = wish.height !== undefined && wish.channels !== undefined ? undefined : await lookAt(upload, files.map((file) => file.name), folders);
  const target = settle(wish, looked, upload, assumptions);
  const shape = checkSamples(files.length, [target.height, target.width, target.channels], upload.limits, upload.name);
  const x = await writeSamples(upload, decoded(upload, folders, target), 'uint8', files.length, shape);
  const targets = targetsOf(folders, upload);
  return { format: 'images', dtype: 'uint8', sampleShape: shape, x, targets, assumptions, ...(looked && { imageSizes: looked.sizes }) };
}

function targetsOf(folders: readonly Folder[], upload: Upload): Targets | undefined {
  if (folders[0]?.className === undefined) {
    checkUnlabelled(upload, 'no class folder');
    return undefined;
  }
  const labels = Int32Array.from(folders.flatMap((folder, label) => folder.images.map(() => label)));
  return classTargets(labels, folders.length, folders.map((folder) => folder.className as string));
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
      throw new OctetError('DATASET_SHAPE', `The config asks for images with ${key} ${said[key]}, the model input [${fit?.shape.map((d) => d ?? '?')}] wants ${wanted[key]}.`, {
        pointer: key === 'channels' ? '/channels' : '/size',
      });
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
}

/** Read the headers of all images: their sizes, and whether any has colour. */
async function lookAt(upload: Upload, names: readonly string[], folders: readonly Folder[]): Promise<Looked> {
  const archive = upload.archive as Archive;
  const counts = new Map<string, { size: ImageSize; count: number }>();
  let colour = false;
  const infos = inOrder(folders.flatMap((folder) => folder.images), upload, async (entry) => imageInfo(await archive.read(entry, mostImageBytes), entry.name));
  for await (const info of infos) {
    const key = `${info.height}x${info.width}`;
    const seen = counts.get(key);
    if (seen) seen.count++;
    else counts.set(key, { size: info, count: 1 });
    colour ||= info.colour;
  }
  const all = [...counts.values()].sort((a, b) => a.size.height * a.size.width - b.size.height * b.size.width);
  const first = all[0];
  const last = all.at(-1);
  if (!first || !last) throw new OctetError('DATASET_EMPTY', `"${upload.name}" holds no images (${names.length} files).`);
  const common = all.reduce((best, next) => (next.count > best.count ? next : best)).size;
  return { sizes: { smallest: [first.size.height, first.size.width], largest: [last.size.height, last.size.width] }, common, colour };
}

/** The one size all images are brought to. */
function settle(wish: Wish, looked: Looked | undefined, upload: Upload, assumptions: string[]): Target {
  const channels = wish.channels ?? (looked?.colour ? 3 : 1);
  if (wish.height !== undefined && wish.width !== undefined) return { height: wish.height, width: wish.width, channels };
  const { smallest, largest } = (looked as Looked).sizes;
  const { height, width } = (looked as Looked).common;
  if (smallest[0] !== largest[0] || smallest[1] !== largest[1]) {
    if (!upload.inspecting) {
      throw new OctetError('DATASET_AMBIGUOUS', `The images in "${upload.name}" have sizes from ${smallest.join('×')} to ${largest.join('×')}, and the model input leaves the size open.`, {}, {
        hint: 'Say {"size": [height, width]} in the config of the dataset.',
      });
    }
    assumptions.push(`Images of several sizes (${smallest.join('×')} to ${largest.join('×')}) are resized to the size of the model input.`);
  }
  return { height, width, channels };
}

async function* decoded(upload: Upload, folders: readonly Folder[], target: Target): AsyncGenerator<Uint8Array> {
  const archive = upload.archive as Archive;
  yield* inOrder(folders.flatMap((folder) => folder.images), upload, async (entry) => {
    const rgb = await decodeImage(await archive.read(entry, mostImageBytes), entry.name, target);
    return target.channels === 1 ? toGrey(rgb) : rgb;
  });
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
