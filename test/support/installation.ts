import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { request } from 'undici';
import { stringify } from 'yaml';
import { startSimulator } from '../../simulator/start.ts';
import type { DevJson } from '../../src/cli/dev-demo.ts';
import { DEV_CLIENT_ID, DEV_FILES } from '../../src/config.ts';
import { createKekFile } from '../../src/envelope/kms-file.ts';
import { type ConnectionOptions, parseDatabaseUrl } from '../../src/store/connection.ts';
import { startEmbedded } from '../../src/store/embedded.ts';
import { ensureDatabase } from '../../src/store/embedded-logins.ts';
import { openSession } from '../../src/store/session.ts';
import { type Program, startProgram } from './program.ts';
import { HOME_PREFIX, holdHome, type TestServer } from './server.ts';

/**
 * A Strongroom that runs as a process of its own and can be killed and started
 * again: either `strongroom serve` alone, with Plaid and the database outside
 * and left standing, or the whole of `strongroom dev`.
 */
export interface Installation {
  /** Everything that it writes stands below. */
  readonly home: string;
  /** Options that name it to a command. */
  readonly named: readonly string[];
  /** Where signed heads of the audit log go. */
  readonly headsFile: string;
  /** Whether X-Forwarded-For is believed, so that callers can be told apart by their address. */
  readonly knowsSources: boolean;
  /** Not waited for until it is ready: a start can be killed too. */
  launch(): Launched;
  /** The simulator's control API. */
  control<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** As superuser; also while Strongroom is not running, if its database is. */
  query<R extends object>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** Stops what runs and removes everything. */
  close(): Promise<void>;
}

export interface Launched {
  readonly program: Program;
  /** Rejects with what it said when it ends before it is ready. */
  readonly ready: Promise<Running>;
}

export interface Running {
  readonly program: Program;
  readonly gatewayUrl: string;
  readonly adminUrl: string;
  /** For the command line's --token-file. */
  readonly tokenFile: string;
  admin<T>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<T>;
}

/** How its processes are started, and whether the simulator keeps its state in `simulator.json`. */
export interface InstallationOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stateFile?: boolean;
}

