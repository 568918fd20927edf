import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { KNOWLEDGE } from '../../scripts/endpoint-knowledge.ts';
import {
  DOCUMENT,
  deriveRows,
  GENERATED,
  readKnowledge,
  renderDocument,
  renderTable,
} from '../../scripts/generate-endpoints.ts';
import { type Operation, readSdk } from '../../scripts/plaid-sdk.ts';
import { codeOf } from '../../src/base/errors.ts';
import { declareEndpoint, ENDPOINTS, type Endpoint, findEndpoint } from '../../src/plaid/endpoints.ts';

const sdk = readSdk();

function post(path: string): Endpoint {
  const endpoint = findEndpoint('POST', path);
  assert.ok(endpoint, `${path} is not in the table`);
  return endpoint;
}

test('the table and its document are what the generator writes from the installed SDK', () => {
  const outcome = deriveRows(sdk);
  assert.deepEqual(outcome.problems, []);
  assert.equal(readFileSync(GENERATED, 'utf8'), renderTable(outcome));
  assert.equal(readFileSync(DOCUMENT, 'utf8'), renderDocument(outcome));
});

test('every operation of the SDK is found by its own path, and as itself', () => {
  assert.ok(sdk.operations.length >= 351);
  for (const { method, path } of sdk.operations) {
    const found = findEndpoint(method, path.replaceAll(/\{\w+\}/g, 'abc-1'));
    assert.equal(`${found?.method} ${found?.path}`, `${method} ${path}`);
  }
});

/** The SDK with one operation more, or one changed. */
function changed(path: string, change: (operation: Operation) => Operation) {
  const operations = sdk.operations.map((operation) => (operation.path === path ? change(operation) : operation));
  return deriveRows({ ...sdk, operations }).problems;
}

test('an SDK with a new endpoint, a new token field or a new id stops the generator', () => {
  const [first] = sdk.operations;
  assert.ok(first);
  const more = deriveRows({ ...sdk, operations: [...sdk.operations, { ...first, path: '/item/teleport' }] });
  assert.match(more.problems.join('\n'), /POST \/item\/teleport: no row/);

  const withRequest = (field: string) =>
    changed('/item/get', (item) => ({ ...item, request: [...item.request, { path: field, required: false }] })).join(
      '\n',
    );
  assert.match(withRequest('options.vault_token'), /options.vault_token looks like a token/);
  assert.match(withRequest('bank_password'), /bank_password looks like a token/);
  assert.match(withRequest('options.gizmo_id'), /options.gizmo_id looks like an id/);
  assert.match(withRequest('client_user_id'), /its row must say what it is/);
  assert.equal(withRequest('options.include_everything'), '');

  const withAnswer = (field: string) =>
    changed('/item/get', (item) => ({ ...item, answer: [...item.answer, { path: field, required: false }] })).join(
      '\n',
    );
  assert.match(withAnswer('item.refresh_secret'), /item.refresh_secret looks like a token/);
});

test('knowledge about what the SDK does not have stops the generator', () => {
  const without = deriveRows({ ...sdk, operations: sdk.operations.slice(1) });
  assert.match(without.problems.join('\n'), /the SDK has no such endpoint/);
  const edited = (from: string, to: string) =>
    deriveRows(sdk, readKnowledge(KNOWLEDGE.replace(from, to))).problems.join('\n');
  assert.match(edited('>link_token=link_token', '>link_token=link_tokens'), /no field link_tokens/);
  assert.match(edited('>wallet=wallet_id', ''), /subject kind wallet: no answer or claim ever teaches/);
  assert.match(
    edited(
      '/accounts/get                                  item      read    own',
      '/accounts/get item read own -nothing_id',
    ),
    /no field nothing_id/,
  );
  assert.match(
    edited(
      '/categories/get                                directory read    open',
      '/categories/get directory read own',
    ),
    /reach is own/,
  );
});

