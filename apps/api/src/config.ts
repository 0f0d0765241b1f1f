import { tmpdir } from 'node:os';
import { defaultLimits, type Limits } from '@octet/contracts';
import { envSchema } from 'env-schema';
import Type, { type Static } from 'typebox';

const mib = 1024 * 1024;

/** 1 or true switches on; unset, empty, 0 or false off. */
const Flag = Type.Union(
  ['', '0', '1', 'false', 'true'].map((value) => Type.Literal(value)),
  { default: '' },
);
const isOn = (flag: string) => flag === '1' || flag === 'true';

const EnvironmentSchema = Type.Object({
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ default: 8080, minimum: 0, maximum: 65_535 }),
  DATABASE_URL: Type.String({ minLength: 1 }),
  REDIS_URL: Type.Optional(Type.String({ minLength: 1 })),
  LOG_LEVEL: Type.Union(
    ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].map((level) => Type.Literal(level)),
    { default: 'info' },
  ),
  OCTET_API_KEYS: Type.String({ default: '' }),
  OCTET_ALLOW_ANONYMOUS: Flag,
  OCTET_ALLOWED_HOSTS: Type.String({ default: '' }),
  OCTET_TRUST_PROXY: Flag,
  OCTET_TEMP: Type.String({ default: '' }),
  OCTET_MAX_MODEL_BYTES: Type.Integer({ default: defaultLimits.modelBytes, minimum: 1 }),
  OCTET_MAX_MODEL_NODES: Type.Integer({ default: defaultLimits.modelNodes, minimum: 1 }),
  OCTET_MAX_MODEL_PARAMETERS: Type.Integer({ default: defaultLimits.modelParameters, minimum: 1 }),
  OCTET_MAX_DATASET_BYTES: Type.Integer({ default: defaultLimits.datasetBytes, minimum: 1 }),
  OCTET_MAX_DATASET_SAMPLES: Type.Integer({ default: defaultLimits.datasetSamples, minimum: 1 }),
  OCTET_MAX_ARCHIVE_ENTRIES: Type.Integer({ default: defaultLimits.archiveEntries, minimum: 1 }),
  OCTET_MAX_ARCHIVE_RATIO: Type.Number({ default: defaultLimits.archiveRatio, minimum: 1 }),
  OCTET_MAX_ARCHIVE_BYTES: Type.Integer({ default: defaultLimits.archiveBytes, minimum: 1 }),
  OCTET_RATE_LIMIT: Type.Integer({ default: 6000, minimum: 0 }),
  OCTET_WRONG_KEY_LIMIT: Type.Integer({ default: 10, minimum: 0 }),
  OCTET_UPLOAD_IDLE_SECONDS: Type.Number({ default: 60, exclusiveMinimum: 0 }),
  OCTET_BODY_SECONDS: Type.Number({ default: 30, exclusiveMinimum: 0 }),
  OCTET_INSPECT_SECONDS: Type.Number({ default: 600, exclusiveMinimum: 0 }),
  OCTET_INSPECT_MEMORY: Type.Number({ default: 4096, minimum: 256 }),
  OCTET_INSPECTIONS: Type.Integer({ default: 2, minimum: 1 }),
  OCTET_MAX_EVENT_LOOP_DELAY_MS: Type.Number({ default: 2000, minimum: 0 }),
  OCTET_MAX_RSS: Type.Number({ default: 0, minimum: 0 }),
});

export type Environment = Static<typeof EnvironmentSchema>;

const list = (text: string) =>
  text
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '');

/** Everything the API can be told. */
export interface ApiConfig {
  host: string;
  port: number;
  /** Accepted bearer keys; empty lets everybody in. */
  apiKeys: readonly string[];
  /** Names, besides those of this machine, that the Host header may have where there are no keys; `*` for any. */
  allowedHosts: readonly string[];
  trustProxy: boolean;
  /** Where uploads lie while they are inspected. */
  tempDirectory: string;
  limits: Limits;
  /** Upper bound of a JSON body and of a `config` part. */
  configBytes: number;
  /** Requests a minute for one key or address; 0 switches the limit off. */
  requestsPerMinute: number;
  /** Wrong keys a minute from one address, after which none is tried; 0 switches the limit off. */
  wrongKeysPerMinute: number;
  /** The headers of a request must come within so long. */
  headersMs: number;
  /** A JSON body must come within so long. */
  jsonMs: number;
  /** An upload that sends less than 1 KiB a second for so long is given up. */
  uploadIdleMs: number;
  /** Longest inspection of one upload. */
  inspectMs: number;
  /** An inspection that takes longer makes room for others. */
  quickInspectMs: number;
  /** Memory that the process of one inspection may have. */
  inspectMemoryBytes: number;
  /** Inspections at a time in the quick lane, and as many in the slow one; more wait. */
  inspections: number;
  /** Between comments on an idle event stream. */
  heartbeatMs: number;
  /** Above these the API answers 503; 0 switches a bound off. */
  maxEventLoopDelayMs: number;
  maxRssBytes: number;
}

