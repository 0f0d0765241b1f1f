import { isIP } from 'node:net';
import { ServiceError } from '@octet/contracts';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type ApiConfig, isLoopback } from '../config.js';

/**
 * Without keys the way by which a request came is its only proof, and a browser sends requests of any page by the same way. So the Host
 * must be a name of this machine, or one that the operator has allowed: a foreign name that was made to point here (DNS rebinding) is
 * refused. And a page of another origin may change nothing.
 */
export function refuseOtherSites(app: FastifyInstance, config: Pick<ApiConfig, 'host' | 'allowedHosts'>): void {
  const allowed = new Set(config.allowedHosts.map((host) => host.toLowerCase()));
  const open = !isLoopback(config.host);
  const isAllowed = (host: string) =>
    // An address cannot be made to point elsewhere, so where other machines are let in any address is as good as a loopback one.
    allowed.has('*') ||
    allowed.has(host) ||
    isLoopback(host) ||
    (open && (host === config.host || isIP(host.replace(/^\[|\]$/g, '')) !== 0));

  app.addHook('onRequest', async (request) => {
    const sent = request.headers.host;
    // Only HTTP/1.0 may leave the header out, and no browser speaks that.
    if (sent !== undefined && !isAllowed(nameOf(sent)))
      throw new ServiceError(
        'HOST_NOT_ALLOWED',
        `The Host is "${sent.slice(0, 200).replace(/[^\w.:\-[\]]/g, '?')}"; without keys only names of this machine are answered.`,
      );
    refuseForeignPages(request);
  });
}

/** A host without its port and final dot, in lower case. */
function nameOf(host: string): string {
  return host.trim().toLowerCase().replace(/:\d*$/, '').replace(/\.$/, '');
}

/** Programs send neither header; browsers send both with every request that changes something. */
function refuseForeignPages(request: FastifyRequest): void {
  if (/^(GET|HEAD|OPTIONS)$/.test(request.method)) return;
  const { origin, host = '', 'sec-fetch-site': site } = request.headers;
  const foreign = site === 'cross-site' || site === 'same-site' || (origin !== undefined && !isOriginOf(origin, host));
  if (foreign)
    throw new ServiceError('CROSS_SITE', `${request.method} was sent by a page of another site (${(origin ?? 'unknown').slice(0, 200)}).`);
}

/** Whether pages of an origin are served under this Host; the scheme may differ where a proxy adds TLS. */
function isOriginOf(origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false;
  const { protocol, host: own } = new URL(origin);
  return own !== '' && URL.canParse(`${protocol}//${host}`) && own === new URL(`${protocol}//${host}`).host;
}
