import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { overridesOf, withPlacement } from '../fakequant/placement.js';
import { graphOf } from '../normalise/testing/oracle.js';
import { images } from '../train/testing/jobs.js';
import { type Done, quickRecipe, Workshop, withoutMetadata } from './testing/jobs.js';

let shop: Workshop;
beforeAll(async () => {
  shop = await Workshop.open();
});
afterAll(() => shop.close());

/** The runtime computes a grouped int8 Conv a group at a time: several times slower than in float, on any processor. */
const grouped = () =>
  graphOf(`graph net (x: float32[N, 1, 8, 8]) opset 18
    a = Conv(x, w1=float32[64, 1, 3, 3]#, b1=float32[64]#) {pads=[1, 1, 1, 1]} @stem
    b = Relu(a)
    c = Conv(b, w2=float32[64, 2, 3, 3]#) {pads=[1, 1, 1, 1], group=32} @grouped
    d = Relu(c)
    e = Conv(d, w3=float32[8, 64, 1, 1]#) @point
    f = Flatten(e)
    y = Gemm(f, w4=float32[512, 2]#, b4=float32[2]#) @fc
    return y`);

const leftIn = ({ report }: Done) => (report.placement ? overridesOf(report.placement).map(({ name }) => name) : []);
const int8In = ({ report }: Done) => report.layers.flatMap((layer) => (layer.precision === 'int8' ? [layer.name] : []));

describe('a job with placement "auto"', () => {
  it('leaves out what is slower, says so, and gives the same bytes from its checkpoint and from its overrides', async () => {
    const [model, data] = [await shop.model(grouped()), await shop.npz(images(120))];
    const base = quickRecipe({ training: { epochs: 2 } });
    const recipe = { ...base, quantization: { ...base.quantization, placement: 'auto' as const } };
    const kept = join(shop.directory, 'placed.bin');
    let steps = 0;
    const first = await shop.run(shop.job(model, data, recipe), {
      onEvent: (event) => {
        if (event.type === 'checkpoint' && event.stage === 'train' && steps++ === 0) copyFileSync(event.path, kept);
      },
    });
    const { placement } = first.report;
    if (!placement) throw new Error('no placement in the report');
    // What is left depends on the machine, and on what else it does: as a rule the grouped layer. All that follows holds whatever it is.
    const left = leftIn(first);
    expect(placement.layers.map(({ name }) => name)).toEqual(['stem', 'grouped', 'point', 'fc']);
    expect(placement.batches[0]).toBe(1);
    expect(placement.bytes.mixed - placement.bytes.int8 > 0).toBe(left.length > 0);
    expect(int8In(first).sort()).toEqual(['stem', 'grouped', 'point', 'fc'].filter((name) => !left.includes(name)).sort());
    for (const name of left)
      expect(first.report.layers.find((layer) => layer.name === name)).toMatchObject({
        precision: 'float',
        reason: expect.stringMatching(/^left in float( with its neighbours)?:.* faster so on this machine/),
      });
    expect(first.report.provenance.recipe.quantization).toMatchObject({ placement: 'auto', layers: [] });
    expect(first.report.parity.top1Agreement).toBe(1);

    const resumed = await shop.run(shop.job(model, data, recipe, { checkpointPath: kept }));
    expect(resumed.report.placement).toEqual(placement);
    expect(resumed.events.flatMap((event) => (event.type === 'epoch' ? [event.epoch] : []))).toEqual([2]);
    expect(resumed.model.equals(first.model)).toBe(true);

    const repeated = await shop.run(shop.job(model, data, withPlacement(recipe, placement)));
    expect(repeated.report.placement).toBeNull();
    expect(withoutMetadata(repeated.model)).toEqual(withoutMetadata(first.model));
  });

  it('keeps the only layer there is in int8, and the bytes of placement "all"', async () => {
    const [model, data] = [
      await shop.model(
        graphOf(`graph net (x: float32[N, 1, 8, 8]) opset 18
          f = Flatten(x)
          y = Gemm(f, w=float32[64, 2]#, b=float32[2]#) @fc
          return y`),
      ),
      await shop.npz(images(60)),
    ];
    const base = quickRecipe({ method: 'ptq', calibration: { samples: 16 } });
    const auto = await shop.run(shop.job(model, data, { ...base, quantization: { ...base.quantization, placement: 'auto' } }));
    expect(auto.report.placement).toMatchObject({ trials: 0, layers: [{ name: 'fc', left: false }] });
    expect(withoutMetadata(auto.model)).toEqual(withoutMetadata((await shop.run(shop.job(model, data, base))).model));
  });
});
