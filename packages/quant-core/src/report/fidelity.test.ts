import { describe, expect, it } from 'vitest';
import type { Outputs } from '../evaluate/outputs.js';
import { classOutputs, only, valueOutputs } from '../evaluate/testing/outputs.js';
import { buildReport } from './build.js';
import { judgeOutputs } from './fidelity.js';
import { renderMarkdown } from './markdown.js';
import type { OutputReport } from './schema.js';
import { outputsOf, range, reportInput } from './testing/input.js';

const output = (relativeError: number, agreement: number | null = null, name = 'y'): OutputReport => ({
  name,
  dtype: 'float32',
  kind: agreement === null ? 'values' : 'classes',
  axis: agreement === null ? null : 1,
  judged: true,
  why: '',
  labelled: false,
  fidelity: {
    sqnrDb: relativeError === 0 ? null : -20 * Math.log10(relativeError),
    relativeError,
    cosine: 1,
    positions: agreement === null ? 0 : 1,
    agreement,
  },
  metrics: [],
});
const severity = (...outputs: OutputReport[]) => judgeOutputs(outputs).map((problem) => problem.severity);

describe('judgeOutputs', () => {
  it('values: by the error in units of the spread', () => {
    expect(severity(output(0))).toEqual([]);
    expect(severity(output(0.0185))).toEqual([]);
    expect(severity(output(0.05))).toEqual([]);
    expect(severity(output(0.1))).toEqual(['inspect']);
    expect(severity(output(0.3))).toEqual(['do_not_ship']);
  });

  it('classes: by the share that keeps its class, unless the float model itself is indifferent', () => {
    expect(severity(output(0.04, 0.995))).toEqual([]);
    expect(severity(output(0.04, 0.97))).toEqual(['inspect']);
    expect(severity(output(0.04, 0.9))).toEqual(['do_not_ship']);
    expect(severity(output(0.015, 0.84))).toEqual([]);
    expect(severity(output(0.3, 0.999))).toEqual(['inspect']);
  });

  it('every output counts, the worst first, and many are cut short', () => {
    expect(severity(output(0.1, null, 'a'), output(0, null, 'b'), output(0.5, null, 'c'))).toEqual(['do_not_ship', 'inspect']);
    const many = judgeOutputs(range(0, 12).map((i) => output(0.5, null, `o${i}`)));
    expect(many).toHaveLength(3);
    expect(many[2]?.text).toContain('So are 9 more outputs.');
  });
});

describe('the verdict without labels', () => {
  const built = (metric: 'relative_error' | 'agreement', float: Outputs, int8: Outputs) =>
    buildReport(
      reportInput({
        metric,
        maxDrop: null,
        outputs: outputsOf(float, int8, null),
        outputList: [float.output],
        choice: { ...reportInput().choice, from: 'ptq', qat: null },
        training: null,
      }),
    );
  const values = (off: number) => range(0, 200).map((i) => [3 + Math.sin(i), Math.cos(i) + off * Math.sin(5 * i)]);

  it('rests on the error against the spread: 1.85 % is good', () => {
    const float = valueOutputs(values(0));
    const report = built('relative_error', float, valueOutputs(values(0.03), undefined, float));
    expect(report.verdict.decision).toBe('ship');
    expect(report.verdict.text).toMatch(
      /^int8 \(PTQ\) differs from float by \d\.\d\d % of the spread of its output \(SQNR \d\d\.\d dB\), n = 200\.$/,
    );
    const text = renderMarkdown(report);
    expect(text).not.toMatch(/real loss|noise, not|from chance/);
    expect(text).toContain('**Outputs**');
    expect(text).toContain('so no class can change');
  });

  it('refuses what is far off', () => {
    const float = valueOutputs(values(0));
    const report = built('relative_error', float, valueOutputs(values(3), undefined, float));
    expect(report.verdict).toMatchObject({
      decision: 'do_not_ship',
      text: expect.stringContaining('That is an error of more than 18 % of the spread.'),
    });
  });

  it('indifferent outputs are said to be that, and are not refused', () => {
    const rows = (shift: number) => range(0, 200).map((i) => [i, i % 3 === 0 ? i + shift : i - 1]);
    const float = classOutputs(rows(0.01));
    const report = built('agreement', float, classOutputs(rows(-0.01), undefined, float));
    expect(report.agreement).toBeLessThan(0.7);
    expect(report.verdict.decision).toBe('ship');
    expect(report.verdict.text).toContain('the float model itself hardly prefers one');
  });

  it('a gate stands for the metric, and the outputs beside it are still judged', () => {
    const float = valueOutputs(values(0));
    const far = valueOutputs(values(3), undefined, float);
    const beside = { ...float, output: { ...float.output, name: 'beside' } };
    const besideFar = { ...far, output: { ...far.output, name: 'beside' } };
    const report = (first: Outputs, second: Outputs) =>
      buildReport(
        reportInput({
          metric: 'relative_error',
          maxDrop: 500,
          outputs: { float: [float, beside], ptq: [first, second], qat: null },
          outputList: [float.output, beside.output],
          choice: { ...reportInput().choice, from: 'ptq', qat: null },
        }),
      ).verdict;
    expect(report(far, beside).decision).toBe('ship');
    expect(report(valueOutputs(values(0), undefined, float), besideFar)).toMatchObject({
      decision: 'do_not_ship',
      text: expect.stringContaining('in "beside"'),
    });
  });

  it('an output without labels beside a labelled one is judged too', () => {
    const { outputs } = reportInput();
    const [float] = outputs.float;
    const side = valueOutputs(values(0));
    const beside = { ...side, output: { ...side.output, name: 'beside' } };
    const off = valueOutputs(values(3), undefined, side);
    const report = buildReport(
      reportInput({
        outputs: { float: [float, beside], ptq: only(float), qat: [outputs.qat?.[0] ?? float, { ...off, output: beside.output }] },
        outputList: [float.output, beside.output],
      }),
    );
    expect(report.verdict.decision).toBe('do_not_ship');
    expect(report.verdict.text).toContain('That is an error of more than');
    expect(renderMarkdown(report)).toMatch(/\| `beside` +\| values/);
  });
});

describe('sets that are too small', () => {
  it('are said, and more samples are the first advice', () => {
    const { outputs } = reportInput();
    const { verdict } = buildReport(
      reportInput({ samples: { training: 1, calibration: 1, holdout: 1 }, outputs: { ...outputs, qat: outputs.ptq }, maxDrop: null }),
    );
    expect(verdict.text).toContain(
      'Small sets: 1 sample calibrates (32 are wanted), 1 trains, 1 sample chooses between PTQ and QAT (50 are wanted).',
    );
    expect(verdict.decision).not.toBe('ship');
    expect(verdict.nextStep).toMatch(/^Send more samples: 1 sample to train and 1 sample to calibrate/);
  });

  it('that are small but no handful are a note', () => {
    const { verdict } = buildReport(reportInput({ samples: { training: 500, calibration: 30, holdout: 40 } }));
    expect(verdict.decision).toBe('ship');
    expect(verdict.text).toContain(
      'Small sets: 30 samples calibrate (32 are wanted), 40 samples choose between PTQ and QAT (50 are wanted).',
    );
  });
});