/** `strongroom serve` with all roles, on a fresh database of `server`. */
export async function serveInstallation(
  server: TestServer,
  { stateFile = false, ...how }: InstallationOptions = {},
): Promise<Installation> {
  const home = mkdtempSync(join(tmpdir(), HOME_PREFIX));
  mkdirSync(join(home, 'secrets'), { mode: 0o700 });
  const name = `strongroom_test_${randomBytes(6).toString('hex')}`;
  const superuser = (database: string) => server.connection('superuser', database);
  await ask(superuser('postgres'), (sql) => ensureDatabase(sql, name, server.template));

  const secret = randomBytes(15).toString('hex');
  const file = (path: string, text: string) => {
    writeFileSync(join(home, path), text, { mode: 0o600 });
    return `file:${join(home, path)}`;
  };
  await createKekFile(join(home, DEV_FILES.kek));
  const simulator = await startSimulator({
    clientId: DEV_CLIENT_ID,
    secret,
    ...(stateFile ? { stateFile: join(home, 'simulator.json') } : {}),
  });
  const { host, port } = server.connection('gateway', name);
  const { privateKey } = generateKeyPairSync('ed25519');
  const config = {
    deployment: { id: 'test', environment: 'development' },
    plaid: {
      environment: 'sandbox',
      clients: [{ name: 'default', clientId: DEV_CLIENT_ID, secret: file(DEV_FILES.plaidSecret, secret) }],
      upstream: simulator.url,
    },
    database: {
      url: host.startsWith('/') ? `postgres:///${name}?host=${host}` : `postgres://${host}:${port}/${name}`,
      topology: 'single',
      tls: host.startsWith('/') ? 'verify' : 'off',
      logins: Object.fromEntries(
        (['gateway', 'admin', 'worker'] as const).map((login) => {
          const { user, password } = server.connection(login, name);
          return [login, { user, password: file(join('secrets', `database-${login}.txt`), password.reveal()) }];
        }),
      ),
    },
    kms: { provider: 'file', file: { path: join(home, DEV_FILES.kek) } },
    listeners: {
      gateway: { port: 0, trustedProxies: ['127.0.0.1/32'] },
      admin: { port: 0, token: file(DEV_FILES.adminToken, randomBytes(32).toString('base64url')) },
    },
    audit: {
      signingKey: file(DEV_FILES.signingKey, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()),
      heads: [{ file: join(home, DEV_FILES.heads) }],
      headIntervalMs: 1_000,
    },
  };
  const configFile = join(home, 'strongroom.yaml');
  writeFileSync(configFile, stringify(config), { mode: 0o600 });

  const programs: Program[] = [];
  return {
    home,
    named: ['--config', configFile],
    headsFile: join(home, DEV_FILES.heads),
    knowsSources: true,
    launch() {
      const program = startProgram(['serve', '--config', configFile], { home, ...how });
      programs.push(program);
      const origin = async (listener: string) =>
        (await program.said(new RegExp(`"listener":"${listener}","origin":"([^"]+)"`)))[1] as string;
      const ready = Promise.all([origin('gateway'), origin('admin'), program.said(/strongroom: ready/)]).then(
        ([gatewayUrl, adminUrl]) => runningOf(program, gatewayUrl, adminUrl, join(home, DEV_FILES.adminToken)),
      );
      ready.catch(() => {}); // a start that is killed is not waited for
      return { program, ready };
    },
    control: simulator.control,
    query: (text, values) => ask(superuser(name), async (sql) => (await sql.query(text, values)).rows as never),
    async close() {
      await Promise.all(programs.map((program) => program.kill('SIGKILL')));
      await simulator.close();
      await ask(superuser('postgres'), (sql) => sql.query(`drop database if exists ${name} with (force)`));
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** The whole of `strongroom dev` in a home of its own. */
export function devInstallation({ stateFile: _, ...how }: InstallationOptions = {}): Installation & {
  /** dev.json as it stands. */
  dev(): DevJson;
} {
  const home = mkdtempSync(join(tmpdir(), HOME_PREFIX));
  holdHome(home);
  const programs: Program[] = [];
  /** The last one seen: the database outlives a kill. */
  let known: DevJson | null = null;
  const dev = () => {
    known = JSON.parse(readFileSync(join(home, 'dev.json'), 'utf8')) as DevJson;
    return known;
  };
  return {
    home,
    named: [],
    headsFile: join(home, DEV_FILES.heads),
    knowsSources: false,
    dev,
    launch() {
      const program = startProgram(['dev', '--port-base', '0'], { home, ...how });
      programs.push(program);
      const ready = program.said(/^Then: /m).then(() => {
        const { gateway, admin } = dev();
        return runningOf(program, gateway.url, admin.url, join(home, DEV_FILES.adminToken));
      });
      ready.catch(() => {});
      return { program, ready };
    },
    async control<T>(method: string, path: string, body?: unknown): Promise<T> {
      const { controlUrl, controlToken } = (known ?? dev()).simulator;
      return send<T>(controlUrl + path, method, controlToken, body);
    },
    query(text, values) {
      const { user, password, ...place } = parseDatabaseUrl((known ?? dev()).database.url);
      if (user === null || password === null) throw new Error('dev.json names no database login');
      return ask({ ...place, user, password }, async (sql) => (await sql.query(text, values)).rows as never);
    },
    async close() {
      await Promise.all(programs.map(end));
      // A kill leaves the database server standing; the next start takes it over, and can end it.
      if (existsSync(join(home, 'postgres.json'))) await (await startEmbedded({ home })).stop();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

const END_PATIENCE_MS = 90_000;

/** Asks it to end, and does not wait for ever: what hangs is the test's finding, not its fate. */
async function end(program: Program): Promise<void> {
  const timer = setTimeout(() => void program.kill('SIGKILL'), END_PATIENCE_MS);
  await program.kill('SIGTERM');
  clearTimeout(timer);
}

function runningOf(program: Program, gatewayUrl: string, adminUrl: string, tokenFile: string): Running {
  const token = readFileSync(tokenFile, 'utf8').trim();
  return {
    program,
    gatewayUrl,
    adminUrl,
    tokenFile,
    admin: (method, path, body) => send(adminUrl + path, method, token, body),
  };
}

async function send<T>(url: string, method: string, token: string, body?: unknown): Promise<T> {
  const answer = await request(url, {
    method: method as 'GET',
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.body.text();
  if (answer.statusCode >= 300) throw new Error(`${method} ${new URL(url).pathname}: ${answer.statusCode} ${text}`);
  return JSON.parse(text) as T;
}

type Session = Awaited<ReturnType<typeof openSession>>;

async function ask<R>(where: ConnectionOptions, work: (sql: Session['sql']) => Promise<R>): Promise<R> {
  const session = await openSession(where);
  try {
    return await work(session.sql);
  } finally {
    await session.close();
  }
}
