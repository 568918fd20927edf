/** What the gateway benchmark needs before it can begin: a database with an application and an item, and the other roles. */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { request } from 'undici';
import { startSimulator } from '../simulator/start.ts';
import { ANYWHERE, presetPolicy } from '../src/access/presets.ts';
import { DEV_CLIENT_ID, DEV_FILES, devConfig } from '../src/config.ts';
import { createKekFile } from '../src/envelope/kms-file.ts';
import { startStrongroom } from '../src/main.ts';
import { createLog } from '../src/redaction/logger.ts';
import { startEmbedded } from '../src/store/embedded.ts';
import { migrate } from '../src/store/migrate.ts';
import { openSession } from '../src/store/session.ts';
import { app as client } from '../test/support/strongroom.ts';

export interface Setup {
  readonly applicationId: string;
  readonly applicationKey: string;
  readonly handle: string;
  /** A configuration for `strongroom serve --roles gateway` on this database. */
  config(over: { upstream: string; port: number }): unknown;
  /** A checkpoint of the database server, as it runs by itself every few minutes. */
  checkpoint(): Promise<void>;
  /** Ends every connection to the database, as a failover does. */
  restartDatabase(): Promise<void>;
  /** CPU seconds of the database server so far, all its processes. */
  databaseCpuSeconds(): number;
  /** Audit entries that one durable group holds, on average. */
  entriesPerGroup(): Promise<number>;
  close(): Promise<void>;
}

export async function setUp(folder: string): Promise<Setup> {
  const home = join(folder, 'home');
  mkdirSync(join(home, 'secrets'), { recursive: true, mode: 0o700 });
  const secret = randomBytes(15).toString('hex');
  const adminToken = randomBytes(32).toString('base64url');
  const write = (name: string, text: string) => writeFileSync(join(home, name), text, { mode: 0o600 });
  write(DEV_FILES.plaidSecret, secret);
  write(DEV_FILES.adminToken, adminToken);
  write(
    DEV_FILES.signingKey,
    String(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' })),
  );
  await createKekFile(join(home, DEV_FILES.kek));

  const database = await startEmbedded({ home: join(folder, 'postgres') });
  await migrate(database.connection('owner'));
  const log = createLog({ write: () => {} });
  const simulator = await startSimulator({ clientId: DEV_CLIENT_ID, secret });
  const config = devConfig(home, 0, simulator.url);
  const connection = (role: 'gateway' | 'admin' | 'worker') => database.connection(role);
  // A gateway of our own links the item; the measured one is another process, with nginx as Plaid.
  const others = await startStrongroom({ config, roles: ['worker', 'admin'], connection, log });
  const linking = await startStrongroom({ config, roles: ['gateway'], connection, log });
  const policy = {
    ...presetPolicy('demo', ANYWHERE),
    rate: { perSecond: 1_000_000, burst: 1_000_000 },
    dayQuota: 1_000_000_000,
  };
  const answer = await request(`${others.adminUrl}/applications`, {
    method: 'POST',
    headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'bench', policy }),
  });
  const made = (await answer.body.json()) as { application: { application_id: string }; key: string };
  const app = client(() => linking.gatewayUrl as string, made.application.application_id, made.key);
  const { handle } = await app.link();
  await linking.stop();
  await simulator.close();

  const asSuperuser = async (statement: string) => {
    const session = await openSession(database.connection('superuser'));
    try {
      await session.sql.query(statement);
    } finally {
      await session.close();
    }
  };
  return {
    applicationId: app.id,
    applicationKey: app.key,
    handle,
    config: ({ upstream, port }) => {
      const { listeners, plaid, ...rest } = config;
      const login = (name: 'gateway') => ({
        user: database.logins[name].user,
        password: `file:${database.logins[name].passwordFile}`,
      });
      return {
        ...rest,
        plaid: { ...plaid, upstream },
        listeners: { ...listeners, gateway: { ...listeners.gateway, port } },
        database: {
          url: `postgres:///${database.database}?host=${database.socketDir}`,
          topology: 'single',
          logins: { gateway: login('gateway') },
        },
        logging: { level: 'info', destination: join(folder, 'gateway.log') },
      };
    },
    databaseCpuSeconds: () => treeCpuSeconds(database.pid ?? 0),
    async entriesPerGroup() {
      const session = await openSession(database.connection('superuser'));
      try {
        const { rows } = await session.sql.query<{ mean: number }>(
          'select avg(count)::float8 as mean from strongroom.audit_groups where first_n > 100',
        );
        return rows[0]?.mean ?? 0;
      } finally {
        await session.close();
      }
    },
    checkpoint: () => asSuperuser('checkpoint'),
    restartDatabase: () =>
      asSuperuser(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where pid <> pg_backend_pid() and application_name like 'strongroom gateway%'`,
      ),
    async close() {
      await others.stop();
      await database.stop();
    },
  };
}

/** Linux: user and system time of a process and its children, living and reaped, in seconds (100 ticks each). */
function treeCpuSeconds(root: number): number {
  let ticks = 0;
  for (const entry of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    try {
      const fields = readFileSync(`/proc/${entry}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      if (Number(entry) !== root && Number(fields[1]) !== root) continue;
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It has ended meanwhile.
    }
  }
  return ticks / 100;
}
