import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { ServiceError } from '@octet/contracts';
import type { JobQueue, Store } from '@octet/store';
import Type from 'typebox';
import { version } from '../version.js';
import { problems } from './schemas.js';

const tags = ['service'];
const answerWithinMs = 3_000;

/** Whether the process lives, whether it can work, and what it is. */
export const healthRoutes: FastifyPluginAsyncTypebox<{ store: Store; queue: JobQueue }> = async (app, { store, queue }) => {
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store');
  });

  app.get(
    '/livez',
    {
      schema: {
        tags,
        operationId: 'live',
        summary: 'Whether the process lives',
        security: [],
        response: { 200: Type.Object({ status: Type.Literal('ok') }) },
      },
    },
    async () => ({ status: 'ok' as const }),
  );

  app.get(
    '/readyz',
    {
      schema: {
        tags,
        operationId: 'ready',
        summary: 'Whether database and queue answer',
        security: [],
        response: {
          200: Type.Object({ status: Type.Literal('ok'), database: Type.Literal('ok'), queue: Type.Literal('ok') }),
          ...problems,
        },
      },
    },
    async () => {
      if (app.closing.aborted) throw new ServiceError('SHUTTING_DOWN', 'The service is stopping.');
      await Promise.all([inTime(store.ping(), 'DATABASE_UNAVAILABLE'), inTime(queue.ping(), 'QUEUE_UNAVAILABLE')]);
      return { status: 'ok' as const, database: 'ok' as const, queue: 'ok' as const };
    },
  );

  app.get(
    '/version',
    {
      schema: {
        tags,
        operationId: 'version',
        summary: 'Version of the service',
        security: [],
        response: { 200: Type.Object({ name: Type.Literal('octet'), version: Type.String(), node: Type.String(), queue: Type.String() }) },
      },
    },
    async () => ({ name: 'octet' as const, version, node: process.versions.node, queue: queue.backend }),
  );
};

async function inTime(check: Promise<void>, code: 'DATABASE_UNAVAILABLE' | 'QUEUE_UNAVAILABLE'): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new ServiceError(code, `No answer within ${answerWithinMs / 1000} s.`)), answerWithinMs);
  });
  try {
    await Promise.race([check, late]);
  } finally {
    clearTimeout(timer);
  }
}