/** Where tokens stand in requests, as counted from Plaid's own specification. */
const REQUEST_POSITIONS: readonly [kind: string, field: string, endpoints: number | readonly string[]][] = [
  ['access', 'access_token', 58],
  [
    'access',
    'access_tokens[]',
    [
      '/asset_report/create',
      '/link/token/create',
      '/beacon/user/create',
      '/beacon/user/update',
      '/credit/payroll_income/precheck',
    ],
  ],
  ['access', 'income_verification.access_tokens[]', ['/link/token/create']],
  [
    'access',
    'funding_account.access_token',
    ['/transfer/originator/funding_account/create', '/transfer/originator/funding_account/update'],
  ],
  ['access', 'originator_diligence.funding_account.access_token', ['/transfer/diligence/submit']],
  ['access', 'incident_event.access_token', ['/protect/report/create']],
  ['access', 'options.access_tokens[]', ['/income/verification/create']],
  ['access', 'transactions_access_token', ['/income/verification/precheck']],
  ['access', 'transactions_access_tokens[]', ['/income/verification/precheck']],
  ['user', 'user_token', 38],
  ['user', 'loans[].user_token', ['/cra/loans/register']],
  ['user', 'applications[].user_token', ['/cra/loans/applications/register']],
  ['oauth_refresh', 'refresh_token', ['/oauth/token']],
  ['user|oauth_refresh', 'subject_token', ['/oauth/token']],
  ['oauth_access|oauth_refresh', 'token', ['/oauth/introspect', '/oauth/revoke']],
  ['report', 'asset_report_token', 6],
  ['audit_copy', 'audit_copy_token', 7],
  ['report|employment_report', 'report_tokens[]', 3],
  ['relay', 'relay_token', 4],
  ['processor', 'processor_token', 21],
  ['payment_profile', 'payment_profile_token', 5],
  ['payment_profile', 'transfer.payment_profile_token', ['/link/token/create']],
  ['third_party_user', 'third_party_user_token', 10],
  ['exchange_auth', 'user_auth.auth_token', ['/item/import']],
  ['public', 'public_token', ['/item/public_token/exchange', '/user_account/session/get']],
  ['link', 'link_token', ['/link/token/get', '/link_delivery/create']],
];

const ANSWER_POSITIONS: readonly [kind: string, field: string, endpoints: readonly string[]][] = [
  [
    'access',
    'access_token',
    ['/item/public_token/exchange', '/item/import', '/transfer/migrate_account', '/bank_transfer/migrate_account'],
  ],
  ['access', 'new_access_token', ['/item/access_token/invalidate']],
  ['access', 'items[].access_token', ['/user_account/session/get']],
  ['access', 'access_tokens[]', ['/link_delivery/get']],
  ['user', 'user_token', ['/user/create']],
  ['report', 'asset_report_token', ['/asset_report/create', '/asset_report/refresh', '/asset_report/filter']],
  ['employment_report', 'items[].employment_report_token', ['/credit/employment/get']],
  ['audit_copy', 'audit_copy_token', ['/asset_report/audit_copy/create', '/credit/audit_copy_token/create']],
  ['relay', 'relay_token', ['/credit/relay/create', '/credit/relay/refresh']],
  [
    'processor',
    'processor_token',
    ['/processor/token/create', '/processor/apex/processor_token/create', '/sandbox/processor_token/create'],
  ],
  ['stripe', 'stripe_bank_account_token', ['/processor/stripe/bank_account_token/create']],
  ['third_party_user', 'third_party_user_token', ['/user/third_party_token/create']],
  ['payment_profile', 'payment_profile_token', ['/payment_profile/create']],
  ['oauth_access', 'access_token', ['/oauth/token']],
  ['oauth_refresh', 'refresh_token', ['/oauth/token']],
  ['customer_secret', 'end_customer.secrets.sandbox', ['/partner/customer/create', '/beta/partner/customer/v1/create']],
  [
    'customer_secret',
    'end_customer.secrets.development',
    ['/partner/customer/create', '/beta/partner/customer/v1/create'],
  ],
  [
    'customer_secret',
    'end_customer.secrets.production',
    ['/partner/customer/create', '/beta/partner/customer/v1/create'],
  ],
  ['customer_secret', 'production_secret', ['/partner/customer/enable', '/beta/partner/customer/v1/enable']],
  ['public', 'public_token', ['/sandbox/public_token/create', '/item/public_token/create']],
  ['public', 'link_sessions[].on_success.public_token', ['/link/token/get']],
  ['public', 'link_sessions[].results.item_add_results[].public_token', ['/link/token/get']],
  ['public', 'sessions[].results.item_add_results[].public_token', ['/credit/sessions/get']],
  ['link', 'link_token', ['/link/token/create', '/link/token/get', '/link/oauth/correlation_id/exchange']],
  ['link', 'link.link_token', ['/session/token/create']],
  ['payment_token', 'payment_token', ['/payment_initiation/payment/token/create']],
];

