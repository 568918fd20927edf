import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codeOf } from '../../src/base/errors.ts';
import { type Endpoint, findEndpoint } from '../../src/plaid/endpoints.ts';
import { splice } from '../../src/plaid/json-spots.ts';
import { readRequest } from '../../src/plaid/request.ts';
import { ACCESS, HANDLE, HARMLESS, LONG_LIVED, token } from './tokens.ts';

function endpoint(path: string): Endpoint {
  const found = findEndpoint('POST', path);
  assert.ok(found, path);
  return found;
}

function read(path: string, body: unknown) {
  return readRequest(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), endpoint(path));
}

const strays = (path: string, body: unknown) => read(path, body).strays.map(({ what }) => what);

test('handles and subjects are found at every position, with their kinds', () => {
  const { spots, strays: found } = read('/link/token/create', {
    client_name: 'x',
    user: { client_user_id: 'u-1' },
    access_token: HANDLE,
    access_tokens: [HANDLE, HANDLE],
    income_verification: { access_tokens: [HANDLE], asset_report_id: 'r-1' },
    transfer: { payment_profile_token: HANDLE, authorization_id: 'a-1' },
    user_token: null,
    update: { item_ids: ['i-1', 'i-2'] },
  });
  const seen = spots.map(({ slot, value }) => {
    const what = slot.token?.kinds.join('|') ?? slot.subject?.kind ?? `claim ${slot.claim?.kind}`;
    return `${slot.path} ${what} ${value === HANDLE ? 'H' : value}`;
  });
  assert.deepEqual(seen, [
    'user.client_user_id claim client_user u-1',
    'access_token access H',
    'access_tokens[] access H',
    'access_tokens[] access H',
    'income_verification.access_tokens[] access H',
    'income_verification.asset_report_id asset_report r-1',
    'transfer.payment_profile_token payment_profile H',
    'transfer.authorization_id transfer_authorization a-1',
    'user_token user null',
    'update.item_ids[] item i-1',
    'update.item_ids[] item i-2',
  ]);
  assert.deepEqual(found, []);
});

test('a link token is both a token and a subject', () => {
  const [spot] = read('/link/token/get', { link_token: token('link') }).spots;
  assert.deepEqual(spot?.slot.token?.disposition, 'pass');
  assert.deepEqual(spot?.slot.subject?.kind, 'link_token');
});

test('a handle is a stray in any place that does not take one', () => {
  const places: [string, unknown][] = [
    ['/accounts/get', { access_token: HANDLE, cursor: HANDLE }],
    ['/accounts/get', { access_token: [HANDLE] }],
    ['/accounts/get', { access_token: { access_token: HANDLE } }],
    ['/accounts/get', { options: { access_token: HANDLE } }],
    ['/accounts/get', { access_token: HANDLE, [HANDLE]: 1 }],
    ['/accounts/get', { access_token: HANDLE, x: `webhook?t=${HANDLE}` }],
    ['/accounts/get', { accessToken: HANDLE }],
    ['/asset_report/create', { access_tokens: HANDLE }],
    ['/user/get', { user_id: HANDLE }],
    ['/link/token/get', { link_token: HANDLE }],
    ['/item/public_token/exchange', { public_token: HANDLE }],
    ['/link/token/create', { user: { client_user_id: HANDLE } }],
    ['/item/webhook/update', { access_token: HANDLE, webhook: `https://x.example/${HANDLE}` }],
    ['/item/import', { user_auth: { user_id: 'u', auth_token: HANDLE } }],
    ['/categories/get', { a: HANDLE }],
    ['/categories/get', { a: HANDLE.toUpperCase().replace('SANDBOX', 'sandbox') }],
  ];
  for (const [path, body] of places) assert.deepEqual(strays(path, body), ['handle'], JSON.stringify(body));
});

