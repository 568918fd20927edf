/**
 * Money paths, kept small: enough to show that the right token arrives and that
 * repeating a call does not pay twice. No transfer ever settles.
 */
import { CHECKING_ONLY, linkItem } from './bank.ts';
import { type Body, type Call, type Endpoint, invalidField, type Json } from './call.ts';
import { PlaidFailure } from './errors.ts';
import type { Account, Repeatable } from './state.ts';
import { isoDate, isoTime } from './world.ts';

const IDEMPOTENT_FOR = 48 * 3_600_000; // ms
const MONEY = /^\d+\.\d{2}$/;

const amountOf = (body: Body, name: string): string => {
  const amount = body.text(name);
  if (!MONEY.test(amount)) throw invalidField(`${name} must be a decimal string with two digits, such as "12.34"`);
  return amount;
};

/** The answer that was given for this key before, within 48 hours. */
function repeated(call: Call, key: string | null): Json | null {
  if (key === null) return null;
  const earlier = call.world.state.idempotency.get(`${call.path} ${call.clientId} ${key}`);
  return earlier !== undefined && earlier.at > call.now - IDEMPOTENT_FOR ? earlier.body : null;
}

function remember(call: Call, key: string | null, body: Json): Json {
  if (key !== null)
    call.world.state.idempotency.set(`${call.path} ${call.clientId} ${key}`, {
      clientId: call.clientId,
      at: call.now,
      body,
    });
  return body;
}

const userOf = (body: Body): Json => {
  const address = body.child('address');
  return {
    legal_name: body.text('legal_name'),
    phone_number: body.maybeText('phone_number'),
    email_address: body.maybeText('email_address'),
    address: body.has('address')
      ? Object.fromEntries(
          ['street', 'city', 'region', 'postal_code', 'country'].map((name) => [name, address.maybeText(name)]),
        )
      : null,
  };
};

const authorize: Endpoint = (call) => {
  const { body } = call;
  const amount = amountOf(body, 'amount');
  if (body.has('payment_profile_token')) call.token('payment_profile', body.text('payment_profile_token'));
  const item = call.itemWith('transfer');
  const account = call.account(item);
  const key = body.maybeText('idempotency_key');
  const earlier = repeated(call, key);
  if (earlier !== null) return earlier;
  const debit = body.text('type') === 'debit';
  const short = debit && account.available !== null && Number(amount) > account.available;
  const authorization: Json = {
    id: call.world.mint.uuid(),
    created: isoTime(call.now),
    decision: short ? 'declined' : 'approved',
    decision_rationale: short
      ? { code: 'NSF', description: 'Transaction likely to result in a return due to insufficient funds.' }
      : null,
    guarantee_decision: null,
    guarantee_decision_rationale: null,
    payment_risk: null,
    proposed_transfer: {
      ach_class: body.maybeText('ach_class') ?? 'ppd',
      account_id: account.id,
      funding_account_id: body.maybeText('funding_account_id'),
      type: body.text('type'),
      user: userOf(body.child('user')),
      amount,
      requested_amount: amount,
      network: body.text('network'),
      origination_account_id: '',
      iso_currency_code: body.maybeText('iso_currency_code') ?? 'USD',
      originator_client_id: body.maybeText('originator_client_id'),
      credit_funds_source: body.maybeText('credit_funds_source') ?? 'sweep',
    },
  };
  call.world.state.authorizations.set(authorization.id as string, {
    clientId: call.clientId,
    at: call.now,
    body: authorization,
  });
  return remember(call, key, { authorization });
};

function owned(call: Call, list: ReadonlyMap<string, Repeatable>, id: string, name: string): Repeatable {
  const found = list.get(id);
  if (found === undefined || found.clientId !== call.clientId)
    throw new PlaidFailure('NOT_FOUND', `${name} was not found`);
  return found;
}

