import { describe, expect, it } from 'vitest';
import { modelOutput } from '../tasks/testing/specs.js';
import { metricValue, resolveMetric } from './metrics.js';
import { confidenceIn, confidencesOf, kindOf, meanLoss, topLabel } from './outputs.js';
import { classOutputs, collected, naming, valueOutputs } from './testing/outputs.js';

const seed = 1;

describe('confidences', () => {
  // scipy 1.17.1, special.softmax
  it.each([
    [
      [1000, 1001, 999],
      [0.24472847105479764, 0.6652409557748218, 0.09003057317038046],
    ],
    [
      [-1000, -1000.5, -999],
      [0.23122389762214907, 0.14024438316608848, 0.6285317192117624],
    ],
  ])('softmax of %j', (scores, wanted) => {
    const out = new Float64Array(3);
    confidencesOf(scores, 'logits', out);
    out.forEach((p, i) => {
      expect(p).toBeCloseTo(wanted[i]!, 14);
    });
  });

  it('rounded probabilities are brought back to a sum of 1', () => {
    const out = new Float64Array(2);
    confidencesOf([0.5, 0.3], 'probabilities', out);
    expect([...out]).toEqual([0.625, 0.37499999999999994]);
  });

  it('tells probabilities from logits', () => {
    expect(kindOf([0.2, 0.8, 0.5, 0.5], 2)).toBe('probabilities');
    expect(kindOf([0.2, 0.8, 0.5, 0.6], 2)).toBe('logits');
    expect(kindOf([-0.2, 1.2], 2)).toBe('logits');
    expect(kindOf([0.2, 0.9], 1)).toBe('probabilities');
    expect(kindOf([0.2, 1.9], 1)).toBe('logits');
  });
});

describe('classification', () => {
  const rows = [
    [5, 1, 2, 3, 4, 0, 0],
    [0, 0, 0, 0, 0, 0, 9],
    [1, 1, 1, 1, 1, 1, 1],
  ];

  it('top-1 and top-5, of equal scores the lower class first', () => {
    const outputs = classOutputs(rows, [4, 6, 5]);
    expect([0, 1, 2].map((i) => topLabel(outputs, i))).toEqual([0, 6, 0]);
    expect([...outputs.top!.labels.slice(0, 5)]).toEqual([0, 4, 3, 2, 1]);
    expect([...outputs.top!.labels.slice(10)]).toEqual([0, 1, 2, 3, 4]);
    expect(metricValue('top1', outputs, seed).value).toBeCloseTo(1 / 3, 15);
    expect(metricValue('top5', outputs, seed).value).toBeCloseTo(2 / 3, 15);
  });

  it('mean loss is the cross-entropy', () => {
    // scipy 1.17.1, special.log_softmax
    const outputs = classOutputs(
      [
        [1000, 1001, 999],
        [-1000, -1000.5, -999],
      ],
      [0, 2],
    );
    expect(meanLoss(outputs)).toBeCloseTo((1.4076059644443804 + 0.4643687841079449) / 2, 12);
  });

  it('a certain mistake costs much but not infinity', () => {
    expect(meanLoss(classOutputs([[1, 0]], [1]))).toBeCloseTo(-Math.log(1e-12), 6);
  });

  it('outputs that are not numbers are wrong, and counted', () => {
    const outputs = classOutputs(
      [
        [Number.NaN, 1],
        [0, 3],
      ],
      [1, 1],
    );
    expect(outputs.notFinite).toBe(1);
    expect(topLabel(outputs, 0)).toBe(-1);
    expect(metricValue('top1', outputs, seed).value).toBe(0.5);
  });

  it('one output is a binary model: logits by sign, probabilities by one half', () => {
    const logits = classOutputs([[-3], [0.2], [4]], [0, 1, 0]);
    expect([0, 1, 2].map((i) => topLabel(logits, i))).toEqual([0, 1, 1]);
    expect(logits.classes).toBe(2);
    expect(metricValue('top1', logits, seed).value).toBeCloseTo(2 / 3, 15);
    expect(logits.losses![0]).toBeCloseTo(Math.log1p(Math.exp(-3)), 6);
    const sigmoid = modelOutput('y', 'binary', [1], { form: 'probabilities' });
    const shares = collected(sigmoid, 'classification', [[0.1], [0.2], [0.9]], { labels: [0, 1, 1] });
    expect(shares.kind).toBe('probabilities');
    expect([0, 1, 2].map((i) => topLabel(shares, i))).toEqual([0, 0, 1]);
    expect(confidenceIn(shares, 0, 1)).toBeCloseTo(0.1, 6);
  });

  it('labels outside of the classes are refused with their sample', () => {
    expect(() => classOutputs([[0, 1]], [2])).toThrow(expect.objectContaining({ code: 'DATASET_CLASSES', place: { sample: 0 } }));
    expect(() => classOutputs([[0.5]], [2])).toThrow(expect.objectContaining({ code: 'DATASET_CLASSES' }));
  });

  it('with too many scores only the top classes are kept, and say the same', () => {
    const outputs = collected(modelOutput('y', 'classes', [7]), 'classification', rows, { labels: [4, 6, 5] }, { keepElements: 10 });
    expect(outputs.scores).toBeNull();
    expect(outputs.top).toEqual(classOutputs(rows, [4, 6, 5]).top);
  });

  it('agreement compares with the reference', () => {
    const float = naming([0, 1, 2, 1], [0, 0, 0, 0], 3);
    const int8 = naming([0, 1, 1, 1], [0, 0, 0, 0], 3, float);
    expect(metricValue('agreement', int8, seed).value).toBe(0.75);
    expect(metricValue('agreement', float, seed).value).toBe(1);
  });
});

