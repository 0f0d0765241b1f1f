import { isIPv6 } from 'node:net';
import { ServiceError } from '@octet/contracts';
import type { FastifyReply } from 'fastify';

const windowMs = 60_000;
/** Addresses and known callers that are remembered; the oldest go first. */
const remembered = 10_000;

/**
 * At most so many wrong keys a minute from an address. Above that no key is tried from there until the minute is over, right or wrong, so
 * that nothing can be learnt by guessing on; only who was let in from there before goes on, so that a neighbour behind the same address
 * cannot lock him out.
 */
export class WrongKeys {
  readonly #limit: number;
  readonly #counts = new Map<string, { wrong: number; until: number }>();
  readonly #callers = new Map<string, true>();

  /** @param limit wrong keys a minute; 0 for any number */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** A right key. @throws ServiceError RATE_LIMITED */
  accept(address: string, keyName: string, reply: FastifyReply): void {
    const caller = `${networkOf(address)} ${keyName}`;
    if (!this.#callers.has(caller)) this.#refuseIfOver(address, reply);
    keep(this.#callers, caller, true);
  }

  /** A wrong key. @throws ServiceError RATE_LIMITED */
  refuse(address: string, reply: FastifyReply): void {
    if (this.#limit === 0) return;
    this.#refuseIfOver(address, reply);
    const count = this.#present(address) ?? { wrong: 0, until: performance.now() + windowMs };
    count.wrong++;
    keep(this.#counts, networkOf(address), count);
    this.#describe(count, reply);
  }

  #present(address: string): { wrong: number; until: number } | undefined {
    const count = this.#counts.get(networkOf(address));
    return count !== undefined && count.until > performance.now() ? count : undefined;
  }

  #refuseIfOver(address: string, reply: FastifyReply): void {
    const count = this.#present(address);
    if (count === undefined || count.wrong < this.#limit) return;
    const seconds = this.#describe(count, reply);
    reply.header('retry-after', seconds);
    throw new ServiceError('RATE_LIMITED', `${this.#limit} wrong keys came from this address within a minute; try again in ${seconds} s.`, {
      hint: 'Wait for the seconds that Retry-After gives, and find the client that sends a wrong key.',
    });
  }

  #describe(count: { wrong: number; until: number }, reply: FastifyReply): number {
    const seconds = Math.max(1, Math.ceil((count.until - performance.now()) / 1000));
    reply.header('ratelimit-policy', `"wrong-keys";q=${this.#limit};w=${windowMs / 1000}`);
    reply.header('ratelimit', `"wrong-keys";r=${this.#limit - count.wrong};t=${seconds}`);
    return seconds;
  }
}

/** Whoever has one IPv6 address has all of its /64. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.startsWith('::ffff:')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  const missing = tail === undefined ? 0 : 8 - groups.length - (tail === '' ? 0 : tail.split(':').length);
  return [...groups, ...Array<string>(Math.max(0, missing)).fill('0'), ...(tail ?? '').split(':')].slice(0, 4).join(':');
}

function keep<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > remembered && oldest !== undefined) map.delete(oldest);
}
