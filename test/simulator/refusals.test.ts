import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startSimulator } from '../../simulator/start.ts';
import { CountryCode, link, Products, raw, refused, sdk, start } from './kit.ts';

/** Put together here, so that no source file holds a whole token. */
const TOKEN = (word: string, environment = 'sandbox'): string =>
  `${word}-${environment}-${'1b2c3d4e-aaaa-4bbb-8ccc-1234567890ab'}`;

test('a body with a field that the endpoint does not know is refused, at every depth', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  for (const [path, body, names] of [
    ['/item/get', { access_token, handle: 'x' }, 'handle'],
    ['/item/get', { access_token, a: 1, b: 2 }, 'a, b'],
    ['/accounts/get', { access_token, options: { acount_ids: [] } }, 'options.acount_ids'],
    [
      '/link/token/create',
      { client_name: 'c', language: 'en', country_codes: ['US'], user: { client_user_id: 'u', shoe: 9 } },
      'user.shoe',
    ],
  ] as const) {
    const { status, json } = await raw(simulator, path, JSON.stringify(body));
    assert.deepEqual([status, json.error_type, json.error_code], [400, 'INVALID_REQUEST', 'UNKNOWN_FIELDS']);
    assert.equal(json.error_message, `the following fields are not recognized by this endpoint: ${names}`);
  }
});

test('missing and mistyped fields are named', async (t) => {
  const { simulator } = await start(t);
  const ask = async (path: string, body: object): Promise<string> => {
    const { json } = await raw(simulator, path, JSON.stringify(body));
    return `${json.error_code}: ${json.error_message}`;
  };
  assert.equal(await ask('/item/get', {}), 'MISSING_FIELDS: the following required fields are missing: access_token');
  assert.equal(
    await ask('/item/get', { access_token: null }),
    'MISSING_FIELDS: the following required fields are missing: access_token',
  );
  assert.equal(await ask('/item/get', { access_token: '' }), 'INVALID_FIELD: access_token must be a non-empty string');
  assert.equal(await ask('/item/get', { access_token: ['x'] }), 'INVALID_FIELD: access_token must be a string');
  assert.match(
    await ask('/item/remove', { access_token: 'x', reason_code: 'BORED' }),
    /^INVALID_FIELD: reason_code must be one of: FRAUD/,
  );
  assert.match(
    await ask('/sandbox/public_token/create', { institution_id: 'ins_109508', initial_products: ['gold'] }),
    /^INVALID_FIELD: initial_products/,
  );
  assert.match(
    await ask('/sandbox/public_token/create', { institution_id: 'ins_109508', initial_products: [] }),
    /non-empty array/,
  );
});

test('credentials count in headers and in the body, and wrong ones look alike', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  const { clientId: client_id, secret } = simulator;
  const none = { 'plaid-client-id': '', 'plaid-secret': '' };
  const bare = (
    body: object,
    headers: Record<string, string>,
  ): Promise<{ status: number; json: Record<string, unknown> }> =>
    fetch(`${simulator.url}/item/get`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    }).then(async (answer) => ({ status: answer.status, json: (await answer.json()) as Record<string, unknown> }));

  assert.equal((await bare({ access_token, client_id, secret }, {})).status, 200);
  assert.equal((await bare({ access_token, secret }, { 'PLAID-CLIENT-ID': client_id })).status, 200);
  assert.equal(
    (await bare({ access_token }, {})).json.error_message,
    'the following required fields are missing: client_id, secret',
  );
  assert.equal((await bare({ access_token }, none)).json.error_code, 'INVALID_FIELD');
  const wrong = [
    await bare({ access_token, client_id, secret: 'x'.repeat(30) }, {}),
    await bare({ access_token, client_id: 'f'.repeat(24), secret }, {}),
  ].map(({ status, json }) => [status, json.error_type, json.error_code, json.error_message]);
  assert.deepEqual(
    wrong,
    Array(2).fill([400, 'INVALID_INPUT', 'INVALID_API_KEYS', 'invalid client_id or secret provided']),
  );
});

test('a secret can be changed with both valid for a while', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  const path = `/clients/${simulator.clientId}/secrets`;
  const { secret } = await simulator.control<{ secret: string }>('POST', path);
  const renewed = sdk({ ...simulator, secret });
  await plaid.itemGet({ access_token });
  await renewed.itemGet({ access_token });
  await simulator.control('DELETE', path);
  await refused(plaid.itemGet({ access_token }), 'INVALID_API_KEYS');
  await renewed.itemGet({ access_token });
});

