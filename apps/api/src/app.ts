import { randomUUID } from 'node:crypto';
import { fastifySSE } from '@fastify/sse';
import type { JobQueue, Store } from '@octet/store';
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify';
import type { ApiConfig } from './config.js';
import { acceptMultipart } from './http/intake.js';
import { announceClosing } from './http/signals.js';
import { Staging } from './http/staging.js';
import { answerUnreadable, refuseMethod } from './http/unreadable.js';
import { limitBodies } from './plugins/bodies.js';
import { guard } from './plugins/guard.js';
import { refuseOtherSites } from './plugins/hosts.js';
import { requireKeys } from './plugins/keys.js';
import { refuseOtherMethods } from './plugins/methods.js';
import { describeApi } from './plugins/openapi.js';
import { answerWithProblems, sendProblem } from './plugins/problem.js';
import { checkWithTypebox } from './plugins/validation.js';
import { datasetRoutes } from './routes/datasets.js';
import { eventRoutes } from './routes/events.js';
import { healthRoutes } from './routes/health.js';
import { jobRoutes } from './routes/jobs.js';
import { modelRoutes } from './routes/models.js';
import { pageRoutes } from './routes/pages.js';
import { resultRoutes } from './routes/results.js';
import { Inspector } from './services/inspector.js';
import { JobService } from './services/jobs.js';
import { UploadService } from './services/uploads.js';
import { version } from './version.js';

export interface ApiParts {
  store: Store;
  queue: JobQueue;
  config: ApiConfig;
  log: FastifyBaseLogger;
  /** Another module with the commands of job processes. */
  testing?: { module?: string | undefined };
}

/** The HTTP service over a store and a queue, which stay the caller's to close. Not listening yet. */
export async function createApi({ store, queue, config, log, testing = {} }: ApiParts): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: log,
    genReqId: () => randomUUID(),
    bodyLimit: config.configBytes,
    trustProxy: config.trustProxy,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 200, ignoreTrailingSlash: true },
    // Bodies have clocks of their own; the headers must come within a time.
    http: { headersTimeout: config.headersMs, requestTimeout: 0, connectionsCheckingInterval: Math.min(2_000, config.headersMs / 2) },
    // A target may carry its scheme and authority (RFC 9112, section 3.2.2).
    rewriteUrl: ({ url = '/' }) => url.replace(/^https?:\/\/[^/?#]*\/?/i, '/'),
    clientErrorHandler: (error, socket) => answerUnreadable(error, socket, methods),
    frameworkErrors(error, request, reply) {
      request.log.debug({ err: error }, 'refused before any route');
      sendProblem(error, request, reply);
    },
  });
  checkWithTypebox(app);
  announceClosing(app);
  answerWithProblems(app);
  if (config.apiKeys.length === 0) refuseOtherSites(app, config);
  requireKeys(app, config.apiKeys, config.wrongKeysPerMinute);
  await guard(app, config);
  limitBodies(app, config.jsonMs);
  const methods = refuseOtherMethods(app);
  // An unknown expectation may be ignored (RFC 9110, section 10.1.1).
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response));
  app.server.on('connect', (request, socket) => socket.end(refuseMethod('CONNECT', `/${request.url ?? ''}`, methods)));
  await app.register(fastifySSE, { heartbeatInterval: config.heartbeatMs });
  acceptMultipart(app);
  await describeApi(app, version);

  const uploads = new UploadService(store, new Inspector(config, log, testing.module));
  const jobs = new JobService(store, queue, log);
  const context = { config, store, uploads, jobs };
  await app.register(healthRoutes, { store, queue });
  await app.register(pageRoutes);
  for (const group of [modelRoutes, datasetRoutes, jobRoutes, eventRoutes, resultRoutes]) await app.register(group, { context });
  app.addHook('onReady', () => Staging.sweep(config.tempDirectory));
  return app;
}