test('a raw token is a stray in any place but the positions where the caller is told about it', () => {
  for (const [kind, raw] of LONG_LIVED) {
    assert.deepEqual(strays('/accounts/get', { access_token: HANDLE, note: raw }), [kind], raw);
    assert.deepEqual(strays('/accounts/get', { access_token: HANDLE, [raw]: null }), [kind], raw);
    assert.deepEqual(strays('/user/get', { user_id: raw }), [kind], raw);
    assert.deepEqual(strays('/link/token/get', { link_token: raw }), [kind], raw);
    // At a vaulted or released position the value itself is judged.
    assert.deepEqual(strays('/accounts/get', { access_token: raw }), [], raw);
    assert.deepEqual(strays('/processor/auth/get', { processor_token: raw }), [], raw);
    assert.equal(read('/accounts/get', { access_token: raw }).spots[0]?.value, raw);
  }
  for (const text of HARMLESS.filter((text) => text !== HANDLE)) {
    assert.deepEqual(strays('/accounts/get', { access_token: HANDLE, note: text }), [], text);
  }
});

test('escapes hide nothing', () => {
  const spellings = (text: string) => [
    text.replaceAll('-', '\\u002d'),
    text.replaceAll('a', '\\u0061'),
    [...text].map((character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`).join(''),
    `\\n${text}`,
    `${text.slice(0, 10)}\\u00${text.charCodeAt(10).toString(16).toUpperCase()}${text.slice(11)}`,
  ];
  for (const secret of [HANDLE, ACCESS]) {
    for (const spelled of spellings(secret)) {
      assert.equal(strays('/accounts/get', `{"note":"${spelled}"}`).length > 0, true, spelled);
      assert.equal(strays('/accounts/get', `{"${spelled}":1}`).length > 0, true, spelled);
      assert.equal(strays('/user/get', `{"user_id":"${spelled}"}`).length > 0, true, spelled);
    }
    const [plain] = spellings(secret);
    const { spots, strays: found } = read('/accounts/get', `{"access\\u005ftoken":"${plain}"}`);
    assert.equal(spots[0]?.value, secret);
    assert.deepEqual(found, []);
  }
});

test('a body full of strays is refused after a few of them', () => {
  assert.equal(strays('/accounts/get', { x: Array.from({ length: 100_000 }, () => HANDLE) }).length, 8);
  const many = { access_tokens: Array.from({ length: 9_000 }, () => HANDLE) };
  assert.deepEqual(strays('/asset_report/create', many), []);
});

test('a field that means a token or subject elsewhere is unexpected where the table does not know it', () => {
  assert.deepEqual(read('/accounts/get', { access_token: HANDLE, user_id: 'usr_of_somebody_else' }).unexpected, [
    'user_id',
  ]);
  assert.deepEqual(read('/institutions/get', { transfer_id: 'x', country_codes: [] }).unexpected, ['transfer_id']);
  assert.deepEqual(read('/user/get', { user_id: 'u', user_token: HANDLE }).unexpected, ['user_token']);
  assert.deepEqual(
    read('/sandbox/fdx/consent/seed', { consent_id: 'c', customer_id: 'd', application_id: 'e' }).unexpected,
    [],
  );
  // Ids that only correlate, and everything below the top, are left to Plaid.
  assert.deepEqual(
    read('/signal/evaluate', { access_token: HANDLE, client_user_id: 'a', x: { user_id: 'b' } }).unexpected,
    [],
  );
  assert.throws(
    () => read('/user/get', '{"User_ID":"u"}'),
    (error) => codeOf(error) === 'BODY_MALFORMED',
  );
});

test('a body with credentials and a handle becomes the body for Plaid in one splice', () => {
  const text = `{ "client_id" : "app", "access_token":"${HANDLE}" ,"count": 5e2, "secret":"key","options":{"n":1.10}}`;
  const body = Buffer.from(text);
  const { spots, cuts } = readRequest(body, endpoint('/transactions/sync'));
  const edits = [...cuts, ...spots.map(({ start, end }) => ({ start, end, text: `"${ACCESS}"` }))];
  assert.equal(splice(body, edits).toString(), `{ "access_token":"${ACCESS}" ,"count": 5e2, "options":{"n":1.10}}`);
});
