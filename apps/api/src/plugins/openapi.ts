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
    transformObject: (document) => ('openapiObject' in document ? tidy(document.openapiObject) : document.swaggerObject),
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

/**
 * The document as generators of clients like it: schemas with a title become components, fields with a default may be left out of
 * requests, and HEAD, which shares its operation with GET, is not listed.
 */
function tidy<D extends object>(document: D): D {
  const schemas: Record<string, unknown> = {};
  const name = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(name);
    if (!isRecord(value)) return value;
    const copy = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, name(item)]));
    const { title } = value;
    if (typeof title !== 'string' || value.type !== 'object') return copy;
    schemas[title] ??= /^Job(Request|Settings)$/.test(title) ? optionalDefaults(copy) : copy;
    return { $ref: `#/components/schemas/${title}` };
  };
  const { paths, components, ...rest } = document as Record<string, unknown>;
  const named = name(paths) as Record<string, Record<string, unknown>>;
  for (const operations of Object.values(named)) delete operations.head;
  return { ...rest, paths: named, components: { ...(components as object), schemas } } as unknown as D;
}

function optionalDefaults(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(optionalDefaults);
  if (!isRecord(schema)) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, item]) => [key, optionalDefaults(item)]));
  const { required, properties } = copy;
  if (!Array.isArray(required) || !isRecord(properties)) return copy;
  const needed = required.filter((key: string) => !isRecord(properties[key]) || !('default' in properties[key]));
  return needed.length > 0 ? { ...copy, required: needed } : Object.fromEntries(Object.entries(copy).filter(([key]) => key !== 'required'));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
