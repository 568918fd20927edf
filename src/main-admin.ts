import Fastify from 'fastify';
import { digestOf } from './access/credentials.ts';
import { systemClock, systemRandom } from './base/clock.ts';
import { Applications } from './custody/applications.ts';
import { ADMIN_SERVER, adminDoor } from './http/admin.ts';
import { auditRoutes } from './http/admin-audit.ts';
import { itemRoutes } from './http/admin-items.ts';
import { type Common, listen, type Part } from './main-common.ts';
import { readSecret } from './secrets/read.ts';

/** The admin API, put together. */

export async function startAdmin({ config, log, database, audit }: Common): Promise<Part> {
  const { host, port, socket, token } = config.listeners.admin;
  const app = Fastify({ ...ADMIN_SERVER, logger: false });
  const applications = new Applications({
    database,
    audit,
    plaidClients: config.plaid.clients,
    random: systemRandom,
  });
  await app.register(
    adminDoor({
      applications,
      audit,
      tokenSha256: digestOf(await readSecret(token)),
      clock: systemClock,
      health: async () => {
        const reasons = await database.reads.query('select 1').then(
          () => [],
          () => ['database'],
        );
        return { ready: reasons.length === 0, reasons };
      },
      routes: [...itemRoutes(database), ...auditRoutes(database, audit)],
      onError: (error, request) =>
        log.error(
          { request_id: request.id, endpoint: request.route, code: error.code, err: error },
          'admin call failed',
        ),
    }),
  );
  const listener = await listen(app, socket === undefined ? { host, port } : { path: socket }, 'http');
  log.info({ listener: 'admin', origin: listener.url }, 'listening');
  return { url: listener.url, stop: () => listener.close(config.limits.shutdownMs) };
}
