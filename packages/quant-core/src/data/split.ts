import { Random } from '../tensor/random.js';

/** Two parts of a dataset, as ascending indices. */
export interface Split {
  /** The larger part, to train on. */
  rest: Uint32Array;
  /** The part held out. */
  held: Uint32Array;
}

/**
 * Hold out `share` of `count` samples, seeded. With labels every class gives its share (largest remainders, so that the
 * total is right) and keeps at least one sample. Each part holds at least one sample when there are two.
 */
export function split(count: number, share: number, seed: number, labels?: ArrayLike<number>): Split {
  const groups = new Map<number, number[]>();
  for (const index of Random.for(seed, 'split').permutation(count)) {
    const label = labels ? (labels[index] as number) : 0;
    const group = groups.get(label);
    if (group) group.push(index);
    else groups.set(label, [index]);
  }
  const total = Math.min(count - 1, Math.max(1, Math.round(count * share)));
  const quotas = quotasOf(
    [...groups].sort(([a], [b]) => a - b).map(([, members]) => members),
    total / count,
    total,
  );
  const held = new Set<number>();
  for (const { members, take } of quotas) for (const index of members.slice(0, take)) held.add(index);
  const all = Uint32Array.from({ length: count }, (_, i) => i);
  return { rest: all.filter((i) => !held.has(i)), held: all.filter((i) => held.has(i)) };
}

function quotasOf(groups: readonly number[][], share: number, total: number): { members: number[]; take: number }[] {
  const quotas = groups.map((members) => ({ members, take: Math.floor(members.length * share), remainder: (members.length * share) % 1 }));
  let left = total - quotas.reduce((sum, quota) => sum + quota.take, 0);
  for (const spare of [1, 0]) {
    for (const quota of [...quotas].sort((a, b) => b.remainder - a.remainder)) {
      if (left <= 0) break;
      if (quota.members.length - quota.take <= spare || quota.take >= Math.ceil(quota.members.length * share)) continue;
      quota.take++;
      left--;
    }
  }
  return quotas;
}

/** The order of an epoch: a seeded permutation of `indices`, another one for every epoch. */
export function shuffled(indices: Uint32Array, seed: number, epoch: number): Uint32Array {
  return Random.for(seed, `epoch ${epoch}`)
    .permutation(indices.length)
    .map((at) => indices[at] as number);
}
