import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ANYWHERE, presetPolicy } from '../../src/access/presets.ts';
import { DEV_CLIENT_ID } from '../../src/config.ts';
import type { SecretReference } from '../../src/secrets/reference.ts';
import { type App, app, type Kit, refusedWith, strongroom } from '../support/strongroom.ts';

/** Who may use whose: named shares, names that applications choose themselves, and several Plaid clients. */

test('a share lets the named application in, one way and not further', async (t) => {
  const kit = await strongroom(t);
  const owner = await kit.application('owner');
  const guest = await kit.application('guest', { shares: [owner.id] });
  const third = await kit.application('third', { shares: [guest.id] });

  const theirs = await owner.link();
  const user = await owner.post('/user/create', { client_user_id: 'consumer-1' });
  const subject = { user_id: String(user.body.user_id) };
  const accounts = { access_token: theirs.handle };

  assert.equal((await guest.post('/accounts/get', accounts)).status, 200);
  assert.equal((await guest.post('/user/get', subject)).status, 200);

  const sent = (await kit.reached()).length;
  refusedWith(await third.post('/accounts/get', accounts), 'HANDLE_UNKNOWN');
  refusedWith(await third.post('/user/get', subject), 'SUBJECT_FOREIGN');
  const mixed = await third.post('/asset_report/create', {
    access_tokens: [(await third.link()).handle, theirs.handle],
    days_requested: 10,
  });
  refusedWith(mixed, 'HANDLE_UNKNOWN');
  const linked = sent + 2; // the third's own bank
  const guests = await guest.link();
  refusedWith(await owner.post('/accounts/get', { access_token: guests.handle }), 'HANDLE_UNKNOWN');
  assert.equal((await kit.reached()).length, linked + 2);

  await kit.admin('PUT', `/applications/${guest.id}/policy`, presetPolicy('demo', ANYWHERE));
  refusedWith(await guest.post('/accounts/get', accounts), 'HANDLE_UNKNOWN');
  refusedWith(await guest.post('/user/get', subject), 'SUBJECT_FOREIGN');
});

test('what a guest makes of a shared item is its own', async (t) => {
  const kit = await strongroom(t);
  const owner = await kit.application('owner');
  const guest = await kit.application('guest', { shares: [owner.id] });
  const { handle } = await owner.link(['assets', 'transactions']);

  const report = await guest.post('/asset_report/create', { access_tokens: [handle], days_requested: 10 });
  assert.equal(report.status, 200, report.text);
  const named = { asset_report_token: String(report.body.asset_report_token) };
  assert.equal((await guest.post('/asset_report/get', named)).status, 200);
  refusedWith(await owner.post('/asset_report/get', named), 'HANDLE_UNKNOWN');
});

test('a name for a consumer belongs to the application that used it first', async (t) => {
  const kit = await strongroom(t);
  const [first, second] = [await kit.application(), await kit.application()];
  await startLink(first, 'consumer-1');
  assert.equal((await first.post('/user/create', { client_user_id: 'consumer-1' })).status, 200);

  const sent = (await kit.reached()).length;
  for (const [path, body] of [
    ['/user/create', { client_user_id: 'consumer-1' }],
    ['/link/token/create', linkRequest('consumer-1')],
    // Plaid would answer with the verification that it has under that name.
    ['/identity_verification/create', { client_user_id: 'consumer-1', is_idempotent: true, template_id: 'idvtmp_1' }],
    ['/identity_verification/list', { client_user_id: 'consumer-1', template_id: 'idvtmp_1' }],
  ] as const) {
    refusedWith(await second.post(path, body), 'SUBJECT_FOREIGN');
  }
  for (const value of [1, ['consumer-1'], { name: 'consumer-1' }, true]) {
    refusedWith(await second.post('/user/create', { client_user_id: value }), 'SUBJECT_FOREIGN');
  }
  assert.equal((await kit.reached()).length, sent, 'Plaid heard of it');
  await startLink(second, 'consumer-2');
});

