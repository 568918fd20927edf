/**
 * What the gateway is measured against, each in a process of its own:
 *
 *   bin/node24 bench/peers.ts http-proxy|reserialise UPSTREAM
 *
 * `http-proxy` is @fastify/http-proxy passing everything through, without any
 * feature. `reserialise` parses each answer and writes it again, as a proxy does
 * that replaces fields in an object. Prints its URL.
 */
import type { AddressInfo } from 'node:net';
import proxy from '@fastify/http-proxy';
import Fastify from 'fastify';
import { Pool } from 'undici';

const [kind, upstream] = process.argv.slice(2);
if (upstream === undefined) throw new Error('usage: peers.ts http-proxy|reserialise UPSTREAM');
const app = Fastify({ logger: false });

if (kind === 'http-proxy') {
  await app.register(proxy, { upstream, http: true, undici: { connections: 128, pipelining: 1 } } as never);
} else {
  const pool = new Pool(upstream, { connections: 128, pipelining: 1 });
  app.post('/*', async (request, reply) => {
    const answer = await pool.request({
      method: 'POST',
      path: request.url,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(request.body),
    });
    return reply.code(answer.statusCode).send(await answer.body.json());
  });
}
await app.listen({ host: '127.0.0.1', port: 0 });
console.log(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
process.on('SIGTERM', () => process.exit(0));
