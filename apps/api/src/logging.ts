import { type LoggerOptions, stdSerializers } from 'pino';

const hidden = ['authorization', 'cookie', 'proxy-authorization', 'idempotency-key', 'set-cookie'];

/** Options of the service's logger: one JSON line an event, with nothing in it that opens a door. */
export function loggerOptions(level: string): LoggerOptions {
  return {
    level,
    redact: {
      paths: hidden.flatMap((name) => [`req.headers["${name}"]`, `res.headers["${name}"]`, `headers["${name}"]`]),
      censor: '[redacted]',
    },
    serializers: { err: (error: Error) => withoutSecrets(stdSerializers.err(error)) },
  };
}

/** Connection strings turn up in messages of drivers; their passwords must not. */
function withoutSecrets<T extends { message: string; stack: string }>(error: T): T {
  const clean = (text: string) => text.replace(/(\w+:\/\/[^:@/\s]*):[^@/\s]+@/g, '$1:[redacted]@');
  return Object.assign(error, { message: clean(error.message), stack: clean(error.stack) });
}
