import fc from 'fast-check';
import Value from 'typebox/value';
import { damaged, type JsonSchema, oddText, valuesOf } from './values.js';

/** A client that knows a service by its OpenAPI document alone: it makes requests out of the document and holds the answers against it. */

interface Parameter {
  in: 'path' | 'query' | 'header';
  name: string;
  required?: boolean;
  schema: JsonSchema;
}

interface Content {
  [mediaType: string]: { schema?: JsonSchema };
}

interface Operation {
  operationId: string;
  parameters?: Parameter[];
  requestBody?: { content: Content };
  responses: Record<string, { description: string; content?: Content }>;
}

export interface OpenApiDocument {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, JsonSchema> };
}

export interface GeneratedRequest {
  operation: Operation;
  method: string;
  /** With its query. */
  path: string;
  headers: Record<string, string>;
  body: string | Buffer<ArrayBuffer> | undefined;
}

export interface ClientOptions {
  /** Ids that exist, by the first three letters. */
  ids: Record<string, readonly string[]>;
  /** Files for bodies and parts that are files. */
  files: readonly Buffer[];
  /** What takes the place of the document's schema for a query parameter, so that nothing waits for a minute. */
  query?: Record<string, JsonSchema>;
}

/** The document with every reference replaced by what it means. */
export function withoutReferences(document: OpenApiDocument): OpenApiDocument {
  const replace = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(replace);
    if (typeof value !== 'object' || value === null) return value;
    const reference = '$ref' in value ? /^#\/components\/schemas\/(\w+)$/.exec(String(value.$ref))?.[1] : undefined;
    if (reference !== undefined) return replace(document.components.schemas[reference]);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replace(item)]));
  };
  return replace(document) as OpenApiDocument;
}

/** Requests of all operations: most of them as the document wants them, some with a wrong id, parameter, header, type or body. */
export function requestsOf(document: OpenApiDocument, options: ClientOptions): fc.Arbitrary<GeneratedRequest> {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => requestOf(method.toUpperCase(), path, operation, options)),
  );
  return fc.oneof(...operations);
}

const rarely = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 6, arbitrary: usual }, { weight: 1, arbitrary: odd });

function requestOf(method: string, path: string, operation: Operation, options: ClientOptions): fc.Arbitrary<GeneratedRequest> {
  const { parameters = [], requestBody } = operation;
  const texts = (place: Parameter['in']): fc.Arbitrary<Record<string, string>> => {
    const entries = parameters
      .filter((one) => one.in === place)
      .map(({ name, required = false, schema }): fc.Arbitrary<[string, string][]> => {
        const usual = valuesOf(options.query?.[name] ?? withIds(schema, options.ids)).map(String);
        const present = rarely(usual, oddText).map((value): [string, string][] => [[name, value]]);
        return required ? present : fc.oneof(fc.constant<[string, string][]>([]), present);
      });
    return fc.tuple(...entries).map((all) => Object.fromEntries(all.flat()));
  };
  return fc
    .record({
      path: texts('path'),
      query: fc.tuple(
        texts('query'),
        rarely<Record<string, string>>(fc.constant({}), fc.dictionary(fc.string({ maxLength: 8 }), oddText, { maxKeys: 2 })),
      ),
      headers: fc.tuple(
        rarely<Record<string, string>>(fc.constant({}), texts('header')),
        rarely<Record<string, string>>(fc.constant({}), moreHeaders),
      ),
      body: requestBody === undefined ? rarely(fc.constant(noBody), strayBody) : bodyOf(requestBody.content, options),
    })
    .map(({ path: values, query, headers, body }) => {
      const place = path.replace(/\{(\w+)\}/g, (_all, name: string) => encode(values[name] || '-'));
      const search = Object.entries({ ...query[1], ...query[0] }).map(([name, value]) => `${encode(name)}=${encode(value)}`);
      return {
        operation,
        method,
        path: place + (search.length === 0 ? '' : `?${search.join('&')}`),
        headers: sendable({ ...headers[1], ...headers[0], ...body.headers }),
        body: body.body,
      };
    });
}

interface Body {
  headers: Record<string, string>;
  body: string | Buffer<ArrayBuffer> | undefined;
}

const noBody: Body = { headers: {}, body: undefined };
const strayBody: fc.Arbitrary<Body> = fc.record({
  headers: fc.constantFrom({ 'content-type': 'application/json' }, { 'content-type': 'text/plain' }, { 'content-type': 'x' }),
  body: fc.constantFrom('', '{}', '{"', 'x'),
});

const moreHeaders: fc.Arbitrary<Record<string, string>> = fc.record<Record<string, string>>(
  {
    accept: fc.constantFrom('application/json', '*/*', 'text/markdown', 'image/png', 'text/*;q=0, */*;q=0.1', ';'),
    range: fc.oneof(
      fc.constantFrom('bytes=0-0', 'bytes=-1', 'bytes=5-', 'bytes=9-3', 'bytes=0-1,2-3', 'bytes=99999999999999999999-', 'lines=1-2'),
      oddText,
    ),
    'if-range': oddText,
    'if-match': fc.oneof(fc.constantFrom('*', '"a"'), oddText),
    'if-none-match': fc.oneof(fc.constantFrom('*', '"a", W/"b"'), oddText),
    'if-modified-since': fc.oneof(fc.constant('Thu, 01 Jan 2099 00:00:00 GMT'), oddText),
    'last-event-id': oddText,
    authorization: oddText,
    cookie: oddText,
  },
  { requiredKeys: [] },
);

