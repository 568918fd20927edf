import pg from 'pg';
import { type Clock, systemClock } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import { type ConnectionOptions, type DatabaseRole, driverConfig } from './connection.ts';
import { type HeldLock, tryLock } from './session.ts';
import { databaseError } from './sql-errors.ts';
import {
  inTransaction,
  isSpoiled,
  type Rows,
  run,
  type Sql,
  type Statement,
  spoil,
  type TransactionOptions,
} from './statement.ts';

export type { DatabaseRole } from './connection.ts';
export { isForeignKeyViolation, isUniqueViolation } from './sql-errors.ts';
export type { Rows, Sql, Statement, TransactionOptions } from './statement.ts';

/**
 * The way to the database: a pool for writes and transactions, and one pipelined
 * connection for hot reads. It knows connections and failures, and no table.
 *
 * Why two: on one pipelined connection single-row durable writes wait for each
 * other's fsync, and on a pool small reads pay for checking a connection out.
 */

export interface Database {
  readonly role: DatabaseRole | 'owner';
  /** Each statement is its own transaction, on any connection of the pool. */
  readonly sql: Sql;
  /** Pipelined and read only. Answers come in order, so nothing slow belongs here. */
  readonly reads: Sql;
  /**
   * Runs `work` in one transaction and commits it. When `work` throws, rolls back
   * and throws that same error. The given `Sql` ends with the transaction.
   *
   * @throws StrongroomError as {@link Sql.query}; `DATABASE_UNAVAILABLE` with
   *   outcome `unknown` when the answer of the commit was lost.
   */
  transaction<T>(work: (sql: Sql) => Promise<T>, options?: TransactionOptions): Promise<T>;
  /** A lock held by a connection of its own, or null when somebody else has it. See {@link tryLock}. */
  tryLock(name: string): Promise<HeldLock | null>;
  /** Waits for running work, then closes every connection. May be called twice. */
  close(): Promise<void>;
}

export interface DatabaseOptions extends ConnectionOptions {
  readonly role: DatabaseRole | 'owner';
  /** Connections of the pool, at most. Default 6. */
  readonly poolSize?: number;
  readonly clock?: Clock;
  /** Told about connections that died while nobody used them. For the log. */
  readonly onLost?: (error: StrongroomError) => void;
}

/**
 * Opens the database and proves one connection.
 *
 * @throws StrongroomError `DATABASE_UNAVAILABLE`: not reachable, or it refuses
 *   the login; `DATABASE_UNFIT`: TLS is off where it may not be.
 */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const onLost = options.onLost ?? (() => {});
  const pool = new pg.Pool({ ...driverConfig(options), max: options.poolSize ?? 6, idleTimeoutMillis: 60_000 });
  // Without a listener, an idle connection that dies would end the process; a
  // connection that is checked out has no listener of the pool's.
  pool.on('error', (error) => onLost(databaseError(error, 'not_done')));
  pool.on('connect', (client) => client.on('error', () => {}));
  const reads = new PipelinedReads(
    driverConfig(options, { default_transaction_read_only: 'on' }),
    options.clock ?? systemClock,
    onLost,
  );

  const withClient = async <T>(use: (client: pg.PoolClient) => Promise<T>): Promise<T> => {
    const client = await pool.connect().catch((error: unknown) => {
      throw databaseError(error, 'not_done');
    });
    try {
      return await use(client);
    } finally {
      client.release(isSpoiled(client));
    }
  };

  const database: Database = {
    role: options.role,
    sql: { query: (statement, values) => withClient((client) => run(client, statement, values, 'unknown')) },
    reads,
    transaction: (work, how) => withClient((client) => inTransaction(client, work, how)),
    tryLock: (name) => tryLock(options, name),
    close: async () => {
      await Promise.all([reads.close(), pool.ending ? undefined : pool.end()]);
    },
  };
  try {
    await reads.query('select 1');
  } catch (error) {
    await database.close();
    throw error;
  }
  return database;
}

/** After a failed attempt to connect, everybody gets the same failure for this long. */
const RECONNECT_PAUSE_MS = 100;

/** One pipelined connection, made anew when it dies. A lost read fails; asking again is safe. */
class PipelinedReads implements Sql {
  readonly #config: pg.ClientConfig;
  readonly #clock: Clock;
  readonly #onLost: (error: StrongroomError) => void;
  #connection: Promise<pg.Client> | null = null;
  #failure: { readonly error: StrongroomError; readonly until: number } | null = null;
  #closed = false;

  constructor(config: pg.ClientConfig, clock: Clock, onLost: (error: StrongroomError) => void) {
    this.#config = config;
    this.#clock = clock;
    this.#onLost = onLost;
  }

  async query<R extends object>(statement: string | Statement, values?: readonly unknown[]): Promise<Rows<R>> {
    if (this.#closed) throw new StrongroomError('DATABASE_UNAVAILABLE', { outcome: 'not_done', reason: 'closed' });
    if (this.#failure !== null && this.#clock.monotonic() < this.#failure.until) throw this.#failure.error;
    this.#connection ??= this.#connect();
    const connection = this.#connection;
    const client = await connection;
    try {
      return await run<R>(client, statement, values, 'not_done');
    } finally {
      if (isSpoiled(client) && this.#connection === connection) {
        this.#connection = null;
        void client.end().catch(() => {});
      }
    }
  }

  async #connect(): Promise<pg.Client> {
    try {
      const client = new pg.Client({ ...this.#config, pipeline: true });
      let connected = false;
      client.on('error', (error) => {
        if (!connected || isSpoiled(client)) return;
        spoil(client);
        this.#connection = null;
        this.#onLost(databaseError(error, 'not_done'));
      });
      await client.connect();
      connected = true;
      this.#failure = null;
      return client;
    } catch (cause) {
      this.#connection = null;
      const error = databaseError(cause, 'not_done');
      if (error !== this.#failure?.error)
        this.#failure = { error, until: this.#clock.monotonic() + RECONNECT_PAUSE_MS };
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const client = await this.#connection?.catch(() => null);
    await client?.end();
  }
}
