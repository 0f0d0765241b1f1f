import { Value } from 'typebox/value';
import { describe, expect, it } from 'vitest';
import { classOutputs, only, valueOutputs } from '../evaluate/testing/outputs.js';
import { buildReport } from './build.js';
import { renderMarkdown } from './markdown.js';
import { ReportSchema } from './schema.js';
import { layer, outputsOf, range, reportInput, wrongOn } from './testing/input.js';

const n = 1000;
const codes = (input: Parameters<typeof buildReport>[0]) => buildReport(input).warnings.map(({ code }) => code);
const verdict = (changes: Parameters<typeof reportInput>[0]) => buildReport(reportInput(changes)).verdict;

describe('buildReport', () => {
  const report = buildReport(reportInput());

  it('keeps to its schema, before and after JSON', () => {
    expect([...Value.Errors(ReportSchema, report)]).toEqual([]);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });

  it('has the keys that tools rely on', () => {
    expect(report).toMatchObject({
      schemaVersion: '1.0',
      metric: { name: 'top1', unit: 'fraction', higherIsBetter: true },
      float: { value: 0.92 },
      ptq: { value: 0.905 },
      qat: { value: 0.921 },
      int8: { value: 0.921, from: 'qat', selection: { samples: 200, ptq: 0.91, qat: 0.921 } },
      recovered: expect.closeTo(1.0666666, 5),
      change: { points: 0.1, onlyFloat: 1, onlyInt8: 2, bothRight: 919, bothWrong: 78, mcnemarP: 1 },
      changes: { ptq: { points: -1.5, onlyFloat: 15, onlyInt8: 0 } },
      gate: { maxDrop: 0.5, passed: true },
      agreement: 0.997,
      size: { floatBytes: 397955, int8Bytes: 109321, ratio: expect.closeTo(3.6402, 3) },
      samples: { training: 5400, calibration: 512, holdout: 600, evaluation: 1000 },
    });
    expect(report.flips.map(({ index }) => index)).toEqual([0, 1, 500]);
  });

  it('leaves out figures that have no form in JSON', () => {
    const layers = [
      layer('a', {
        sqnrAccumulatedDb: Number.POSITIVE_INFINITY,
        sqnrLocalDb: Number.NaN,
        range: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
      }),
    ];
    const built = buildReport(
      reportInput({
        layers,
        parity: { ...reportInput().parity, agreement: 0, top1Agreement: 0, maxAbsDifference: Number.POSITIVE_INFINITY },
      }),
    );
    expect(built.layers[0]).not.toHaveProperty('sqnrAccumulatedDb');
    expect(built.layers[0]).not.toHaveProperty('range');
    expect([...Value.Errors(ReportSchema, JSON.parse(JSON.stringify(built)))]).toEqual([]);
  });

  it('a PTQ job has no QAT figures', () => {
    const { outputs, choice } = reportInput();
    const built = buildReport(
      reportInput({ outputs: { ...outputs, qat: null }, choice: { ...choice, from: 'ptq', qat: null }, training: null }),
    );
    expect(built).toMatchObject({
      qat: null,
      recovered: null,
      changes: { qat: null },
      int8: { from: 'ptq', value: 0.905 },
      change: { points: -1.5 },
    });
    expect([...Value.Errors(ReportSchema, built)]).toEqual([]);
    expect(renderMarkdown(built)).toContain('Nothing was trained');
  });

  it('regression: errors in metric units, no classes', () => {
    const targets = range(0, 200).map((i) => [Math.sin(i)]);
    const off = (by: number) =>
      valueOutputs(
        targets.map(([t], i) => [t! + by * Math.cos(7 * i)]),
        targets,
      );
    const built = buildReport(reportInput({ metric: 'mae', outputs: outputsOf(off(0.1), off(0.2), off(0.15)), maxDrop: null }));
    expect(built).toMatchObject({
      metric: { unit: 'value', higherIsBetter: false },
      classes: null,
      confusion: null,
      flips: [],
      agreement: null,
      change: { mcnemarP: null },
    });
    expect(built.change.points).toBeLessThan(0);
    expect(built.change.points).toBeCloseTo(built.float.value - built.int8.value, 12);
    expect(built.recovered).toBeCloseTo(0.5, 4);
    expect(built.verdict.decision).toBe('do_not_ship');
    expect([...Value.Errors(ReportSchema, built)]).toEqual([]);
    expect(renderMarkdown(built)).toContain('by paired bootstrap over 200 samples');
  });

  it('without labels, agreement with float is the metric', () => {
    const rows = (shift: number) => range(0, 100).map((i) => [i % 7, 3 + shift]);
    const float = classOutputs(rows(0));
    const outputs = outputsOf(float, classOutputs(rows(0.5), undefined, float), classOutputs(rows(0), undefined, float));
    const built = buildReport(reportInput({ metric: 'agreement', outputs, maxDrop: null }));
    expect(built).toMatchObject({ float: { value: 1 }, int8: { value: 1 }, classes: null, confusion: null });
    expect(renderMarkdown(built)).toContain('There are no class labels.');
  });
});