function bodyOf(content: Content, options: ClientOptions): fc.Arbitrary<Body> {
  const kinds = Object.entries(content).map(([type, { schema = {} }]) => {
    const headers = { 'content-type': type };
    if (type === 'application/json') {
      const json = valuesOf(withIds(schema, options.ids));
      const texts = fc.oneof(
        { weight: 4, arbitrary: json.map((value) => JSON.stringify(value)) },
        { weight: 3, arbitrary: json.chain(damaged).map((value) => JSON.stringify(value) ?? '') },
        { weight: 1, arbitrary: oddText },
      );
      return texts.map((body): Body => ({ headers, body }));
    }
    if (type === 'multipart/form-data') return formOf(schema, options);
    return fileOf(options).map((body): Body => ({ headers, body }));
  });
  return rarely(fc.oneof(...kinds), fc.oneof(strayBody, fc.constant(noBody)));
}

const fileOf = ({ files }: ClientOptions): fc.Arbitrary<Buffer<ArrayBuffer>> =>
  fc.oneof(
    fc.constantFrom(...files.map((file) => Buffer.from(file))),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    fc.tuple(fc.constantFrom(...files), fc.nat()).map(([file, cut]) => Buffer.from(file.subarray(0, cut % (file.length + 1)))),
  );

function formOf(schema: JsonSchema, options: ClientOptions): fc.Arbitrary<Body> {
  const parts = Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const value =
      'contentMediaType' in property
        ? fileOf(options)
        : valuesOf(property).map((one) => Buffer.from(typeof one === 'string' ? one : JSON.stringify(one)));
    return fc.record({
      name: rarely(fc.constant(name), oddText),
      value: rarely(value, fileOf(options)),
      times: rarely(fc.constant(1), fc.constantFrom(0, 2)),
    });
  });
  return fc
    .tuple(fc.tuple(...parts), rarely(fc.constant('\r\n--octet--\r\n'), fc.constantFrom('', '\r\n--octet', '\r\n--octet\r\n', '--')))
    .map(([all, end]): Body => {
      const pieces = all.flatMap(({ name, value, times }) =>
        Array.from({ length: times }, () => [
          Buffer.from(`\r\n--octet\r\nContent-Disposition: form-data; name="${name}"; filename="f"\r\n\r\n`),
          value,
        ]).flat(),
      );
      return {
        headers: { 'content-type': 'multipart/form-data; boundary=octet' },
        body: Buffer.concat([...pieces, Buffer.from(end)]).subarray(2),
      };
    });
}

/** A pattern of ids becomes a choice of those that exist, and sometimes any that fits. */
function withIds(schema: JsonSchema, ids: ClientOptions['ids']): JsonSchema {
  const kind = /^\^([a-z]{3})_\[/.exec(schema.pattern ?? '')?.[1];
  const existing = kind === undefined ? undefined : ids[kind];
  if (existing !== undefined && existing.length > 0)
    return { anyOf: [...Array.from({ length: 9 }, () => ({ enum: [...existing] })), schema] };
  if (schema.properties === undefined) return schema;
  return { ...schema, properties: Object.fromEntries(Object.entries(schema.properties).map(([name, one]) => [name, withIds(one, ids)])) };
}

/** Lone surrogates cannot be encoded, and a URL library would take dots for folders. */
const encode = (text: string) => encodeURIComponent(text.replace(/\p{Surrogate}/gu, '?')).replaceAll('.', '%2E');

/** Headers that can be sent: the characters of Latin-1 that are not control characters. */
function sendable(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.replace(/[^\x20-\x7e\xa0-\xff]/g, '?').trim()]));
}

/** Send a request and read its answer. */
export async function send(url: string, { method, path, headers, body }: GeneratedRequest): Promise<{ answer: Response; text: string }> {
  const answer = await fetch(url + path, {
    method,
    headers,
    redirect: 'manual',
    ...(body === undefined || method === 'GET' ? {} : { body }),
  });
  return { answer, text: await answer.text() };
}

/** What in an answer is not as the document says. */
export function complaints(operation: Operation, answer: Response, text: string): string[] {
  const { status } = answer;
  const declared = operation.responses[status] ?? operation.responses[`${Math.floor(status / 100)}XX`];
  if (status >= 500) return [`the status is ${status}`];
  if (declared === undefined) return [`the status ${status} is not declared`];
  const type = (answer.headers.get('content-type') ?? '').split(';', 1)[0] ?? '';
  if (declared.content === undefined) return text === '' ? [] : [`${status} has a body and should have none`];
  const content = declared.content[type] ?? declared.content['*/*'];
  if (content === undefined) return [`${status} has the type "${type}", declared are ${Object.keys(declared.content).join(', ')}`];
  if (status === 206 || !/json$/.test(type) || content.schema === undefined) return [];
  const value: unknown = JSON.parse(text);
  const wrong = [...Value.Errors(content.schema as never, value)].map((error) => `${error.instancePath} ${error.message}`);
  if (type === 'application/problem+json' && (value as { status: number }).status !== status) wrong.push('the problem has another status');
  return wrong;
}
