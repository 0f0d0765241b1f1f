import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A TCP line to a database whose connections can be made slow. */
export interface SlowLine {
  /** The database's address through the line. */
  url: string;
  /** Makes the next so many connections wait `ms` before their first byte is passed on. */
  slow(connections: number, ms: number): void;
  close(): void;
}

/** Leads to the server of `url`; fast until `slow` is called. */
export async function slowLine(url: string): Promise<SlowLine> {
  const address = new URL(url);
  const target = { host: address.hostname, port: Number(address.port) };
  const sockets = new Set<Socket>();
  let left = 0;
  let wait = 0;
  const server = createServer((near) => {
    sockets.add(near.on('error', () => undefined));
    near.pause();
    const pass = () => {
      if (near.destroyed) return;
      const far = connect(target);
      sockets.add(far.on('error', () => undefined).on('close', () => near.destroy()));
      near.on('close', () => far.destroy());
      near.pipe(far).pipe(near);
    };
    setTimeout(pass, left-- > 0 ? wait : 0).unref();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  address.hostname = '127.0.0.1';
  address.port = String((server.address() as AddressInfo).port);
  return {
    url: address.href,
    slow(connections, ms) {
      left = connections;
      wait = ms;
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
