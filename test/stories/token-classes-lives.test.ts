import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ENDPOINT_CLASSES, type Policy, RELEASED_KINDS } from '../../src/access/policy.ts';
import { type Answer, type App, type Kit, type KitOptions, refusedWith, strongroom } from '../support/strongroom.ts';
import { inventToken } from '../support/table-bodies.ts';

/** The life of each class of token at a Plaid that keeps state and is strict: made, used, and ended through handles. */

const BROAD: Partial<Policy> = {
  classes: [...ENDPOINT_CLASSES],
  endpoints: ['/payment_profile/remove', '/oauth/revoke', '/asset_report/remove', '/user/third_party_token/remove'],
};
const HANDLE = /^handle-sandbox-[a-z2-7]{36}$/;

test('a user token is held, and stands for the user wherever one is named', async (t) => {
  const { app } = await start(t);
  const user = await ok(app, '/user/create', { client_user_id: 'consumer-1' });
  assert.match(String(user.user_token), HANDLE);
  assert.equal((await ok(app, '/user/get', { user_id: user.user_id })).client_user_id, 'consumer-1');

  const created = await ok(app, '/sandbox/public_token/create', {
    institution_id: 'ins_109508',
    initial_products: ['transactions'],
    user_token: user.user_token,
  });
  const { access_token } = await ok(app, '/item/public_token/exchange', { public_token: created.public_token });
  const link = await ok(app, '/link/token/create', { ...LINK, user_token: user.user_token, access_token: null });
  assert.match(String(link.link_token), /^link-sandbox-/);

  const jobs = await ok(app, '/credit/employment/get', { user_token: user.user_token });
  const [job] = jobs.items as { employment_report_token: string }[];
  assert.match(String(job?.employment_report_token), HANDLE);
  assert.notEqual(job?.employment_report_token, access_token);
});

test('a report token is held, lists of them too, and the report is the same file that Plaid sent', async (t) => {
  const { app } = await start(t, { releases: ['audit_copy', 'relay'] });
  const { handle } = await app.link(['assets', 'transactions']);
  const other = await app.link(['assets', 'transactions']);
  const made = await ok(app, '/asset_report/create', { access_tokens: [handle, other.handle], days_requested: 10 });
  assert.match(String(made.asset_report_token), HANDLE);

  const got = await ok(app, '/asset_report/get', { asset_report_token: made.asset_report_token });
  assert.equal((got.report as { items: unknown[] }).items.length, 2);
  const refreshed = await ok(app, '/asset_report/refresh', { asset_report_token: made.asset_report_token });
  assert.notEqual(refreshed.asset_report_token, made.asset_report_token, 'another report, another handle');

  const pdf = await app.post('/asset_report/pdf/get', { asset_report_token: made.asset_report_token });
  assert.equal(pdf.headers['content-type'], 'application/pdf');
  assert.match(pdf.text, /^%PDF-/);
  assert.match(pdf.text, new RegExp(String(made.asset_report_id)));

  const reports = [made.asset_report_token, refreshed.asset_report_token];
  const copy = await ok(app, '/credit/audit_copy_token/create', { report_tokens: reports });
  assert.match(String(copy.audit_copy_token), /^a-sandbox-/, 'made to leave');
  await ok(app, '/asset_report/remove', { asset_report_token: made.asset_report_token });
  // It outlives the report that it was made of.
  await ok(app, '/asset_report/audit_copy/get', { audit_copy_token: copy.audit_copy_token });
});

test('a Layer session gives handles, and they work', async (t) => {
  const { kit, app } = await start(t);
  const session = await ok(app, '/session/token/create', {
    template_id: 'template-1',
    user: { client_user_id: 'c-1' },
  });
  const { link_token } = session.link as { link_token: string };
  assert.match(link_token, /^link-sandbox-/);
  const done = await kit.simulator.control<{ public_token: string; item_id: string }>('POST', '/link/complete', {
    link_token,
  });

  const got = await ok(app, '/user_account/session/get', { public_token: done.public_token });
  const [item] = got.items as { item_id: string; access_token: string }[];
  assert.equal(item?.item_id, done.item_id);
  assert.match(String(item?.access_token), HANDLE);
  await ok(app, '/auth/get', { access_token: item?.access_token });
});

