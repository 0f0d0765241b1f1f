import { randomUUID } from 'node:crypto';
import { fastifySSE } from '@fastify/sse';
import type { JobQueue, Store } from '@octet/store';
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify';
import type { ApiConfig } from './config.js';
import { acceptMultipart } from './http/intake.js';
import { announceClosing } from './http/signals.js';
import { Staging } from './http/staging.js';
import { guard } from './plugins/guard.js';
import { requireKeys } from './plugins/keys.js';
import { describeApi } from './plugins/openapi.js';
import { answerWithProblems, problemForClientError, refuseOtherMethods, sendProblem } from './plugins/problem.js';
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
}

/** The HTTP service over a store and a queue, which stay the caller's to close. Not listening yet. */
export async function createApi({ store, queue, config, log }: ApiParts): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: log,
    genReqId: () => randomUUID(),
    bodyLimit: config.configBytes,
    trustProxy: config.trustProxy,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 200, ignoreTrailingSlash: true },
    clientErrorHandler(error, socket) {
      if (error.code === 'ECONNRESET' || !socket.writable) return;
      socket.end(problemForClientError(error));
    },
    frameworkErrors(error, request, reply) {
      request.log.debug({ err: error }, 'refused before any route');
      sendProblem(error, request, reply);
    },
  });
  const routes = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    const known = routes.get(url) ?? new Set<string>();
    for (const one of [method].flat()) known.add(one);
    routes.set(url, known);
  });

  app.removeContentTypeParser('text/plain');
  checkWithTypebox(app);
  announceClosing(app);
  answerWithProblems(app);
  requireKeys(app, config.apiKeys);
  await guard(app, config);
  await app.register(fastifySSE, { heartbeatInterval: config.heartbeatMs });
  acceptMultipart(app);
  await describeApi(app, version);

  const uploads = new UploadService(store, new Inspector(config, log));
  const jobs = new JobService(store, queue, log);
  const context = { config, store, uploads, jobs };
  await app.register(healthRoutes, { store, queue });
  await app.register(pageRoutes);
  for (const group of [modelRoutes, datasetRoutes, jobRoutes, eventRoutes, resultRoutes]) await app.register(group, { context });
  refuseOtherMethods(app, routes);
  app.addHook('onReady', () => Staging.sweep(config.tempDirectory));
  return app;
}
