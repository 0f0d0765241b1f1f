/** Settings of a worker, from the environment. */
export interface WorkerEnvironment {
  databaseUrl: string;
  redisUrl: string | undefined;
  concurrency: number;
  workDirectory: string | undefined;
  jobMemoryBytes: number | undefined;
  maxStarts: number | undefined;
  logLevel: string;
}

/** @throws Error naming the variable that is wrong */
export function readEnvironment(variables: NodeJS.ProcessEnv): WorkerEnvironment {
  const text = (name: string) => variables[name] || undefined;
  const positive = (name: string, unit: number) => {
    const value = text(name);
    if (value === undefined) return undefined;
    if (!/^[1-9]\d{0,9}$/.test(value)) throw new Error(`${name} must be a whole number above 0, not "${value}"`);
    return Number(value) * unit;
  };
  const databaseUrl = text('DATABASE_URL');
  if (databaseUrl === undefined)
    throw new Error('DATABASE_URL is not set; it must be the connection string of the PostgreSQL that the API uses');
  return {
    databaseUrl,
    redisUrl: text('REDIS_URL'),
    concurrency: positive('OCTET_WORKER_CONCURRENCY', 1) ?? 1,
    workDirectory: text('OCTET_WORK_DIR'),
    jobMemoryBytes: positive('OCTET_JOB_MEMORY', 2 ** 20),
    maxStarts: positive('OCTET_JOB_STARTS', 1),
    logLevel: text('LOG_LEVEL') ?? 'info',
  };
}
