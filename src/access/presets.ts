import type { Policy } from './policy.ts';

/**
 * Starting points for people who add an application. A preset is copied into
 * the application's policy: changing a preset later changes no application.
 */
export const PRESETS = ['read-only', 'link-and-read', 'demo'] as const;
export type PresetName = (typeof PRESETS)[number];

const READING = [
  '/accounts/get',
  '/accounts/balance/get',
  '/auth/get',
  '/identity/get',
  '/investments/holdings/get',
  '/investments/transactions/get',
  '/item/get',
  '/liabilities/get',
  '/statements/download',
  '/statements/list',
  '/transactions/get',
  '/transactions/recurring/get',
  '/transactions/sync',
];

const LINKING = ['/item/public_token/exchange', '/link/token/create', '/link/token/get', '/user/create', '/user/get'];

const REMOVING = [
  '/asset_report/remove',
  '/item/remove',
  '/item/access_token/invalidate',
  '/user/items/remove',
  '/user/remove',
];

/** `any` stands for every address, so that nobody has to write it by accident. */
export const ANYWHERE = ['0.0.0.0/0', '::/0'] as const;

/**
 * @param name - `read-only` reads what its items hold; `link-and-read` also links
 *   new ones; `demo` does nearly everything that moves no money, for trying out.
 *   None grants `money` or `admin`.
 */
export function presetPolicy(name: PresetName, sourceCidrs: readonly string[]): Policy {
  const careful: Policy = {
    classes: ['directory'],
    endpoints: [...READING],
    denied: [],
    shares: [],
    sourceCidrs: [...sourceCidrs],
    rate: { perSecond: 50, burst: 100 },
    dayQuota: 100_000,
    budgets: { distinctItemsPerHour: 1_000, removalsPerDay: 0, rotationsPerDay: 0 },
    releases: [],
  };
  switch (name) {
    case 'read-only':
      return careful;
    case 'link-and-read':
      return { ...careful, endpoints: [...READING, ...LINKING] };
    case 'demo':
      return {
        ...careful,
        classes: ['item', 'user', 'link', 'report', 'directory', 'sandbox'],
        endpoints: [...REMOVING],
        rate: { perSecond: 1_000, burst: 2_000 },
        dayQuota: 1_000_000_000,
        budgets: { distinctItemsPerHour: 10_000, removalsPerDay: 1_000, rotationsPerDay: 1_000 },
        releases: ['processor'],
      };
  }
}
