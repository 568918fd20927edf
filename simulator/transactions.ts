/** /transactions/*: cursors, pages, refreshes. */
import { renderAccount } from './bank.ts';
import { type Call, type Endpoint, invalidField, type Json } from './call.ts';
import { PlaidFailure } from './errors.ts';
import { renderItem } from './items.ts';
import { currentTransactions, ledgerEntries, ledgerLength, refreshLedger, renderTransaction } from './ledger.ts';
import { derivedId } from './random.ts';
import type { Account, Item } from './state.ts';
import { isoTime } from './world.ts';

const DAY = 86_400_000; // ms
const DATE = /^\d{4}-\d{2}-\d{2}$/;

const ready = (call: Call, item: Item): boolean => call.now >= item.createdAt + call.world.settings.readyAfterMs;

/**
 * A cursor names its item, the next entry, and, between the pages of one
 * update, the length that the log had at the first page: a change in between
 * makes the rest of the pages meaningless.
 */
interface Cursor {
  readonly item: string;
  readonly next: number;
  readonly length: number | null;
}

const writeCursor = (cursor: Cursor): string => Buffer.from(JSON.stringify(cursor)).toString('base64url');

function readCursor(text: string, item: Item): Cursor {
  if (text === '') return { item: item.id, next: 0, length: null };
  try {
    const cursor = JSON.parse(Buffer.from(text, 'base64url').toString()) as Cursor;
    if (
      cursor.item === item.id &&
      Number.isInteger(cursor.next) &&
      cursor.next >= 0 &&
      cursor.next <= ledgerLength(item)
    )
      return cursor;
  } catch {
    // falls through: not one of ours
  }
  throw invalidField('cursor not associated with access_token');
}

const sync: Endpoint = (call) => {
  const { body } = call;
  const count = body.number('count', 100);
  if (count < 1 || count > 500) throw invalidField('count must be an integer between 1 and 500');
  const item = call.itemWith('transactions');
  const onlyAccount = body.child('options').maybeText('account_id');
  if (onlyAccount !== null) call.account(item, onlyAccount);
  const accounts = item.accounts
    .filter((account) => onlyAccount === null || account.id === onlyAccount)
    .map((account) => renderAccount(account));
  item.syncedOnce = true;
  if (!ready(call, item)) {
    return {
      accounts,
      added: [],
      modified: [],
      removed: [],
      next_cursor: '',
      has_more: false,
      transactions_update_status: 'NOT_READY',
    };
  }
  const cursor = readCursor(body.text('cursor'), item);
  const length = ledgerLength(item);
  if (cursor.length !== null && cursor.length !== length)
    throw new PlaidFailure('TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION');

  const end = Math.min(length, cursor.next + count);
  const added: Json[] = [];
  const modified: Json[] = [];
  const removed: Json[] = [];
  for (const entry of ledgerEntries(item, cursor.next, end)) {
    const accountId = entry.kind === 'removed' ? entry.accountId : (entry.transaction.account_id as string);
    if (onlyAccount !== null && accountId !== onlyAccount) continue;
    if (entry.kind === 'removed') removed.push({ transaction_id: entry.transactionId, account_id: accountId });
    else (entry.kind === 'added' ? added : modified).push(entry.transaction);
  }
  const more = end < length;
  return {
    accounts,
    added,
    modified,
    removed,
    next_cursor: writeCursor({ item: item.id, next: end, length: more ? length : null }),
    has_more: more,
    transactions_update_status: 'HISTORICAL_UPDATE_COMPLETE',
  };
};

/** The dates of a call that takes a range; both ends belong to it. */
export function dateRange(call: Call): readonly [string, string] {
  const start = call.body.text('start_date');
  const end = call.body.text('end_date');
  for (const [name, date] of [
    ['start_date', start],
    ['end_date', end],
  ] as const) {
    if (!DATE.test(date) || Number.isNaN(Date.parse(date)))
      throw invalidField(`${name} must be a date of the form YYYY-MM-DD`);
  }
  if (start > end) throw invalidField('start_date must not be after end_date');
  return [start, end];
}