test('a delivered link gives the same handles as often as it is read', async (t) => {
  const { kit, app } = await start(t);
  const { link_token } = await ok(app, '/link/token/create', LINK);
  const made = await ok(app, '/link_delivery/create', { link_token });
  const named = { link_delivery_session_id: made.link_delivery_session_id };
  assert.equal((await ok(app, '/link_delivery/get', named)).access_tokens, null, 'not before the user is done');
  await kit.simulator.control('POST', '/link/complete', { link_token });

  const first = await ok(app, '/link_delivery/get', named);
  assert.deepEqual((await ok(app, '/link_delivery/get', named)).access_tokens, first.access_tokens);
  const [handle] = first.access_tokens as string[];
  assert.match(String(handle), HANDLE);
  await ok(app, '/accounts/get', { access_token: handle });
  await ok(app, '/link/token/create', { ...LINK, access_token: handle });
});

test('OAuth tokens are made, refreshed and revoked through handles', async (t) => {
  const { app } = await start(t);
  const user = await ok(app, '/user/create', { client_user_id: 'consumer-1' });
  const granted = await ok(app, '/oauth/token', {
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    scope: 'user:read',
    subject_token: user.user_token,
    subject_token_type: 'urn:plaid:params:credit:multi-user',
  });
  for (const name of ['access_token', 'refresh_token']) assert.match(String(granted[name]), HANDLE);
  const active = async (token: unknown) => (await ok(app, '/oauth/introspect', { token })).active;
  assert.equal(await active(granted.access_token), true);
  assert.equal(await active(granted.refresh_token), true);

  const fresh = await ok(app, '/oauth/token', { grant_type: 'refresh_token', refresh_token: granted.refresh_token });
  assert.equal(await active(granted.refresh_token), false, 'good for one use');
  await ok(app, '/oauth/revoke', { token: fresh.access_token });
  assert.equal(await active(fresh.access_token), false);
});

test('a payment profile is held, also where it stands inside a link request', async (t) => {
  const { app } = await start(t);
  const { payment_profile_token } = await ok(app, '/payment_profile/create', {});
  assert.match(String(payment_profile_token), HANDLE);
  assert.equal((await ok(app, '/payment_profile/get', { payment_profile_token })).status, 'READY');
  await ok(app, '/link/token/create', { ...LINK, products: ['transfer'], transfer: { payment_profile_token } });
  await ok(app, '/payment_profile/remove', { payment_profile_token });
  assert.equal((await ok(app, '/payment_profile/get', { payment_profile_token })).status, 'REMOVED');
});

test('the keys of customers of a reseller are held', async (t) => {
  const { kit, app } = await start(t);
  const made = await ok(app, '/partner/customer/create', {
    company_name: 'Bakery',
    legal_entity_name: 'Bakery Inc',
    website: 'https://bakery.example',
    application_name: 'Bakery',
    address: { city: 'Berlin', street: 'Weg 1', region: 'BE', postal_code: '10115', country_code: 'DE' },
    is_diligence_attested: true,
    is_bank_addendum_completed: true,
  });
  const customer = made.end_customer as { client_id: string; secrets: { sandbox: string } };
  assert.match(customer.secrets.sandbox, HANDLE);
  const enabled = await ok(app, '/partner/customer/enable', { end_customer_client_id: customer.client_id });
  assert.match(String(enabled.production_secret), HANDLE);
  const sealed = (await kit.entries('record.sealed')).map((entry) => entry.record_kind);
  assert.deepEqual(sealed, ['customer_secret', 'customer_secret']);
});

