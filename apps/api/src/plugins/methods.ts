import { ServiceError } from '@octet/contracts';
import type { FastifyInstance } from 'fastify';

/** Which methods a path answers, out of the routes. */
export class Methods {
  readonly #routes = new Map<string, { pattern: RegExp; methods: Set<string> }>();

  add(url: string, methods: readonly string[]): void {
    const route = this.#routes.get(url) ?? { pattern: patternOf(url), methods: new Set(['OPTIONS']) };
    for (const method of methods) route.methods.add(method);
    this.#routes.set(url, route);
  }

  /** The methods of a path in alphabetical order; none where nothing is there. */
  of(path: string): string[] {
    const methods = [...this.#routes.values()].filter(({ pattern }) => pattern.test(path)).flatMap((route) => [...route.methods]);
    return [...new Set(methods)].sort();
  }

  /** What any path answers. */
  all(): string[] {
    return [...new Set([...this.#routes.values()].flatMap((route) => [...route.methods]))].sort();
  }
}

function patternOf(url: string): RegExp {
  const pieces = url.replace(/(.)\/$/, '$1').split(/(:\w+|\*)/);
  const pattern = pieces.map((piece) =>
    piece === '*' ? '.*' : piece.startsWith(':') ? '[^/]+' : piece.replace(/[.+?^${}()|[\]\\]/g, '\\$&'),
  );
  return new RegExp(`^${pattern.join('')}/?$`);
}

/**
 * A known path answers a method that it lacks with 405 and OPTIONS with its methods; what nothing answers is 404, whatever its body is.
 * To be called after all other hooks on requests and before the first route.
 */
export function refuseOtherMethods(app: FastifyInstance): Methods {
  const methods = new Methods();
  app.addHook('onRoute', ({ url, method }) => methods.add(url, [method].flat()));
  app.addHook('onRequest', async (request, reply) => {
    if (!request.is404) return;
    const path = pathOf(request.url);
    const allowed = request.method === 'OPTIONS' && path === '*' ? methods.all() : methods.of(path);
    if (allowed.length === 0) throw new ServiceError('NOT_FOUND', `Nothing answers ${request.method} ${path}.`);
    reply.header('allow', allowed.join(', '));
    if (request.method === 'OPTIONS') return reply.code(204).send();
    throw methodNotAllowed(path, allowed, request.method);
  });
  return methods;
}

export function methodNotAllowed(path: string, allowed: readonly string[], method: string): ServiceError {
  return new ServiceError('METHOD_NOT_ALLOWED', `${path} answers ${allowed.join(', ')}, not ${method}.`);
}

/** The path of a request target, for messages and for the table of methods: no path here is longer than 200 characters. */
export function pathOf(url: string): string {
  const [path = url] = url.split('?', 1);
  return path.length > 200 ? `${path.slice(0, 200)}…` : path;
}
