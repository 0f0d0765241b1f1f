import {
  idPattern,
  type JobBody,
  JobRequestSchema,
  JobSchema,
  JobSettingsSchema,
  type JobState,
  jobStates,
  pageOf,
  parseJobRequest,
  ServiceError,
} from '@octet/contracts';
import type { KeptAnswer } from '@octet/store';
import type { FastifyReply, FastifyRequest } from 'fastify';
import Type from 'typebox';
import { bundleModel } from '../http/bundle.js';
import { answerOnce, idempotencyKey } from '../http/idempotency.js';
import { fingerprintOf, readParts } from '../http/intake.js';
import { requireUnchanged, sendResource } from '../http/resource.js';
import { goneSignal } from '../http/signals.js';
import { Staging } from '../http/staging.js';
import { ignoreBodies } from '../plugins/bodies.js';
import { readOneShot, submitOneShot } from '../services/one-shot.js';
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

const tags = ['jobs'];
const params = idParams('job');
const submitQuery = Type.Object(
  {
    reuse: Type.Optional(
      Type.Boolean({ description: 'Whether a finished job with the same model, data and settings may answer; true when left out.' }),
    ),
  },
  { additionalProperties: false },
);
const retryAfterSeconds = '5';

export const jobRoutes: Routes = async (app, { context }) => {
  const { config, store, jobs } = context;
  const file = (bytes: number, code: 'MODEL_TOO_LARGE' | 'DATASET_TOO_LARGE') => ({ file: { bytes, code, idleMs: config.uploadIdleMs } });
  const rules = {
    model: file(config.limits.modelBytes, 'MODEL_TOO_LARGE'),
    dataset: file(config.limits.datasetBytes, 'DATASET_TOO_LARGE'),
    evaluation: file(config.limits.datasetBytes, 'DATASET_TOO_LARGE'),
    external: { files: file(config.limits.modelBytes, 'MODEL_TOO_LARGE').file },
    config: { text: config.configBytes },
  };

  async function submitParts(request: FastifyRequest, reply: FastifyReply, reuse: boolean): Promise<FastifyReply> {
    const signal = goneSignal(app, reply);
    const staging = await Staging.open(config.tempDirectory, request);
    try {
      const parts = await readParts(request, staging, rules, ['model', 'dataset']);
      const shot = readOneShot(parts);
      shot.model = await bundleModel(staging, shot.model, parts.lists.get('external') ?? [], rules.model.file);
      const { model, dataset, evaluation, ...settings } = shot;
      const hash = fingerprintOf([model.sha256, dataset.sha256, evaluation?.sha256, settings, reuse]);
      return await answerOnce(store, request, reply, hash, async () =>
        accepted(await submitOneShot({ ...context, log: request.log }, shot, reuse, signal)),
      );
    } finally {
      await staging.discard();
    }
  }

  app.post(
    '/v1/jobs',
    {
      schema: {
        tags,
        operationId: 'submitJob',
        summary: 'Submit a job',
        description:
          'As JSON with the ids of uploads, or as one multipart request with the parts `model`, `external` (files of external data that the model names; may be left out), `dataset`, `evaluation` (may be left out) and `config` ' +
          '(JSON; may be left out) in any order. In the second form `config` may hold `datasetConfig` and `evaluationDatasetConfig` too.',
        headers: idempotencyHeader,
        querystring: submitQuery,
        body: {
          content: {
            'application/json': { schema: JobRequestSchema },
            'multipart/form-data': {
              schema: Type.Object({
                model: BinaryPart('The float model.'),
                external: ExternalParts,
                dataset: BinaryPart('Training, calibration and held-out samples.'),
                evaluation: Type.Optional(BinaryPart('Evaluation samples; a seeded share of the dataset when left out.')),
                config: Type.Optional(JobSettingsSchema),
              }),
            },
          },
        },
        response: { 202: JobSchema, ...problems },
      },
    },
    async (request, reply) => {
      idempotencyKey(request);
      const reuse = request.query.reuse ?? true;
      if (request.isMultipart()) return submitParts(request, reply, reuse);
      if (request.body === undefined || request.body === null) throw new ServiceError('BODY_EMPTY', 'The request has no body.');
      const job = parseJobRequest(request.body);
      return answerOnce(store, request, reply, fingerprintOf([job, reuse]), async () => accepted(await jobs.create(job, reuse)));
    },
  );

  app.get(
    '/v1/jobs',
    {
      schema: {
        tags,
        operationId: 'listJobs',
        summary: 'List jobs, the newest first',
        querystring: Type.Object(
          {
            ...pageQuery,
            state: Type.Optional(
              Type.String({ pattern: '^[a-z_]+(,[a-z_]+)*$', description: `One or more of ${jobStates.join(', ')}, with commas between.` }),
            ),
            model: Type.Optional(Type.String({ pattern: idPattern('model') })),
            dataset: Type.Optional(Type.String({ pattern: idPattern('dataset') })),
          },
          { additionalProperties: false },
        ),
        response: { 200: pageOf(JobSchema), ...problems },
      },
    },
    async (request) => jobs.list({ ...request.query, state: readStates(request.query.state) }),
  );

  app.get(
    '/v1/jobs/:id',
    {
      schema: {
        tags,
        operationId: 'getJob',
        summary: 'State, stage and progress of a job',
        params,
        headers: ifNoneMatch,
        querystring: Type.Object(
          { wait: Type.Optional(Type.Number({ minimum: 0, maximum: 60, description: 'Seconds to wait for the next change of state.' })) },
          { additionalProperties: false },
        ),
        response: { 200: JobSchema, ...notModified, ...problems },
      },
    },
    async (request, reply) => {
      const { wait } = request.query;
      const job = wait === undefined ? await jobs.get(request.params.id) : await jobs.wait(request.params.id, wait, goneSignal(app, reply));
      return sendResource(request, reply, job);
    },
  );

  app.register(async (bare) => {
    ignoreBodies(bare);
    bare.post<{ Params: { id: string } }>(
      '/v1/jobs/:id/cancel',
      {
        schema: {
          tags,
          operationId: 'cancelJob',
          summary: 'Cancel a job',
          description:
            'Answers at once: a queued job is cancelled, a running one is `cancelling` and stops within seconds. A body is not needed and not read.',
          params,
          headers: ifMatch,
          response: { 202: JobSchema, ...problems },
        },
      },
      async (request, reply) => {
        const { id } = request.params;
        await requireUnchanged(request, () => jobs.get(id));
        return reply.code(202).send(await jobs.cancel(id));
      },
    );

    bare.delete<{ Params: { id: string } }>(
      '/v1/jobs/:id',
      {
        schema: {
          tags,
          operationId: 'deleteJob',
          summary: 'Delete a finished job with its files',
          params,
          headers: ifMatch,
          response: { 204: empty('Deleted.'), ...problems },
        },
      },
      async (request, reply) => {
        const { id } = request.params;
        await requireUnchanged(request, () => jobs.get(id));
        await jobs.delete(id);
        return reply.code(204).send(null);
      },
    );
  });
};

function accepted(job: JobBody): KeptAnswer {
  return { status: 202, headers: { location: `/v1/jobs/${job.id}`, 'retry-after': retryAfterSeconds }, body: job };
}

function readStates(text: string | undefined): JobState[] | undefined {
  return text?.split(',').map((state) => {
    const known = jobStates.find((one) => one === state);
    if (known === undefined)
      throw new ServiceError('VALIDATION', `"${state}" is not a state.`, {
        errors: [{ pointer: '/state', detail: `must be one of ${jobStates.join(', ')}` }],
      });
    return known;
  });
}