test('a token of another client does not exist', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  const { client_id, secret } = await simulator.control<{ client_id: string; secret: string }>('POST', '/clients');
  const other = sdk({ url: simulator.url, clientId: client_id, secret });
  const foreign = await refused(other.itemGet({ access_token }), 'INVALID_ACCESS_TOKEN');
  const unknown = await refused(other.itemGet({ access_token: TOKEN('access') }), 'INVALID_ACCESS_TOKEN');
  assert.equal(foreign.error_message, unknown.error_message);
  const { data } = await plaid.userCreate({ client_user_id: 'u' });
  await refused(other.userItemsGet({ user_id: data.user_id }), 'INVALID_USER_ID');
});

test('a token of the wrong shape, the wrong environment, or unknown: three messages, one code', async (t) => {
  const { plaid } = await start(t);
  const message = async (access_token: string): Promise<unknown> =>
    (await refused(plaid.itemGet({ access_token }), 'INVALID_ACCESS_TOKEN')).error_message;
  assert.equal(
    await message('handle-sandbox-x'),
    'provided access token is in an invalid format. expected format: access-<environment>-<identifier>',
  );
  assert.match(
    String(await message(TOKEN('access', 'production'))),
    /wrong Plaid environment. expected "sandbox", got "production"/,
  );
  assert.equal(await message(TOKEN('access')), 'could not find matching access token');
  await refused(plaid.itemPublicTokenExchange({ public_token: 'x' }), 'INVALID_PUBLIC_TOKEN');
  await refused(plaid.userItemsGet({ user_token: TOKEN('user') }), 'INVALID_USER_TOKEN');
  await refused(plaid.processorAuthGet({ processor_token: TOKEN('processor') }), 'INVALID_PROCESSOR_TOKEN');
  await refused(plaid.linkTokenGet({ link_token: TOKEN('link') }), 'INVALID_LINK_TOKEN');
  await refused(plaid.webhookVerificationKeyGet({ key_id: 'x' }), 'INVALID_WEBHOOK_VERIFICATION_KEY_ID');
});

test('bytes that are no JSON object, other content types, versions, methods and paths', async (t) => {
  const { simulator } = await start(t);
  const code = async (path: string, body: string, headers: Record<string, string> = {}): Promise<unknown[]> => {
    const { status, json } = await raw(simulator, path, body, headers);
    return [status, json.error_code];
  };
  for (const body of ['', '{', '[]', '"x"', 'null', '{"a":1}}'])
    assert.deepEqual(await code('/item/get', body), [400, 'INVALID_BODY'], body);
  assert.deepEqual(await code('/item/get', '{}', { 'content-type': 'text/plain' }), [400, 'INVALID_BODY']);
  assert.deepEqual(await code('/item/get', '{}', { 'content-encoding': 'gzip' }), [400, 'INVALID_BODY']);
  assert.deepEqual(await code('/item/get', '{}', { 'plaid-version': '1999-01-01' }), [400, 'INCOMPATIBLE_API_VERSION']);
  assert.deepEqual(await code('/item/get/', '{}'), [404, 'NOT_FOUND']);
  assert.deepEqual(await code('/wallet/create', '{}'), [404, 'NOT_FOUND'], 'an endpoint of Plaid that is not modelled');
  assert.equal((await fetch(`${simulator.url}/item/get`)).status, 404);
  assert.deepEqual(await code('/accounts/get', '{"__proto__":{"access_token":"x"}}'), [400, 'MISSING_FIELDS']);
});