test('what is made to leave leaves by policy alone, is registered, and works for its application alone', async (t) => {
  const { kit, app: strict } = await start(t, { releases: [] });
  const lax = await kit.application('lax', { ...BROAD, releases: [...RELEASED_KINDS] });
  const extra: Record<string, object> = { relay: { report_type: 'asset' } };
  const endings: Record<string, (app: App) => Promise<Answer>> = {};
  for (const app of [strict, lax]) {
    const { handle } = await app.link(['auth', 'assets', 'transactions']);
    const { accounts } = await ok(app, '/accounts/get', { access_token: handle });
    const [account] = accounts as { account_id: string }[];
    const report = await ok(app, '/asset_report/create', { access_tokens: [handle], days_requested: 1 });
    const user = await ok(app, '/user/create', { client_user_id: `consumer of ${app.id}` });
    const reports = [report.asset_report_token];
    const sent = (await kit.reached()).length;
    const named = { access_token: handle, account_id: account?.account_id };
    const asked: [kind: string, path: string, body: Record<string, unknown>, use: string | null][] = [
      ['processor', '/processor/token/create', { ...named, processor: 'dwolla' }, '/processor/account/get'],
      ['stripe', '/processor/stripe/bank_account_token/create', named, null],
      [
        'audit_copy',
        '/asset_report/audit_copy/create',
        { asset_report_token: reports[0] },
        '/asset_report/audit_copy/get',
      ],
      [
        'relay',
        '/credit/relay/create',
        { report_tokens: reports, secondary_client_id: 'f'.repeat(24) },
        '/credit/relay/get',
      ],
      [
        'third_party_user',
        '/user/third_party_token/create',
        { user_token: user.user_token, third_party_client_id: 'f'.repeat(24) },
        '/user/third_party_token/remove',
      ],
    ];
    for (const [kind, path, body, use] of asked) {
      const answer = await app.post(path, body);
      if (app === strict) {
        refusedWith(answer, 'TOKEN_CLASS_DENIED');
        continue;
      }
      assert.equal(answer.status, 200, `${path}: ${answer.text}`);
      const field = { stripe: 'stripe_bank_account_token' }[kind] ?? `${kind}_token`;
      assert.doesNotMatch(String(answer.body[field]), /^handle-/);
      if (use !== null) endings[kind] = (who) => who.post(use, { ...extra[kind], [field]: answer.body[field] });
    }
    if (app === strict) assert.equal((await kit.reached()).length, sent, 'nothing was sent');
  }

  for (const [kind, use] of Object.entries(endings)) {
    const sent = (await kit.reached()).length;
    refusedWith(await use(strict), 'SUBJECT_FOREIGN');
    assert.equal((await kit.reached()).length, sent);
    const answer = await use(lax);
    assert.equal(answer.status, 200, `${kind}: ${answer.text}`);
  }
  const told = (await kit.entries('token.released')).map((entry) => [entry.class, entry.application]);
  assert.deepEqual(
    told.sort(),
    [...RELEASED_KINDS].sort().map((kind) => [kind, lax.id]),
  );
  const database = await kit.database.open('owner');
  const { rows } = await database.sql.query<{ kind: string }>(
    'select kind, application_id as owner from released_tokens order by 1',
  );
  assert.deepEqual(
    rows,
    [...RELEASED_KINDS].sort().map((kind) => ({ kind, owner: lax.id })),
  );
});

test('short-lived tokens pass, and nothing of them is kept', async (t) => {
  const { kit, app } = await start(t);
  const database = await kit.database.open('owner');
  const { handle, publicToken } = await app.link();
  assert.match(publicToken, /^public-sandbox-/);
  const again = await ok(app, '/item/public_token/create', { access_token: handle });
  assert.match(String(again.public_token), /^public-sandbox-/);
  const link = await ok(app, '/link/token/create', LINK);
  assert.equal((await ok(app, '/link/token/get', { link_token: link.link_token })).link_token, link.link_token);
  const { rows } = await database.sql.query('select kind from secrets union all select kind from released_tokens');
  assert.deepEqual(rows, [{ kind: 'access' }]);
});

test('a handle of one kind is not taken for another, nor a raw token for a handle', async (t) => {
  const { kit, app } = await start(t);
  const { handle } = await app.link();
  const user = await ok(app, '/user/create', { client_user_id: 'consumer-1' });
  const sent = (await kit.reached()).length;
  refusedWith(await app.post('/accounts/get', { access_token: user.user_token }), 'HANDLE_KIND_WRONG');
  refusedWith(await app.post('/credit/employment/get', { user_token: handle }), 'HANDLE_KIND_WRONG');
  refusedWith(await app.post('/asset_report/get', { asset_report_token: handle }), 'HANDLE_KIND_WRONG');
  refusedWith(await app.post('/user/get', { user_id: handle }), 'HANDLE_MALFORMED');
  refusedWith(await app.post('/processor/auth/get', { processor_token: handle }), 'HANDLE_KIND_WRONG');
  refusedWith(await app.post('/accounts/get', { access_token: inventToken('access') }), 'RAW_TOKEN_REFUSED');
  refusedWith(
    await app.post('/asset_report/create', { access_tokens: [handle, inventToken('access')] }),
    'RAW_TOKEN_REFUSED',
  );
  refusedWith(await app.post('/oauth/introspect', { token: inventToken('oauth_access') }), 'RAW_TOKEN_REFUSED');
  assert.equal((await kit.reached()).length, sent);
});

