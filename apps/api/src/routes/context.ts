import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { Store } from '@octet/store';
import type { ApiConfig } from '../config.js';
import type { JobService } from '../services/jobs.js';
import type { UploadService } from '../services/uploads.js';

/** What routes may use. */
export interface Context {
  config: ApiConfig;
  store: Store;
  uploads: UploadService;
  jobs: JobService;
}

/** A group of routes, given what it may use. */
export type Routes = FastifyPluginAsyncTypebox<{ context: Context }>;
