/**
 * An item's transactions: a derived beginning (from the item's id, never
 * stored) and the changes that happened since. /transactions/sync walks both.
 */
import type { Json } from './call.ts';
import { derivedId, dice } from './random.ts';
import type { Account, Item, LedgerChange } from './state.ts';
import { isoDate } from './world.ts';

const DAY = 86_400_000; // ms
/** Derived transactions lie within this many days before the item was linked. */
const SPAN_DAYS = 90;

interface Merchant {
  readonly name: string;
  readonly primary: string;
  readonly detailed: string;
  readonly category: readonly string[];
  readonly categoryId: string;
  readonly channel: 'online' | 'in store' | 'other';
  /** Least and most, in dollars. Money coming in is negative, as in Plaid. */
  readonly amount: readonly [number, number];
}

const MERCHANTS: readonly Merchant[] = [
  {
    name: 'Sparkfun Coffee',
    primary: 'FOOD_AND_DRINK',
    detailed: 'FOOD_AND_DRINK_COFFEE',
    category: ['Food and Drink', 'Restaurants', 'Coffee Shop'],
    categoryId: '13005043',
    channel: 'in store',
    amount: [3, 9],
  },
  {
    name: 'Harvest Grocers',
    primary: 'FOOD_AND_DRINK',
    detailed: 'FOOD_AND_DRINK_GROCERIES',
    category: ['Shops', 'Supermarkets and Groceries'],
    categoryId: '19047000',
    channel: 'in store',
    amount: [18, 160],
  },
  {
    name: 'Rapid Rides',
    primary: 'TRANSPORTATION',
    detailed: 'TRANSPORTATION_TAXIS_AND_RIDE_SHARES',
    category: ['Travel', 'Taxi'],
    categoryId: '22016000',
    channel: 'online',
    amount: [6, 48],
  },
  {
    name: 'Meridian Airlines',
    primary: 'TRAVEL',
    detailed: 'TRAVEL_FLIGHTS',
    category: ['Travel', 'Airlines and Aviation Services'],
    categoryId: '22001000',
    channel: 'online',
    amount: [120, 640],
  },
  {
    name: 'Northwind Power',
    primary: 'RENT_AND_UTILITIES',
    detailed: 'RENT_AND_UTILITIES_GAS_AND_ELECTRICITY',
    category: ['Service', 'Utilities', 'Electric'],
    categoryId: '18068005',
    channel: 'other',
    amount: [45, 130],
  },
  {
    name: 'Streamline Video',
    primary: 'ENTERTAINMENT',
    detailed: 'ENTERTAINMENT_TV_AND_MOVIES',
    category: ['Service', 'Subscription'],
    categoryId: '18061000',
    channel: 'online',
    amount: [8, 18],
  },
  {
    name: 'Corner Pharmacy',
    primary: 'MEDICAL',
    detailed: 'MEDICAL_PHARMACIES_AND_SUPPLEMENTS',
    category: ['Shops', 'Pharmacies'],
    categoryId: '19043000',
    channel: 'in store',
    amount: [5, 75],
  },
  {
    name: 'Acme Payroll',
    primary: 'INCOME',
    detailed: 'INCOME_WAGES',
    category: ['Transfer', 'Payroll'],
    categoryId: '21009000',
    channel: 'other',
    amount: [-2400, -1800],
  },
  {
    name: 'Summit Gym',
    primary: 'PERSONAL_CARE',
    detailed: 'PERSONAL_CARE_GYMS_AND_FITNESS_CENTERS',
    category: ['Recreation', 'Gyms and Fitness Centers'],
    categoryId: '17018000',
    channel: 'in store',
    amount: [25, 80],
  },
  {
    name: 'Paper & Ink',
    primary: 'GENERAL_MERCHANDISE',
    detailed: 'GENERAL_MERCHANDISE_OFFICE_SUPPLIES',
    category: ['Shops', 'Office Supplies'],
    categoryId: '19035000',
    channel: 'online',
    amount: [7, 95],
  },
];

export interface TransactionFacts {
  readonly id: string;
  readonly account: Account;
  readonly amount: number;
  readonly date: string;
  readonly authorized: string;
  readonly pending: boolean;
  readonly description: string;
  readonly merchant: Merchant | null;
  readonly currency?: string;
}

/** A transaction in Plaid's shape. */
export function renderTransaction(facts: TransactionFacts): Record<string, unknown> {
  const { merchant } = facts;
  return {
    account_id: facts.account.id,
    account_owner: null,
    amount: facts.amount,
    authorized_date: facts.authorized,
    authorized_datetime: null,
    category: merchant?.category ?? ['Transfer'],
    category_id: merchant?.categoryId ?? '21000000',
    check_number: null,
    counterparties:
      merchant === null
        ? []
        : [
            {
              confidence_level: 'VERY_HIGH',
              entity_id: derivedId(`merchant ${merchant.name}`),
              logo_url: null,
              name: merchant.name,
              type: 'merchant',
              website: null,
            },
          ],
    date: facts.date,
    datetime: null,
    iso_currency_code: facts.currency ?? 'USD',
    location: {
      address: null,
      city: null,
      country: null,
      lat: null,
      lon: null,
      postal_code: null,
      region: null,
      store_number: null,
    },
    logo_url: null,
    merchant_entity_id: merchant === null ? null : derivedId(`merchant ${merchant.name}`),
    merchant_name: merchant?.name ?? null,
    name: facts.description,
    payment_channel: merchant?.channel ?? 'other',
    payment_meta: {
      by_order_of: null,
      payee: null,
      payer: null,
      payment_method: null,
      payment_processor: null,
      ppd_id: null,
      reason: null,
      reference_number: null,
    },
    pending: facts.pending,
    pending_transaction_id: null,
    personal_finance_category: {
      confidence_level: 'VERY_HIGH',
      detailed: merchant?.detailed ?? 'TRANSFER_OUT_ACCOUNT_TRANSFER',
      primary: merchant?.primary ?? 'TRANSFER_OUT',
    },
    personal_finance_category_icon_url: `https://plaid-category-icons.plaid.com/PFC_${merchant?.primary ?? 'TRANSFER_OUT'}.png`,
    transaction_code: null,
    transaction_id: facts.id,
    transaction_type: merchant?.channel === 'in store' ? 'place' : 'digital',
    unofficial_currency_code: null,
    website: null,
  };
}

