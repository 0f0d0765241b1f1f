import { Writable } from 'node:stream';
import { ConfigError, ServiceError } from '@octet/contracts';
import { OctetError } from '@octet/quant-core';
import { describe, expect, it, vi } from 'vitest';
import { valueOutputs } from '../../../../packages/quant-core/src/evaluate/testing/outputs.js';
import { buildReport } from '../../../../packages/quant-core/src/report/build.js';
import { reportInput } from '../../../../packages/quant-core/src/report/testing/input.js';
import { CliError, ServerError } from '../errors.js';
import { Progress, type Screen } from './progress.js';
import { keyFigures, renderResult } from './result.js';
import { columns, duration, printable, wrap } from './text.js';
import { renderTrouble, troubleJson } from './trouble.js';

function screen(isTTY: boolean): Screen & { text: string } {
  const out = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      target.text += chunk;
      done();
    },
  });
  const target = Object.assign(out, { isTTY, text: '', columns: 200, cursorTo: () => true, clearLine: () => true, moveCursor: () => true });
  return target;
}

describe('text', () => {
  it('writes durations', () => {
    expect([0, 0.84, 59.6, 65, 3600 * 2 + 600].map(duration)).toEqual(['0.0 s', '0.8 s', '1 min 00 s', '1 min 05 s', '2 h 10 min']);
  });
  it('pads columns and breaks lines', () => {
    expect(
      columns(
        [
          ['a', '1'],
          ['bb', '22'],
        ],
        [1],
      ),
    ).toBe('a    1\nbb  22');
    expect(wrap('one two three', 7, '> ')).toBe('one two\n> three');
  });
  it('lets no text of a file act on the terminal', () => {
    expect(printable('a\x1b[2Jb\u202e\n')).toBe('a\uFFFD[2Jb\uFFFD\n');
  });
});

describe('errors', () => {
  it('tell code, place, detail and hint, and no stack', () => {
    const text = renderTrouble(new OctetError('DATASET_NOT_FINITE', 'x[3] is NaN', { sample: 3, file: 'x.npy' }), {});
    expect(text).toBe(
      [
        'octet: The dataset holds NaN or infinity (DATASET_NOT_FINITE)',
        '  Where:  sample 3, file "x.npy"',
        '  Why:    x[3] is NaN',
        '  Hint:   Clean the sample named and upload the dataset again.',
        '',
      ].join('\n'),
    );
  });
  it('show the stack when DEBUG is set', () => {
    expect(renderTrouble(new CliError('USAGE', 'no'), { DEBUG: '1' })).toMatch(/at .*output\.test/);
  });
  it('list every wrong field', () => {
    const text = renderTrouble(
      new ConfigError('CONFIG_INVALID', [
        { pointer: '/a', detail: 'is wrong' },
        { pointer: '/b', detail: 'too', hint: 'Try 1.' },
      ]),
      {},
    );
    expect(text).toContain('/a is wrong');
    expect(text).toContain('/b too (Try 1.)');
  });
  it('show the last words of a job process, and what a server answered', () => {
    expect(renderTrouble(new ServiceError('JOB_CRASHED', 'gone', { logTail: 'one\ntwo' }), {})).toContain('    two');
    const problem = new ServerError({ code: 'NOT_FOUND', title: 'Nothing', detail: 'no job', place: {}, hint: 'Look.', errors: [] }, 404);
    expect(JSON.parse(troubleJson(problem))).toEqual({
      error: { code: 'NOT_FOUND', title: 'Nothing', detail: 'no job', place: {}, hint: 'Look.', errors: [] },
    });
  });
  it('that nobody foresaw are called what they are', () => {
    expect(renderTrouble(new TypeError('x is undefined'), {})).toMatch(
      /^octet: Internal error of Octet \(INTERNAL\)\n {2}Why: +x is undefined/,
    );
  });
});

