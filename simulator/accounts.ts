/** /accounts/*, /auth/get, /identity/get, statements: what is read from an item's accounts. */
import { accountNumber, renderAccount, renderOwners } from './bank.ts';
import { type Endpoint, invalidField, type Json, Reply } from './call.ts';
import { PlaidFailure } from './errors.ts';
import { institutionById } from './institutions.ts';
import { renderItem } from './items.ts';
import { tinyPdf } from './pdf.ts';
import { derivedId } from './random.ts';
import type { Account, Item } from './state.ts';
import { isoDate, isoTime } from './world.ts';

const get: Endpoint = (call) => {
  const item = call.itemWith(null);
  return { accounts: call.accounts(item).map((account) => renderAccount(account)), item: renderItem(item) };
};

const getBalance: Endpoint = (call) => {
  const item = call.itemWith(null);
  const now = isoTime(call.now);
  return { accounts: call.accounts(item).map((account) => renderAccount(account, now)), item: renderItem(item) };
};

/** Checking and savings accounts: the ones that have numbers. */
export function hasNumbers(account: Account): boolean {
  return account.type === 'depository' && ['checking', 'savings', 'cash management'].includes(account.subtype);
}

/** The numbers of some accounts, by scheme of the bank's country. */
export function renderNumbers(
  item: Item,
  accounts: readonly Account[],
): Record<'ach' | 'eft' | 'international' | 'bacs', Json[]> {
  const bank = institutionById(item.institutionId);
  const country = bank.countries[0];
  const list = accounts.filter(hasNumbers);
  return {
    ach:
      country === 'US'
        ? list.map((account) => ({
            account: accountNumber(account),
            account_id: account.id,
            can_transfer_in: true,
            can_transfer_out: true,
            is_tokenized_account_number: false,
            routing: bank.routing[0] ?? '011401533',
            wire_routing: bank.routing[1] ?? null,
          }))
        : [],
    eft:
      country === 'CA'
        ? list.map((account) => ({
            account: accountNumber(account).slice(0, 12),
            account_id: account.id,
            branch: '01140',
            institution: '021',
          }))
        : [],
    international:
      country === 'GB'
        ? list.map((account) => ({
            account_id: account.id,
            bic: 'NWBKGB21',
            iban: `GB29NWBK601613${accountNumber(account).slice(-8)}`,
          }))
        : [],
    bacs:
      country === 'GB'
        ? list.map((account) => ({
            account: accountNumber(account).slice(-8),
            account_id: account.id,
            sort_code: '601613',
          }))
        : [],
  };
}

const getAuth: Endpoint = (call) => {
  const item = call.itemWith('auth');
  const accounts = call.accounts(item);
  if (!accounts.some(hasNumbers)) throw new PlaidFailure('NO_AUTH_ACCOUNTS');
  if (accounts.some((account) => account.verificationStatus?.startsWith('pending')))
    throw new PlaidFailure('PRODUCT_NOT_READY');
  return {
    accounts: accounts.map((account) => renderAccount(account)),
    item: renderItem(item),
    numbers: renderNumbers(item, accounts),
  };
};

const getIdentity: Endpoint = (call) => {
  const item = call.itemWith('identity');
  const owners = renderOwners(item);
  return {
    accounts: call.accounts(item).map((account) => ({ ...renderAccount(account), owners })),
    item: renderItem(item),
  };
};

/** Statements of the three months before the item was linked. */
function statementsOf(item: Item, account: Account): Json[] {
  return [1, 2, 3].map((ago) => {
    const month = new Date(item.createdAt);
    month.setUTCDate(1);
    month.setUTCMonth(month.getUTCMonth() - ago);
    return {
      statement_id: derivedId(`statement ${account.id} ${ago}`),
      date_posted: isoDate(month.getTime()),
      month: month.getUTCMonth() + 1,
      year: month.getUTCFullYear(),
    };
  });
}

const listStatements: Endpoint = (call) => {
  const item = call.itemWith('statements');
  return {
    accounts: item.accounts.filter(hasNumbers).map((account) => ({
      account_id: account.id,
      account_mask: account.mask,
      account_name: account.name,
      account_official_name: account.officialName ?? account.name,
      account_subtype: account.subtype,
      account_type: account.type,
      statements: statementsOf(item, account),
    })),
    institution_id: item.institutionId,
    institution_name: institutionById(item.institutionId).name,
    item_id: item.id,
  };
};

const downloadStatement: Endpoint = (call) => {
  const item = call.itemWith('statements');
  const wanted = call.body.text('statement_id');
  const account = item.accounts.find((candidate) =>
    statementsOf(item, candidate).some((entry) => entry.statement_id === wanted),
  );
  if (account === undefined) throw invalidField('statement_id is not known for this item');
  return new Reply(200, tinyPdf(`Statement of ${account.name} ${account.mask}`), 'application/pdf');
};

export const accountEndpoints: Readonly<Record<string, Endpoint>> = {
  '/accounts/get': get,
  '/accounts/balance/get': getBalance,
  '/auth/get': getAuth,
  '/identity/get': getIdentity,
  '/statements/list': listStatements,
  '/statements/download': downloadStatement,
};