/** Settings for a service on this machine alone. */
export const defaultConfig: ApiConfig = {
  host: '127.0.0.1',
  port: 8080,
  apiKeys: [],
  allowedHosts: [],
  trustProxy: false,
  tempDirectory: tmpdir(),
  limits: defaultLimits,
  configBytes: mib,
  requestsPerMinute: 6000,
  wrongKeysPerMinute: 10,
  headersMs: 20_000,
  jsonMs: 30_000,
  uploadIdleMs: 60_000,
  inspectMs: 600_000,
  quickInspectMs: 10_000,
  inspectMemoryBytes: 4096 * mib,
  inspections: 2,
  heartbeatMs: 15_000,
  maxEventLoopDelayMs: 2000,
  maxRssBytes: 0,
};

/**
 * Read and check the environment.
 * @throws Error that names the variable that is missing or wrong
 */
export function readEnvironment(data: NodeJS.ProcessEnv = process.env): Environment {
  return envSchema<Environment>({ schema: EnvironmentSchema, data, env: false, dotenv: false });
}

/** Whether an address can be reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);
}

/**
 * Settings of the API out of the environment.
 * @throws Error when the address can be reached from outside and no key is set
 */
export function apiConfig(environment: Environment): ApiConfig {
  const apiKeys = list(environment.OCTET_API_KEYS);
  const allowedHosts = list(environment.OCTET_ALLOWED_HOSTS);
  const noName = allowedHosts.find((host) => !/^(\*|[\w.-]+|\[[\da-f:.]+\])$/i.test(host));
  if (noName !== undefined)
    throw new Error(`OCTET_ALLOWED_HOSTS has "${noName}": give names without scheme and port, with commas between, or *.`);
  if (apiKeys.length === 0 && !isLoopback(environment.HOST) && !isOn(environment.OCTET_ALLOW_ANONYMOUS)) {
    throw new Error(
      `HOST=${environment.HOST} can be reached from other machines, and OCTET_API_KEYS is empty. ` +
        'Set OCTET_API_KEYS to a comma-separated list of long random keys, bind to 127.0.0.1, or set OCTET_ALLOW_ANONYMOUS=1 if everybody may use the service.',
    );
  }
  const weak = apiKeys.findIndex((key) => key.length < 16);
  if (weak >= 0) throw new Error(`Key ${weak + 1} in OCTET_API_KEYS is shorter than 16 characters.`);
  return {
    ...defaultConfig,
    host: environment.HOST,
    port: environment.PORT,
    apiKeys,
    allowedHosts,
    trustProxy: isOn(environment.OCTET_TRUST_PROXY),
    tempDirectory: environment.OCTET_TEMP === '' ? tmpdir() : environment.OCTET_TEMP,
    limits: {
      modelBytes: environment.OCTET_MAX_MODEL_BYTES,
      modelNodes: environment.OCTET_MAX_MODEL_NODES,
      modelParameters: environment.OCTET_MAX_MODEL_PARAMETERS,
      datasetBytes: environment.OCTET_MAX_DATASET_BYTES,
      datasetSamples: environment.OCTET_MAX_DATASET_SAMPLES,
      archiveEntries: environment.OCTET_MAX_ARCHIVE_ENTRIES,
      archiveRatio: environment.OCTET_MAX_ARCHIVE_RATIO,
      archiveBytes: environment.OCTET_MAX_ARCHIVE_BYTES,
    },
    requestsPerMinute: environment.OCTET_RATE_LIMIT,
    wrongKeysPerMinute: environment.OCTET_WRONG_KEY_LIMIT,
    jsonMs: environment.OCTET_BODY_SECONDS * 1000,
    uploadIdleMs: environment.OCTET_UPLOAD_IDLE_SECONDS * 1000,
    inspectMs: environment.OCTET_INSPECT_SECONDS * 1000,
    inspectMemoryBytes: environment.OCTET_INSPECT_MEMORY * mib,
    inspections: environment.OCTET_INSPECTIONS,
    maxEventLoopDelayMs: environment.OCTET_MAX_EVENT_LOOP_DELAY_MS,
    maxRssBytes: environment.OCTET_MAX_RSS * mib,
  };
}