describe('progress', () => {
  const train = { stage: 'train', total: 4, unit: 'steps', figures: { loss: 0.5, epoch: 1, samplesPerSecond: 99.6 } } as const;

  it('is plain lines without a terminal', () => {
    const out = screen(false);
    const progress = new Progress(out);
    progress.stage('load', 0);
    progress.stage('train', 1_500);
    progress.progress({ ...train, done: 1 }, 2_000);
    progress.epoch({ epoch: 1, loss: 0.5, holdoutLoss: 0.25, holdoutMetric: 0.875, metricName: 'top-1 accuracy', best: true });
    progress.epoch({ epoch: 2, loss: 0.5, holdoutLoss: 0.000214, holdoutMetric: -0.000214, best: false });
    progress.close({ finished: true });
    expect(out.text.split('\n').slice(0, 3)).toEqual(['load ...', 'load done in 1.5 s', 'train (QAT) ...']);
    expect(out.text).toContain(
      'epoch 1, loss 0.5000, held-out loss 0.2500, held-out top-1 accuracy 87.50 % (lowest held-out loss so far)\n',
    );
    // Of values only the loss is told: its negative is not a metric.
    expect(out.text).toContain('epoch 2, loss 0.5000, held-out loss 0.0002140\n');
    expect(out.text).toMatch(/train \(QAT\) done in .*\n$/);
    expect(out.text).not.toContain('\x1b');
  });

  it('says how long a silent stage has been running, without a terminal', () => {
    vi.useFakeTimers();
    try {
      const out = screen(false);
      const progress = new Progress(out);
      progress.stage('calibrate');
      vi.advanceTimersByTime(9_900);
      progress.close({ finished: false });
      vi.advanceTimersByTime(9_900);
      expect(out.text).toBe('calibrate ...\ncalibrate: 4.5 s\ncalibrate: 9.0 s\n');
    } finally {
      vi.useRealTimers();
    }
  });

  it('is a bar with loss, speed and the time left on a terminal', () => {
    const out = screen(true);
    const progress = new Progress(out);
    progress.stage('train', 0);
    progress.progress({ ...train, done: 0 }, 0);
    progress.progress({ ...train, done: 1 }, 10_000);
    progress.close({ finished: false });
    expect(out.text).toContain('█');
    expect(out.text).toContain('loss 0.5000, 100 samples/s');
    expect(out.text).not.toContain('✓');
  });
});

describe('result', () => {
  const report = buildReport(reportInput());

  it('shows float, PTQ and QAT with intervals, and which is returned', () => {
    const text = renderResult(report);
    expect(text).toMatch(/float +92\.00 % +90\.15 … 93\.53 %/);
    expect(text).toMatch(/PTQ int8 +90\.50 % .* −1\.50 points/);
    expect(text).toMatch(/QAT int8 .*<- returned/);
    expect(text).toContain('398.0 kB -> 109.3 kB (3.64× smaller)');
    expect(text).toContain('1.250 ms -> 0.500 ms (2.50× faster)');
    expect(text).toContain('100.00 % of 1,000 samples');
    expect(text).toContain('at most 0.50 points may be lost: passed');
  });
  it('gives the reason where the model with the lower figure is returned', () => {
    const { choice } = reportInput();
    const why = 'PTQ has the better top-1 accuracy on the held-out split (92.10 % against 91.00 %); training did not help.';
    const text = renderResult(buildReport(reportInput({ choice: { ...choice, from: 'ptq', why } }))).replace(/\s+/g, ' ');
    expect(text).toMatch(/PTQ int8 90\.50 % .*<- returned QAT int8 92\.10 %/);
    expect(text).toContain(`Returned PTQ. ${why} The table shows the evaluation samples, where QAT has the better figure`);
    expect(renderResult(report).replace(/\s+/g, ' ')).not.toContain('has the better figure');
  });
  it('without labels shows every output by its distance from float, and no change', () => {
    const float = valueOutputs([[1], [2], [4]]);
    const int8 = valueOutputs([[1.01], [2], [4]], undefined, float);
    const text = renderResult(
      buildReport(
        reportInput({
          metric: 'relative_error',
          outputs: { float: [float], ptq: [int8], qat: null },
          choice: { ...reportInput().choice, from: 'ptq', qat: null },
        }),
      ),
    );
    expect(text).toMatch(/^y +values +0\.46 % +53\.2 dB/m);
    expect(text).not.toContain('change against float');
    expect(text).not.toMatch(/^float /m);
  });
  it('has no line for QAT where there was none', () => {
    const input = reportInput();
    expect(
      renderResult(
        buildReport({
          ...input,
          outputs: { ...input.outputs, qat: null },
          choice: { ...input.choice, from: 'ptq', qat: null },
          training: null,
        }),
      ),
    ).not.toContain('QAT int8');
  });
  it('gives the stable keys to --json', () => {
    expect(keyFigures(report)).toMatchObject({
      schemaVersion: report.schemaVersion,
      metric: { name: 'top1' },
      float: { value: 0.92 },
      int8: { value: report.int8.value, from: 'qat' },
      change: { points: report.change.points, ci95: report.change.ci95, mcnemarP: report.change.mcnemarP },
      baseline: null,
      parity: { top1Agreement: 1 },
      outputs: [{ name: 'y', labelled: true }],
      size: { floatBytes: 397955, int8Bytes: 109321 },
      latency: { float: { p50Ms: 1.25 }, int8: { p50Ms: 0.5 } },
      samples: { evaluation: 1000 },
    });
  });
});
