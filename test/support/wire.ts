import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import type { ConnectionOptions } from '../../src/store/connection.ts';

/** What to do with the bytes a client sends. Default: pass them on. */
export type Verdict =
  | 'pass'
  /** The server never gets them, and the connection breaks. */
  | 'not_done'
  /** The server gets them; its answer is lost and the connection breaks. */
  | 'answer_lost'
  /** They vanish, and the connection stays open. */
  | 'swallow';

export interface Wire {
  /** How to connect through it. */
  readonly connection: ConnectionOptions;
  /** Judges every chunk that a client sends; replace it at any time. */
  judge: (chunk: Buffer) => Verdict;
  /** Refuses new connections and breaks those there are. */
  cut(): void;
  /** Takes connections again. */
  mend(): Promise<void>;
}

/** A stretch of wire before the database that a test can cut at a chosen byte. */
export async function wireTo(target: ConnectionOptions): Promise<Wire> {
  const folder = mkdtempSync(path.join(tmpdir(), 'wire-'));
  const sockets = new Set<net.Socket>();
  const wire: Wire = {
    connection: { ...target, host: folder, port: 5432 },
    judge: () => 'pass',
    cut: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
    mend: () =>
      new Promise((resolve) => {
        server = listen(resolve);
      }),
  };
  const track = (socket: net.Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    return socket;
  };
  const listen = (ready: () => void) =>
    net
      .createServer((client) => {
        const { host, port } = target;
        const upstream = track(
          host.startsWith('/') ? net.connect(`${host}/.s.PGSQL.${port}`) : net.connect(port ?? 5432, host),
        );
        let lost = false;
        track(client).on('data', (chunk) => {
          const verdict = wire.judge(chunk);
          if (verdict === 'swallow') return;
          if (verdict === 'not_done') client.destroy();
          if (verdict === 'answer_lost') lost = true;
          if (verdict !== 'not_done') upstream.write(chunk);
        });
        upstream.on('data', (chunk) => {
          if (!lost) return client.write(chunk);
          // The server has answered, so it has done it.
          client.destroy();
          upstream.destroy();
          return false;
        });
        client.on('close', () => upstream.destroy());
        upstream.on('close', () => client.destroy());
      })
      .listen(path.join(folder, '.s.PGSQL.5432'), ready);
  let server!: net.Server;
  await wire.mend();
  after(() => {
    wire.cut();
    rmSync(folder, { recursive: true, force: true });
  });
  return wire;
}
