import { OctetError } from '../errors.js';
import type { DatasetConfig } from '../recipe.js';
import type { StoreArray } from './elements.js';
import type { Reading, Scaling, Stored } from './reading.js';

/**
 * The scaling of a config. Bytes without any setting are brought to 0…1, as torchvision's ToTensor does, and that is
 * said in `assumptions`.
 * @throws OctetError DATASET_CONFIG, DATASET_AMBIGUOUS
 */
export function scalingOf(
  stored: Stored,
  config: DatasetConfig,
  shape: readonly number[],
  known: 'first' | 'last' | undefined,
  assumptions: string[],
): Scaling {
  const mean = list(config.mean, 0);
  const std = list(config.std, 1);
  if (std.some((value) => !(value > 0)))
    throw new OctetError('DATASET_CONFIG', `std is ${JSON.stringify(config.std)}; every value must be above 0.`, { pointer: '/std' });
  if (config.scale === 0) throw new OctetError('DATASET_CONFIG', 'scale is 0, which makes all samples equal.', { pointer: '/scale' });
  const channels = Math.max(mean.length, std.length);
  if (mean.length > 1 && std.length > 1 && mean.length !== std.length) {
    throw new OctetError('DATASET_CONFIG', `mean has ${mean.length} values and std ${std.length}.`, { pointer: '/std' });
  }
  return {
    offset: config.offset ?? 0,
    scale: config.scale ?? defaultScale(stored, config, [...mean, ...std], assumptions),
    mean,
    std,
    axis: channels > 1 ? axisOf(channels, shape, known) : 'first',
  };
}

/**
 * No scaling, for values that go into the model as they are.
 * @throws OctetError DATASET_CONFIG when the config asks for one
 */
export function unscaled(config: DatasetConfig, why: string): Scaling {
  const said = (['scale', 'offset', 'mean', 'std'] as const).find((key) => config[key] !== undefined);
  if (said)
    throw new OctetError('DATASET_CONFIG', `${said} cannot be applied: ${why}, and values go in as they are.`, { pointer: `/${said}` });
  return { offset: 0, scale: 1, mean: [0], std: [1], axis: 'first' };
}

function list(value: number | number[] | undefined, otherwise: number): number[] {
  return value === undefined ? [otherwise] : typeof value === 'number' ? [value] : value;
}

function defaultScale(stored: Stored, config: DatasetConfig, statistics: readonly number[], assumptions: string[]): number {
  const said = config.offset !== undefined || config.mean !== undefined || config.std !== undefined;
  const { min, max } = stored.range;
  if (stored.dtype !== 'uint8') {
    if (!said && ((min === 0 && max === 255) || !/^(float|bool)/.test(stored.dtype)))
      assumptions.push(
        `Values of type ${stored.dtype}, from ${min} to ${max}, go into the model as they are; set scale, mean and std in the config of the dataset if it was trained otherwise.`,
      );
    return 1;
  }
  if (config.offset !== undefined) return 1;
  if (!said) {
    assumptions.push(
      'Bytes are scaled by 1/255 to 0…1, because the config of the dataset says nothing; set "scale": 1 for a model that takes 0…255.',
    );
    return 1 / 255;
  }
  if (statistics.some((value) => Math.abs(value) > 1)) {
    assumptions.push(
      'Mean and std are taken to be in units of bytes (0…255), because they are larger than 1; bytes are not scaled by 1/255.',
    );
    return 1;
  }
  assumptions.push(
    'Bytes are scaled by 1/255 before mean and std, as torchvision does; set "scale" in the config of the dataset to say otherwise.',
  );
  return 1 / 255;
}

function axisOf(channels: number, shape: readonly number[], known: 'first' | 'last' | undefined): 'first' | 'last' {
  const first = shape[0] === channels;
  const last = shape.at(-1) === channels;
  if (known && (known === 'first' ? first : last)) return known;
  if (first && last && shape.length > 1) {
    throw new OctetError(
      'DATASET_AMBIGUOUS',
      `mean and std have ${channels} values, and samples of shape [${shape}] could have their channels first or last.`,
      { pointer: '/mean' },
      {
        hint: 'Say {"layout": "NHWC"} or {"layout": "NCHW"} in the config of the dataset.',
      },
    );
  }
  if (first) return 'first';
  if (last) return 'last';
  throw new OctetError(
    'DATASET_CONFIG',
    `mean and std have ${channels} values, but samples of shape [${shape}] have no axis of that size first or last.`,
    { pointer: '/mean' },
  );
}

/** Turns stored samples into model inputs. */
export type Convert = (source: StoreArray, target: StoreArray, samples: number) => void;

/** The conversion of a reading: element order and scaling in one pass, bytes by table. */
export function converter(reading: Reading, elements: number): Convert {
  const { scaling, order } = reading;
  const several = Math.max(scaling.mean.length, scaling.std.length);
  const channels = order !== 'same' ? reading.channels : several;
  const places = elements / channels;
  const targetFirst = order === 'lastToFirst' || (order === 'same' && scaling.axis === 'first');
  const sourceFirst = order === 'same' ? targetFirst : order === 'firstToLast';
  const [sourceChannel, sourcePlace] = sourceFirst ? [places, 1] : [1, channels];
  const [targetChannel, targetPlace] = targetFirst ? [places, 1] : [1, channels];
  const apply = (x: number, channel: number) =>
    ((x + scaling.offset) * scaling.scale - at(scaling.mean, channel)) / at(scaling.std, channel);
  const plain = scaling.offset === 0 && scaling.scale === 1 && several === 1 && scaling.mean[0] === 0 && scaling.std[0] === 1;

  return (source, target, samples) => {
    if (plain && order === 'same') {
      target.set(source);
      return;
    }
    const table = source.BYTES_PER_ELEMENT === 1 ? tableOf(source, channels, apply) : undefined;
    for (let sample = 0; sample < samples; sample++) {
      const base = sample * elements;
      for (let channel = 0; channel < channels; channel++) {
        const row = channel * 256;
        let from = base + channel * sourceChannel;
        let to = base + channel * targetChannel;
        for (let place = 0; place < places; place++) {
          const x = source[from] as number;
          target[to] = table ? (table[row + (x & 255)] as number) : apply(x, channel);
          from += sourcePlace;
          to += targetPlace;
        }
      }
    }
  };
}

function at(values: readonly number[], channel: number): number {
  return (values.length === 1 ? values[0] : values[channel]) as number;
}

/** All 256 results a byte can have, for every channel, found by the bits of the byte. */
function tableOf(source: StoreArray, channels: number, apply: (x: number, channel: number) => number): Float32Array {
  const signed = source instanceof Int8Array;
  return Float32Array.from({ length: channels * 256 }, (_, i) => {
    const byte = i % 256;
    return apply(signed && byte > 127 ? byte - 256 : byte, Math.floor(i / 256));
  });
}