describe('regression', () => {
  // scikit-learn: mean_absolute_error, sqrt(mean_squared_error), r2_score(multioutput='variance_weighted')
  const targets = [
    [3, -0.5],
    [2, 1],
    [7, 2.5],
    [-1, 0.25],
  ];
  const predictions = [
    [2.5, 0],
    [2, 1.25],
    [8, 2],
    [-1.5, 0.5],
  ];
  const outputs = valueOutputs(predictions, targets);

  it.each([
    ['mae', 0.4375],
    ['rmse', 0.5153882032022076],
    ['r2', 0.9435918705931149],
  ] as const)('%s', (name, wanted) => {
    const { value, ci95 } = metricValue(name, outputs, seed);
    expect(value).toBeCloseTo(wanted, 12);
    expect(ci95[0]).toBeLessThanOrEqual(value);
    expect(ci95[1]).toBeGreaterThanOrEqual(value);
  });

  it('without targets the float model stands in for the truth', () => {
    const float = valueOutputs(targets);
    expect(metricValue('mae', valueOutputs(predictions, undefined, float), seed).value).toBeCloseTo(0.4375, 12);
    expect(metricValue('mae', float, seed).value).toBe(0);
  });

  it('outputs that are not numbers are as wrong as can be', () => {
    const broken = valueOutputs([[Number.NaN], [1]], [[1], [1]]);
    expect(broken.notFinite).toBe(1);
    expect(metricValue('mae', broken, seed).value).toBe(5e17);
    expect(metricValue('r2', valueOutputs([[Number.NaN], [1]], [[1], [2]]), seed).value).toBeLessThan(-1e30);
  });

  it('targets of another width are refused', () => {
    expect(() => valueOutputs([[1, 2]], [[1]])).toThrow(expect.objectContaining({ code: 'DATASET_SHAPE' }));
  });
});

describe('choice of metric', () => {
  it('auto follows the task, and what the output is', () => {
    const [classes, values] = [modelOutput('y', 'classes', [2]), modelOutput('y', 'values', [2])];
    expect(resolveMetric('auto', { task: 'classification', output: classes })).toBe('top1');
    expect(resolveMetric('auto', { task: 'regression', output: values })).toBe('mae');
    expect(resolveMetric('auto', { task: 'unlabelled', output: classes })).toBe('agreement');
    expect(resolveMetric('auto', { task: 'unlabelled', output: values })).toBe('relative_error');
    expect(resolveMetric('auto', { task: 'multi_label', output: classes })).toBe('auc');
    expect(resolveMetric('auto', { task: 'dense_classification', output: classes })).toBe('mean_iou');
    expect(resolveMetric('top5', { task: 'classification', output: classes })).toBe('top5');
  });

  it('auto is no rank where every sample has the same answer', () => {
    const answers = (rows: number[][]) => collected(modelOutput('y', 'binary', [2]), 'multi_label', rows, { values: rows });
    const same = answers([
      [1, 0],
      [1, 0],
    ]);
    expect(resolveMetric('auto', same)).not.toBe('auc');
    expect(metricValue(resolveMetric('auto', same), same, seed).value).toBe(1);
    expect(
      resolveMetric(
        'auto',
        answers([
          [1, 0],
          [0, 0],
        ]),
      ),
    ).toBe('auc');
  });

  it('a metric that the data cannot give is refused, and the setting is named', () => {
    const refusal = expect.objectContaining({ code: 'CONFIG_IMPOSSIBLE', place: { pointer: '/evaluation/metric' } });
    expect(() => metricValue('top1', classOutputs([[1, 2]]), seed)).toThrow(refusal);
    expect(() => metricValue('mean_iou', classOutputs([[1, 2]], [0]), seed)).toThrow(refusal);
    expect(() => metricValue('agreement', valueOutputs([[1]]), seed)).toThrow(refusal);
  });
});