const get: Endpoint = (call) => {
  const [start, end] = dateRange(call);
  const options = call.body.child('options');
  const count = options.number('count', 100);
  const offset = options.number('offset', 0);
  if (count < 1 || count > 500) throw invalidField('count must be an integer between 1 and 500');
  const item = call.itemWith('transactions');
  if (!ready(call, item)) throw new PlaidFailure('PRODUCT_NOT_READY');
  const accounts = call.accounts(item);
  const ids = new Set(accounts.map((account) => account.id));
  const all = currentTransactions(item).filter(
    (transaction) =>
      ids.has(transaction.account_id as string) &&
      (transaction.date as string) >= start &&
      (transaction.date as string) <= end,
  );
  return {
    accounts: accounts.map((account) => renderAccount(account)),
    transactions: all.slice(offset, offset + count),
    total_transactions: all.length,
    item: renderItem(item),
  };
};

function announce(call: Call, item: Item, added: number, removed: readonly string[]): void {
  if (item.syncedOnce) {
    call.world.itemWebhook(item, 'TRANSACTIONS', 'SYNC_UPDATES_AVAILABLE', {
      initial_update_complete: true,
      historical_update_complete: true,
    });
  }
  call.world.itemWebhook(item, 'TRANSACTIONS', 'DEFAULT_UPDATE', { error: null, new_transactions: added });
  if (removed.length > 0) {
    call.world.itemWebhook(item, 'TRANSACTIONS', 'TRANSACTIONS_REMOVED', {
      error: null,
      removed_transactions: removed,
    });
  }
}

const refresh: Endpoint = (call) => {
  const item = call.itemWith('transactions');
  const { added, removed } = refreshLedger(item, call.now, () => call.world.mint.id());
  announce(call, item, added, removed);
  return {};
};

/** Only for the test user whose transactions the caller makes; at most 10, of the last 14 days. */
const createInSandbox: Endpoint = (call) => {
  const item = call.itemWith('transactions');
  if (item.username !== 'user_transactions_dynamic')
    throw invalidField('the Item must be of the test user user_transactions_dynamic');
  const wanted = call.body.objects('transactions');
  if (wanted.length < 1 || wanted.length > 10) throw invalidField('transactions must hold between 1 and 10 entries');
  const account = item.accounts.find((candidate) => candidate.type === 'depository') as Account;
  for (const entry of wanted) {
    for (const name of ['date_transacted', 'date_posted']) {
      const at = DATE.test(entry.text(name)) ? Date.parse(entry.text(name)) : Number.NaN;
      if (!(at >= call.now - 15 * DAY && at <= call.now))
        throw invalidField(`${name} must be a date within the last 14 days`);
    }
  }
  for (const entry of wanted) {
    item.changes.push({
      kind: 'added',
      transaction: renderTransaction({
        id: call.world.mint.id(),
        account,
        amount: entry.number('amount', 0),
        date: entry.text('date_posted'),
        authorized: entry.text('date_transacted'),
        pending: false,
        description: entry.text('description'),
        merchant: null,
        currency: entry.maybeText('iso_currency_code') ?? 'USD',
      }),
    });
  }
  announce(call, item, wanted.length, []);
  return {};
};

/** Streams from the derived transactions: one merchant in, one out. */
const getRecurring: Endpoint = (call) => {
  const item = call.itemWith('transactions');
  const current = currentTransactions(item);
  const stream = (merchant: string): Json[] => {
    const found = current.filter((transaction) => transaction.merchant_name === merchant);
    const [last] = found;
    if (last === undefined) return [];
    const total = found.reduce((sum, transaction) => sum + (transaction.amount as number), 0);
    const amount = (value: number): Json => ({
      amount: Math.round(value * 100) / 100,
      iso_currency_code: 'USD',
      unofficial_currency_code: null,
    });
    return [
      {
        account_id: last.account_id,
        stream_id: derivedId(`stream ${item.id} ${merchant}`),
        category: last.category,
        category_id: last.category_id,
        description: merchant,
        merchant_name: merchant,
        first_date: found.at(-1)?.date,
        last_date: last.date,
        predicted_next_date: null,
        frequency: 'MONTHLY',
        transaction_ids: found.map((transaction) => transaction.transaction_id),
        average_amount: amount(total / found.length),
        last_amount: amount(last.amount as number),
        is_active: true,
        status: 'MATURE',
        personal_finance_category: last.personal_finance_category,
        is_user_modified: false,
      },
    ];
  };
  return {
    inflow_streams: stream('Acme Payroll'),
    outflow_streams: stream('Streamline Video'),
    updated_datetime: isoTime(item.refreshedAt),
  };
};

export const transactionEndpoints: Readonly<Record<string, Endpoint>> = {
  '/transactions/sync': sync,
  '/transactions/get': get,
  '/transactions/refresh': refresh,
  '/transactions/recurring/get': getRecurring,
  '/sandbox/transactions/create': createInSandbox,
};
