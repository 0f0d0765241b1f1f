import { describe, expect, it } from 'vitest';
import { buildReport } from './build.js';
import { bytes, changeText, count, fixed, pValue, signed, speed } from './format.js';
import { renderMarkdown } from './markdown.js';
import { cut, inline, table } from './table.js';
import { layer, range, reportInput } from './testing/input.js';

it('the whole report', async () => {
  await expect(renderMarkdown(buildReport(reportInput()))).toMatchFileSnapshot('testing/report.md');
});

describe('what was done for a PTQ model', () => {
  const text = (changes: Parameters<typeof reportInput>[0]) => renderMarkdown(buildReport(reportInput(changes)));

  it('is told in a sentence, and only what was done', () => {
    const all = { equalizedPairs: 1, adaptiveLayers: 3, roundingError: 0.444, correctedBiases: 2 };
    expect(text({ calibration: all })).toContain(
      'For the PTQ model the channels between 1 pair of layers were given other scales; the weights of 3 layers were rounded adaptively (44 % of the squared error of rounding to nearest is left); 2 biases were corrected.',
    );
    expect(text({ calibration: { ...all, equalizedPairs: 0, adaptiveLayers: 0, roundingError: null } })).toContain(
      'For the PTQ model 2 biases were corrected.',
    );
    expect(text({})).not.toContain('For the PTQ model');
  });

  it('says what the file holds narrow weights in', () => {
    const layers = [
      layer('a', { weightBits: 4, weightStorage: 'int4' }),
      layer('b', { weightBits: 2, weightStorage: 'int8' }),
      layer('c', { weightBits: 5 }),
    ];
    expect(text({ layers })).toContain('The file holds the weights of 1 layer as int4, two to a byte.');
    expect(text({ layers })).toContain('The weights of 1 layer have 4 bits or less and take a byte each');
    expect(text({})).not.toContain('int4');
  });
});

it('says where layers were left in float by measurement, and how to have them so again', () => {
  const placement = {
    batches: [1, 32],
    threads: 1,
    cpu: 'Some | Processor',
    whole: { float: [0.128, 1.9], int8: [0.211, 4.18], mixed: [0.135, 1.82] },
    bytes: { int8: 5511, mixed: 6575 },
    layers: [
      { name: '/stem', op: 'Conv', left: false, float: [0.02, 0.5], int8: [0.01, 0.2] },
      { name: '/grouped', op: 'Conv', left: true, float: [0.063, 1.29], int8: [0.155, 7.35] },
    ],
    trials: 7,
    note: '1 of 2 layers is left.',
  };
  const { provenance } = reportInput();
  const { quantization } = provenance.recipe;
  const auto = { ...provenance, recipe: { ...provenance.recipe, quantization: { ...quantization, placement: 'auto' as const } } };
  const text = renderMarkdown(buildReport(reportInput({ placement, provenance: auto }))).replace(/ +/g, ' ');
  expect(text).toContain('**Placement.** 1 of 2 layers is left. Measured with 1 thread on Some \\| Processor, the machine of this job');
  expect(text).toContain('| as chosen | 0.135 ms | 1.820 ms | 6.6 kB |');
  expect(text).toContain('| `/grouped` | Conv | 0.063 ms | 0.155 ms | 1.290 ms | 7.350 ms |');
  expect(text).not.toContain('| `/stem` | Conv | 0.020 ms');
  expect(text).toContain('[{"name":"/grouped","skip":true}]');
  const slow = {
    float: { p50Ms: 1, p95Ms: 1, batch32: { p50Ms: 9, p95Ms: 9 } },
    int8: { p50Ms: 2, p95Ms: 2, batch32: { p50Ms: 9, p95Ms: 9 } },
  };
  const still = buildReport(reportInput({ placement, provenance: auto, latency: { ...slow, threads: 1 } }));
  expect(JSON.stringify(still)).not.toContain('set quantization.placement');
});

it('says what became of batch norm', () => {
  const { training } = reportInput();
  const text = (kept: number) =>
    renderMarkdown(
      buildReport(
        reportInput({
          training: training && { ...training, batchNorm: { kept, frozenAtStep: 84, reestimated: true, note: 'Nothing to keep: none.' } },
        }),
      ),
    );
  expect(text(2)).toContain(
    '2 batch norms were kept while training; their statistics froze at step 84, measured anew with everything quantized, and they were folded into their layers at the end. The weights',
  );
  expect(text(0)).toContain('Batch norm: Nothing to keep: none. The weights');
});

describe('the report of hostile and large input', () => {
  it('cuts wide tables with a note', () => {
    const layers = range(0, 60).map((i) => layer(`conv${i}`, { sqnrAccumulatedDb: 60 - i }));
    const text = renderMarkdown(buildReport(reportInput({ layers })));
    expect(text).toContain('…and 35 more layers in the JSON report.');
    expect(text).toContain('`conv59`');
    expect(text).not.toMatch(/`conv30`.*dB/);
  });

  it('names cannot break out of their cell', () => {
    const layers = [layer('a|b`\n# title'), layer('x', { precision: 'float', reason: 'no | rule\nfor <b>this</b>' })];
    const text = renderMarkdown(buildReport(reportInput({ layers })));
    expect(text).not.toMatch(/^# title/m);
    expect(text).toContain('`a\\|b # title`');
    expect(text).toContain('no \\| rule for &lt;b&gt;this&lt;/b&gt;');
  });

  it('the same report gives the same text', () => {
    expect(renderMarkdown(buildReport(reportInput()))).toBe(renderMarkdown(buildReport(reportInput())));
  });
});

describe('tables', () => {
  it('are padded, with figures to the right', () => {
    expect(
      table(
        ['name', { head: 'n', right: true }],
        [
          ['a', '1'],
          ['−é', '1000'],
        ],
      ),
    ).toBe('| name |    n |\n| ---- | ---: |\n| a    |    1 |\n| −é   | 1000 |');
  });

  it('cut says how many are left', () => {
    expect(cut([1, 2, 3], 2, 'rows')).toEqual({ rows: [1, 2], note: ['…and 1 more rows in the JSON report.'] });
    expect(cut([1], 2, 'rows')).toEqual({ rows: [1], note: [] });
  });

  it('inline text stays on its line', () => {
    expect(inline('a\r\nb|<i>')).toBe('a b\\|&lt;i&gt;');
  });
});

describe('figures', () => {
  it('are written for people', () => {
    expect([fixed(-0.001, 2), fixed(-1.5, 1), signed(0.004), signed(0.2), signed(-0.2)]).toEqual([
      '0.00',
      '−1.5',
      '0.00',
      '+0.20',
      '−0.20',
    ]);
    expect([count(999), count(1000), count(1234567)]).toEqual(['999', '1,000', '1,234,567']);
    expect([bytes(999), bytes(1500), bytes(2_500_000), bytes(3e9)]).toEqual(['999 B', '1.5 kB', '2.50 MB', '3.00 GB']);
    expect([speed(2), speed(0.5), speed(1.001), speed(Number.NaN)]).toEqual(['2.00× faster', '2.00× slower', 'same speed', '—']);
    expect([pValue(0.00001), pValue(0.25)]).toEqual(['< 0.0001', '0.2500']);
    expect(changeText(-0.25, [-0.5, 0.01], 'fraction')).toBe('−0.25 points (95 % −0.50 … +0.01)');
    expect(changeText(-0.25, [-0.5, 0.0123456], 'value')).toBe('−0.25 (95 % −0.5 … +0.012346)');
  });
});
