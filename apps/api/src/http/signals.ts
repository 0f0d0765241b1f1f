import type { FastifyInstance, FastifyReply } from 'fastify';

declare module 'fastify' {
  interface FastifyInstance {
    /** Fires when the service begins to stop. */
    closing: AbortSignal;
  }
}

/** Gives the app a signal that fires when it begins to stop, so that waiting requests can be answered at once. */
export function announceClosing(app: FastifyInstance): void {
  const controller = new AbortController();
  app.decorate('closing', controller.signal);
  app.addHook('preClose', async () => controller.abort());
}

/** Fires when nobody waits for this answer any more, or the service stops. */
export function goneSignal(app: FastifyInstance, reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  const abort = () => controller.abort();
  if (app.closing.aborted) abort();
  app.closing.addEventListener('abort', abort, { once: true });
  reply.raw.once('close', () => {
    app.closing.removeEventListener('abort', abort);
    abort();
  });
  return controller.signal;
}
