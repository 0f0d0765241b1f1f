import { errorCatalogue } from '@octet/quant-core';
import { describe, expect, test } from 'vitest';
import { ConfigError, catalogue, failureOf, ServiceError, serviceCatalogue } from './errors.js';
import { idPattern, newId } from './ids.js';
import { parseDatasetConfig, parseJobRequest, parseJobSettings, recipeOf } from './job-request.js';
import { cancelLeadsTo, isTerminal, jobStates, mayBecome, statesBefore, transitions } from './status.js';

const uploads = { model: newId('model'), dataset: newId('dataset') };

/** Pointer → detail and hint of each error. */
function errorsOf(parse: () => unknown): Record<string, string> {
  try {
    parse();
  } catch (error) {
    if (error instanceof ConfigError) return Object.fromEntries(error.errors.map((e) => [e.pointer, `${e.detail}. ${e.hint ?? ''}`]));
    throw error;
  }
  return {};
}

describe('a job request', () => {
  test('is filled with defaults', () => {
    expect(parseJobRequest(uploads)).toMatchObject({
      ...uploads,
      method: 'qat',
      target: 'onnxruntime',
      calibration: { samples: 512 },
      training: { epochs: 3, learningRate: 'auto', distillation: { weight: 'auto' } },
      gate: {},
      limits: { queueSeconds: 86_400, runSeconds: 7_200 },
      metadata: {},
    });
  });

  test('keeps what it says, does not change the object given, and shares no default with the next', () => {
    const given = { ...uploads, training: { epochs: 7 } };
    const first = parseJobRequest(given);
    expect(first.training).toMatchObject({ epochs: 7, batchSize: 64 });
    expect(given.training).toEqual({ epochs: 7 });
    first.calibration.samples = 1;
    first.quantization.layers.push({ skip: true });
    expect(parseJobRequest(uploads)).toMatchObject({ calibration: { samples: 512 }, quantization: { layers: [] } });
  });

  test('names every unknown field, at any depth, with the nearest known one', () => {
    const errors = errorsOf(() =>
      parseJobRequest({
        ...uploads,
        methd: 'qat',
        training: { lerningRate: 1, distillation: { temp: 3 } },
        quantization: { layers: [{ nme: 'x' }] },
        'a/b~c': 1,
      }),
    );
    expect(Object.keys(errors).sort()).toEqual([
      '/a~1b~0c',
      '/methd',
      '/quantization/layers/0/nme',
      '/training/distillation/temp',
      '/training/lerningRate',
    ]);
    expect(errors['/methd']).toContain('Did you mean "method"?');
    expect(errors['/training/lerningRate']).toContain('Did you mean "learningRate"?');
    expect(errors['/training/distillation/temp']).toMatch(/Allowed: weight, temperature/);
  });

  test.each([
    [{ model: 'nope' }, '/model', /matches \^mdl_/],
    [{ method: 'qatt' }, '/method', /"qat" or "ptq", not "qatt".*Did you mean "qat"/],
    [{ target: 'arm' }, '/target', /"onnxruntime", "x86", "fbgemm" or "qnnpack"/],
    [{ training: { epochs: '3' } }, '/training/epochs', /a whole number from 1 to 1000, not "3"/],
    [{ training: { epochs: 1.5 } }, '/training/epochs', /whole number/],
    [{ training: { learningRate: 'fast' } }, '/training/learningRate', /"auto" or a number above 0 to 10/],
    [{ training: [] }, '/training', /must be an object, not \[\]/],
    [{ gate: null }, '/gate', /must be an object, not null/],
    [{ quantization: { layers: [3] } }, '/quantization/layers/0', /must be an object, not 3/],
    [{ quantization: { layers: 3 } }, '/quantization/layers', /must be a list/],
    [{ limits: { runSeconds: 0 } }, '/limits/runSeconds', /from 1 to 604800/],
    [{ metadata: { a: 3 } }, '/metadata', /short texts/],
    [{ seed: -1 }, '/seed', /from 0 to 4294967295/],
  ])('%j is refused at %s', (part, pointer, words) => {
    const errors = errorsOf(() => parseJobRequest({ ...uploads, ...part }));
    expect(Object.keys(errors)).toEqual([pointer]);
    expect(errors[pointer]).toMatch(words);
  });

  test('names what is missing, and refuses what is not an object', () => {
    expect(Object.keys(errorsOf(() => parseJobRequest({})))).toEqual(['/model', '/dataset']);
    for (const nonsense of [null, [], 'x', 3, undefined]) expect(Object.keys(errorsOf(() => parseJobRequest(nonsense)))).toEqual(['']);
  });

  test('cannot be smuggled past with keys of the prototype', () => {
    expect(
      Object.keys(errorsOf(() => parseJobSettings(JSON.parse('{"__proto__": {"method": "x"}, "constructor": 1, "toString": 2}')))).sort(),
    ).toEqual(['/__proto__', '/constructor', '/toString']);
  });

  test('holds a recipe and nothing else of the recipe', () => {
    const settings = parseJobSettings({ seed: 5, metadata: { a: 'b' } });
    expect(recipeOf(settings)).not.toHaveProperty('metadata');
    expect(recipeOf(settings)).toMatchObject({ seed: 5 });
    expect(errorsOf(() => parseDatasetConfig({ layot: 'NCHW' }))['/layot']).toContain('Did you mean "layout"?');
  });
});

describe('the status machine', () => {
  test('every state can be reached and every running state can be left', () => {
    for (const state of jobStates) {
      if (state !== 'queued') expect(statesBefore(state), state).not.toEqual([]);
      expect(isTerminal(state)).toBe(transitions[state].length === 0);
    }
    expect(jobStates.filter(isTerminal)).toEqual(['succeeded', 'gate_failed', 'failed', 'cancelled']);
  });

  test('a cancel leads where the machine allows', () => {
    for (const state of jobStates) {
      const to = cancelLeadsTo[state];
      if (to !== null && to !== state) expect(mayBecome(state, to), `${state} → ${to}`).toBe(true);
      if (to === null) expect(isTerminal(state)).toBe(true);
    }
    expect(mayBecome('cancelling', 'succeeded')).toBe(false);
    expect(mayBecome('queued', 'succeeded')).toBe(false);
  });
});

describe('errors', () => {
  test('the catalogues do not meet, and every entry says what to do', () => {
    expect(Object.keys(errorCatalogue).filter((code) => code in serviceCatalogue)).toEqual([]);
    for (const [code, { title, hint, status }] of Object.entries(catalogue)) {
      expect(title.length, code).toBeGreaterThan(10);
      expect(hint, code).toMatch(/\.$/);
      expect(status >= 400 && status < 600, code).toBe(true);
    }
  });

  test('anything thrown becomes a failure with the facts of its code', () => {
    expect(failureOf(new ServiceError('RATE_LIMITED', 'slow down'))).toMatchObject({
      code: 'RATE_LIMITED',
      status: 429,
      retryable: true,
      detail: 'slow down',
    });
    expect(failureOf(new TypeError('x is not a function'))).toMatchObject({ code: 'INTERNAL', status: 500, detail: 'x is not a function' });
    expect(failureOf('a string')).toMatchObject({ code: 'INTERNAL', detail: 'a string' });
  });
});

test('ids sort by time and fit their pattern', () => {
  const ids = [1, 2, 1_000, 1_800_000_000_000].map((now) => newId('job', now));
  expect([...ids].sort()).toEqual(ids);
  for (const id of ids) expect(id).toMatch(new RegExp(idPattern('job')));
  expect(new Set(Array.from({ length: 1_000 }, () => newId('artifact', 5))).size).toBe(1_000);
});
