import { randomBytes } from 'node:crypto';
import { after } from 'node:test';
import type { ConnectionOptions } from '../../src/store/connection.ts';
import { ensureDatabase, type LoginName } from '../../src/store/embedded-logins.ts';
import { openSession } from '../../src/store/session.ts';
import { type Database, type DatabaseOptions, openDatabase } from '../../src/store/sql.ts';
import { findServer, startServer, type TestServer } from './server.ts';

/**
 * A real database for a test, fresh and migrated: a copy of a template, about
 * 30 ms. On the server of the run, else on one of its own for this file.
 * Everything still open is closed when the file's tests have ended.
 */
export interface TestDatabase {
  readonly name: string;
  /** What openDatabase and openSession need, per login. */
  connection(login: LoginName | 'superuser'): ConnectionOptions;
  /** Opens it with the login of that role, as the processes do. */
  open(role: LoginName, options?: Partial<DatabaseOptions>): Promise<Database>;
  /** A URL with password, for a child process or another client. */
  url(login: LoginName | 'superuser'): string;
  /** The URL of the login that owns the schema. */
  readonly ownerUrl: string;
  /** Closes what was opened and drops the database. May be called twice. */
  close(): Promise<void>;
}

let server: Promise<TestServer> | null = null;
const open = new Set<TestDatabase>();
const users: (() => Promise<void>)[] = [];

after(async () => {
  for (const stop of users.reverse()) await stop();
  for (const database of open) await database.close();
  await (await server)?.stop();
});

/** For what a whole file shares and a database is under: stopped at the end of its tests, before the databases go. */
export const forTheFile = {
  after(stop: () => Promise<void>): void {
    users.push(stop);
  },
};

/** The server itself, for tests that need more than a database. */
export function testServer(): Promise<TestServer> {
  server ??= findServer().then((found) => found ?? startServer());
  return server;
}

/** @param options - `empty`: without any migration. */
export async function testDatabase({ empty = false }: { readonly empty?: boolean } = {}): Promise<TestDatabase> {
  const where = await testServer();
  const name = `strongroom_test_${randomBytes(6).toString('hex')}`;
  await asSuperuser(where, async (sql) => ensureDatabase(sql, name, empty ? undefined : where.template));
  const opened: Database[] = [];
  const connection = (login: LoginName | 'superuser') => where.connection(login, name);
  const url = (login: LoginName | 'superuser') => {
    const { host, port, user, password } = connection(login);
    const credentials = `${user}:${encodeURIComponent(password.reveal())}`;
    return host.startsWith('/')
      ? `postgresql://${credentials}@/${name}?host=${host}&port=${port}`
      : `postgresql://${credentials}@${host}:${port}/${name}`;
  };
  const database: TestDatabase = {
    name,
    connection,
    url,
    ownerUrl: url('owner'),
    open: async (role, options = {}) => {
      const handle = await openDatabase({
        applicationName: `test ${role}`,
        poolSize: 4,
        ...connection(role),
        role,
        ...options,
      });
      opened.push(handle);
      return handle;
    },
    close: async () => {
      if (!open.delete(database)) return;
      await Promise.all(opened.map((handle) => handle.close()));
      await asSuperuser(where, (sql) => sql.query(`drop database if exists ${name} with (force)`));
    },
  };
  open.add(database);
  return database;
}

async function asSuperuser(where: TestServer, work: (sql: Database['sql']) => Promise<unknown>): Promise<void> {
  const session = await openSession(where.connection('superuser', 'postgres'));
  try {
    await work(session.sql);
  } finally {
    await session.close();
  }
}
