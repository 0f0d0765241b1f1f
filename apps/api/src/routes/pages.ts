import type { FastifyPluginAsync } from 'fastify';
import { errorsHtml, errorsMarkdown } from '../pages/errors.js';
import { homeHtml } from '../pages/home.js';
import { version } from '../version.js';

/** Pages for people: what is here, and what each error means. */
export const pageRoutes: FastifyPluginAsync = async (app) => {
  app.get('/', { schema: { hide: true } }, async (request, reply) =>
    reply.type('text/html; charset=utf-8').send(homeHtml(`${request.protocol}://${request.host}`, version)),
  );
  app.get('/docs/errors', { schema: { hide: true } }, async (_request, reply) => reply.type('text/html; charset=utf-8').send(errorsHtml()));
  app.get('/docs/errors.md', { schema: { hide: true } }, async (_request, reply) =>
    reply.type('text/markdown; charset=utf-8').send(errorsMarkdown()),
  );
};