describe('verdict', () => {
  it('ships a sound model, and calls noise noise', () => {
    const { decision, text } = verdict({});
    expect(decision).toBe('ship');
    expect(text).toBe(
      'int8 (QAT) has top-1 accuracy 92.10 %, float 92.00 %: +0.10 points (95 % −0.29 … +0.49), n = 1,000; noise, not a difference.',
    );
  });

  it('a missed gate refuses', () => {
    const outputs = { ...reportInput().outputs, qat: only(wrongOn(n, range(0, 90))) };
    const built = buildReport(reportInput({ outputs }));
    expect(built.gate.passed).toBe(false);
    expect(built.verdict.decision).toBe('do_not_ship');
    expect(built.verdict.text).toContain('The gate allows a loss of 0.50 points; 1.00 were lost.');
    expect(built.verdict.text).toContain('a real loss');
  });

  it('parity below 99.9 % refuses, and is not blamed on a processor', () => {
    const parity = { ...reportInput().parity, agreement: 0.98, maxAbsDifference: 2 };
    expect(verdict({ parity })).toMatchObject({ decision: 'do_not_ship', nextStep: expect.stringContaining('defect of Octet') });
    const cpu = { model: 'Old', features: ['avx2'] };
    expect(verdict({ parity, cpu }).nextStep).toContain('defect of Octet');
    expect(renderMarkdown(buildReport(reportInput({ parity })))).toContain('🔴 **The simulation');
  });

  it('a large real loss without a gate refuses, a smaller one asks to look, and a small one ships', () => {
    const losing = (lost: number, of = n) =>
      verdict({
        maxDrop: null,
        outputs: outputsOf(wrongOn(of, range(0, 80)), wrongOn(of, range(0, 80 + lost)), null),
        choice: { ...reportInput().choice, from: 'ptq', qat: null },
      });
    expect(losing(30).decision).toBe('do_not_ship');
    expect(losing(10).decision).toBe('inspect');
    expect(losing(7, 6000)).toMatchObject({ decision: 'ship', text: expect.stringContaining('a real loss') });
    expect(losing(0).decision).toBe('ship');
  });

  it('too few samples to tell is said', () => {
    const outputs = outputsOf(wrongOn(60, range(0, 5)), wrongOn(60, range(0, 6)), null);
    const { decision, text, nextStep } = verdict({ maxDrop: null, outputs, choice: { ...reportInput().choice, from: 'ptq', qat: null } });
    expect(decision).toBe('inspect');
    expect(text).toContain('With 60 samples a loss of');
    expect(nextStep).toContain('more samples');
  });

  it('a class that alone loses is found', () => {
    const float = wrongOn(n, []);
    const outputs = outputsOf(
      float,
      float,
      wrongOn(
        n,
        range(0, 60).map((i) => 3 * i),
      ),
    );
    const { decision, text } = verdict({ outputs, maxDrop: 50 });
    expect(decision).toBe('inspect');
    expect(text).toContain('1 class loses more than chance explains: shirt (−18.0 points)');
  });

  it('a class whose loss is chance is not named', () => {
    const float = wrongOn(150, [0, 3]);
    const outputs = outputsOf(float, float, wrongOn(150, [6, 9, 12, 15]));
    const built = buildReport(reportInput({ outputs, maxDrop: 50 }));
    expect(built.classes![0]).toMatchObject({ label: 0, changePoints: -4 });
    expect(built.verdict.decision).toBe('ship');
  });

  it('a float model that is poor for its kind points at preprocessing, and is refused where another reading is plainly better', () => {
    const chance = wrongOn(n, range(0, 680));
    const outputs = outputsOf(chance, chance, chance);
    const value = { value: 0.93, ci95: [0.9, 0.95] as [number, number] };
    const found = {
      expected: null,
      poor: 'is hardly better than chance (32.00 % with 3 classes)',
      samples: 400,
      asConfigured: { value: 0.32, ci95: [0.3, 0.34] as [number, number] },
      tried: [{ name: 'values divided by 255', cause: 'scale', ...value, config: { scale: 1 / 255 } }],
      better: null,
    };
    expect(verdict({ outputs, baseline: found })).toMatchObject({
      decision: 'inspect',
      text: expect.stringContaining('The float model itself is hardly better than chance'),
      nextStep: expect.stringContaining('preprocessing'),
    });
    const built = buildReport(reportInput({ outputs, baseline: { ...found, better: 'values divided by 255' } }));
    expect([...Value.Errors(ReportSchema, built)]).toEqual([]);
    expect(built.verdict).toMatchObject({
      decision: 'do_not_ship',
      nextStep: 'Set {"scale": 0.00392156862745098} in the config of the dataset.',
    });
    const turned = { ...found.tried[0], name: 'channels in reverse order', cause: 'order of the channels (RGB or BGR)', ...value };
    const advice = (config: object | null) =>
      verdict({ outputs, baseline: { ...found, tried: [{ ...turned, config }], better: turned.name } }).nextStep;
    expect(advice(null)).toBe('Send the images with their channels in reverse order (RGB and BGR exchanged).');
    expect(advice({ scale: 1 })).toMatch(/^Set \{"scale": 1\} .*, and send the images with their channels in reverse order/);
    expect(renderMarkdown(built)).toMatch(/\*\*values divided by 255\*\* +\| 93\.00 %/);
  });

  it('slower than float is explained by what was measured', () => {
    const { latency, runtime } = reportInput();
    const slow = { ...latency, int8: { ...latency.int8, p50Ms: 2 } };
    const built = buildReport(
      reportInput({ latency: slow, runtime: { ...runtime, integerTimeShare: 0.4, floatNodes: 5 }, cpu: { model: '', features: ['avx2'] } }),
    );
    expect(built.verdict.decision).toBe('inspect');
    expect(built.latency.note).toBe(
      'int8 is slower than float here: only 40 % of the time is spent in integer nodes (5 nodes stay float); this processor has no 8-bit dot product (VNNI or alike).',
    );
  });

  it('times taken on a busy machine, and those that chance explains, are no ground to call int8 slower', () => {
    const { latency, runtime } = reportInput();
    const ratio = (value: number, low: number, high: number) => ({ value, ci95: [low, high] as [number, number] });
    const slow = { ...latency, int8: { ...latency.int8, p50Ms: 34 } };
    const load = { otherCores: 1.4, cores: 2, average: 3.25, spread: 0.42 };
    const floats = { ...runtime, integerNodes: 0 };
    const busy = buildReport(reportInput({ latency: { ...slow, busy: true, load }, runtime: floats }));
    expect(busy.verdict.text).not.toContain('slower');
    expect(busy.latency.note).toBe(
      'Measured on a busy machine (other processes kept 1.4 of 2 cores busy, load average 3.3, medians known to ±42 %): whether int8 is faster or slower than float cannot be told from these times. Measure again where nothing else runs.',
    );
    expect(renderMarkdown(busy)).toContain('not told: busy machine');
    expect(renderMarkdown(busy)).not.toMatch(/× (slower|faster)/);
    const unclear = { ...slow, busy: false, ratio: { batch1: ratio(1.3, 0.9, 1.8), batch32: ratio(0.4, 0.39, 0.41) } };
    const chance = buildReport(reportInput({ latency: unclear }));
    expect(chance.verdict.decision).toBe('ship');
    expect(renderMarkdown(chance)).toContain('no clear difference');
    expect(renderMarkdown(chance)).toContain('2.50× faster');
    const certain = { ...slow, busy: false, ratio: { batch1: ratio(1.3, 1.2, 1.4), batch32: ratio(0.4, 0.39, 0.41) } };
    expect(buildReport(reportInput({ latency: certain, runtime: { ...runtime, integerTimeShare: 0.4 } })).verdict.decision).toBe('inspect');
  });

  it('slowness that comes from the processor alone is a warning', () => {
    const { latency } = reportInput();
    const slow = { ...latency, float: { ...latency.float, p50Ms: 0.15 }, int8: { ...latency.int8, p50Ms: 0.2 } };
    const built = buildReport(reportInput({ latency: slow, cpu: { model: '', features: ['avx2'] } }));
    expect(built.verdict.decision).toBe('ship');
    const [warning] = built.warnings;
    expect(built.warnings).toHaveLength(1);
    expect(warning?.code).toBe('SLOWER_ON_THIS_PROCESSOR');
    expect(warning?.text).toContain(`${built.latency.note} Measure on the machine that will serve the model`);
    expect(warning?.text).toContain('set quantization.placement to "auto"');
    expect(built.latency.note).toContain('at batch 1 the model is so small');
    const inBatch = { ...slow, int8: { ...slow.int8, batch32: { p50Ms: 30, p95Ms: 31 } } };
    expect(buildReport(reportInput({ latency: inBatch, cpu: { model: '', features: ['avx2'] } })).latency.note).not.toContain('so small');
    expect(buildReport(reportInput({ latency: inBatch })).verdict.decision).toBe('inspect');
  });

  it('outputs that are not numbers refuse', () => {
    const rows = range(0, 100).map((i) => [i % 2, 0.5]);
    const labels = range(0, 100).map((i) => 1 - (i % 2));
    const float = classOutputs(rows, labels);
    const broken = classOutputs(
      rows.map(([a, b], i) => [i === 3 ? Number.NaN : a!, b!]),
      labels,
    );
    expect(verdict({ outputs: outputsOf(float, broken, broken), maxDrop: 50 })).toMatchObject({
      decision: 'do_not_ship',
      text: expect.stringContaining('are not finite for 1 sample.'),
    });
  });

  describe('advice on accuracy: the first thing the data supports', () => {
    const lost = { outputs: { ...reportInput().outputs, qat: only(wrongOn(n, range(0, 120))) } };

    it('a layer that loses much', () => {
      const layers = [
        layer('conv1', { sqnrAccumulatedDb: 34 }),
        layer('conv2', { sqnrAccumulatedDb: 20, floatBytes: 4000, int8Bytes: 1100 }),
        layer('conv3', { sqnrAccumulatedDb: 19 }),
      ];
      expect(verdict({ ...lost, layers }).nextStep).toBe(
        'Keep conv2 in float (quantization.layers: [{ "name": "conv2", "skip": true }]): it loses 14.0 dB (20.0 dB are left), and float costs 2.9 kB.',
      );
    });

    it('a layer of few bits that loses much gets 8', () => {
      const layers = [layer('conv1'), layer('conv2', { sqnrAccumulatedDb: 12, weightBits: 4 })];
      expect(verdict({ ...lost, layers }).nextStep).toContain('Give conv2 8 bits');
    });

    it('few bits, then ranges of channels, then training', () => {
      expect(verdict({ ...lost, layers: [layer('a', { weightBits: 4 })] }).nextStep).toBe('Use 8 bits: 1 layer has fewer.');
      expect(verdict({ ...lost, layers: [layer('a', { perChannel: false, channelSpread: 40 })] }).nextStep).toContain('per channel');
      const { provenance, training } = reportInput();
      expect(verdict({ ...lost, provenance: { ...provenance, recipe: { ...provenance.recipe, method: 'ptq' } } }).nextStep).toContain(
        '"qat"',
      );
      expect(verdict({ ...lost, training: { ...training!, bestEpoch: 3 } }).nextStep).toContain('Train longer');
      expect(verdict(lost).nextStep).toContain('no single layer stands out');
    });
  });
});

describe('warnings', () => {
  it('training that harms, and a choice that the evaluation set would not make', () => {
    const outputs = { ...reportInput().outputs, qat: only(wrongOn(n, range(0, 160))) };
    expect(codes(reportInput({ outputs }))).toEqual(['QAT_WORSE_THAN_PTQ', 'CHOICE_NOT_BEST']);
    expect(codes(reportInput())).toEqual([]);
  });

  it('a gate that the interval does not keep to, and layers left float', () => {
    expect(codes(reportInput({ maxDrop: 0.1 }))).toEqual(['GATE_UNCERTAIN']);
    expect(codes(reportInput({ layers: [layer('gru', { precision: 'float' })] }))).toEqual(['LAYERS_STAY_FLOAT']);
  });
});