test('tokens of requests stand where the specification has them, and nowhere else', () => {
  const seen = new Map<string, string[]>();
  for (const { path, tokensIn } of ENDPOINTS.endpoints) {
    for (const token of tokensIn) {
      const key = `${token.kinds.join('|')} ${token.path}`;
      seen.set(key, [...(seen.get(key) ?? []), path]);
    }
  }
  for (const [kind, field, expected] of REQUEST_POSITIONS) {
    const paths = seen.get(`${kind} ${field}`) ?? [];
    if (typeof expected === 'number') assert.equal(paths.length, expected, `${kind} ${field}: ${paths.join(' ')}`);
    else assert.deepEqual(paths.sort(), [...expected].sort(), `${kind} ${field}`);
    seen.delete(`${kind} ${field}`);
  }
  assert.deepEqual([...seen.keys()], []);
});

test('tokens of answers stand where the specification has them, and nowhere else', () => {
  const seen = new Map<string, string[]>();
  for (const { path, tokensOut } of ENDPOINTS.endpoints) {
    for (const token of tokensOut) {
      const key = `${token.kind} ${token.path}`;
      seen.set(key, [...(seen.get(key) ?? []), path]);
    }
  }
  for (const [kind, field, expected] of ANSWER_POSITIONS) {
    assert.deepEqual((seen.get(`${kind} ${field}`) ?? []).sort(), [...expected].sort(), `${kind} ${field}`);
    seen.delete(`${kind} ${field}`);
  }
  assert.deepEqual([...seen.keys()], []);
});

test('nothing that changes anything may be sent twice', () => {
  for (const { path, effect, retry } of ENDPOINTS.endpoints) {
    if (retry === 'safe') assert.equal(effect, 'read', path);
  }
  const never =
    '/item/public_token/exchange /item/access_token/invalidate /item/remove /processor/token/create /transfer/create ' +
    '/processor/stripe/bank_account_token/create /sandbox/public_token/create /user/create /link/token/create ' +
    '/transfer/authorization/create /wallet/transaction/execute /payment_initiation/payment/create /oauth/token ' +
    '/link_delivery/get /user_account/session/get /user/remove /asset_report/create /signal/evaluate';
  for (const path of never.split(' ')) assert.equal(post(path).retry, 'never', path);
  for (const path of ['/accounts/get', '/transactions/sync', '/item/get', '/institutions/get']) {
    assert.equal(post(path).retry, 'safe', path);
  }
});

test('a call that answers with data of the whole Plaid client names nothing and needs a grant by path', () => {
  const client =
    '/transfer/event/sync /bank_transfer/list /bank_transfer/event/sync /bank_transfer/balance/get /dashboard_user/list /identity/match/list /wallet/list /transfer/originator/list /payment_initiation/recipient/list';
  for (const path of client.split(' ')) assert.equal(post(path).reach, 'client', path);
  // These narrow to what they name, and name it optionally.
  for (const path of [
    '/transfer/list',
    '/transfer/event/list',
    '/beta/webhook_events/list',
    '/payment_initiation/payment/list',
  ]) {
    assert.equal(post(path).reach, 'own', path);
    assert.ok(
      post(path).subjects.every(({ required }) => !required),
      path,
    );
  }
});

