import type pg from 'pg';
import { StrongroomError } from '../base/errors.ts';
import { commitCertainlyFailed, databaseError, type Outcome, spoilsConnection } from './sql-errors.ts';

/**
 * One statement and one transaction on a connection that the caller holds.
 * sql.ts hands out connections of a pool, session.ts one of its own.
 */

export interface Statement {
  /**
   * Up to 63 characters, unique per text: the server then parses it once per
   * connection. For hot statements; not for text that varies.
   */
  readonly name?: string;
  /** One statement. Two in one text are refused by the server. */
  readonly text: string;
  readonly values?: readonly unknown[];
}

export interface Rows<R> {
  readonly rows: R[];
  /** Rows returned or changed; 0 for a statement that counts none. */
  readonly rowCount: number;
}

export interface Sql {
  /**
   * Runs one statement. Column types: see {@link driverConfig}.
   *
   * @throws StrongroomError `DATABASE_UNAVAILABLE` (retryable) with the facts
   *   `sqlstate`, `reason` and `outcome`: `unknown` when it may have taken effect
   *   all the same; `DATABASE_ROLE_UNFIT` when the login may not do it;
   *   `INTERNAL` for a violated constraint (see the predicates of sql-errors.ts)
   *   or a mistake in the statement.
   */
  query<R extends object = Record<string, unknown>>(
    statement: string | Statement,
    values?: readonly unknown[],
  ): Promise<Rows<R>>;
}

export interface TransactionOptions {
  /** Default `read committed`. */
  readonly isolation?: 'read committed' | 'repeatable read' | 'serializable';
  readonly readOnly?: boolean;
}

const spoiled = new WeakSet<pg.ClientBase>();

/**
 * Runs one statement on one connection. `lost` is what a lost answer means: in a
 * transaction nothing has happened yet, outside it may have.
 */
export async function run<R extends object>(
  client: pg.ClientBase,
  statement: string | Statement,
  values: readonly unknown[] | undefined,
  lost: Outcome,
): Promise<Rows<R>> {
  const { name, text, values: own } = typeof statement === 'string' ? { name: undefined, text: statement } : statement;
  // The extended protocol also for statements without values: it refuses a second
  // statement in the same text.
  const config = { text, values: values ?? own ?? [], queryMode: 'extended', ...(name === undefined ? {} : { name }) };
  try {
    return await new Promise((resolve, reject) => {
      client.query(config as unknown as pg.QueryConfig, (error: Error | null, result: pg.QueryResult<R>) => {
        if (error !== null && error !== undefined) return reject(error);
        resolve({ rows: result.rows, rowCount: result.rowCount ?? 0 });
      });
    });
  } catch (error) {
    if (spoilsConnection(error)) spoiled.add(client);
    const answered = error instanceof Error && 'severity' in error && !spoilsConnection(error);
    throw databaseError(error, answered ? 'not_done' : lost, name === undefined ? {} : { statement: name });
  }
}

/** True when the connection failed in a way that forbids using it again. */
export function isSpoiled(client: pg.ClientBase): boolean {
  return spoiled.has(client);
}

export function spoil(client: pg.ClientBase): void {
  spoiled.add(client);
}

/** The transaction of {@link Database.transaction}, on a connection that the caller holds. */
export async function inTransaction<T>(
  client: pg.ClientBase,
  work: (sql: Sql) => Promise<T>,
  { isolation = 'read committed', readOnly = false }: TransactionOptions = {},
): Promise<T> {
  let over = false;
  const sql: Sql = {
    query: async (statement, values) => {
      if (over) throw new StrongroomError('INTERNAL', { reason: 'this transaction has ended' });
      return run(client, statement, values, 'not_done');
    },
  };
  await run(client, `begin isolation level ${isolation} ${readOnly ? 'read only' : 'read write'}`, [], 'not_done');
  let result: T;
  try {
    result = await work(sql);
  } catch (error) {
    over = true;
    // The first error is the one to tell. A connection that cannot even roll back
    // is thrown away, and the server rolls back by itself.
    await run(client, 'rollback', [], 'not_done').catch(() => spoiled.add(client));
    throw error;
  }
  over = true;
  await commit(client);
  return result;
}

async function commit(client: pg.ClientBase): Promise<void> {
  let command: string;
  try {
    ({ command } = await client.query('commit'));
  } catch (error) {
    if (spoilsConnection(error)) spoiled.add(client);
    throw databaseError(error, commitCertainlyFailed(error) ? 'not_done' : 'unknown');
  }
  // A COMMIT after a swallowed error answers ROLLBACK, and nothing was written.
  if (command !== 'COMMIT') {
    throw new StrongroomError('INTERNAL', {
      outcome: 'not_done',
      reason: 'a statement failed, its error was swallowed, and the server rolled back',
    });
  }
}
