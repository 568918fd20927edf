/**
 * Every endpoint is called once and its answer held against the SDK's type:
 * what the SDK promises an application must be there, and nothing else.
 */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type FieldType, type PlaidTypes, readPlaidTypes } from '../../scripts/plaid-types.ts';
import { ROUTES } from '../../simulator/routes.ts';
import type { Simulator } from '../../simulator/start.ts';
import { start } from './kit.ts';

let types: PlaidTypes;
before(() => {
  types = readPlaidTypes();
});

/** What does not fit, each with its place. */
function misfits(type: FieldType, value: unknown, at: string): string[] {
  if (value === null) return [`${at} is null`];
  switch (type.kind) {
    case 'list':
      if (!Array.isArray(value)) return [`${at} is no list`];
      return value.flatMap((entry, index) => misfits(type.of, entry, `${at}[${index}]`));
    case 'string':
    case 'number':
    case 'boolean':
      return typeof value === type.kind ? [] : [`${at} is no ${type.kind}`];
    case 'name': {
      const values = types.enums.get(type.name);
      if (values !== undefined)
        return values.includes(value as string) ? [] : [`${at}: ${String(value)} is no ${type.name}`];
      const fields = types.interfaces.get(type.name);
      if (fields === undefined) return [];
      if (typeof value !== 'object') return [`${at} is no object`];
      const given = value as Record<string, unknown>;
      const known = new Set(fields.map((field) => field.name));
      return [
        ...Object.keys(given).flatMap((name) => (known.has(name) ? [] : [`${at}.${name} is not in ${type.name}`])),
        ...fields.flatMap((field) => {
          const entry = given[field.name];
          if (entry === undefined) return field.required ? [`${at}.${field.name} is missing`] : [];
          // The generator of the SDK writes some nullable enums as an enum with the word "null".
          const nullable =
            field.nullable || (field.type.kind === 'name' && types.enums.get(field.type.name)?.includes('null'));
          return entry === null && nullable ? [] : misfits(field.type, entry, `${at}.${field.name}`);
        }),
      ];
    }
    default:
      return [];
  }
}

/** Fields are read by name and handed on; their types were just checked. */
// biome-ignore lint/suspicious/noExplicitAny: see above
type Answer = Record<string, any>;

interface Tour {
  readonly called: Set<string>;
  /** Calls an endpoint, checks the answer's shape, returns it. */
  call(path: string, body?: object): Promise<Answer>;
}

function tour(simulator: Simulator): Tour {
  const called = new Set<string>();
  return {
    called,
    async call(path, body = {}) {
      called.add(path);
      const answer = await fetch(simulator.url + path, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'PLAID-CLIENT-ID': simulator.clientId,
          'PLAID-SECRET': simulator.secret,
        },
        body: JSON.stringify(body),
      });
      if (answer.headers.get('content-type') === 'application/pdf') {
        const bytes = Buffer.from(await answer.arrayBuffer());
        assert.equal(bytes.subarray(0, 5).toString(), '%PDF-', path);
        assert.match(answer.headers.get('plaid-request-id') ?? '', /^[A-Za-z0-9]{15}$/, path);
        return {};
      }
      const json = (await answer.json()) as Answer;
      assert.ok(answer.status === 200 || answer.status === 201, `${path}: ${JSON.stringify(json)}`);
      const response = types.endpoints.get(path)?.response ?? null;
      assert.ok(response !== null, `the SDK has no answer type for ${path}`);
      assert.deepEqual(misfits({ kind: 'name', name: response }, json, path), []);
      return json;
    },
  };
}

