import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';

const description = `Send a float ONNX model and a labelled dataset; get an int8 model back, with evidence of what the conversion cost.

Errors are \`application/problem+json\` (RFC 9457); [every code](/docs/errors) says what to do. Lists are read in pages with \`cursor\`.
Each POST that creates something takes an \`Idempotency-Key\`.`;

/** The OpenAPI document out of the route schemas, at /openapi.json, and a page to read and try it, at /docs. */
export async function describeApi(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Octet', version, description, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      servers: [{ url: '/' }],
      tags: [
        { name: 'jobs', description: 'Quantization jobs and their results' },
        { name: 'models', description: 'Float models' },
        { name: 'datasets', description: 'Training and evaluation data' },
        { name: 'service', description: 'Health and description of the service' },
      ],
      components: {
        securitySchemes: {
          key: { type: 'http', scheme: 'bearer', description: 'Needed where the service is reachable from other machines.' },
        },
      },
      security: [{}, { key: [] }],
    },
    convertConstToEnum: false,
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { docExpansion: 'list', deepLinking: true, tryItOutEnabled: true },
    staticCSP: `default-src 'self'; base-uri 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; frame-ancestors 'none'`,
  });
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) =>
    reply.header('cache-control', 'no-cache').send(app.swagger()),
  );
}
