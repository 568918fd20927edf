import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { StrongroomError } from '../base/errors.ts';
import type { ConnectionOptions } from './connection.ts';
import { openSession, type Session, waitForLock } from './session.ts';
import { isOutcomeUnknown } from './sql-errors.ts';
import type { Sql } from './statement.ts';

/**
 * Brings the schema up to date: numbered files, forward only, each in its own
 * transaction together with the row that says it was done. Nothing is ever
 * undone; a mistake is corrected by the next file.
 */

export const MIGRATIONS_FOLDER = fileURLToPath(new URL('../../migrations/', import.meta.url));

export interface Migration {
  /** From 1, without gaps. */
  readonly number: number;
  /** The file's name, e.g. `0001_roles.sql`. */
  readonly name: string;
  /** Hex, of the file's bytes. */
  readonly sha256: string;
}

interface MigrationFile extends Migration {
  readonly text: string;
}

export interface Migrated {
  /** What this call did, in order; empty when there was nothing to do. */
  readonly applied: readonly Migration[];
  /** Number of the newest migration in the database now. */
  readonly version: number;
}

/** Another replica may be at it, and a file may take its time on a large table. */
const LOCK_PATIENCE_MS = 600_000;

/**
 * A statement of a migration waits this long for a table: longer, and everybody
 * else queues up behind it. Then nothing has changed and the operator tries again.
 */
const TABLE_PATIENCE_MS = 30_000;

/**
 * Applies what is missing. Safe to call from several processes at once: one
 * works, the others wait and find it done.
 *
 * @param owner - A login that owns the database or has CREATE on it. It becomes
 *   the owner of what is made. Connected directly, not through a pooler.
 * @throws StrongroomError `MIGRATION_FAILED`, naming file, line and reason: that
 *   file is rolled back whole, earlier ones stay; also, with nothing changed,
 *   when a file that was applied has changed since, or a number is missing.
 *   `SCHEMA_NEWER`: the database knows a migration that we do not.
 *   `DATABASE_UNAVAILABLE`.
 */
export async function migrate(owner: ConnectionOptions, folder: string = MIGRATIONS_FOLDER): Promise<Migrated> {
  const files = await readMigrations(folder);
  const session = await openSession({ applicationName: 'strongroom migrate', ...owner, statementTimeoutMs: 0 });
  try {
    // So that the server notices within seconds when we are killed in the middle of
    // a long statement, and frees the lock. Not every system's server can.
    await session.sql.query(`set client_connection_check_interval = '2s'`).catch(() => {});
    // Before looking: what we see must not change under us.
    await waitForLock(session, 'migrations', LOCK_PATIENCE_MS);
    await makeRoom(session);
    const done = await appliedMigrations(session.sql);
    const missing = missingFrom(files, done);
    for (const file of missing) await apply(session, file);
    return { applied: missing.map(({ text: _, ...migration }) => migration), version: files.length };
  } finally {
    // Also gives back the lock.
    await session.close();
  }
}

/**
 * Whether the database fits this program, for processes that do not migrate.
 *
 * @param sql - Of any role.
 * @throws StrongroomError `SCHEMA_OLDER`, `SCHEMA_NEWER`, or `MIGRATION_FAILED`
 *   when a migration was applied from another file than ours.
 */
export async function requireCurrentSchema(sql: Sql, folder: string = MIGRATIONS_FOLDER): Promise<void> {
  const files = await readMigrations(folder);
  const { rows } = await sql.query<{ there: boolean }>(
    `select to_regclass('strongroom.migrations') is not null
        and has_schema_privilege('strongroom', 'usage') as there`,
  );
  const done = rows[0]?.there === true ? await appliedMigrations(sql) : [];
  const missing = missingFrom(files, done);
  if (missing.length > 0) {
    throw new StrongroomError('SCHEMA_OLDER', {
      detail: `The database is at ${done.length}, this program needs ${files.length}.`,
      database: done.length,
      program: files.length,
    });
  }
}

