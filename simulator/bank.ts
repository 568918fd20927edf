/** What a bank knows about an item: accounts, owners, numbers. Derived from the item, so always the same. */
import type { Json } from './call.ts';
import { invalidField } from './call.ts';
import { isPlaidCode, type PlaidCode, PlaidFailure } from './errors.ts';
import { type Institution, institutionById } from './institutions.ts';
import { dice, type Mint } from './random.ts';
import type { Account, Item } from './state.ts';
import type { World } from './world.ts';

/** Transactions that a fresh item of a standard test user has. */
const DERIVED_TRANSACTIONS = 200;

type Template = readonly [
  name: string,
  official: string | null,
  mask: string,
  type: string,
  subtype: string,
  current: number,
  available: number | null,
  limit: number | null,
];

const USER_GOOD: readonly Template[] = [
  ['Plaid Checking', 'Plaid Gold Standard 0% Interest Checking', '0000', 'depository', 'checking', 110, 100, null],
  ['Plaid Saving', 'Plaid Silver Standard 0.1% Interest Saving', '1111', 'depository', 'savings', 210, 200, null],
  ['Plaid CD', 'Plaid Bronze Standard 0.2% Interest CD', '2222', 'depository', 'cd', 1000, null, null],
  [
    'Plaid Credit Card',
    'Plaid Diamond 12.5% APR Interest Credit Card',
    '3333',
    'credit',
    'credit card',
    410,
    null,
    2000,
  ],
  [
    'Plaid Money Market',
    'Plaid Platinum Standard 1.85% Interest Money Market',
    '4444',
    'depository',
    'money market',
    43200,
    43200,
    null,
  ],
  ['Plaid IRA', null, '5555', 'investment', 'ira', 320.76, null, null],
  ['Plaid 401k', null, '6666', 'investment', '401k', 23631.98, null, null],
  ['Plaid Student Loan', null, '7777', 'loan', 'student', 65262, null, null],
  ['Plaid Mortgage', null, '8888', 'loan', 'mortgage', 56302.06, null, null],
];

/** Accounts of an item made by a migration or by a plain depository user. */
export const CHECKING_ONLY: readonly Template[] = USER_GOOD.slice(0, 1);

function fromTemplate(mint: Mint, row: Template): Account {
  const [name, officialName, mask, type, subtype, current, available, limit] = row;
  return {
    id: mint.id(),
    name,
    officialName,
    mask,
    type,
    subtype,
    current,
    available,
    limit,
    verificationStatus: null,
  };
}

/** The accounts of `user_custom`: JSON in the password, as Plaid's Sandbox takes it. */
function customAccounts(mint: Mint, password: string): Account[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(password);
  } catch {
    throw invalidField('override_password must be JSON for user_custom');
  }
  const overrides = (parsed as { override_accounts?: unknown } | null)?.override_accounts;
  if (!Array.isArray(overrides) || overrides.length === 0)
    throw invalidField('override_accounts must be a non-empty list');
  return overrides.map((entry: Json, index) => {
    const meta = (entry.meta ?? {}) as Json;
    const balance = typeof entry.starting_balance === 'number' ? entry.starting_balance : 1000;
    return {
      id: mint.id(),
      name: typeof meta.name === 'string' ? meta.name : `Custom ${index + 1}`,
      officialName: typeof meta.official_name === 'string' ? meta.official_name : null,
      mask: typeof meta.mask === 'string' ? meta.mask : String(1000 + index),
      type: typeof entry.type === 'string' ? entry.type : 'depository',
      subtype: typeof entry.subtype === 'string' ? entry.subtype : 'checking',
      current: balance,
      available: balance,
      limit: typeof meta.limit === 'number' ? meta.limit : null,
      // Ours, not Plaid's: `pending_automatic_verification` makes /auth/get answer PRODUCT_NOT_READY.
      verificationStatus: typeof entry.verification_status === 'string' ? entry.verification_status : null,
    };
  });
}

export interface Linking {
  readonly clientId: string;
  readonly institutionId: string;
  readonly products: readonly string[];
  /** Further products that the user agreed to. Null: whatever the bank offers. */
  readonly consented?: readonly string[] | null;
  readonly webhook?: string | null;
  readonly username?: string | null;
  readonly password?: string | null;
  readonly userId?: string | null;
  readonly templates?: readonly Template[];
  readonly authMethod?: string | null;
}

/** Credentials of the Sandbox's test users. `error_<CODE>` as password fails with that code. */
function checkCredentials(username: string, password: string): void {
  const wanted = /^error_([A-Z_]+)$/.exec(password)?.[1];
  if (wanted !== undefined) {
    const code = wanted === 'ITEM_LOGIN_REQUIRED' ? 'INVALID_CREDENTIALS' : wanted;
    throw new PlaidFailure(isPlaidCode(code) ? code : 'INVALID_CREDENTIALS');
  }
  if (username === 'user_good' && password !== 'pass_good') throw new PlaidFailure('INVALID_CREDENTIALS');
}

