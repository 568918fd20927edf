/**
 * Plaid's published rate limits (plaid.com/docs/errors/rate-limit-exceeded): per minute, for one item
 * and for one client. Off unless switched on, since tests would trip over them.
 */
import { type PlaidCode, PlaidFailure } from './errors.ts';
import type { World } from './world.ts';

const MINUTE = 60_000; // ms

/** [item, client] in production, [item, client] in sandbox, code. Null: no limit published. */
type Row = readonly [production: Pair, sandbox: Pair, code: PlaidCode];
type Pair = readonly [item: number | null, client: number | null];

const LIMITS: Readonly<Record<string, Row>> = {
  '/accounts/balance/get': [[5, 1200], [25, 100], 'BALANCE_LIMIT'],
  '/accounts/get': [[15, 15_000], [100, 5000], 'ACCOUNTS_LIMIT'],
  '/auth/get': [[15, 12_000], [100, 500], 'AUTH_LIMIT'],
  '/identity/get': [[15, 2000], [100, 1000], 'IDENTITY_LIMIT'],
  '/transactions/get': [[30, 20_000], [80, 1000], 'TRANSACTIONS_LIMIT'],
  '/transactions/sync': [[50, 2500], [50, 1000], 'TRANSACTIONS_SYNC_LIMIT'],
  '/transactions/refresh': [[2, 100], [2, 100], 'TRANSACTIONS_REFRESH_LIMIT'],
  '/transactions/recurring/get': [[20, 1000], [20, 1000], 'RATE_LIMIT'],
  '/liabilities/get': [[15, 1000], [10, 1000], 'RATE_LIMIT'],
  '/investments/holdings/get': [[15, 2000], [100, 1000], 'INVESTMENT_HOLDINGS_GET_LIMIT'],
  '/investments/transactions/get': [[30, 20_000], [100, 1000], 'INVESTMENT_TRANSACTIONS_LIMIT'],
  '/item/get': [[15, 5000], [40, 5000], 'ITEM_GET_LIMIT'],
  '/item/remove': [[30, 2000], [100, 500], 'RATE_LIMIT'],
  '/institutions/get': [[null, 50], [null, 10], 'INSTITUTIONS_GET_LIMIT'],
  '/institutions/get_by_id': [[null, 400], [null, 400], 'INSTITUTIONS_GET_BY_ID_LIMIT'],
  '/processor/token/create': [[null, 500], [null, 500], 'RATE_LIMIT'],
  '/asset_report/create': [[5, 50], [null, 100], 'RATE_LIMIT'],
  '/transfer/authorization/create': [[null, 2500], [null, 100], 'RATE_LIMIT'],
  '/transfer/create': [[null, 2500], [null, 100], 'RATE_LIMIT'],
  '/sandbox/transactions/create': [[null, null], [2, 50], 'RATE_LIMIT'],
};

/** Counts calls in fixed windows of one minute of the simulated clock. */
export class RateLimits {
  #window = -1;
  readonly #counts = new Map<string, number>();

  /** Counts one call. Throws a 429 with the endpoint's code; a refused call does not count. */
  spend(path: string, clientId: string, itemId: string | null, world: World): void {
    const row = LIMITS[path];
    if (row === undefined) return;
    const window = Math.floor(world.now() / MINUTE);
    if (window !== this.#window) {
      this.#counts.clear();
      this.#window = window;
    }
    const [item, client] = row[world.environment === 'production' ? 0 : 1];
    const spent: string[] = [];
    if (client !== null) spent.push(this.#check(`${path} ${clientId}`, client, row[2]));
    if (item !== null && itemId !== null) spent.push(this.#check(`${path} ${itemId}`, item, row[2]));
    for (const key of spent) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  #check(key: string, most: number, code: PlaidCode): string {
    if ((this.#counts.get(key) ?? 0) >= most) throw new PlaidFailure(code);
    return key;
  }
}
