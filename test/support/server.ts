import { createHash, createHmac } from 'node:crypto';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Secret } from '../../src/base/secret.ts';
import { type ConnectionOptions, parseDatabaseUrl } from '../../src/store/connection.ts';
import { startEmbedded } from '../../src/store/embedded.ts';
import { readNote, removeRuntimeFolder } from '../../src/store/embedded-files.ts';
import {
  ensureDatabase,
  ensureLogins,
  LOGIN_NAMES,
  type LoginName,
  loginUser,
} from '../../src/store/embedded-logins.ts';
import { stopOrphan } from '../../src/store/embedded-process.ts';
import { openHome } from '../../src/store/home.ts';
import { migrate, readMigrations } from '../../src/store/migrate.ts';
import { openSession, waitForLock } from '../../src/store/session.ts';

/**
 * The one PostgreSQL server that a test run uses, and how its test processes
 * find it: a file (0600) named by STRONGROOM_TEST_SERVER, since passwords do not
 * belong into the environment.
 */
export const SERVER_FILE = 'STRONGROOM_TEST_SERVER';
/** A server that is there already: `postgresql://superuser:password@host/postgres`. */
export const SERVER_URL = 'STRONGROOM_TEST_DATABASE_URL';

export interface TestServer {
  connection(login: LoginName | 'superuser', database: string): ConnectionOptions;
  /** A migrated database to copy. */
  readonly template: string;
  /** Writes where it is, for {@link findServer} of other processes. */
  announce(file: string): void;
  stop(): Promise<void>;
}

interface Written {
  readonly host: string;
  readonly port: number;
  readonly plain: boolean;
  readonly logins: Readonly<Record<string, { readonly user: string; readonly password: string }>>;
  readonly template: string;
}

/** Of temporary folders of test runs; {@link sweep} knows them by it. */
export const HOME_PREFIX = 'strongroom-test-';

/** Our own server on a fresh temporary home. `binaries`: another PostgreSQL than the embedded one. */
export async function startServer(binaries?: string): Promise<TestServer> {
  await sweep();
  const home = mkdtempSync(path.join(tmpdir(), HOME_PREFIX));
  try {
    const server = await startEmbedded(binaries === undefined ? { home } : { home, binaries });
    const logins = Object.fromEntries(
      Object.entries({ superuser: server.superuser, ...server.logins }).map(([name, { user, password }]) => [
        name,
        { user, password: password.reveal() },
      ]),
    );
    const where = { host: server.socketDir, port: server.port, plain: false, logins };
    return await prepared(where, async () => {
      await server.stop();
      rmSync(home, { recursive: true, force: true });
    });
  } catch (error) {
    rmSync(home, { recursive: true, force: true });
    throw error;
  }
}

/** The server of this run, if somebody started one or the operator named one. */
export async function findServer(): Promise<TestServer | null> {
  const file = process.env[SERVER_FILE];
  if (file !== undefined) return serverFrom(JSON.parse(readFileSync(file, 'utf8')) as Written, async () => {});
  const url = process.env[SERVER_URL];
  if (url === undefined) return null;
  const { host, port, user, password } = parseDatabaseUrl(url);
  if (user === null || password === null) throw new Error(`${SERVER_URL} names no user and password`);
  // The same at every run, so that two runs on one server do not lock each other out.
  const derived = (name: string) => createHmac('sha256', password.reveal()).update(`test ${name}`).digest('base64url');
  const logins = {
    superuser: { user, password: password.reveal() },
    ...Object.fromEntries(LOGIN_NAMES.map((name) => [name, { user: loginUser(name), password: derived(name) }])),
  };
  const plain = host === 'localhost' || host === '127.0.0.1' || host === '::1';
  return prepared({ host, port, plain, logins }, async () => {}, true);
}

/** Logins where needed, and the template: made once, under a lock, whoever comes first. */
async function prepared(
  where: Omit<Written, 'template'>,
  stop: () => Promise<void>,
  makeLogins = false,
): Promise<TestServer> {
  const migrations = (await readMigrations()).map(({ sha256 }) => sha256).join();
  const template = `strongroom_template_${createHash('sha256').update(migrations).digest('hex').slice(0, 12)}`;
  const server = serverFrom({ ...where, template }, stop);
  const session = await openSession(server.connection('superuser', 'postgres'));
  try {
    await waitForLock(session, 'test server', 120_000);
    if (makeLogins) {
      const passwords = Object.fromEntries(
        LOGIN_NAMES.map((name) => [name, server.connection(name, 'postgres').password]),
      ) as Record<LoginName, Secret<string>>;
      await ensureLogins(session.sql, passwords);
    }
    await ensureDatabase(session.sql, template);
    await migrate(server.connection('owner', template));
  } catch (error) {
    await stop();
    throw error;
  } finally {
    await session.close();
  }
  return server;
}

function serverFrom(written: Written, stop: () => Promise<void>): TestServer {
  return {
    template: written.template,
    connection: (login, database) => {
      const { user, password } = written.logins[login] as { user: string; password: string };
      const { host, port, plain } = written;
      return { host, port, database, user, password: new Secret(password), ...(plain ? { tls: 'off' } : {}) };
    },
    announce: (file) => writeFileSync(file, JSON.stringify(written), { mode: 0o600 }),
    stop,
  };
}

const AN_HOUR_MS = 3_600_000;
/** In a home whose processes a test kills and starts again: the test's own process id. */
const HOLDER_FILE = 'test-holder';

/** Keeps a home from being swept while its processes are down, for as long as this process lives. */
export function holdHome(home: string): void {
  writeFileSync(path.join(home, HOLDER_FILE), String(process.pid));
}

function isHeld(home: string): boolean {
  try {
    process.kill(Number(readFileSync(path.join(home, HOLDER_FILE), 'utf8')), 0);
    return true;
  } catch {
    return false;
  }
}

/** Ends and removes what killed test runs left behind. */
async function sweep(): Promise<void> {
  for (const home of globSync(path.join(tmpdir(), `${HOME_PREFIX}*`))) {
    try {
      if (isHeld(home)) continue;
      // Without a note the run may be about to begin.
      if (!existsSync(path.join(home, 'postgres.json')) && Date.now() - statSync(home).mtimeMs < AN_HOUR_MS) continue;
      const lock = openHome(home);
      const note = readNote(home);
      if (note !== null) {
        await stopOrphan(path.join(home, 'postgres'), note.name);
        removeRuntimeFolder(note.socketDir);
      }
      lock.release();
      rmSync(home, { recursive: true, force: true });
    } catch {
      // In use, or of another user.
    }
  }
}
