import { type Logger, pino, stdSerializers } from 'pino';

/** The logger of a process of the service: JSON lines whose errors show no password of a connection string. */
export function createLog({ name, level }: { name: string; level: string }): Logger {
  return pino({
    name,
    level,
    redact: { paths: ['databaseUrl', 'redisUrl', '*.databaseUrl', '*.redisUrl', '*.password', '*.connectionString'], censor: '[redacted]' },
    serializers: { err: serializeError },
  });
}

function serializeError(error: Error): object {
  const plain = stdSerializers.err(error);
  return { ...plain, message: withoutPasswords(plain.message), stack: withoutPasswords(plain.stack) };
}

function withoutPasswords(text: string): string {
  return text.replace(/(\w+:\/\/[^:@/\s]*):[^@/\s]+@/g, '$1:[redacted]@');
}