test('an account, an institution, a product that does not fit', async (t) => {
  const { plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  await refused(plaid.accountsGet({ access_token, options: { account_ids: ['x'] } }), 'INVALID_ACCOUNT_ID');
  const make = (institution_id: string, products: Products[], options = {}) =>
    plaid.sandboxPublicTokenCreate({ institution_id, initial_products: products, options });
  await refused(make('ins_0', [Products.Auth]), 'INVALID_INSTITUTION');
  await refused(make('ins_132361', [Products.Auth]), 'INSTITUTION_DOWN');
  await refused(make('ins_116834', [Products.Liabilities]), 'PRODUCTS_NOT_SUPPORTED');
  await refused(make('ins_109508', [Products.Auth], { override_password: 'wrong' }), 'INVALID_CREDENTIALS');
  await refused(make('ins_109508', [Products.Auth], { override_password: 'error_ITEM_LOCKED' }), 'ITEM_LOCKED');
  await refused(make('ins_109508', [Products.Auth], { webhook: 'ftp://x' }), 'INVALID_FIELD');
  const { data } = await make('ins_116834', [Products.Auth]);
  const british = (await plaid.itemPublicTokenExchange({ public_token: data.public_token })).data.access_token;
  assert.equal((await plaid.authGet({ access_token: british })).data.numbers.bacs?.length, 2);
  await refused(plaid.liabilitiesGet({ access_token: british }), 'ADDITIONAL_CONSENT_REQUIRED');
});

test('numbers of an account that is still being verified are not ready', async (t) => {
  const { plaid } = await start(t);
  const account = { type: 'depository', subtype: 'checking', verification_status: 'pending_automatic_verification' };
  const made = await plaid.sandboxPublicTokenCreate({
    institution_id: 'ins_109508',
    initial_products: [Products.Auth],
    options: { override_username: 'user_custom', override_password: JSON.stringify({ override_accounts: [account] }) },
  });
  const { access_token } = (await plaid.itemPublicTokenExchange({ public_token: made.data.public_token })).data;
  await refused(plaid.authGet({ access_token }), 'PRODUCT_NOT_READY');
  const account_id = (await plaid.accountsGet({ access_token })).data.accounts[0]?.account_id as string;
  await plaid.sandboxItemSetVerificationStatus({
    access_token,
    account_id,
    verification_status: 'automatically_verified' as never,
  });
  assert.equal((await plaid.authGet({ access_token })).data.numbers.ach.length, 1);
});

test('a British consent ends after 180 days and update mode renews it', async (t) => {
  const { simulator, plaid } = await start(t, { settings: { loginDays: 0 } });
  const { data } = await plaid.sandboxPublicTokenCreate({
    institution_id: 'ins_116834',
    initial_products: [Products.Auth],
  });
  const { access_token, item_id } = (await plaid.itemPublicTokenExchange({ public_token: data.public_token })).data;
  await simulator.control('POST', '/clock', { advance_ms: 180 * 86_400_000 });
  const { item } = (await plaid.itemGet({ access_token })).data;
  assert.deepEqual(
    [item.error?.error_code, item.error?.error_code_reason],
    ['ITEM_LOGIN_REQUIRED', 'OAUTH_CONSENT_EXPIRED'],
  );
  await simulator.control('POST', `/items/${item_id}/complete-update-mode`);
  await plaid.accountsGet({ access_token });
});

test('an item in error refuses data with its error, and says so under causes in a report', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token, itemId } = await link(plaid, [Products.Assets]);
  await simulator.control('POST', `/items/${itemId}/error`, { error_code: 'ITEM_LOCKED' });
  await refused(plaid.accountsGet({ access_token }), 'ITEM_LOCKED');
  const failure = await refused(
    plaid.assetReportCreate({ access_tokens: [access_token], days_requested: 10 }),
    'ITEM_LOCKED',
  );
  assert.deepEqual(
    (failure.causes as { item_id: string }[]).map((cause) => cause.item_id),
    [itemId],
  );
  await simulator.control('POST', `/items/${itemId}/revoke`);
  await refused(plaid.itemGet({ access_token }), 'ITEM_NOT_FOUND');
});

test('removal kills the processor token and leaves report and audit copy', async (t) => {
  const { plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid, [Products.Auth, Products.Assets]);
  const account_id = (await plaid.accountsGet({ access_token })).data.accounts[0]?.account_id as string;
  const { processor_token } = (
    await plaid.processorTokenCreate({ access_token, account_id, processor: 'dwolla' as never })
  ).data;
  const { asset_report_token } = (await plaid.assetReportCreate({ access_tokens: [access_token], days_requested: 5 }))
    .data;
  const { audit_copy_token } = (await plaid.assetReportAuditCopyCreate({ asset_report_token })).data;
  const { new_access_token } = (await plaid.itemAccessTokenInvalidate({ access_token })).data;
  await plaid.processorAuthGet({ processor_token });
  await plaid.itemRemove({ access_token: new_access_token });
  await refused(plaid.processorAuthGet({ processor_token }), 'INVALID_PROCESSOR_TOKEN');
  await plaid.assetReportGet({ asset_report_token });
  await plaid.assetReportRemove({ asset_report_token });
  await plaid.assetReportAuditCopyGet({ audit_copy_token });
});

