import { type Clock, systemClock } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import type { Sql } from './sql.ts';
import { type Ahead, aheadFor, CallsAhead } from './usage-ahead.ts';

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
  readonly clock?: Clock;
}

const FITS: Promise<null> = Promise.resolve(null);

/**
 * Reserves usage for calls, in groups: while one group is under way the next one
 * gathers. For an application whose calls come many at a time, the database counts
 * some ahead while its quota is far (see `reserve_usage`), and these then wait for
 * nothing; what has not come within a second is given back. So a quota is never
 * passed, and a replica can find it spent up to a second early by what another one
 * holds. Budgets are asked for call by call.
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
  readonly #clock: Clock;
  readonly #ahead: CallsAhead;
  /** What is being given back, for {@link close}. */
  readonly #returning = new Set<Promise<unknown>>();

  constructor(sql: Sql, options: UsageOptions = {}) {
    this.#sql = sql;
    this.#clock = options.clock ?? systemClock;
    this.#ahead = new CallsAhead(this.#clock, (ahead) => this.#giveBack(ahead));
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
    const { applicationId, limits } = request;
    if (this.#isPlain(request) && this.#ahead.take(applicationId, limits.calls, this.#hour)) return FITS;
    if (this.#waiting.length >= this.#mayWait) {
      return Promise.reject(new StrongroomError('OVERLOADED', { queue: 'usage' }));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject });
      if (!this.#busy) void this.#run();
    });
  }

  /** Gives back what was counted ahead. Calls that come later are counted one group at a time, as before. */
  async close(): Promise<void> {
    this.#ahead.close();
    await Promise.all(this.#returning);
  }

  /** A call that counts as a call and as nothing else. */
  #isPlain({ applicationId, records, removals, rotations }: UsageRequest): boolean {
    if (removals > 0 || rotations > 0) return false;
    if (records.length === 0) return true;
    const counted = this.#counted.get(applicationId);
    return counted !== undefined && records.every((record) => counted.has(record));
  }

  #giveBack({ hour, applicationId, left }: Ahead): void {
    // What cannot be given back stays counted: on the safe side.
    const returned = returnUsage(this.#sql, hour, applicationId, left)
      .catch(() => {})
      .finally(() => this.#returning.delete(returned));
    this.#returning.add(returned);
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
      const asked = this.#clock.monotonic();
      const wanted = aheadOf(requests);
      const { hour, exceeded, ahead } = await reserveUsage(
        this.#sql,
        this.#hour,
        requests,
        wanted,
        (application, record) => this.#counted.get(application)?.has(record) === true,
      );
      if (exceeded !== null) {
        for (const [at, request] of requests.entries()) {
          if (exceeded[at] === null) this.#remember(request);
          const calls = ahead?.[at] ?? 0;
          if (calls > 0) this.#ahead.add(request.applicationId, request.limits.calls, hour, calls, asked);
        }
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
  /** How many calls were counted ahead behind each; null with `exceeded`. */
  readonly ahead: readonly number[] | null;
}

/** How many calls to count ahead behind each: all of an application's behind its last one. */
function aheadOf(requests: readonly UsageRequest[]): number[] {
  const calls = new Map<string, number>();
  for (const { applicationId } of requests) calls.set(applicationId, (calls.get(applicationId) ?? 0) + 1);
  const ahead = new Array<number>(requests.length).fill(0);
  for (let at = requests.length - 1; at >= 0; at--) {
    const { applicationId } = requests[at] as UsageRequest;
    ahead[at] = aheadFor(calls.get(applicationId) ?? 0);
    calls.delete(applicationId);
  }
  return ahead;
}

async function reserveUsage(
  sql: Sql,
  hour: number | null,
  requests: readonly UsageRequest[],
  ahead: readonly number[],
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
    text: `select current_hour as hour, exceeded, ahead
       from reserve_usage($1::int, $2::text[], $3::int[], $4::int[], $5::bigint[], $6::int[], $7::int[], $8::int[],
                          $9::int[], $10::int[], $11::uuid[], $12::int[])`,
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
      ahead,
    ],
  });
  if (rows[0] === undefined)
    throw new StrongroomError('DATABASE_UNAVAILABLE', { reason: 'no answer of reserve_usage' });
  return rows[0];
}

async function returnUsage(sql: Sql, hour: number, applicationId: string, calls: number): Promise<void> {
  await sql.query({
    name: 'return-usage',
    text: 'select return_usage($1, $2, $3)',
    values: [hour, applicationId, calls],
  });
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