test('every endpoint that reaches somebody names a token or a subject; the others reach nobody or everybody', () => {
  for (const { path, reach, tokensIn, subjects } of ENDPOINTS.endpoints) {
    if (reach === 'own') assert.ok(tokensIn.length + subjects.length > 0, path);
  }
  const open = ENDPOINTS.endpoints.filter(({ reach, effect }) => reach === 'open' && effect === 'remove');
  assert.deepEqual(open, []);
});

test('a subject is learned from the call that makes it and asked for by the calls that use it', () => {
  const learns = (path: string) => post(path).creates.map(({ path: field, kind }) => `${kind}=${field}`);
  const asks = (path: string) => post(path).subjects.map(({ path: field, kind }) => `${kind}=${field}`);
  assert.deepEqual(learns('/link/token/create'), ['link_token=link_token', 'user=user_id']);
  assert.ok(asks('/link/token/get').includes('link_token=link_token'));
  assert.deepEqual(learns('/transfer/authorization/create'), ['transfer_authorization=authorization.id']);
  assert.ok(asks('/transfer/create').includes('transfer_authorization=authorization_id'));
  assert.deepEqual(learns('/transfer/create'), ['transfer=transfer.id']);
  assert.ok(asks('/transfer/cancel').includes('transfer=transfer_id'));
  assert.deepEqual(asks('/user/items/remove'), ['item=item_ids[]', 'user=user_id']);
  assert.deepEqual(asks('/identity_verification/retry'), ['client_user=client_user_id']);
  assert.deepEqual(
    post('/user/create').claims.map(({ path, kind }) => `${kind}=${path}`),
    ['client_user=client_user_id'],
  );
  assert.deepEqual(asks('/accounts/get'), []);
});

test('binary, sandbox-only and webhook fields are marked', () => {
  assert.equal(ENDPOINTS.endpoints.filter(({ binary }) => binary).length, 9);
  assert.equal(ENDPOINTS.endpoints.filter(({ sandboxOnly }) => sandboxOnly).length, 31);
  assert.deepEqual(post('/link/token/create').webhookUrls, ['webhook']);
  assert.deepEqual(post('/sandbox/public_token/create').webhookUrls, ['options.webhook']);
  // Open maps in the SDK's types.
  assert.deepEqual(
    post('/credit/asset_report/freddie_mac/get').tokensIn.map(({ path }) => path),
    ['audit_copy_token'],
  );
  assert.deepEqual(
    post('/credit/payroll_income/parsing_config/update').tokensIn.map(({ path }) => path),
    ['user_token'],
  );
});

test('a path is known exactly as it is written, or not at all', () => {
  const odd = `
    /accounts/get/ //accounts/get /accounts//get /accounts/get? /accounts/get?x=1 /accounts/get# /accounts/%67et
    /accounts%2fget /accounts/get%00 /accounts/./get /x/../accounts/get /accounts/get/.. /Accounts/get /accounts/get;v=1
    accounts/get http://sandbox.plaid.com/accounts/get //evil.example/accounts/get \\accounts\\get /accounts\\get
    /accounts/get%20 /accounts/get%2e /accounts/get.json /fdx/consents/ /fdx/consents/a/b /fdx/consents/../recipients
    /fdx/consents/.. /fdx/consents/. /fdx/consents/%2e%2e /fdx/consents/a%2fb /fdx/consents/a?b /fdx/consents/a;b
    /fdx/consents//revocation /fdx/consents/a/revocation/ /fdx/recipient /fdx/recipient/ /fdx/recipient/a@b
    /fdx/recipient/{recipientId} * / /constructor /__proto__
  `
    .split(/\s+/)
    .filter((path) => path !== '');
  for (const path of [
    ...odd,
    '',
    '/accounts/get ',
    '/accounts/get\n',
    '/accounts/get\t',
    '/fdx/recipient/a b',
    '/accounts/gét',
  ]) {
    for (const method of ['POST', 'GET', 'PUT']) assert.equal(findEndpoint(method, path), null, JSON.stringify(path));
  }
  for (const method of ['GET', 'PUT', 'DELETE', 'post', 'HEAD', 'OPTIONS', 'CONNECT', '']) {
    assert.equal(findEndpoint(method, '/accounts/get'), null, method);
  }
  assert.equal(findEndpoint('GET', '/fdx/recipient/r.1-a_B')?.path, '/fdx/recipient/{recipientId}');
  assert.equal(findEndpoint('PUT', '/fdx/consents/abc/revocation')?.effect, 'remove');
  assert.equal(findEndpoint('GET', `/fdx/recipient/${'r'.repeat(129)}`), null);
});