/** One transfer per authorization: a repeated call gets the same transfer. */
const create: Endpoint = (call) => {
  const { body } = call;
  const item = call.itemWith('transfer');
  const account = call.account(item);
  const authorizationId = body.text('authorization_id');
  const authorization = owned(call, call.world.state.authorizations, authorizationId, 'authorization_id').body;
  const proposed = authorization.proposed_transfer as Json;
  if (proposed.account_id !== account.id) throw invalidField('account_id does not match the authorization');
  if (authorization.decision !== 'approved') throw invalidField('the authorization was not approved');
  const earlier = repeated(call, authorizationId);
  if (earlier !== null) return earlier;
  const transfer: Json = {
    id: call.world.mint.uuid(),
    authorization_id: authorizationId,
    ach_class: proposed.ach_class,
    account_id: account.id,
    funding_account_id: proposed.funding_account_id,
    type: proposed.type,
    user: proposed.user,
    amount: body.has('amount') ? amountOf(body, 'amount') : proposed.amount,
    description: body.text('description'),
    created: isoTime(call.now),
    status: 'pending',
    sweep_status: null,
    network: proposed.network,
    cancellable: true,
    failure_reason: null,
    metadata: body.raw.metadata ?? null,
    origination_account_id: '',
    guarantee_decision: null,
    guarantee_decision_rationale: null,
    iso_currency_code: proposed.iso_currency_code,
    standard_return_window: null,
    unauthorized_return_window: null,
    expected_settlement_date: null,
    originator_client_id: proposed.originator_client_id,
    refunds: [],
    recurring_transfer_id: null,
    credit_funds_source: proposed.credit_funds_source,
  };
  call.world.state.transfers.set(transfer.id as string, { clientId: call.clientId, at: call.now, body: transfer });
  return remember(call, authorizationId, { transfer });
};

const get: Endpoint = (call) => {
  const { transfers } = call.world.state;
  const id = call.body.maybeText('transfer_id');
  if (id !== null) return { transfer: owned(call, transfers, id, 'transfer_id').body };
  const authorizationId = call.body.text('authorization_id');
  for (const transfer of transfers.values()) {
    if (transfer.clientId === call.clientId && transfer.body.authorization_id === authorizationId)
      return { transfer: transfer.body };
  }
  throw new PlaidFailure('NOT_FOUND', 'transfer was not found');
};

const list: Endpoint = (call) => {
  const [start, end] = [call.body.maybeText('start_date'), call.body.maybeText('end_date')];
  const all = [...call.world.state.transfers.values()].filter((transfer) => {
    const date = isoDate(transfer.at);
    return (
      transfer.clientId === call.clientId &&
      (start === null || date >= start.slice(0, 10)) &&
      (end === null || date <= end.slice(0, 10))
    );
  });
  const offset = call.body.number('offset', 0);
  return { transfers: all.slice(offset, offset + call.body.number('count', 25)).map((transfer) => transfer.body) };
};

const cancel: Endpoint = (call) => {
  const id = call.body.text('transfer_id');
  const found = owned(call, call.world.state.transfers, id, 'transfer_id');
  if (found.body.cancellable !== true) throw new PlaidFailure('TRANSFER_NOT_CANCELLABLE');
  call.world.state.transfers.set(id, { ...found, body: { ...found.body, status: 'cancelled', cancellable: false } });
  return {};
};

/** An item from bare numbers, with its access token in the answer. */
const migrateAccount: Endpoint = (call) => {
  if (!/^\d{9}$/.test(call.body.text('routing_number'))) throw invalidField('routing_number must have nine digits');
  const item = linkItem(call.world, {
    clientId: call.clientId,
    institutionId: 'ins_109508',
    products: ['transfer'],
    templates: CHECKING_ONLY,
    authMethod: 'TRANSFER_MIGRATED',
  });
  return { access_token: call.world.issueToken(item), account_id: (item.accounts[0] as Account).id };
};

/** A score from the amount: more than the balance is riskier. */
const evaluate: Endpoint = (call) => {
  const item = call.itemWith('signal');
  const account = call.account(item);
  const risky = call.body.number('amount', 0) > (account.available ?? account.current);
  return {
    scores: {
      customer_initiated_return_risk: { score: risky ? 62 : 9, risk_tier: risky ? 5 : 1 },
      bank_initiated_return_risk: { score: risky ? 82 : 12, risk_tier: risky ? 7 : 2 },
    },
    core_attributes: {
      available_balance: account.available,
      current_balance: account.current,
      is_account_closed: false,
    },
    warnings: [],
  };
};

export const transferEndpoints: Readonly<Record<string, Endpoint>> = {
  '/transfer/authorization/create': authorize,
  '/transfer/create': create,
  '/transfer/get': get,
  '/transfer/list': list,
  '/transfer/cancel': cancel,
  '/transfer/migrate_account': migrateAccount,
  '/bank_transfer/migrate_account': migrateAccount,
  '/signal/evaluate': evaluate,
};
