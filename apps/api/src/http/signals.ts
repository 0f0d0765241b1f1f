import { ServiceError } from '@octet/contracts';
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
  // A connection that was busy when the stop began is idle now; keep-alive would hold the stop up.
  app.addHook('onResponse', async () => {
    if (controller.signal.aborted) setImmediate(() => app.server.closeIdleConnections());
  });
}

/** Fires when the client has gone, or the service stops. */
export function goneSignal(app: FastifyInstance, reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  const stop = () => controller.abort(new ServiceError('SHUTTING_DOWN', 'The service stopped before this was done.'));
  if (app.closing.aborted) stop();
  app.closing.addEventListener('abort', stop, { once: true });
  reply.raw.once('close', () => {
    app.closing.removeEventListener('abort', stop);
    controller.abort(new ServiceError('UPLOAD_ABORTED', 'The client closed the connection before the answer.'));
  });
  return controller.signal;
}
