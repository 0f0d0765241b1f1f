import { ModelSchema, pageOf } from '@octet/contracts';
import Type from 'typebox';
import { bundleModel } from '../http/bundle.js';
import { answerOnce, idempotencyKey } from '../http/idempotency.js';
import { acceptFiles, fileTypes, fingerprintOf, readFileBody, readParts } from '../http/intake.js';
import { requireUnchanged, sendResource } from '../http/resource.js';
import { goneSignal } from '../http/signals.js';
import { Staging } from '../http/staging.js';
import { ignoreBodies } from '../plugins/bodies.js';
import type { Routes } from './context.js';
import {
  BinaryPart,
  ExternalParts,
  empty,
  idempotencyHeader,
  idParams,
  ifMatch,
  ifNoneMatch,
  notModified,
  pageQuery,
  problems,
} from './schemas.js';

const tags = ['models'];
const params = idParams('model');
const name = Type.String({ minLength: 1, maxLength: 200, description: 'A name to show; the name of the file when left out.' });

export const modelRoutes: Routes = async (app, { context: { config, store, uploads } }) => {
  acceptFiles(app);
  const limits = { bytes: config.limits.modelBytes, code: 'MODEL_TOO_LARGE', idleMs: config.uploadIdleMs } as const;

  app.post(
    '/v1/models',
    {
      schema: {
        tags,
        operationId: 'uploadModel',
        summary: 'Upload a float model',
        description:
          'An ONNX file, or a zip of one .onnx file with its external data: as the body, or as the part `file`. Files of external data may also come beside the .onnx file, ' +
          'each as a part `external` under the name that the model has for it. It is inspected before it is stored.',
        headers: idempotencyHeader,
        querystring: Type.Object({ name: Type.Optional(name) }, { additionalProperties: false }),
        body: {
          content: {
            'multipart/form-data': {
              schema: Type.Object({ file: BinaryPart('The model.'), external: ExternalParts, name: Type.Optional(name) }),
            },
            ...Object.fromEntries(fileTypes.slice(0, 2).map((type) => [type, { schema: BinaryPart('The model.') }])),
          },
        },
        response: { 201: ModelSchema, ...problems },
      },
    },
    async (request, reply) => {
      idempotencyKey(request);
      const signal = goneSignal(app, reply);
      const staging = await Staging.open(config.tempDirectory, request);
      try {
        const parts = request.isMultipart()
          ? await readParts(request, staging, { file: { file: limits }, external: { files: limits }, name: { text: 200 } }, ['file'])
          : undefined;
        const title = parts?.texts.get('name') || request.query.name;
        const sent = parts?.files.get('file') ?? (await readFileBody(request, staging, request.query.name ?? '', limits));
        const file = await bundleModel(staging, sent, parts?.lists.get('external') ?? [], limits);
        return await answerOnce(store, request, reply, fingerprintOf([file.sha256, title ?? file.fileName]), async () => {
          const model = await uploads.storeModel(await uploads.inspectModel(file, signal), title);
          return { status: 201, headers: { location: `/v1/models/${model.id}` }, body: model };
        });
      } finally {
        await staging.discard();
      }
    },
  );

  app.get(
    '/v1/models',
    {
      schema: {
        tags,
        operationId: 'listModels',
        summary: 'List models, the newest first',
        querystring: Type.Object(
          { ...pageQuery, sha256: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' })) },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(ModelSchema), ...problems },
      },
    },
    async (request) => store.models.list(request.query),
  );

  app.get(
    '/v1/models/:id',
    {
      schema: {
        tags,
        operationId: 'getModel',
        summary: 'What is known of a model',
        params,
        headers: ifNoneMatch,
        response: { 200: ModelSchema, ...notModified, ...problems },
      },
    },
    async (request, reply) => sendResource(request, reply, await store.models.get(request.params.id)),
  );

  app.register(async (bare) => {
    ignoreBodies(bare);
    bare.delete<{ Params: { id: string } }>(
      '/v1/models/:id',
      {
        schema: {
          tags,
          operationId: 'deleteModel',
          summary: 'Delete a model that no unfinished job needs',
          params,
          headers: ifMatch,
          response: { 204: empty('Deleted.'), ...problems },
        },
      },
      async (request, reply) => {
        const { id } = request.params;
        await requireUnchanged(request, () => store.models.get(id));
        await uploads.deleteModel(id);
        return reply.code(204).send(null);
      },
    );
  });
};
