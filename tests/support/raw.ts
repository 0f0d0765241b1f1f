import { connect, type Socket } from 'node:net';

/** An answer as it came over the wire. */
export interface RawAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** HTTP by hand, for requests that no client library would send. */
export class RawConnection {
  readonly socket: Socket;
  #received = '';

  constructor(url: string) {
    const { hostname, port } = new URL(url);
    this.socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    this.socket.on('data', (bytes) => {
      this.#received += bytes.toString('latin1');
    });
    this.socket.on('error', () => undefined);
  }

  write(bytes: string | Uint8Array): this {
    this.socket.write(bytes);
    return this;
  }

  /** The next answer that is complete; an answer without Content-Length, or to HEAD, ends with its headers. */
  async answer({ toHead = false } = {}): Promise<RawAnswer> {
    for (;;) {
      const end = this.#received.indexOf('\r\n\r\n');
      if (end >= 0) {
        const [first = '', ...lines] = this.#received.slice(0, end).split('\r\n');
        const headers = Object.fromEntries(
          lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
        );
        const length = toHead ? 0 : Number(headers['content-length'] ?? 0);
        if (this.#received.length >= end + 4 + length) {
          const body = Buffer.from(this.#received.slice(end + 4, end + 4 + length), 'latin1').toString('utf8');
          this.#received = this.#received.slice(end + 4 + length);
          return { status: Number(first.split(' ')[1]), headers, body };
        }
      }
      if (this.socket.readableEnded || this.socket.destroyed)
        throw new Error(`the connection was closed; it gave ${JSON.stringify(this.#received)}`);
      await new Promise<void>((resolve) => {
        const done = () => {
          this.socket.off('data', done).off('end', done).off('close', done);
          resolve();
        };
        this.socket.on('data', done).on('end', done).on('close', done);
      });
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

/** One request by hand and its answer. */
export async function raw(url: string, bytes: string | Uint8Array): Promise<RawAnswer> {
  const connection = new RawConnection(url).write(bytes);
  try {
    return await connection.answer({ toHead: String(bytes).startsWith('HEAD ') });
  } finally {
    connection.close();
  }
}
