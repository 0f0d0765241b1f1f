import { expect, it } from 'vitest';
import { Slots } from './slots.js';

const never = new AbortController().signal;

/** Lets everything that can go on go on. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

it('lets owners take turns, each in its own order', async () => {
  const slots = new Slots(1, 9);
  const release = await slots.acquire('a', never);
  const order: string[] = [];
  const all = ['a1', 'a2', 'a3', 'b1', 'c1', 'b2'].map(async (name) => {
    const done = await slots.acquire(name.charAt(0), never);
    order.push(name);
    done();
  });
  await settle();
  release();
  await Promise.all(all);
  expect(order).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
  expect(slots.take()).toBeDefined();
  expect(slots.take()).toBeUndefined();
});

it('refuses an owner of whom too many wait, and forgets who leaves', async () => {
  const slots = new Slots(1, 1);
  const release = await slots.acquire('a', never);
  const leave = new AbortController();
  const waiting = slots.acquire('a', leave.signal);
  await expect(slots.acquire('a', never)).rejects.toMatchObject({ code: 'OVERLOADED' });
  const other = slots.acquire('b', never);
  leave.abort(new Error('gone'));
  await expect(waiting).rejects.toThrow('gone');
  release();
  (await other)();
  (await slots.acquire('a', never))();
});
