import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { StrongroomError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';
import type { ConnectionOptions } from './connection.ts';
import { type Accounts, chooseAccounts, giveTo } from './embedded-account.ts';
import { usableBinaries } from './embedded-binaries.ts';
import { keepLogShort, makeRuntimeFolder, readNote, removeRuntimeFolder, writeNote } from './embedded-files.ts';
import { ensureDatabase, ensureLogins, LOGIN_NAMES, type LoginName, loginUser } from './embedded-logins.ts';
import { type Cluster, type Ending, initialise, launch, type ServerProcess, stopOrphan } from './embedded-process.ts';
import { createSecret, errnoOf, type Home, openHome, readSecret, secretPath, syncFolder } from './home.ts';
import { openSession } from './session.ts';

/**
 * A real PostgreSQL server of our own, for trying, developing and testing:
 * durable, reachable through one private socket, as our child. Refused in
 * production by the configuration, not here.
 *
 * In home: `postgres/` (data), `postgres.json` (what the next start must know),
 * `postgres.log`, `secrets/database-*.txt`.
 */

export interface EmbeddedLogin {
  readonly user: string;
  readonly password: Secret<string>;
  /** Where the password stands (0600), for a `file:` reference. */
  readonly passwordFile: string;
}

export interface EmbeddedDatabase {
  /** Folder of the socket (0700): the `host` of a connection. */
  readonly socketDir: string;
  readonly port: number;
  readonly database: string;
  readonly superuser: EmbeddedLogin;
  readonly logins: Readonly<Record<LoginName, EmbeddedLogin>>;
  /** Whole URL of the superuser with its password, as psql and every driver take it. */
  readonly url: Secret<string>;
  /** Process id of the server that runs now; null while it is being started again. */
  readonly pid: number | null;
  /** Everything that openDatabase needs beside the role. */
  connection(login: LoginName | 'superuser'): ConnectionOptions;
  /** Fast shutdown; then home is free. Everything committed is kept. May be called twice. */
  stop(): Promise<void>;
}

export interface EmbeddedOptions {
  /** Folder (made and locked here), or a home that the caller has opened and will release. */
  readonly home: string | Home;
  /** A folder with bin/initdb and bin/postgres in place of the npm package's. For tests with another version. */
  readonly binaries?: string;
  /** Where the socket's folder is made. Default: the system's temporary folder, when short enough. */
  readonly runtimeParent?: string;
  /** Told when the server ended by itself; it is started again then, at growing intervals. For the log. */
  readonly onEnded?: (ending: Ending) => void;
}

const DATABASE = 'strongroom';
const PORT = 5432;

/**
 * Starts the server; the first time on a home also makes it (about 0.6 s, later
 * 0.1 s). A server that a killed predecessor left behind is stopped first.
 *
 * Killing this process does not stop the server: it keeps what it has and the
 * next start on this home ends it.
 *
 * @throws StrongroomError `HOME_IN_USE`, `HOME_UNUSABLE` (nothing changed);
 *   `EMBEDDED_FAILED` with the last lines of the server's log (data as before).
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedDatabase> {
  const home = typeof options.home === 'string' ? openHome(options.home) : options.home;
  const releaseHome = () => {
    if (typeof options.home === 'string') home.release();
  };
  try {
    return await startIn(home.path, options, releaseHome);
  } catch (error) {
    releaseHome();
    if (error instanceof StrongroomError) throw error;
    throw new StrongroomError('EMBEDDED_FAILED', { detail: `${errnoOf(error)} in ${home.path}.` }, error);
  }
}

async function startIn(home: string, options: EmbeddedOptions, releaseHome: () => void): Promise<EmbeddedDatabase> {
  const dataFolder = path.join(home, 'postgres');
  const accounts = chooseAccounts(home, dataFolder);
  const binaries = usableBinaries(home, accounts, options.binaries);
  const earlier = readNote(home);
  if (earlier !== null) {
    await stopOrphan(dataFolder, earlier.name);
    removeRuntimeFolder(earlier.socketDir);
  }

  const name = earlier?.name ?? `strongroom-${randomBytes(8).toString('hex')}`;
  const socketFolder = makeRuntimeFolder(options.runtimeParent, accounts?.server ?? null);
  const logFile = path.join(home, 'postgres.log');
  keepLogShort(logFile);
  const cluster: Cluster = { binaries, account: accounts?.server ?? null, dataFolder, socketFolder, name, logFile };
  const hasData = fs.existsSync(dataFolder);
  const prepared = hasData && earlier?.prepared === true && loginsOf(home) !== null;
  let server: ServerProcess | null = null;
  try {
    writeNote(home, { name, socketDir: socketFolder, prepared });
    if (!hasData) await makeData(cluster, home, accounts);
    const superuser = existingLogin(home, 'superuser');
    server = await launch(cluster);
    if (!prepared) {
      await prepare({ host: socketFolder, port: PORT, database: 'postgres', ...superuser }, home);
      writeNote(home, { name, socketDir: socketFolder, prepared: true });
    }
    return supervise(cluster, server, superuser, loginsOf(home) ?? fail('logins'), options, releaseHome);
  } catch (error) {
    await server?.stop();
    removeRuntimeFolder(socketFolder);
    throw error;
  }
}

function fail(what: string): never {
  throw new StrongroomError('EMBEDDED_FAILED', { detail: `The ${what} could not be made.` });
}

/**
 * Makes the data folder beside its place and renames it, so that a data folder
 * in place is a whole one. The superuser's password is on disk before that.
 */
async function makeData(cluster: Cluster, home: string, accounts: Accounts | null): Promise<void> {
  for (const entry of fs.readdirSync(home)) {
    // Left by a start that was cut off.
    if (entry.startsWith('postgres.new-')) fs.rmSync(path.join(home, entry), { recursive: true, force: true });
  }
  const password = readSecret(home, 'database-superuser') ?? createSecret(home, 'database-superuser');
  const fresh = fs.mkdtempSync(path.join(home, 'postgres.new-'));
  const passwordFile = path.join(cluster.socketFolder, 'password');
  try {
    fs.writeFileSync(passwordFile, `${password.reveal()}\n`, { mode: 0o600, flag: 'wx' });
    if (accounts !== null) {
      giveTo(fresh, accounts.initdb);
      giveTo(cluster.socketFolder, accounts.initdb);
    }
    await initialise({ ...cluster, dataFolder: fresh }, accounts?.initdb ?? null, passwordFile);
  } catch (error) {
    fs.rmSync(fresh, { recursive: true, force: true });
    throw error;
  } finally {
    fs.rmSync(passwordFile, { force: true });
  }
  if (accounts !== null) {
    giveTo(fresh, accounts.server);
    giveTo(cluster.socketFolder, accounts.server);
  }
  fs.renameSync(fresh, cluster.dataFolder);
  syncFolder(home);
}

/** Logins and database, with one password file each. Repeated as a whole when it was cut off. */
async function prepare(superuser: ConnectionOptions, home: string): Promise<void> {
  const passwords = Object.fromEntries(
    LOGIN_NAMES.map((name) => [name, readSecret(home, `database-${name}`) ?? createSecret(home, `database-${name}`)]),
  ) as Record<LoginName, Secret<string>>;
  const session = await openSession(superuser);
  try {
    await ensureLogins(session.sql, passwords);
    await ensureDatabase(session.sql, DATABASE);
    await session.sql.query('revoke connect on database postgres, template1 from public');
  } finally {
    await session.close();
  }
}

function existingLogin(home: string, name: LoginName | 'superuser'): EmbeddedLogin {
  const secret = `database-${name}`;
  const password = readSecret(home, secret);
  if (password === null) {
    throw new StrongroomError('EMBEDDED_FAILED', {
      detail: `${secretPath(home, secret)} is missing, and with it the way into the data. Put it back, or start on another home.`,
    });
  }
  const user = name === 'superuser' ? 'postgres' : loginUser(name);
  return { user, password, passwordFile: secretPath(home, secret) };
}

/** Null when a password file is missing: then all are made again where needed. */
function loginsOf(home: string): Record<LoginName, EmbeddedLogin> | null {
  if (LOGIN_NAMES.some((name) => readSecret(home, `database-${name}`) === null)) return null;
  return Object.fromEntries(LOGIN_NAMES.map((name) => [name, existingLogin(home, name)])) as Record<
    LoginName,
    EmbeddedLogin
  >;
}

const RESTART_FIRST_MS = 500;
const RESTART_LAST_MS = 30_000;

/** The running server, started again when it ends without us (a full disk, the kernel's memory killer). */
function supervise(
  cluster: Cluster,
  first: ServerProcess,
  superuser: EmbeddedLogin,
  logins: Record<LoginName, EmbeddedLogin>,
  options: EmbeddedOptions,
  releaseHome: () => void,
): EmbeddedDatabase {
  let server: ServerProcess | null = first;
  let stopping: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  let starting: Promise<void> = Promise.resolve();

  const watch = async (running: ServerProcess) => {
    const ending = await running.ended;
    server = null;
    if (stopping !== null) return;
    options.onEnded?.(ending);
    scheduleRestart(RESTART_FIRST_MS);
  };
  const scheduleRestart = (delay: number) => {
    timer = setTimeout(() => {
      starting = startAgain(delay);
    }, delay);
    timer.unref();
  };
  const startAgain = async (delay: number) => {
    try {
      server = await launch(cluster);
      void watch(server);
    } catch {
      // The log has the reason; the disk may have room again later.
      if (stopping === null) scheduleRestart(Math.min(delay * 2, RESTART_LAST_MS));
    }
  };
  const stop = async () => {
    clearTimeout(timer);
    await starting;
    await server?.stop();
    removeRuntimeFolder(cluster.socketFolder);
    releaseHome();
  };
  void watch(first);

  const { socketFolder: socketDir } = cluster;
  return {
    socketDir,
    port: PORT,
    database: DATABASE,
    superuser,
    logins,
    url: new Secret(
      `postgresql://${superuser.user}:${superuser.password.reveal()}@/${DATABASE}?host=${socketDir}&port=${PORT}`,
    ),
    get pid() {
      return server?.pid ?? null;
    },
    connection: (login) => {
      const { user, password: own } = login === 'superuser' ? superuser : logins[login];
      return { host: socketDir, port: PORT, database: DATABASE, user, password: own };
    },
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}
