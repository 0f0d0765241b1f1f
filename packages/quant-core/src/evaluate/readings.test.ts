import { describe, expect, it } from 'vitest';
import { linearOf, orderTrials, type PresentReading, reread, scalingTrials, statisticsOf } from './readings.js';

const plain = { reversed: false, relaid: false };
/** 2×2 images of three channels, stored as bytes and read as they are. */
const image = (change: Partial<PresentReading> = {}): PresentReading => ({
  shape: [3, 2, 2],
  channels: { axis: 'first', count: 3 },
  linear: linearOf({}, 3),
  bytes: true,
  range: { min: 0, max: 255 },
  moved: false,
  ...change,
});
const bytes = Float32Array.from([1, 2, 3, 4, 50, 60, 70, 80, 200, 210, 220, 230]);

describe('reread', () => {
  it('goes from one scaling to another, channel by channel', () => {
    const from = { scale: 1 / 255, mean: [0.1, 0.2, 0.3], std: [1, 2, 3] };
    const to = { scale: 1, offset: -127.5, mean: 0, std: [2, 4, 8] };
    const read = (config: typeof from | typeof to) =>
      bytes.map((value, i) => {
        const { gain, shift } = linearOf(config, 3);
        const c = Math.floor(i / 4);
        return value * (gain[c] as number) + (shift[c] as number);
      });
    const again = reread(image({ linear: linearOf(from, 3) }), { ...plain, linear: linearOf(to, 3) }, read(from));
    again.forEach((value, i) => {
      expect(value).toBeCloseTo(read(to)[i] as number, 3);
    });
  });

  it('reverses channels, wherever they are', () => {
    const linear = linearOf({}, 3);
    expect([...reread(image(), { linear, reversed: true, relaid: false }, bytes)]).toEqual([
      200, 210, 220, 230, 50, 60, 70, 80, 1, 2, 3, 4,
    ]);
    const last = image({ shape: [2, 2, 3], channels: { axis: 'last', count: 3 } });
    expect([...reread(last, { linear, reversed: true, relaid: false }, Float32Array.from([1, 2, 3, 4, 5, 6]).slice(0, 0))]).toEqual([]);
    expect([...reread(last, { linear, reversed: true, relaid: false }, bytes)].slice(0, 6)).toEqual([3, 2, 1, 60, 50, 4]);
  });

  it('takes the elements in the other layout: once as they are, once moved back', () => {
    const linear = linearOf({}, 3);
    const relaid = { linear, reversed: false, relaid: true };
    // Pixels one after the other, read as if they were channels.
    const pixels = Float32Array.from({ length: 12 }, (_, i) => i);
    expect([...reread(image(), relaid, pixels)]).toEqual([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
    const moved = Float32Array.from([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
    expect([...reread(image({ moved: true }), relaid, moved)]).toEqual([...pixels]);
  });
});

describe('trials', () => {
  const own = { mean: [100, 110, 120], std: [50, 60, 70] };

  it('never repeat the reading that is configured', () => {
    const names = (present: PresentReading) => scalingTrials(present, own).map(({ name }) => name);
    expect(names(image())).toEqual([
      'values divided by 255',
      'values from −1 to 1',
      'mean and std of the data itself',
      'mean and std of the data itself, all channels together',
      'mean and std of ImageNet',
    ]);
    expect(names(image({ linear: linearOf({ scale: 1 / 255 }, 3) }))).toContain('values as they are stored');
    expect(names(image({ linear: linearOf({ scale: 1 / 255 }, 3) }))).not.toContain('values divided by 255');
  });

  it('give the config that reads so', () => {
    const trial = scalingTrials(image(), own).find(({ name }) => name === 'mean and std of the data itself');
    expect(trial?.config).toEqual({ scale: 1 / 255, mean: [0.3922, 0.4314, 0.4706], std: [0.1961, 0.2353, 0.2745] });
    expect(trial?.linear).toEqual(linearOf(trial?.config ?? {}, 3));
    const turned = orderTrials(image(), null).find(({ cause }) => cause === 'inversion');
    expect([...reread(image(), { ...plain, linear: turned?.linear ?? linearOf({}, 3) }, bytes)].slice(0, 2)).toEqual([254, 253]);
    const onTrial = orderTrials(image(), trial ?? null).find(({ cause }) => cause === 'inversion');
    onTrial?.linear.gain.forEach((gain, c) => {
      expect(gain).toBeCloseTo(linearOf(onTrial.config ?? {}, 3).gain[c] as number, 9);
      expect(onTrial.linear.shift[c]).toBeCloseTo(linearOf(onTrial.config ?? {}, 3).shift[c] as number, 9);
    });
  });

  it('of features in a vector are a mean and std for each, and no channels', () => {
    const vector = image({
      shape: [4],
      channels: { axis: 'first', count: 4 },
      linear: linearOf({}, 4),
      bytes: false,
      range: { min: -3, max: 9 },
    });
    const trials = scalingTrials(vector, { mean: [1, 2, 3, 4], std: [1, 2, 0, 4] });
    expect(trials.find(({ name }) => name === 'mean and std of the data itself')?.config).toMatchObject({
      scale: 1,
      mean: [1, 2, 3, 4],
      std: [1, 2, 1, 4],
    });
    expect(trials.map(({ cause }) => cause)).not.toContain('scale');
    expect(orderTrials(vector, null)).toEqual([]);
  });
});

it('statistics are those of what is stored', async () => {
  const linear = linearOf({ scale: 1 / 255, mean: 0.5, std: 0.25 }, 3);
  const read = bytes.map((value) => (value / 255 - 0.5) / 0.25);
  async function* batches() {
    yield read;
  }
  const { mean, std } = await statisticsOf(image({ linear }), batches());
  expect(mean[0]).toBeCloseTo(2.5, 3);
  expect(mean[2]).toBeCloseTo(215, 3);
  expect(std[1]).toBeCloseTo(Math.sqrt(125), 3);
});
