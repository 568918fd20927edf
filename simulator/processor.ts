/** Tokens for processors and Stripe, and the calls that processors make with them. */

import { hasNumbers, renderNumbers } from './accounts.ts';
import { linkItem, renderAccount, renderOwners } from './bank.ts';
import { type Call, checkUrl, type Endpoint, type Json } from './call.ts';
import { PlaidFailure } from './errors.ts';
import type { Account, Item } from './state.ts';
import { isoTime } from './world.ts';

const mintToken = (call: Call, item: Item, account: Account, processor: string): string =>
  call.world.grant({
    kind: 'processor',
    clientId: call.clientId,
    createdAt: call.now,
    itemId: item.id,
    accountId: account.id,
    processor,
    webhook: null,
  });

const createToken =
  (processor: string | null): Endpoint =>
  (call) => {
    const item = call.itemWith(null);
    const account = call.account(item);
    return { processor_token: mintToken(call, item, account, processor ?? call.body.text('processor')) };
  };

/** The Stripe token of an account: only accounts that have numbers can be charged. */
const createStripeToken: Endpoint = (call) => {
  const item = call.itemWith('auth');
  const account = call.account(item);
  if (!hasNumbers(account))
    throw new PlaidFailure('INVALID_STRIPE_ACCOUNT', 'the account cannot be used with Stripe: it has no ACH numbers');
  return {
    stripe_bank_account_token: call.world.grant({
      kind: 'stripe',
      clientId: call.clientId,
      createdAt: call.now,
      itemId: item.id,
      accountId: account.id,
    }),
  };
};

const createInSandbox: Endpoint = (call) => {
  const options = call.body.child('options');
  const item = linkItem(call.world, {
    clientId: call.clientId,
    institutionId: call.body.text('institution_id'),
    products: ['auth'],
    username: options.maybeText('override_username'),
    password: options.maybeText('override_password'),
  });
  // The item lives without an access token: the processor token is the only way to it.
  item.state = 'live';
  return { processor_token: mintToken(call, item, item.accounts[0] as Account, 'dwolla') };
};

/** Item and account behind `processor_token`. */
function opened(call: Call, product: string | null): { item: Item; account: Account } {
  const grant = call.token('processor', call.body.text('processor_token'));
  const item = call.world.state.items.get(grant.itemId);
  if (item === undefined || item.state === 'removed') throw new PlaidFailure('INVALID_PROCESSOR_TOKEN');
  call.ready(item, product);
  return { item, account: call.account(item, grant.accountId) };
}

const getAuth: Endpoint = (call) => {
  const { item, account } = opened(call, 'auth');
  if (!hasNumbers(account)) throw new PlaidFailure('NO_AUTH_ACCOUNTS');
  const numbers = renderNumbers(item, [account]);
  const first = (list: readonly Json[]): Json | null => list[0] ?? null;
  return {
    numbers: {
      ach: first(numbers.ach),
      eft: first(numbers.eft),
      international: first(numbers.international),
      bacs: first(numbers.bacs),
    },
    account: renderAccount(account),
  };
};

const updateWebhook: Endpoint = (call) => {
  const url = checkUrl('webhook', call.body.maybeText('webhook'));
  const grant = call.token('processor', call.body.text('processor_token'));
  grant.webhook = url;
  if (url !== null) {
    call.world.emit({
      url,
      clientId: call.clientId,
      itemId: grant.itemId,
      payload: {
        account_id: grant.accountId,
        environment: call.world.environment,
        error: null,
        new_webhook_url: url,
        webhook_code: 'WEBHOOK_UPDATE_ACKNOWLEDGED',
        webhook_type: 'PROCESSOR_TOKEN',
      },
    });
  }
  return {};
};

export const processorEndpoints: Readonly<Record<string, Endpoint>> = {
  '/processor/token/create': createToken(null),
  '/processor/apex/processor_token/create': createToken('apex_clearing'),
  '/processor/stripe/bank_account_token/create': createStripeToken,
  '/processor/token/webhook/update': updateWebhook,
  '/processor/auth/get': getAuth,
  '/processor/account/get': (call) => {
    const { item, account } = opened(call, null);
    return { account: renderAccount(account), institution_id: item.institutionId };
  },
  '/processor/balance/get': (call) => ({ account: renderAccount(opened(call, null).account, isoTime(call.now)) }),
  '/processor/identity/get': (call) => {
    const { item, account } = opened(call, 'identity');
    return { account: { ...renderAccount(account), owners: renderOwners(item) } };
  },
  '/sandbox/processor_token/create': createInSandbox,
};
