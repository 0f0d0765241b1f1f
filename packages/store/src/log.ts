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

/** What can be told of an error: the drivers hang whole connections, with their secrets, on theirs. */
function serializeError(error: Error): object {
  const { type, message, stack, code } = stdSerializers.err(error);
  return { type, code, message: withoutPasswords(message), stack: withoutPasswords(stack) };
}

/** The reason of a driver's error in one line, for trouble that passes by itself. */
export function reasonOf(error: unknown): string {
  return withoutPasswords(error instanceof Error ? error.message : String(error));
}

function withoutPasswords(text: string): string {
  return text.replace(/(\w+:\/\/[^:@/\s]*):[^@/\s]+@/g, '$1:[redacted]@');
}