/** In order of their numbers. @throws StrongroomError `MIGRATION_FAILED` for a gap or a foreign file name. */
export async function readMigrations(folder: string = MIGRATIONS_FOLDER): Promise<readonly MigrationFile[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort();
  const files: MigrationFile[] = [];
  for (const name of names) {
    const number = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(name)?.[1] ?? Number.NaN);
    if (number !== files.length + 1) {
      throw refused(
        `${name} stands where number ${files.length + 1} belongs: files are named 0001_name.sql, without gaps.`,
      );
    }
    const bytes = await readFile(path.join(folder, name));
    files.push({
      number,
      name,
      sha256: createHash('sha256').update(bytes).digest('hex'),
      text: bytes.toString('utf8'),
    });
  }
  return files;
}

/** The schema and the table of what was done: before the first migration there is neither. */
async function makeRoom({ sql }: Session): Promise<void> {
  // Asked first: `if not exists` would want the privilege to create all the same.
  const { rows } = await sql.query(`select 1 from pg_namespace where nspname = 'strongroom'`);
  if (rows.length === 0) await sql.query('create schema strongroom');
  await sql.query(`
    create table if not exists strongroom.migrations (
      number     integer primary key check (number > 0),
      name       text not null unique,
      sha256     text not null check (sha256 ~ '^[0-9a-f]{64}$'),
      applied_at timestamptz not null default now()
    )`);
}

export async function appliedMigrations(sql: Sql): Promise<readonly Migration[]> {
  const { rows } = await sql.query<Migration>('select number, name, sha256 from strongroom.migrations order by number');
  return rows;
}

function missingFrom(files: readonly MigrationFile[], done: readonly Migration[]): readonly MigrationFile[] {
  for (const [at, { number, name, sha256 }] of done.entries()) {
    if (number !== at + 1) throw refused(`The database lacks migration ${at + 1} but has ${name}.`);
    const file = files[at];
    if (file === undefined) {
      throw new StrongroomError('SCHEMA_NEWER', {
        detail: `The database is at ${done.length}, this program knows ${files.length}.`,
        database: done.length,
        program: files.length,
      });
    }
    if (file.name !== name || file.sha256 !== sha256) {
      throw refused(`${file.name} is not the file that was applied as ${name}: applied files never change.`);
    }
  }
  return files.slice(done.length);
}

async function apply(session: Session, file: MigrationFile): Promise<void> {
  try {
    await session.transaction(async (sql) => {
      await sql.query(`set local lock_timeout = ${TABLE_PATIENCE_MS}`);
      // Again for each file: an earlier one may have set it for the session.
      await sql.query('set local search_path = strongroom, pg_temp');
      const before = await transactionId(sql);
      // The row first: should two ever get here, the second fails on its key before it changes anything.
      await sql.query('insert into strongroom.migrations (number, name, sha256) values ($1, $2, $3)', [
        file.number,
        file.name,
        file.sha256,
      ]);
      await session.script(file.text);
      if ((await transactionId(sql)) !== before) throw refused(`${file.name} ends its own transaction.`);
    });
  } catch (error) {
    if (!(error instanceof StrongroomError) || error.code === 'MIGRATION_FAILED') throw error;
    // A lost connection at the commit: the next start looks and knows.
    if (isOutcomeUnknown(error)) throw error;
    const { sqlstate, reason, position, constraint } = error.facts;
    const place = typeof position === 'number' ? ` ${lineAndColumn(file.text, position)}` : '';
    throw new StrongroomError(
      'MIGRATION_FAILED',
      {
        detail: `${file.name}${place}: ${reason ?? constraint ?? 'refused'} (${sqlstate ?? 'no SQLSTATE'}). Rolled back.`,
        migration: file.name,
        sqlstate: sqlstate ?? null,
      },
      error,
    );
  }
}

async function transactionId(sql: Sql): Promise<string> {
  const { rows } = await sql.query<{ id: string }>('select pg_current_xact_id()::text as id');
  return rows[0]?.id ?? '';
}

/** The server counts characters from 1, not UTF-16 units. */
function lineAndColumn(text: string, position: number): string {
  const before = [...text].slice(0, position - 1).join('');
  const lines = before.split('\n');
  return `line ${lines.length} column ${[...(lines.at(-1) ?? '')].length + 1}`;
}

function refused(detail: string): StrongroomError {
  return new StrongroomError('MIGRATION_FAILED', { detail });
}
