import { EventSchema, isTerminal, pageOf, ServiceError } from '@octet/contracts';
import Type from 'typebox';
import { preferredType } from '../http/accept.js';
import { goneSignal } from '../http/signals.js';
import type { Routes } from './context.js';
import { idParams, problems } from './schemas.js';

const reconnectMs = 2_000;
const eventNumber = Type.String({ pattern: '^[0-9]{1,15}$', description: 'Number of the last event seen.' });

/** What happened to a job: as a list, or as it happens. */
export const eventRoutes: Routes = async (app, { context: { jobs } }) => {
  app.get(
    '/v1/jobs/:id/events',
    {
      sse: 'dual',
      schema: {
        tags: ['jobs'],
        operationId: 'listEvents',
        summary: 'The events of a job',
        description:
          'JSON in pages, or with `Accept: text/event-stream` as they happen: past events first (those after `Last-Event-ID` or `cursor`), and an event `end` ' +
          'with the job when it has finished, after which the stream ends.',
        params: idParams('job'),
        headers: Type.Object({ 'last-event-id': Type.Optional(eventNumber) }),
        querystring: Type.Object(
          {
            cursor: Type.Optional(eventNumber),
            limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, description: 'Events of a page; 500 when left out.' })),
          },
          { additionalProperties: false },
        ),
        response: {
          200: {
            description: 'Events, in order.',
            content: { 'application/json': { schema: pageOf(EventSchema) }, 'text/event-stream': { schema: Type.String() } },
          },
          204: Type.Null({ description: 'The job has finished and the client has seen all of its events.' }),
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const { cursor, limit = 500 } = request.query;
      reply.header('vary', 'accept');
      if (reply.sse === undefined) {
        preferredType(request.headers.accept, ['application/json']);
        return jobs.events(id, Number(cursor ?? 0), limit);
      }

      const after = Number(request.headers['last-event-id'] ?? cursor ?? 0);
      const job = await jobs.get(id);
      // A client that has seen all reconnects for ever; 204 tells it to stop.
      if (isTerminal(job.state) && (await jobs.events(id, after, 1)).items.length === 0) return reply.code(204).send(null);

      const signal = goneSignal(app, reply);
      const gone = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      const { sse } = reply;
      sse.sendHeaders();
      reply.raw.write(`retry: ${reconnectMs}\n\n`);
      try {
        for await (const event of jobs.follow(id, after, signal)) {
          // A reader that hangs holds the stream back, not the memory of the service.
          await Promise.race([sse.send({ id: String(event.seq), event: event.type, data: event }), gone]);
          if (signal.aborted) return;
        }
        if (!signal.aborted) await sse.send({ event: 'end', data: await jobs.get(id) });
      } catch (error) {
        // A client that leaves while the next event is read is no error.
        if (!sse.isConnected) return;
        if (!(error instanceof ServiceError)) throw error;
        request.log.warn({ err: error }, 'an event stream broke off');
      }
    },
  );
};
