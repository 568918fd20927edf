import { createHash } from 'node:crypto';
import pg from 'pg';
import { StrongroomError } from '../base/errors.ts';
import { type ConnectionOptions, driverConfig } from './connection.ts';
import { databaseError } from './sql-errors.ts';
import { inTransaction, run, type Sql, type TransactionOptions } from './statement.ts';

/** One connection of its own, for what lives as long as a session: locks, migrations. */
export interface Session {
  readonly sql: Sql;
  transaction<T>(work: (sql: Sql) => Promise<T>, options?: TransactionOptions): Promise<T>;
  /**
   * Runs several statements in one text, inside the transaction that is open.
   * For migration files. A failure carries the fact `position`, where known.
   */
  script(text: string): Promise<void>;
  /** Aborted when the connection has ended, by whomever. */
  readonly lost: AbortSignal;
  /** May be called twice. */
  close(): Promise<void>;
}

/** @throws StrongroomError `DATABASE_UNAVAILABLE`, `DATABASE_UNFIT` as openDatabase. */
export async function openSession(options: ConnectionOptions): Promise<Session> {
  const client = new pg.Client(driverConfig(options));
  const lost = new AbortController();
  // Without a listener a dying connection would end the process; `end` always follows.
  client.on('error', () => {});
  client.on('end', () => lost.abort());
  try {
    await client.connect();
  } catch (error) {
    throw databaseError(error, 'not_done');
  }
  return {
    sql: { query: (statement, values) => run(client, statement, values, 'unknown') },
    transaction: (work, how) => inTransaction(client, work, how),
    script: async (text) => {
      try {
        await client.query(text);
      } catch (error) {
        throw databaseError(error, 'not_done');
      }
    },
    lost: lost.signal,
    close: async () => {
      if (!lost.signal.aborted) await client.end();
    },
  };
}

/**
 * An advisory lock, held exactly as long as its connection lives.
 *
 * The server may notice a dead connection before we do and give the lock to
 * somebody else. So `lost` is a hint to stop early; safety comes from doing the
 * protected writes through this same connection (`sql`, `transaction`): they
 * cannot succeed once the lock is gone.
 */
export interface HeldLock {
  readonly sql: Sql;
  transaction<T>(work: (sql: Sql) => Promise<T>, options?: TransactionOptions): Promise<T>;
  readonly lost: AbortSignal;
  /** Gives the lock back and closes the connection. May be called twice. */
  release(): Promise<void>;
}

/**
 * Takes the lock of that name in this database, or answers null at once when
 * somebody else holds it. Needs a direct connection: a pooler that shares
 * connections between transactions breaks session locks.
 *
 * @throws StrongroomError as {@link openSession}.
 */
export async function tryLock(options: ConnectionOptions, name: string): Promise<HeldLock | null> {
  const session = await openSession({ ...options, applicationName: `${options.applicationName ?? 'strongroom'} lock` });
  try {
    const { rows } = await session.sql.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [
      lockKey(name),
    ]);
    if (rows[0]?.held !== true) {
      await session.close();
      return null;
    }
  } catch (error) {
    await session.close();
    throw error;
  }
  return { sql: session.sql, transaction: session.transaction, lost: session.lost, release: session.close };
}

/**
 * Waits for the lock of that name on a session that the caller holds.
 *
 * @throws StrongroomError `DATABASE_UNAVAILABLE` when it was not free within `patienceMs`.
 */
export async function waitForLock(session: Session, name: string, patienceMs: number): Promise<void> {
  if (!Number.isSafeInteger(patienceMs) || patienceMs < 1)
    throw new StrongroomError('INTERNAL', { reason: 'patience' });
  await session.sql.query(`set lock_timeout = ${patienceMs}`);
  await session.sql.query('select pg_advisory_lock($1)', [lockKey(name)]);
  await session.sql.query('set lock_timeout = 0');
}

/** 64 bits of SHA-256, as text: the key is signed and may exceed what a number holds. */
function lockKey(name: string): string {
  return createHash('sha256').update(`strongroom lock ${name}`).digest().readBigInt64BE(0).toString();
}
