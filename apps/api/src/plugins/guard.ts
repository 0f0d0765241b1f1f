import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import underPressure from '@fastify/under-pressure';
import { ServiceError } from '@octet/contracts';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ApiConfig } from '../config.js';

const retryAfterSeconds = 5;

/** Paths that say whether the service lives; no limit may silence them. */
function isProbe(request: FastifyRequest): boolean {
  return /^\/(livez|readyz|version)\b/.test(request.url);
}

/** Security headers, a rate limit for each key or address, and 503 before the process drowns. */
export async function guard(app: FastifyInstance, config: ApiConfig): Promise<void> {
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", 'data:'],
        baseUri: ["'none'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
      },
    },
    // Reached over plain HTTP on a loopback address as often as behind TLS, where the proxy decides.
    strictTransportSecurity: false,
  });

  await app.register(underPressure, {
    maxEventLoopDelay: config.maxEventLoopDelayMs,
    maxRssBytes: config.maxRssBytes,
    pressureHandler: (request, reply, type, value) => {
      if (isProbe(request)) return;
      reply.header('retry-after', retryAfterSeconds);
      throw new ServiceError('OVERLOADED', `The service is under pressure (${type}${value === undefined ? '' : ` ${Math.round(value)}`}).`);
    },
  });

  if (config.requestsPerMinute === 0) return;
  await app.register(rateLimit, {
    max: config.requestsPerMinute,
    timeWindow: 60_000,
    enableDraftSpec: true,
    allowList: isProbe,
    keyGenerator: (request) => request.apiKeyName ?? request.ip,
    errorResponseBuilder: (_request, context) =>
      new ServiceError('RATE_LIMITED', `More than ${context.max} requests in a minute; try again in ${context.after}.`),
  });
  // Before the handler for streams that write past Fastify, before sending for answers that never reach a handler.
  app.addHook('preParsing', async (_request, reply) => renameHeaders(reply));
  app.addHook('onSend', async (_request, reply) => renameHeaders(reply));
}

/** The plugin writes the headers of an old draft; these are the ones of draft-ietf-httpapi-ratelimit-headers-10. */
function renameHeaders(reply: FastifyReply): void {
  const limit = reply.getHeader('ratelimit-limit');
  if (limit === undefined) return;
  const [remaining, reset] = [reply.getHeader('ratelimit-remaining'), reply.getHeader('ratelimit-reset')];
  for (const old of ['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset']) reply.removeHeader(old);
  reply.header('ratelimit-policy', `"default";q=${String(limit)};w=60`);
  reply.header('ratelimit', `"default";r=${String(remaining)};t=${String(reset)}`);
}
