import { ArtifactSchema } from '@octet/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import Type from 'typebox';
import { preferredType } from '../http/accept.js';
import { sendFile } from '../http/files.js';
import type { Routes } from './context.js';
import { idParams, notModified, problems } from './schemas.js';

const tags = ['jobs'];
const params = idParams('job');
const reportTypes = {
  'application/json': { schema: Type.Object({}, { additionalProperties: true }) },
  'text/markdown': { schema: Type.String() },
};
const file = (description: string, type: string) => ({
  description,
  content: { [type]: { schema: Type.Unsafe<unknown>({ description }) } },
});
const download = (description: string, type: string) => ({
  200: file(description, type),
  206: file('The part of it that Range asks for.', type),
  ...notModified,
  ...problems,
});

/** What finished jobs made: the int8 model, the accuracy report, any artifact. */
export const resultRoutes: Routes = async (app, { context: { store, jobs } }) => {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/jobs/:id/model',
    schema: {
      tags,
      operationId: 'getJobModel',
      summary: 'The int8 model',
      description: 'Answers Range, If-Range and If-None-Match; the ETag is the SHA-256 of the file. 409 until the job has finished.',
      params,
      querystring: Type.Object({ format: Type.Optional(Type.Literal('onnx')) }, { additionalProperties: false }),
      response: download('The model, ONNX with QuantizeLinear and DequantizeLinear.', 'application/octet-stream'),
    },
    handler: async (request, reply) => {
      const { id } = request.params as { id: string };
      const artifact = await jobs.result(id, 'model');
      return sendFile(store, request, reply, artifact, await jobs.modelFileName(artifact));
    },
  });

  const report = async (request: FastifyRequest, reply: FastifyReply, type: 'application/json' | 'text/markdown') =>
    sendFile(
      store,
      request,
      reply,
      await jobs.result((request.params as { id: string }).id, type === 'application/json' ? 'report_json' : 'report_md'),
    );

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/jobs/:id/accuracy-diff',
    schema: {
      tags,
      operationId: 'getAccuracyDiff',
      summary: 'Float against int8 on the same samples',
      description: 'JSON, or Markdown with `Accept: text/markdown` or the suffix `.md`. 409 until the job has finished.',
      params,
      response: {
        200: { description: 'The accuracy report.', content: reportTypes },
        206: { description: 'The part of it that Range asks for.', content: { '*/*': { schema: Type.Unsafe<unknown>({}) } } },
        ...notModified,
        ...problems,
      },
    },
    handler: async (request, reply) =>
      report(request, reply.header('vary', 'accept'), preferredType(request.headers.accept, ['application/json', 'text/markdown'])),
  });
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/jobs/:id/accuracy-diff.md',
    schema: { hide: true, params },
    handler: async (request, reply) => report(request, reply, 'text/markdown'),
  });
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/jobs/:id/accuracy-diff.json',
    schema: { hide: true, params },
    handler: async (request, reply) => report(request, reply, 'application/json'),
  });

  app.get(
    '/v1/jobs/:id/artifacts',
    {
      schema: {
        tags,
        operationId: 'listArtifacts',
        summary: 'The files that a job made',
        params,
        response: { 200: Type.Object({ items: Type.Array(ArtifactSchema) }), ...problems },
      },
    },
    async (request) => ({ items: await jobs.artifacts(request.params.id) }),
  );

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/artifacts/:id/content',
    schema: {
      tags,
      operationId: 'getArtifactContent',
      summary: 'The bytes of an artifact',
      params: idParams('artifact'),
      response: download('The file, in its own media type.', '*/*'),
    },
    handler: async (request, reply) => {
      const artifact = await jobs.artifact((request.params as { id: string }).id);
      return sendFile(store, request, reply, artifact, artifact.filename);
    },
  });
};
