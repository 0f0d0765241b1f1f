import { describe, expect, test } from 'vitest';
import { type ClassOrder, nameLabels, orderClasses, TextLabels } from './class-names.js';
import { labelOffsetOf, shiftLabels } from './label-offset.js';
import { classNamesFrom } from './metadata-classes.js';
import { classTargets } from './targets.js';
import { failure } from './testing/files.js';

const list = (from: ClassOrder['from'], ...names: string[]): ClassOrder => ({ names, from });

describe('names found in a dataset', () => {
  test('by name, and said so', () => {
    const assumptions: string[] = [];
    expect(orderClasses(['dog', 'ant'], undefined, assumptions, 'd')).toEqual(['ant', 'dog']);
    expect(assumptions).toEqual(['The classes are numbered in the order of their names: 0 "ant", 1 "dog".']);
  });
  test('as a list says, with classes that have no samples', () => {
    const assumptions: string[] = [];
    expect(orderClasses(['dog', 'ant'], list('config', 'dog', 'cow', 'ant'), assumptions, 'd')).toEqual(['dog', 'cow', 'ant']);
    expect(assumptions.join()).toContain('"classes" in the config');
  });
  test('a name that is not in the list, or twice', async () => {
    const order = list('config', 'dog', 'dog');
    expect((await failure('DATASET_CLASSES', () => orderClasses(['ant'], order, [], 'd'))).message).toContain('"ant"');
    await failure('DATASET_CLASSES', () => orderClasses(['dog'], order, [], 'd'));
  });
  test('a model that names other classes is ignored, one that names some is not', async () => {
    const assumptions: string[] = [];
    expect(orderClasses(['n02', 'n01'], list('model', 'cat', 'dog'), assumptions, 'd')).toEqual(['n01', 'n02']);
    expect(assumptions.join()).toContain('none of these is among them');
    await failure('DATASET_CLASSES', () => orderClasses(['cat', 'n01'], list('model', 'cat', 'dog'), [], 'd'));
  });
  test('texts become the numbers of their names', () => {
    const texts = new TextLabels('d');
    for (const text of ['dog', 'ant', 'dog']) texts.add(text);
    expect(texts.finish(list('training', 'dog', 'cow', 'ant'), [])).toMatchObject({ labels: Int32Array.of(0, 2, 0), counts: [2, 0, 1] });
  });
});

describe('labels that are numbers', () => {
  const targets = () => classTargets(Int32Array.of(3, 1, 2), 4);
  test('are places in the list', () => {
    expect(nameLabels(targets(), list('config', 'a', 'b', 'c', 'd', 'e'), [], 'd')).toMatchObject({
      labels: Int32Array.of(3, 1, 2),
      classes: 5,
      names: ['a', 'b', 'c', 'd', 'e'],
    });
  });
  test('are looked up among names that are numbers', () => {
    expect(nameLabels(targets(), list('config', '1', '3', '2'), [], 'd')).toMatchObject({
      labels: Int32Array.of(1, 0, 2),
      counts: [1, 1, 1],
    });
  });
  test('beyond the list', async () => {
    await failure('DATASET_CLASSES', () => nameLabels(targets(), list('config', 'a', 'b', 'c'), [], 'd'));
    await failure('DATASET_CLASSES', () => nameLabels(targets(), list('config', '1', '2'), [], 'd'));
    const own = targets();
    expect(nameLabels(own, list('model', 'a', 'b', 'c'), [], 'd')).toBe(own);
  });
});

describe('labels that start at 1', () => {
  test('run to the number of outputs and hold no 0', () => {
    expect(labelOffsetOf([0, 5, 5, 5], 3)).toBe(1);
    expect(labelOffsetOf([0, 5, 5], 3)).toBe(0);
    expect(labelOffsetOf([1, 5, 5, 5], 3)).toBe(0);
    expect(labelOffsetOf([0, 5, 5, 5, 1], 3)).toBe(0);
    expect(labelOffsetOf([0, 5, 5, 5], undefined)).toBe(0);
  });
  test('are brought to start at 0', async () => {
    expect(shiftLabels(classTargets(Int32Array.of(1, 3, 2), 4), 1, 'd')).toMatchObject({
      labels: Int32Array.of(0, 2, 1),
      counts: [1, 1, 1],
    });
    const error = await failure('DATASET_LABELS', () => shiftLabels(classTargets(Int32Array.of(1, 0), 2), 1, 'd'));
    expect(error.place.sample).toBe(1);
  });
});

describe('names in the metadata of a model', () => {
  test.each([
    ['a JSON list', { classes: '["cat", "a \\"b\\"", "caf\\u00e9"]' }, ['cat', 'a "b"', 'café']],
    ['as Ultralytics writes them', { stride: '32', names: `{0: 'person', 1: "driver's", 2: 'car'}` }, ['person', "driver's", 'car']],
    ['id2label', { id2label: '{"1": "POSITIVE", "0": "NEGATIVE"}' }, ['NEGATIVE', 'POSITIVE']],
    ['a dict from names to numbers', { labels: "{'b': 1, 'a': 0}" }, ['a', 'b']],
    ['a Python tuple', { class_names: "('ant', 'bee',)" }, ['ant', 'bee']],
    ['lines', { Labels: 'ant\nbee, honey\r\ncow\n' }, ['ant', 'bee, honey', 'cow']],
    ['commas', { labels: 'ant, bee,cow' }, ['ant', 'bee', 'cow']],
    ['numbers', { classes: '[3, 5, 8]' }, ['3', '5', '8']],
    ['a gap', { names: "{0: 'a', 2: 'b'}" }, undefined],
    ['cut off', { names: "{0: 'a', 1: 'b'" }, undefined],
    ['a single text', { classes: 'eighty', labels: '' }, undefined],
    ['nested', { classes: '[[[["a"]]]]' }, undefined],
    ['nothing', { author: 'a, b' }, undefined],
  ])('%s', (_, metadata: Record<string, string>, names) => {
    expect(classNamesFrom(metadata)).toEqual(names);
  });
});