test('a name that was taken early opens nothing that another application does under it later', async (t) => {
  const kit = await strongroom(t);
  const [early, late] = [await kit.application(), await kit.application()];
  await startLink(early, 'consumer-1');

  const sent = (await kit.reached()).length;
  // Refused aloud instead: else the early one could list what the late one makes.
  refusedWith(
    await late.post('/identity_verification/create', { client_user_id: 'consumer-1', template_id: 'idvtmp_1' }),
    'SUBJECT_FOREIGN',
  );
  assert.equal((await kit.reached()).length, sent);
  const [denied] = await kit.entries('access.denied');
  assert.equal(denied?.reason, 'subject_foreign');
});

test('a name that a refused or failed call used is still free', async (t) => {
  const kit = await strongroom(t);
  const [first, second] = [await kit.application(), await kit.application()];
  const refused = await first.post('/link/token/create', { ...linkRequest('consumer-1'), products: [] });
  assert.equal(refused.body.error_code, 'INVALID_FIELD', refused.text);
  await startLink(second, 'consumer-1');
});

test('whoever names a handle of somebody else does not wait for what happens to it', async (t) => {
  const kit = await strongroom(t);
  const [owner, other] = [await kit.application(), await kit.application()];
  const { handle } = await owner.link();
  const database = await kit.database.open('owner');
  await database.sql.query(`update secrets set state = 'rotating'`);

  const started = performance.now();
  refusedWith(await other.post('/accounts/get', { access_token: handle }), 'HANDLE_UNKNOWN');
  // The owner of the handle would be kept waiting for ten seconds.
  assert.ok(performance.now() - started < 5_000);
});

test('a public token that was made for one application is not exchanged by another', async (t) => {
  const kit = await strongroom(t);
  const [owner, other] = [await kit.application(), await kit.application()];
  const created = await owner.post('/sandbox/public_token/create', {
    institution_id: 'ins_109508',
    initial_products: ['transactions'],
  });
  const token = { public_token: String(created.body.public_token) };

  const sent = (await kit.reached()).length;
  refusedWith(await other.post('/item/public_token/exchange', token), 'SUBJECT_FOREIGN');
  assert.equal((await kit.reached()).length, sent);
  assert.equal((await owner.post('/item/public_token/exchange', token)).status, 200);
  // Used up, and still not theirs.
  refusedWith(await other.post('/item/public_token/exchange', token), 'SUBJECT_FOREIGN');
});

test('a share does not reach across Plaid clients', async (t) => {
  const kit = await withTwoClients(t);
  const owner = await addTo(kit, 'default', 'owner', []);
  const other = await addTo(kit, 'second', 'other', [owner.id]);
  const { handle } = await owner.link();
  const user = await owner.post('/user/create', { client_user_id: 'consumer-1' });

  const sent = (await kit.reached()).length;
  refusedWith(await other.post('/accounts/get', { access_token: handle }), 'HANDLE_UNKNOWN');
  refusedWith(await other.post('/user/get', { user_id: user.body.user_id }), 'SUBJECT_FOREIGN');
  assert.equal((await kit.reached()).length, sent);
});

const linkRequest = (consumer: string) => ({
  client_name: 'Demo',
  country_codes: ['US'],
  language: 'en',
  products: ['transactions'],
  user: { client_user_id: consumer },
});

async function startLink(app: App, consumer: string) {
  const answer = await app.post('/link/token/create', linkRequest(consumer));
  assert.equal(answer.status, 200, answer.text);
}

/** The second client has the same secret; nothing is ever sent in its name. */
function withTwoClients(t: TestContext): Promise<Kit> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-clients-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const value = randomBytes(15).toString('hex');
  writeFileSync(join(folder, 'secret.txt'), value, { mode: 0o600 });
  const secret = `file:${join(folder, 'secret.txt')}` as SecretReference;
  const clients = [
    { name: 'default', clientId: DEV_CLIENT_ID, secret },
    { name: 'second', clientId: 'e1e1e1e1e1e1e1e1e1e1e1e1', secret },
  ];
  return strongroom(t, { simulator: { secret: value }, config: { plaid: { clients } } });
}

async function addTo(kit: Kit, client: string, name: string, shares: string[]) {
  const policy = { ...presetPolicy('demo', ANYWHERE), shares };
  const { application, key } = await kit.admin<{ application: { application_id: string }; key: string }>(
    'POST',
    '/applications',
    { name, plaid_client: client, policy },
  );
  return app(() => kit.url, application.application_id, key);
}