const DECLARED = {
  path: '/item/teleport',
  class: 'item',
  effect: 'change',
  reach: 'own',
  tokensIn: { access_token: 'access', 'options.access_tokens[]': 'access?' },
  tokensOut: { 'new_items[].access_token': 'access' },
  subjects: { user_id: 'user?' },
  creates: { 'new_items[].item_id': 'item' },
};

test('a declared endpoint becomes one like any other, and cannot redefine a known one', () => {
  const endpoint = declareEndpoint(DECLARED);
  const table = ENDPOINTS.with([endpoint]);
  assert.equal(table.find('POST', '/item/teleport'), endpoint);
  assert.equal(endpoint.declared, true);
  assert.equal(endpoint.retry, 'never');
  assert.deepEqual(
    endpoint.tokensIn.map(({ path, disposition }) => `${path} ${disposition}`),
    ['access_token vaulted', 'options.access_tokens[] vaulted'],
  );
  assert.ok(table.find('POST', '/accounts/get'));
  assert.equal(ENDPOINTS.find('POST', '/item/teleport'), null);
  for (const [method, path] of [
    ['POST', '/accounts/get'],
    ['GET', '/fdx/recipient/{other}'],
    ['POST', '/item/teleport'],
  ] as const) {
    const again = declareEndpoint({ ...DECLARED, method, path });
    assert.throws(
      () => table.with([again]),
      (error) => codeOf(error) === 'CONFIG_INVALID',
      path,
    );
  }
});

test('a declaration that does not fit is refused, and says why', () => {
  const wrong: [Record<string, unknown> | null | string, RegExp][] = [
    [null, /a map of fields/],
    ['/x', /a map of fields/],
    [{ ...DECLARED, path: '/item/../get' }, /path is a Plaid path/],
    [{ ...DECLARED, path: 'https://evil.example/' }, /path is a Plaid path/],
    [{ ...DECLARED, path: '/item//get' }, /path is a Plaid path/],
    [{ ...DECLARED, method: 'DELETE' }, /method is/],
    [{ ...DECLARED, class: 'everything' }, /class is one of item/],
    [{ ...DECLARED, effect: 'maybe' }, /effect is one of/],
    [{ ...DECLARED, reach: undefined }, /reach is one of/],
    [{ ...DECLARED, retry: 'safe' }, /retry is safe only where effect is read/],
    [{ ...DECLARED, tokensIn: { access_token: 'acces' } }, /tokensIn.access_token is one of access/],
    [{ ...DECLARED, tokensIn: { access_token: 'access|link' } }, /tokensIn.access_token is one of/],
    [{ ...DECLARED, tokensIn: { 'a..b': 'access' } }, /no field path/],
    [{ ...DECLARED, tokensOut: { a: 'toString' } }, /tokensOut.a is one of/],
    [{ ...DECLARED, tokensIn: ['access_token'] }, /maps field paths/],
    [{ ...DECLARED, subjects: { user_id: 'User Id' } }, /subject kind/],
    [{ ...DECLARED, webhookUrls: ['a b'] }, /webhookUrls is a list/],
    [{ ...DECLARED, binary: 'yes' }, /binary is/],
    [{ ...DECLARED, upstream: 'https://evil.example' }, /upstream is no field/],
  ];
  for (const [declaration, reason] of wrong) {
    assert.throws(
      () => declareEndpoint(declaration),
      (error: Error) => codeOf(error) === 'CONFIG_INVALID' && reason.test(error.message),
      String(reason),
    );
  }
});
