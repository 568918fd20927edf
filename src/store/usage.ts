import { StrongroomError } from '../base/errors.ts';
import type { Sql } from './sql.ts';

/**
 * Exact counting of what applications use: calls, removals and rotations in a
 * UTC day, distinct records in a UTC hour. Exact over all replicas: PostgreSQL counts.
 */

export type UsageLimit = 'calls' | 'items' | 'removals' | 'rotations';

/** One call, counted as a whole or not at all. */
export interface UsageRequest {
  readonly applicationId: string;
  /** UUIDs of the records that the call uses. */
  readonly records: readonly string[];
  readonly removals: number;
  readonly rotations: number;
  readonly limits: {
    readonly calls: number;
    readonly items: number;
    readonly removals: number;
    readonly rotations: number;
  };
}

interface Waiting {
  readonly request: UsageRequest;
  readonly resolve: (exceeded: UsageLimit | null) => void;
  readonly reject: (error: unknown) => void;
}

export interface UsageOptions {
  /** Calls in one round trip. Default 256. */
  readonly group?: number;
  /** Calls that may wait; more get `OVERLOADED`. Default 8,192. */
  readonly waiting?: number;
  /** Records remembered as counted in this hour, over all applications. Default 100,000. */
  readonly remembered?: number;
}

/**
 * Reserves usage for calls, in groups: while one group is under way the next one
 * gathers.
 *
 * Uses one statement outside any transaction of ours, see `reserve_usage`: it
 * commits without waiting for the disk, because the durable audit entry that
 * follows it flushes it too. Never call this with a connection inside a
 * transaction: that transaction would lose its durability.
 */
export class UsageReservations {
  readonly #sql: Sql;
  readonly #group: number;
  readonly #mayWait: number;
  readonly #mayRemember: number;
  #waiting: Waiting[] = [];
  #busy = false;
  /** Hours since 1970, as the database last said. */
  #hour: number | null = null;
  /** Per application: records that are counted for {@link #hour} already and need not be sent. */
  readonly #counted = new Map<string, Set<string>>();
  #remembered = 0;

  constructor(sql: Sql, options: UsageOptions = {}) {
    this.#sql = sql;
    this.#group = options.group ?? 256;
    this.#mayWait = options.waiting ?? 8_192;
    this.#mayRemember = options.remembered ?? 100_000;
  }

  /**
   * Counts the call if it fits.
   *
   * @returns The limit that it would exceed (nothing was counted), or null.
   * @throws StrongroomError `DATABASE_UNAVAILABLE`: it may have been counted, which
   *   errs on the safe side; `OVERLOADED`: nothing was counted.
   */
  reserve(request: UsageRequest): Promise<UsageLimit | null> {
    if (this.#waiting.length >= this.#mayWait) {
      return Promise.reject(new StrongroomError('OVERLOADED', { queue: 'usage' }));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject });
      if (!this.#busy) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#busy = true;
    while (this.#waiting.length > 0) {
      // One turn of the event loop: whoever else becomes ready in it joins this group.
      await new Promise((resolve) => setImmediate(resolve));
      const group = this.#waiting.splice(0, this.#group);
      try {
        const exceeded = await this.#send(group.map(({ request }) => request));
        for (const [at, { resolve }] of group.entries()) resolve(exceeded[at] ?? null);
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
    this.#busy = false;
  }

  async #send(requests: readonly UsageRequest[]): Promise<readonly (UsageLimit | null)[]> {
    // Twice when the hour has changed since we were last told; a third time only
    // when it changes once more in between.
    for (let attempt = 0; attempt < 3; attempt++) {
      const { hour, exceeded } = await reserveUsage(
        this.#sql,
        this.#hour,
        requests,
        (application, record) => this.#counted.get(application)?.has(record) === true,
      );
      if (exceeded !== null) {
        for (const [at, request] of requests.entries()) if (exceeded[at] === null) this.#remember(request);
        return exceeded;
      }
      this.#hour = hour;
      this.#forget();
    }
    throw new StrongroomError('DATABASE_UNAVAILABLE', { reason: 'the hour of the database does not hold still' });
  }

  #remember(request: UsageRequest): void {
    if (request.records.length === 0) return;
    let counted = this.#counted.get(request.applicationId);
    if (counted === undefined) {
      counted = new Set();
      this.#counted.set(request.applicationId, counted);
    }
    for (const record of request.records) {
      if (counted.has(record)) continue;
      // Forgetting costs a look at the table and nothing else.
      if (this.#remembered >= this.#mayRemember) {
        this.#forget();
        return;
      }
      counted.add(record);
      this.#remembered++;
    }
  }

  #forget(): void {
    this.#counted.clear();
    this.#remembered = 0;
  }
}

interface Reservation {
  readonly hour: number;
  /** Null: the hour was not the one expected, nothing was counted. */
  readonly exceeded: readonly (UsageLimit | null)[] | null;
}

async function reserveUsage(
  sql: Sql,
  hour: number | null,
  requests: readonly UsageRequest[],
  isCounted: (application: string, record: string) => boolean,
): Promise<Reservation> {
  const records: string[] = [];
  const firsts: number[] = [];
  const counts: number[] = [];
  for (const request of requests) {
    const fresh = new Set<string>();
    for (const record of request.records) if (!isCounted(request.applicationId, record)) fresh.add(record);
    firsts.push(records.length + 1);
    counts.push(fresh.size);
    records.push(...fresh);
  }
  const { rows } = await sql.query<Reservation>({
    name: 'reserve-usage',
    text: `select current_hour as hour, exceeded
       from reserve_usage($1::int, $2::text[], $3::int[], $4::int[], $5::bigint[], $6::int[], $7::int[], $8::int[],
                          $9::int[], $10::int[], $11::uuid[])`,
    values: [
      hour,
      requests.map((request) => request.applicationId),
      requests.map((request) => request.removals),
      requests.map((request) => request.rotations),
      requests.map((request) => request.limits.calls),
      requests.map((request) => request.limits.items),
      requests.map((request) => request.limits.removals),
      requests.map((request) => request.limits.rotations),
      firsts,
      counts,
      records,
    ],
  });
  if (rows[0] === undefined)
    throw new StrongroomError('DATABASE_UNAVAILABLE', { reason: 'no answer of reserve_usage' });
  return rows[0];
}

export interface DayUsage {
  readonly calls: number;
  readonly removals: number;
  readonly rotations: number;
  /** Distinct records in the current hour. */
  readonly items: number;
}

/** What an application has used today and in this hour. */
export async function usageOf(sql: Sql, applicationId: string): Promise<DayUsage> {
  const { rows } = await sql.query<DayUsage>(
    `select coalesce(max(d.calls), 0)::float8 as calls, coalesce(max(d.removals), 0) as removals,
            coalesce(max(d.rotations), 0) as rotations,
            coalesce((select h.items from usage_hours h
                       where h.application_id = $1 and h.hour = date_trunc('hour', now(), 'UTC')), 0) as items
       from usage_days d
      where d.application_id = $1 and d.day = (now() at time zone 'UTC')::date`,
    [applicationId],
  );
  return rows[0] ?? { calls: 0, removals: 0, rotations: 0, items: 0 };
}

/** Drops what no limit and no report needs any more. For the worker, about hourly. */
export async function pruneUsage(sql: Sql): Promise<void> {
  await sql.query('select prune_usage()');
}
