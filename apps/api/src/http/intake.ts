import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { ConfigError, ServiceError } from '@octet/contracts';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { bytesOf } from './body.js';
import { parseJson } from './json.js';
import { boundaryOf, partsOf } from './multipart.js';
import { readText, type StagedFile, type StageLimits, type Staging } from './staging.js';

/** What may come in a part: a file within limits, several such parts of one name, or a text of so many bytes. */
export type PartRule = { file: StageLimits } | { files: StageLimits } | { text: number };

export interface Intake {
  files: Map<string, StagedFile>;
  /** Files of parts that may come several times. */
  lists: Map<string, StagedFile[]>;
  texts: Map<string, string>;
}

/** Content types whose body is the file itself. */
export const fileTypes = [
  'application/octet-stream',
  'application/zip',
  'application/x-zip-compressed',
  'application/gzip',
  'application/x-npy',
  'application/x-npz',
  'application/onnx',
  'text/csv',
];

declare module 'fastify' {
  interface FastifyRequest {
    /** Whether the body is multipart/form-data, to be read with `readParts`. */
    isMultipart(): boolean;
  }
}

/** Multipart bodies anywhere below; the stream goes to the route unread. */
export function acceptMultipart(app: FastifyInstance): void {
  app.addContentTypeParser('multipart/form-data', (_request, payload, done) => done(null, payload));
  app.decorateRequest('isMultipart', function (this: FastifyRequest) {
    return /^multipart\/form-data\s*(;|$)/i.test(this.headers['content-type'] ?? '');
  });
}

/** Bodies that are a file: the stream goes to the route unread. */
export function acceptFiles(app: FastifyInstance): void {
  app.addContentTypeParser(fileTypes, (_request, payload, done) => done(null, payload));
}

/**
 * Read a multipart body whose parts come in any order.
 * @throws ServiceError MULTIPART_INVALID for an unknown, repeated or missing part, and whatever `Staging.write` throws
 */
export async function readParts(
  request: FastifyRequest,
  staging: Staging,
  rules: Record<string, PartRule>,
  required: readonly string[],
): Promise<Intake> {
  const intake: Intake = { files: new Map(), lists: new Map(), texts: new Map() };
  const names = Object.keys(rules).join(', ');
  const limitsOf = (rule: PartRule) => ('file' in rule ? rule.file : 'files' in rule ? rule.files : undefined);
  const idleMs = Math.max(0, ...Object.values(rules).map((rule) => limitsOf(rule)?.idleMs ?? 0));
  const boundary = boundaryOf(request.headers['content-type'] ?? '');
  for await (const { name, fileName, body } of partsOf(bytesOf(request.raw, idleMs), boundary)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    if (rule === undefined)
      throw new ServiceError('MULTIPART_INVALID', `There is no part ${JSON.stringify(name)} here.`, {
        hint: `Parts of this request: ${names}.`,
      });
    if (intake.files.has(name) || intake.texts.has(name)) throw new ServiceError('MULTIPART_INVALID', `The part "${name}" came twice.`);
    if ('file' in rule) intake.files.set(name, await staging.write(body, name, fileName ?? '', rule.file));
    else if ('files' in rule)
      intake.lists.set(name, [...(intake.lists.get(name) ?? []), await staging.write(body, name, fileName ?? '', rule.files)]);
    else intake.texts.set(name, await readText(body, name, rule.text));
  }
  const missing = required.filter((name) => !intake.files.has(name) && !intake.lists.has(name) && !intake.texts.has(name));
  if (missing.length > 0) {
    const errors = missing.map((name) => ({ pointer: `/${name}`, detail: 'is missing' }));
    throw new ServiceError('MULTIPART_INVALID', `The part ${missing.map((name) => `"${name}"`).join(' and ')} is missing.`, {
      errors,
      hint: `Parts of this request: ${names}.`,
    });
  }
  return intake;
}

/** A body that is one file. @throws ServiceError UNSUPPORTED_MEDIA_TYPE, BODY_EMPTY and whatever `Staging.write` throws */
export async function readFileBody(request: FastifyRequest, staging: Staging, fileName: string, limits: StageLimits): Promise<StagedFile> {
  if (request.body === undefined || request.body === null) throw new ServiceError('BODY_EMPTY', 'The request has no body.');
  if (!(request.body instanceof Readable)) {
    throw new ServiceError(
      'UNSUPPORTED_MEDIA_TYPE',
      `A file is wanted here, not ${request.headers['content-type'] ?? 'a body without a type'}.`,
      {
        hint: 'Send multipart/form-data with a part "file", or the file itself as application/octet-stream.',
      },
    );
  }
  return staging.write(bytesOf(request.body, limits.idleMs), 'file', fileName, limits);
}

/** A text that should be one JSON object. @throws ServiceError JSON_INVALID */
export function parseJsonObject(text: string, name: string): Record<string, unknown> {
  const value = parseJson(text, `"${name}"`);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ServiceError('JSON_INVALID', `"${name}" must be a JSON object.`);
  return value as Record<string, unknown>;
}

/** Run a parser of contracts on a field of the request, so that its pointers start at that field. */
export function within<T>(pointer: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof ConfigError)
      throw new ConfigError(
        error.code,
        error.errors.map((one) => ({ ...one, pointer: pointer + one.pointer })),
      );
    throw error;
  }
}

/** A fingerprint of what a request asks for: the same content gives the same text, whatever the order of parts or keys. */
export function fingerprintOf(content: unknown): string {
  const sorted = JSON.stringify(content, (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash('sha256').update(sorted).digest('hex');
}
