import { expect, it } from 'vitest';
import type { PipelineEvent } from '../events.js';
import { Context } from './context.js';
import { quickRecipe, Workshop } from './testing/jobs.js';
import { foldWarnings } from './warnings.js';

const raised = (node: string, channel: number) => ({
  code: 'WEIGHT_SCALE_RAISED',
  text: `${node}: the scale of channel ${channel} was raised`,
  place: { node },
});

it('one warning stays as it is', () => {
  expect(foldWarnings([raised('conv1', 0)])).toEqual([raised('conv1', 0)]);
});

it('warnings of one code about several places become one with a count', () => {
  const many = Array.from({ length: 40 }, (_, i) => raised(`conv${i}`, 0));
  expect(foldWarnings([{ code: 'BATCH_FIXED', text: 'fixed' }, ...many])).toEqual([
    { code: 'BATCH_FIXED', text: 'fixed' },
    {
      code: 'WEIGHT_SCALE_RAISED',
      text: 'conv0: the scale of channel 0 was raised. There are 40 such warnings, of conv0, conv1, conv2 and 37 more.',
    },
  ]);
});

it('names a place once, however often it is warned of, and says the same thing once', () => {
  expect(foldWarnings([raised('a', 0), raised('a', 1), raised('b', 0), raised('b', 0)])).toEqual([
    { code: 'WEIGHT_SCALE_RAISED', text: 'a: the scale of channel 0 was raised. There are 3 such warnings, of a, b.' },
  ]);
});

it('warnings about no place are different things, even of one code', () => {
  const two = ['first', 'second'].map((text) => ({ code: 'DATASET_ASSUMED', text }));
  expect(foldWarnings([...two, ...two])).toEqual(two);
});

it('a job logs the first of them, and reports all', async () => {
  const shop = await Workshop.open();
  const events: PipelineEvent[] = [];
  const context = new Context(shop.job('model.onnx', 'data.npz', quickRecipe()), { onEvent: (event) => events.push(event) });
  for (const node of ['a', 'b']) context.warn('WEIGHT_SCALE_RAISED', `${node}: raised`, { node });
  for (const text of ['first', 'second']) context.warn('DATASET_ASSUMED', text);
  await shop.close();
  expect(events.flatMap((event) => (event.type === 'log' ? [event.message] : []))).toEqual(['a: raised', 'first', 'second']);
  expect(context.warnings.map(({ text }) => text)).toEqual(['a: raised. There are 2 such warnings, of a, b.', 'first', 'second']);
});
