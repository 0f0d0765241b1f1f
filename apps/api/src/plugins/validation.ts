import { fieldErrors, ServiceError } from '@octet/contracts';
import type { FastifyInstance, FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import Value from 'typebox/value';

/**
 * Query strings, path parameters and headers are converted and checked against the route's schema; unknown query parameters are errors
 * where the schema closes them. Bodies are left to the parsers of contracts, which answer 422 with a pointer to each wrong field.
 */
const compile: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  if (httpPart === 'body') return (value: unknown) => ({ value });
  return (value: unknown) => {
    const converted: unknown = Value.Convert(schema, value);
    const errors = fieldErrors(schema, converted);
    if (errors.length === 0) return { value: converted };
    if (httpPart === 'params') return { error: new ServiceError('NOT_FOUND', `There is nothing with the id ${show(value)}.`) };
    const where = httpPart === 'querystring' ? 'query string' : 'header';
    return {
      error: new ServiceError('VALIDATION', `The ${where} does not fit: ${errors.map((e) => `${e.pointer} ${e.detail}`).join('; ')}.`, {
        errors,
      }),
    };
  };
};

/** Schemas of routes check requests; for responses they are documentation, held by tests. */
export function checkWithTypebox(app: FastifyInstance): void {
  app.setValidatorCompiler(compile);
  app.setSerializerCompiler(() => (data: unknown) => JSON.stringify(data));
}

function show(params: unknown): string {
  return Object.values(params as Record<string, unknown>)
    .map((value) => JSON.stringify(String(value).slice(0, 80)))
    .join(', ');
}