test('money paths repeat their answer instead of paying twice', async (t) => {
  const { plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid, [Products.Auth, Products.Transfer]);
  const account_id = (await plaid.accountsGet({ access_token })).data.accounts[0]?.account_id as string;
  const ask = (amount: string, idempotency_key: string) =>
    plaid.transferAuthorizationCreate({
      access_token,
      account_id,
      amount,
      idempotency_key,
      type: 'debit' as never,
      network: 'ach' as never,
      ach_class: 'ppd' as never,
      user: { legal_name: 'A B' },
    });
  const { authorization } = (await ask('10.00', 'one')).data;
  assert.equal((await ask('10.00', 'one')).data.authorization.id, authorization.id);
  assert.notEqual((await ask('10.00', 'two')).data.authorization.id, authorization.id);
  assert.equal((await ask('1000.00', 'three')).data.authorization.decision, 'declined');
  const pay = () =>
    plaid.transferCreate({ access_token, account_id, authorization_id: authorization.id, description: 'rent' });
  const transfer = (await pay()).data.transfer.id;
  assert.equal((await pay()).data.transfer.id, transfer);
  assert.equal((await plaid.transferList({})).data.transfers.length, 1);
  await refused(ask('10', 'four'), 'INVALID_FIELD');
});

test('user tokens are shown once, and not at all to those who ask for the new users', async (t) => {
  const { plaid } = await start(t);
  const legacy = await plaid.userCreate({ client_user_id: 'old' });
  assert.match(legacy.data.user_token ?? '', /^user-sandbox-/);
  await refused(plaid.userCreate({ client_user_id: 'old' }), 'INVALID_FIELD');
  const fresh = await plaid.userCreate({ client_user_id: 'new', with_upgraded_user: true });
  assert.deepEqual([fresh.status, fresh.data.user_token], [201, undefined]);
  const again = await plaid.userCreate({ client_user_id: 'new', with_upgraded_user: true });
  assert.deepEqual([again.status, again.data.user_id], [200, fresh.data.user_id]);
});

test('a user reaches only items of its own, also without their access token', async (t) => {
  const { plaid } = await start(t);
  const [one, two] = [
    (await plaid.userCreate({ client_user_id: '1' })).data,
    (await plaid.userCreate({ client_user_id: '2' })).data,
  ];
  const { itemId, accessToken } = await link(plaid, [Products.Auth], undefined, one.user_token);
  const items = async (user_id: string): Promise<string[]> =>
    (await plaid.userItemsGet({ user_id })).data.items.map((item) => item.item_id);
  assert.deepEqual([await items(one.user_id), await items(two.user_id)], [[itemId], []]);
  await refused(plaid.userItemsRemove({ user_id: two.user_id, item_ids: [itemId] }), 'ITEM_NOT_FOUND');
  await refused(plaid.sandboxUserResetLogin({ user_id: two.user_id, item_ids: [itemId] }), 'ITEM_NOT_FOUND');
  await plaid.accountsGet({ access_token: accessToken });
  await plaid.userItemsRemove({ user_token: one.user_token as string, item_ids: [itemId] });
  await refused(plaid.itemGet({ access_token: accessToken }), 'ITEM_NOT_FOUND');
});

test('rate limits are off by default and Plaid-shaped when on', async (t) => {
  const { simulator, plaid } = await start(t, { settings: { rateLimits: true } });
  const { accessToken: access_token } = await link(plaid);
  for (let call = 0; call < 2; call++) await plaid.transactionsRefresh({ access_token });
  const failure = await refused(plaid.transactionsRefresh({ access_token }), 'TRANSACTIONS_REFRESH_LIMIT', 429);
  assert.equal(failure.error_type, 'RATE_LIMIT_EXCEEDED');
  await simulator.control('POST', '/clock', { advance_ms: 60_000 });
  await plaid.transactionsRefresh({ access_token });
  await simulator.control('POST', '/settings', { rateLimits: false });
  for (let call = 0; call < 5; call++) await plaid.transactionsRefresh({ access_token });
});

test('in production the sandbox endpoints are closed and tokens say production', async (t) => {
  const { simulator, plaid } = await start(t, { environment: 'production' });
  await refused(
    plaid.sandboxPublicTokenCreate({ institution_id: 'ins_109508', initial_products: [Products.Auth] }),
    'SANDBOX_ONLY',
  );
  const { data } = await plaid.linkTokenCreate({
    client_name: 'c',
    language: 'en',
    country_codes: [CountryCode.Us],
    user: { client_user_id: 'u' },
    products: [Products.Auth],
  });
  const { public_token } = await simulator.control<{ public_token: string }>('POST', '/link/complete', {
    link_token: data.link_token,
  });
  assert.match((await plaid.itemPublicTokenExchange({ public_token })).data.access_token, /^access-production-/);
});

test('the same seed and the same calls give the same tokens', async () => {
  const tokens: string[] = [];
  for (let run = 0; run < 2; run++) {
    const simulator = await startSimulator({ seed: 'alike', clock: { now: () => 1_780_000_000_000 } });
    tokens.push((await link(sdk(simulator))).accessToken);
    await simulator.close();
  }
  assert.equal(tokens[0], tokens[1]);
});