/** Links a bank: makes an item without a token. Sends the webhooks of its first data. */
export function linkItem(world: World, linking: Linking): Item {
  const institution = institutionById(linking.institutionId);
  if (institution.fails !== undefined) throw new PlaidFailure(institution.fails as PlaidCode);
  refuseUnsupported(institution, linking.products);
  const username = linking.username ?? 'user_good';
  const password = linking.password ?? (username === 'user_custom' ? '' : 'pass_good');
  if (username !== 'user_custom') checkCredentials(username, password);
  const now = world.now();
  const accounts =
    username === 'user_custom'
      ? customAccounts(world.mint, password)
      : (linking.templates ?? USER_GOOD).map((row) => fromTemplate(world.mint, row));
  const item: Item = {
    id: world.mint.id(),
    clientId: linking.clientId,
    institutionId: institution.id,
    createdAt: now,
    username,
    state: 'pending',
    accessToken: null,
    rotations: 0,
    error: null,
    webhook: linking.webhook ?? null,
    consented: [...new Set([...linking.products, ...(linking.consented ?? institution.products)])],
    billed: [...linking.products],
    loginEndsAt: world.loginEnd(),
    consentEndsAt: institution.countries.includes('GB') ? now + 180 * 86_400_000 : null,
    authMethod: linking.authMethod ?? (linking.products.includes('auth') ? 'INSTANT_AUTH' : null),
    userId: linking.userId ?? null,
    accounts,
    changes: [],
    derived: username === 'user_transactions_dynamic' ? 50 : DERIVED_TRANSACTIONS,
    syncedOnce: false,
    refreshedAt: now,
    lastWebhook: null,
  };
  world.state.items.set(item.id, item);
  if (linking.products.includes('transactions')) {
    const ready = now + world.settings.readyAfterMs;
    world.itemWebhook(
      item,
      'TRANSACTIONS',
      'INITIAL_UPDATE',
      { error: null, new_transactions: Math.min(item.derived, 60) },
      ready,
    );
    world.itemWebhook(
      item,
      'TRANSACTIONS',
      'HISTORICAL_UPDATE',
      { error: null, new_transactions: item.derived },
      ready,
    );
  }
  return item;
}

function refuseUnsupported(institution: Institution, products: readonly string[]): void {
  const unsupported = products.filter((product) => !institution.products.includes(product));
  if (unsupported.length > 0) {
    throw new PlaidFailure(
      'PRODUCTS_NOT_SUPPORTED',
      `the following products are not supported by this institution: ${JSON.stringify(unsupported)}`,
    );
  }
}

/** An account as /accounts/get shows it. `live` adds what only a fresh look at the bank tells. */
export function renderAccount(account: Account, live: string | null = null): Json {
  return {
    account_id: account.id,
    balances: {
      available: account.available,
      current: account.current,
      iso_currency_code: 'USD',
      limit: account.limit,
      unofficial_currency_code: null,
      ...(live === null ? {} : { last_updated_datetime: live }),
    },
    holder_category: 'personal',
    mask: account.mask,
    name: account.name,
    official_name: account.officialName,
    subtype: account.subtype,
    type: account.type,
    ...(account.verificationStatus === null ? {} : { verification_status: account.verificationStatus }),
  };
}

const FIRST = ['Alberta', 'Bertram', 'Carmen', 'Dorian', 'Estelle', 'Felix', 'Greta', 'Hugo'] as const;
const LAST = ['Charleson', 'Dunmore', 'Eastwick', 'Fairbairn', 'Gillespie', 'Harrow'] as const;
const STREETS = ['2992 Cameron Road', '414 Fourth Street', '17 Harbour Lane', '8 Orchard Close'] as const;

const pick = <T>(roll: () => number, list: readonly T[]): T => list[Math.floor(roll() * list.length)] as T;

export function renderOwners(item: Item): Json[] {
  const roll = dice(`owner ${item.id}`);
  const first = pick(roll, FIRST);
  const last = pick(roll, LAST);
  const digits = (count: number): string => Array.from({ length: count }, () => Math.floor(roll() * 10)).join('');
  return [
    {
      names: [`${first} ${last}`],
      // 555-01xx numbers are reserved for fiction.
      phone_numbers: [{ data: `+1415555010${digits(1)}`, primary: true, type: 'mobile' }],
      emails: [{ data: `${first}.${last}.${digits(4)}@example.com`.toLowerCase(), primary: true, type: 'primary' }],
      addresses: [
        {
          data: {
            street: pick(roll, STREETS),
            city: 'Malakoff',
            region: 'NY',
            postal_code: `1423${digits(1)}`,
            country: 'US',
          },
          primary: true,
        },
      ],
    },
  ];
}

/** The account number: nine digits of the account's own id, then its mask. */
export function accountNumber(account: Account): string {
  const roll = dice(`number ${account.id}`);
  return `${Array.from({ length: 9 }, () => Math.floor(roll() * 10)).join('')}${account.mask}`;
}