test('a file comes through byte for byte, a small one and one larger than what is held in memory', async (t) => {
  const files = [Buffer.alloc(0), Buffer.from([0, 0xff, 0xfe, 0x80]), randomBytes(300_000), randomBytes(20_000_000)];
  const headers = { 'content-type': 'application/zip', 'plaid-request-id': 'AbCdEfGhIjKlMnO' };
  const plaid = createServer((request, response) => {
    request.resume().on('end', () => {
      if (request.url === '/item/public_token/exchange') {
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify({ access_token: inventToken('access'), item_id: 'item-1', request_id: 'x' }));
      } else response.writeHead(200, headers).end(files[0]);
    });
  });
  await new Promise<void>((resolve) => plaid.listen(0, '127.0.0.1', resolve));
  t.after(() => plaid.close());
  const { kit, app } = await start(t, {}, { upstream: `http://127.0.0.1:${(plaid.address() as AddressInfo).port}` });
  const { access_token } = await ok(app, '/item/public_token/exchange', { public_token: inventToken('public') });

  for (; files.length > 0; files.shift()) {
    const answer = await fetch(`${kit.url}/income/verification/documents/download`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'plaid-client-id': app.id, 'plaid-secret': app.key },
      body: JSON.stringify({ access_token }),
    });
    assert.equal(answer.headers.get('content-type'), 'application/zip');
    assert.equal(answer.headers.get('plaid-request-id'), headers['plaid-request-id']);
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(files[0] as Buffer), `${files[0]?.length} bytes`);
  }
});

const LINK = {
  client_name: 'Demo',
  country_codes: ['US'],
  language: 'en',
  products: ['transactions'],
  user: { client_user_id: 'consumer-1' },
};

async function start(
  t: TestContext,
  policy: Partial<Policy> = {},
  options: KitOptions = {},
): Promise<{ kit: Kit; app: App }> {
  const kit = await strongroom(t, { simulator: { settings: { readyAfterMs: 0 } }, ...options });
  return { kit, app: await kit.application('app', { ...BROAD, ...policy }) };
}

/** The answer of a call that succeeds, and that holds nothing that should have been held back. */
async function ok(app: App, path: string, body: unknown): Promise<Record<string, unknown>> {
  const answer = await app.post(path, body);
  assert.ok(answer.status === 200 || answer.status === 201, `${path}: ${answer.status} ${answer.text}`);
  assert.doesNotMatch(
    answer.text,
    /(?:access|user|assets|employment-report|payment-profile)-sandbox-|pd[ar]-[\w-]{20}/,
  );
  return answer.body;
}

test('an item id that no table can hold does not cost the token', async (t) => {
  const { kit, app } = await start(t);
  for (const itemId of ['a\u0000b', '', 'x'.repeat(100_000), 17, null, { a: 1 }]) {
    const token = inventToken('access');
    const body = { access_token: token, item_id: itemId, request_id: 'simulated000000' };
    await kit.simulator.control('POST', '/faults', { endpoint: '/item/public_token/exchange', kind: 'body', body });
    const got = await ok(app, '/item/public_token/exchange', { public_token: inventToken('public') });
    assert.match(String(got.access_token), HANDLE, JSON.stringify(itemId).slice(0, 20));

    const layer = { items: [{ item_id: itemId, access_token: inventToken('access') }] };
    await kit.simulator.control('POST', '/faults', {
      endpoint: '/user_account/session/get',
      kind: 'body',
      body: layer,
    });
    const session = await ok(app, '/user_account/session/get', { public_token: inventToken('public') });
    assert.match(JSON.stringify(session), /handle-sandbox-/);
  }
});
