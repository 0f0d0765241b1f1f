import { idPattern, ProblemSchema } from '@octet/contracts';
import Type from 'typebox';

/** Pieces that the schemas of several routes share. */

/** Answers with an error, for the OpenAPI document. */
export const problems = Object.fromEntries(
  (
    [
      ['4xx', 'What is wrong with the request.'],
      ['5xx', 'The service cannot answer now.'],
    ] as const
  ).map(([status, description]) => [status, { description, content: { 'application/problem+json': { schema: ProblemSchema } } }]),
);

export const idParams = (kind: 'model' | 'dataset' | 'job' | 'artifact') => Type.Object({ id: Type.String({ pattern: idPattern(kind) }) });

export const pageQuery = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, description: 'Rows of a page; 50 when left out.' })),
  cursor: Type.Optional(Type.String({ maxLength: 100, description: '`nextCursor` of the page before.' })),
};

export const idempotencyHeader = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({ description: 'The same key and body again gets the answer of the first time, for 24 hours.' }),
  ),
});

/** A file in a multipart body. */
export const BinaryPart = (text: string) =>
  Type.Unsafe<unknown>({ type: 'string', contentMediaType: 'application/octet-stream', description: text });

/** The files of a model's external data, each a part of this name. */
export const ExternalParts = Type.Optional(
  Type.Array(BinaryPart('A file of external data of the model, such as model.onnx.data, under the file name that the model has for it.')),
);
/** Reads of one resource: 304 to a client that has it already. */
export const ifNoneMatch = Type.Object({
  'if-none-match': Type.Optional(Type.String({ description: 'ETag of an earlier answer; 304 when nothing has changed since.' })),
});

/** Changes of one resource: 412 when it has changed since the client saw it. */
export const ifMatch = Type.Object({
  'if-match': Type.Optional(Type.String({ description: 'ETag of an earlier answer; 412 when the resource has changed since.' })),
});

/** Answers without a body. */
export const empty = (description: string) => Type.Null({ description });
export const notModified = { 304: empty('Nothing has changed since the ETag of If-None-Match.') };
