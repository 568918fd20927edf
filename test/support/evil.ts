import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';

/** A listener that nobody has a reason to call. It notes every connection. */
export interface Evil {
  /** `127.0.0.1:PORT` */
  readonly authority: string;
  /** The first bytes of every connection that was opened. */
  readonly heard: string[];
}

export async function evilListener(t: { after(stop: () => Promise<void>): void }): Promise<Evil> {
  const heard: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const at = heard.push('') - 1;
    socket.on('error', () => {});
    socket.once('data', (chunk) => {
      heard[at] = chunk.toString('latin1', 0, 200);
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(
    () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  );
  return { authority: `127.0.0.1:${(server.address() as AddressInfo).port}`, heard };
}
