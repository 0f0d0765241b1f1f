import { DatasetSchema, idPattern, pageOf, parseDatasetConfig } from '@octet/contracts';
import Type from 'typebox';
import { answerOnce, idempotencyKey } from '../http/idempotency.js';
import { acceptFiles, fileTypes, fingerprintOf, parseJsonObject, readFileBody, readParts, within } from '../http/intake.js';
import { requireUnchanged, sendResource } from '../http/resource.js';
import { goneSignal } from '../http/signals.js';
import { Staging } from '../http/staging.js';
import { ignoreBodies } from '../plugins/bodies.js';
import type { Routes } from './context.js';
import { BinaryPart, empty, idempotencyHeader, idParams, ifMatch, ifNoneMatch, notModified, pageQuery, problems } from './schemas.js';

const tags = ['datasets'];
const params = idParams('dataset');
const name = Type.String({ minLength: 1, maxLength: 200, description: 'A name to show; the name of the file when left out.' });
const configText = Type.String({ description: 'How the samples are to be read, as JSON; see docs/datasets.md.' });

const FitSchema = Type.Object(
  {
    model: Type.String(),
    fits: Type.Boolean(),
    assumptions: Type.Array(Type.String({ description: 'What is assumed to feed the dataset to the model.' })),
    problem: Type.Optional(Type.Object({ code: Type.String(), detail: Type.String(), hint: Type.String() })),
  },
  { description: 'Whether the dataset can be fed to the model.' },
);
const DatasetWithFit = Type.Object({ ...DatasetSchema.properties, fit: Type.Optional(FitSchema) });

export const datasetRoutes: Routes = async (app, { context: { config, store, uploads } }) => {
  acceptFiles(app);
  const limits = { bytes: config.limits.datasetBytes, code: 'DATASET_TOO_LARGE', idleMs: config.uploadIdleMs } as const;

  app.post(
    '/v1/datasets',
    {
      schema: {
        tags,
        operationId: 'uploadDataset',
        summary: 'Upload a dataset',
        description:
          '.npz, .npy, IDX (.gz, or a zip of pairs), a zip of image folders, CSV, JSONL or Parquet: as the body, or as the part `file`. It is read through before it is stored.',
        headers: idempotencyHeader,
        querystring: Type.Object({ name: Type.Optional(name), config: Type.Optional(configText) }, { additionalProperties: false }),
        body: {
          content: {
            'multipart/form-data': {
              schema: Type.Object({ file: BinaryPart('The dataset.'), config: Type.Optional(configText), name: Type.Optional(name) }),
            },
            ...Object.fromEntries(fileTypes.map((type) => [type, { schema: BinaryPart('The dataset.') }])),
          },
        },
        response: { 201: DatasetSchema, ...problems },
      },
    },
    async (request, reply) => {
      idempotencyKey(request);
      const signal = goneSignal(app, reply);
      const early = readConfig(request.query.config);
      const staging = await Staging.open(config.tempDirectory, request);
      try {
        const rules = { file: { file: limits }, config: { text: config.configBytes }, name: { text: 200 } };
        const parts = request.isMultipart() ? await readParts(request, staging, rules, ['file']) : undefined;
        const title = parts?.texts.get('name') || request.query.name;
        const reading = parts?.texts.has('config') ? readConfig(parts.texts.get('config')) : early;
        const file = parts?.files.get('file') ?? (await readFileBody(request, staging, request.query.name ?? '', limits));
        return await answerOnce(store, request, reply, fingerprintOf([file.sha256, title ?? file.fileName, reading]), async () => {
          const dataset = await uploads.storeDataset(await uploads.inspectDataset(file, reading, signal), reading, title);
          return { status: 201, headers: { location: `/v1/datasets/${dataset.id}` }, body: dataset };
        });
      } finally {
        await staging.discard();
      }
    },
  );

  app.get(
    '/v1/datasets',
    {
      schema: {
        tags,
        operationId: 'listDatasets',
        summary: 'List datasets, the newest first',
        querystring: Type.Object(
          { ...pageQuery, sha256: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' })) },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(DatasetSchema), ...problems },
      },
    },
    async (request) => store.datasets.list(request.query),
  );

  app.get(
    '/v1/datasets/:id',
    {
      schema: {
        tags,
        operationId: 'getDataset',
        summary: 'What is known of a dataset; with `model`, whether it fits that model',
        params,
        headers: ifNoneMatch,
        querystring: Type.Object({ model: Type.Optional(Type.String({ pattern: idPattern('model') })) }, { additionalProperties: false }),
        response: { 200: DatasetWithFit, ...notModified, ...problems },
      },
    },
    async (request, reply) => {
      const dataset = await store.datasets.get(request.params.id);
      const { model } = request.query;
      return sendResource(request, reply, model === undefined ? dataset : { ...dataset, fit: await uploads.fit(dataset, model) });
    },
  );

  app.register(async (bare) => {
    ignoreBodies(bare);
    bare.delete<{ Params: { id: string } }>(
      '/v1/datasets/:id',
      {
        schema: {
          tags,
          operationId: 'deleteDataset',
          summary: 'Delete a dataset that no unfinished job needs',
          params,
          headers: ifMatch,
          response: { 204: empty('Deleted.'), ...problems },
        },
      },
      async (request, reply) => {
        const { id } = request.params;
        await requireUnchanged(request, () => store.datasets.get(id));
        await uploads.deleteDataset(id);
        return reply.code(204).send(null);
      },
    );
  });
};

function readConfig(text: string | undefined) {
  return within('/config', () => parseDatasetConfig(text === undefined || text.trim() === '' ? {} : parseJsonObject(text, 'config')));
}