const ledgerAccounts = (item: Item): Account[] =>
  item.accounts.filter((account) => account.type === 'depository' || account.type === 'credit');

/** Recently used items keep their derived transactions: making 200 takes half a millisecond. */
const CACHED_ITEMS = 100;
const cache = new Map<string, readonly Record<string, unknown>[]>();

/** The item's first transactions, oldest first. */
export function derivedTransactions(item: Item): readonly Record<string, unknown>[] {
  const cached = cache.get(item.id);
  if (cached !== undefined) return cached;
  const accounts = ledgerAccounts(item);
  const roll = dice(`ledger ${item.id}`);
  const count = accounts.length === 0 ? 0 : item.derived;
  const made = Array.from({ length: count }, (_, index) => {
    const merchant = MERCHANTS[Math.floor(roll() * MERCHANTS.length)] as Merchant;
    const [least, most] = merchant.amount;
    // Spread evenly over the span, the last ones on the day of linking.
    const posted = item.createdAt - Math.floor(((count - 1 - index) * SPAN_DAYS) / count) * DAY;
    return renderTransaction({
      id: derivedId(`transaction ${item.id} ${index}`),
      account: accounts[Math.floor(roll() * accounts.length)] as Account,
      amount: Math.round((least + roll() * (most - least)) * 100) / 100,
      date: isoDate(posted),
      authorized: isoDate(posted - DAY),
      pending: index >= count - 2,
      description: `${merchant.name.toUpperCase()} ${1000 + Math.floor(roll() * 9000)}`,
      merchant,
    });
  });
  if (cache.size >= CACHED_ITEMS) cache.delete(cache.keys().next().value as string);
  cache.set(item.id, made);
  return made;
}

/** How many entries the item's log has: derived transactions, then changes. */
export function ledgerLength(item: Item): number {
  return derivedTransactions(item).length + item.changes.length;
}

/** The log from an entry on. */
export function ledgerEntries(item: Item, from: number, to: number): LedgerChange[] {
  const derived = derivedTransactions(item);
  const first = derived.slice(from, to).map((transaction): LedgerChange => ({ kind: 'added', transaction }));
  return [...first, ...item.changes.slice(Math.max(0, from - derived.length), Math.max(0, to - derived.length))];
}

/** The transactions as they stand now, newest first. */
export function currentTransactions(item: Item): Json[] {
  const byId = new Map<string, Json>();
  for (const entry of ledgerEntries(item, 0, ledgerLength(item))) {
    if (entry.kind === 'removed') byId.delete(entry.transactionId);
    else byId.set(entry.transaction.transaction_id as string, entry.transaction);
  }
  return [...byId.values()].sort((a, b) => ((a.date as string) < (b.date as string) ? 1 : -1));
}

export interface Refreshed {
  readonly added: number;
  readonly removed: string[];
}

/** The bank posts what was pending and books two more. */
export function refreshLedger(item: Item, now: number, mintId: () => string): Refreshed {
  const accounts = ledgerAccounts(item);
  if (accounts.length === 0) return { added: 0, removed: [] };
  const pending = currentTransactions(item).filter((transaction) => transaction.pending === true);
  const removed: string[] = [];
  for (const old of pending) {
    const oldId = old.transaction_id as string;
    item.changes.push({ kind: 'removed', transactionId: oldId, accountId: old.account_id as string });
    item.changes.push({
      kind: 'added',
      transaction: {
        ...old,
        pending: false,
        pending_transaction_id: oldId,
        transaction_id: mintId(),
        date: isoDate(now),
      },
    });
    removed.push(oldId);
  }
  const roll = dice(`refresh ${item.id} ${item.changes.length}`);
  for (const pendingNow of [false, true]) {
    const merchant = MERCHANTS[Math.floor(roll() * MERCHANTS.length)] as Merchant;
    const [least, most] = merchant.amount;
    item.changes.push({
      kind: 'added',
      transaction: renderTransaction({
        id: mintId(),
        account: accounts[0] as Account,
        amount: Math.round((least + roll() * (most - least)) * 100) / 100,
        date: isoDate(now),
        authorized: isoDate(now),
        pending: pendingNow,
        description: merchant.name.toUpperCase(),
        merchant,
      }),
    });
  }
  item.refreshedAt = now;
  return { added: pending.length + 2, removed };
}