test('every endpoint answers as the SDK describes', async (t) => {
  const { simulator } = await start(t);
  const { call, called } = tour(simulator);
  const control = simulator.control;
  const hook = `${simulator.url}/nowhere`;
  const link = async (products: string[], more: object = {}): Promise<Answer> => {
    const { public_token } = await call('/sandbox/public_token/create', {
      institution_id: 'ins_109508',
      initial_products: products,
      options: { webhook: hook },
      ...more,
    });
    return await call('/item/public_token/exchange', { public_token });
  };

  // Users and their items.
  const { user_token, user_id } = await call('/user/create', { client_user_id: 'a' });
  await call('/user/get', { user_id });
  await call('/user/update', { user_token, identity: null });
  const { access_token, item_id } = await link(['auth', 'transactions', 'assets'], { user_token });
  await call('/user/items/get', { user_id });
  const { third_party_user_token } = await call('/user/third_party_token/create', {
    user_token,
    third_party_client_id: 'b',
  });
  await call('/credit/employment/get', { user_token });

  // Link.
  const person = { client_user_id: 'a' };
  const common = { client_name: 'c', language: 'en', country_codes: ['US'], user: person };
  const { link_token } = await call('/link/token/create', {
    ...common,
    user_token,
    products: ['auth'],
    webhook: hook,
    hosted_link: {},
    third_party_user_token,
  });
  await call('/link/token/get', { link_token });
  const { link_delivery_session_id } = await call('/link_delivery/create', { link_token });
  await call('/link_delivery/get', { link_delivery_session_id });
  await control('POST', '/link/complete', { link_token });
  const delivered = await call('/link_delivery/get', { link_delivery_session_id });
  assert.equal(delivered.access_tokens.length, 1);
  await call('/link/token/get', { link_token });
  await call('/credit/sessions/get', { user_token });
  await call('/link/oauth/correlation_id/exchange', { link_correlation_id: 'x' });
  const layer = await call('/session/token/create', { template_id: 't', user: person, webhook: hook });
  const layerLink = layer.link.link_token;
  const { public_token: layerToken } = await control('POST', '/link/complete', { link_token: layerLink });
  await call('/user_account/session/get', { public_token: layerToken });
  await call('/user/third_party_token/remove', { third_party_user_token });

  // The item and its data.
  await call('/item/get', { access_token });
  await call('/item/public_token/create', { access_token });
  await call('/item/webhook/update', { access_token, webhook: hook });
  const { accounts } = await call('/accounts/get', { access_token });
  const { account_id } = accounts[0];
  await call('/accounts/balance/get', { access_token, options: { account_ids: [account_id] } });
  await call('/auth/get', { access_token });
  await call('/identity/get', { access_token });
  await call('/transactions/sync', { access_token, count: 500 });
  const range = { access_token, start_date: '2020-01-01', end_date: '2100-01-01' };
  await call('/transactions/get', range);
  await call('/transactions/refresh', { access_token });
  await call('/transactions/recurring/get', { access_token });
  await call('/liabilities/get', { access_token });
  await call('/investments/holdings/get', { access_token });
  await call('/investments/transactions/get', range);
  const statements = await call('/statements/list', { access_token });
  const [listed] = statements.accounts;
  await call('/statements/download', { access_token, statement_id: listed.statements[0].statement_id });
  const dynamic = await link(['transactions'], { options: { override_username: 'user_transactions_dynamic' } });
  const today = new Date().toISOString().slice(0, 10);
  const entry = { date_transacted: today, date_posted: today, amount: 1, description: 'x' };
  await call('/sandbox/transactions/create', { access_token: dynamic.access_token, transactions: [entry] });
  await call('/item/import', { products: ['auth'], user_auth: { user_id: 'user_good', auth_token: 'pass_good' } });

  // The catalogue.
  await call('/institutions/get', {
    count: 20,
    offset: 0,
    country_codes: ['US', 'GB', 'CA'],
    options: { include_optional_metadata: true, include_auth_metadata: true },
  });
  await call('/institutions/search', { query: 'platypus', country_codes: ['US'] });
  await call('/institutions/get_by_id', {
    institution_id: 'ins_109508',
    country_codes: ['US'],
    options: { include_status: true },
  });
  await call('/categories/get');

  // Processors.
  const { processor_token } = await call('/processor/token/create', { access_token, account_id, processor: 'dwolla' });
  await call('/processor/apex/processor_token/create', { access_token, account_id });
  await call('/processor/stripe/bank_account_token/create', { access_token, account_id });
  await call('/processor/token/webhook/update', { processor_token, webhook: hook });
  for (const what of ['auth', 'account', 'balance', 'identity'])
    await call(`/processor/${what}/get`, { processor_token });
  await call('/sandbox/processor_token/create', { institution_id: 'ins_109508' });

  // Reports.
  const { asset_report_token } = await call('/asset_report/create', {
    access_tokens: [access_token],
    days_requested: 60,
    options: { webhook: hook },
  });
  await call('/asset_report/get', { asset_report_token });
  await call('/asset_report/get', { user_token });
  await call('/asset_report/pdf/get', { asset_report_token });
  await call('/asset_report/refresh', { asset_report_token });
  await call('/asset_report/filter', { asset_report_token, account_ids_to_exclude: [account_id] });
  const { audit_copy_token } = await call('/asset_report/audit_copy/create', { asset_report_token });
  await call('/asset_report/audit_copy/get', { audit_copy_token });
  await call('/asset_report/audit_copy/pdf/get', { audit_copy_token });
  await call('/asset_report/audit_copy/remove', { audit_copy_token });
  const copy = await call('/credit/audit_copy_token/create', { report_tokens: [asset_report_token] });
  await call('/credit/audit_copy_token/remove', { audit_copy_token: copy.audit_copy_token });
  const { relay_token } = await call('/credit/relay/create', {
    report_tokens: [asset_report_token],
    secondary_client_id: 'd',
  });
  await call('/credit/relay/get', { relay_token, report_type: 'asset' });
  await call('/credit/relay/pdf/get', { relay_token, report_type: 'asset' });
  await call('/credit/relay/refresh', { relay_token, report_type: 'asset' });
  await call('/credit/relay/remove', { relay_token });
  await call('/asset_report/remove', { asset_report_token });

  // Money.
  const { payment_profile_token } = await call('/payment_profile/create');
  await call('/payment_profile/get', { payment_profile_token });
  const money = {
    access_token,
    account_id,
    type: 'debit',
    network: 'ach',
    amount: '12.34',
    ach_class: 'ppd',
    user: { legal_name: 'A B' },
  };
  const { authorization } = await call('/transfer/authorization/create', {
    ...money,
    payment_profile_token,
    idempotency_key: 'k',
  });
  const authorization_id = authorization.id;
  const { transfer } = await call('/transfer/create', {
    access_token,
    account_id,
    authorization_id,
    description: 'rent',
  });
  const transfer_id = transfer.id;
  await call('/transfer/get', { transfer_id });
  await call('/transfer/list');
  await call('/transfer/cancel', { transfer_id });
  const numbers = { account_number: '100000000', routing_number: '121122676', account_type: 'checking' };
  await call('/transfer/migrate_account', numbers);
  await call('/bank_transfer/migrate_account', numbers);
  await call('/signal/evaluate', { access_token, account_id, client_transaction_id: 't', amount: 12 });
  await call('/sandbox/payment_profile/reset_login', { payment_profile_token });
  await call('/payment_profile/remove', { payment_profile_token });
  await call('/payment_initiation/payment/token/create', { payment_id: 'p' });

  // OAuth and resellers.
  const exchange = {
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: user_token,
    subject_token_type: 'urn:plaid:params:tokens:user',
  };
  const { refresh_token, access_token: oauth } = await call('/oauth/token', exchange);
  await call('/oauth/introspect', { token: oauth });
  await call('/oauth/token', { grant_type: 'refresh_token', refresh_token });
  await call('/oauth/revoke', { token: oauth });
  assert.equal((await call('/oauth/introspect', { token: oauth })).active, false);
  const company = { company_name: 'c', legal_entity_name: 'c', website: 'https://example.com', application_name: 'c' };
  const { end_customer } = await call('/partner/customer/create', {
    ...company,
    is_diligence_attested: true,
    is_bank_addendum_completed: true,
    address: {},
  });
  const end_customer_client_id = end_customer.client_id;
  await call('/partner/customer/get', { end_customer_client_id });
  await call('/partner/customer/enable', { end_customer_client_id });

  // Webhooks, and what ends things.
  const { webhook_keys } = await control<{ webhook_keys: { kid: string }[] }>('GET', '/state');
  await call('/webhook_verification_key/get', { key_id: webhook_keys[0]?.kid });
  await call('/sandbox/item/fire_webhook', {
    access_token,
    webhook_type: 'TRANSACTIONS',
    webhook_code: 'DEFAULT_UPDATE',
  });
  await call('/beta/webhook_events/list', { count: 5 });
  await call('/sandbox/item/set_verification_status', {
    access_token,
    account_id,
    verification_status: 'automatically_verified',
  });
  await call('/accounts/get', { access_token });
  await call('/sandbox/item/reset_login', { access_token });
  await call('/item/get', { access_token });
  await call('/sandbox/user/reset_login', { user_token, item_ids: [item_id] });
  const { new_access_token } = await call('/item/access_token/invalidate', { access_token });
  await call('/user/items/remove', { user_token, item_ids: [item_id] });
  await call('/item/remove', { access_token: dynamic.access_token });
  await call('/user/remove', { user_token });
  assert.match(new_access_token, /^access-sandbox-/);

  assert.deepEqual(
    [...ROUTES.keys()].filter((path) => !called.has(path)),
    [],
    'an endpoint was left out of this tour',
  );
});
