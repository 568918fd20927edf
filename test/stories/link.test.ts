import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CountryCode, Products } from 'plaid';
import { send, strongroom } from '../support/strongroom.ts';

const ACCESS_TOKEN = /access-(sandbox|production)-/;

test('an official SDK links a bank, reads it and removes it, and only ever holds a handle', async (t) => {
  const kit = await strongroom(t);
  const { plaid } = await kit.application();

  const link = await plaid.linkTokenCreate({
    client_name: 'Demo',
    country_codes: [CountryCode.Us],
    language: 'en',
    products: [Products.Transactions],
    user: { client_user_id: 'consumer-1' },
  });
  assert.match(link.data.link_token, /^link-sandbox-/, 'the browser needs the real link token');

  const created = await plaid.sandboxPublicTokenCreate({
    institution_id: 'ins_109508',
    initial_products: [Products.Transactions, Products.Auth],
  });
  const exchanged = await plaid.itemPublicTokenExchange({ public_token: created.data.public_token });
  const handle = exchanged.data.access_token;
  assert.match(handle, /^handle-sandbox-[a-z2-7]{36}$/);

  const accounts = await plaid.accountsGet({ access_token: handle });
  assert.ok(accounts.data.accounts.length > 0);
  assert.equal(accounts.data.item.item_id, exchanged.data.item_id);
  let cursor = '';
  let added = 0;
  for (;;) {
    const page = await plaid.transactionsSync({ access_token: handle, cursor });
    added += page.data.added.length;
    cursor = page.data.next_cursor;
    if (!page.data.has_more) break;
  }
  assert.ok(added > 100, `${added} transactions`);
  const update = await plaid.linkTokenCreate({
    client_name: 'Demo',
    country_codes: [CountryCode.Us],
    language: 'en',
    user: { client_user_id: 'consumer-1' },
    access_token: handle,
  });
  assert.match(update.data.link_token, /^link-sandbox-/);
  assert.equal((await plaid.linkTokenGet({ link_token: update.data.link_token })).status, 200);

  const rotated = await plaid.itemAccessTokenInvalidate({ access_token: handle });
  assert.equal(rotated.data.new_access_token, handle, 'the handle stays');
  assert.equal((await plaid.accountsGet({ access_token: handle })).status, 200);

  await plaid.itemRemove({ access_token: handle });
  const gone = await plaid.accountsGet({ access_token: handle }).then(
    () => assert.fail('a removed item answered'),
    (error) => error.response,
  );
  assert.equal(gone.data.error_code, 'TOKEN_REMOVED');

  // Every use stands in the log: admitted before, outcome after, what was sealed and what was shredded.
  await kit.stop();
  const kinds = (await kit.entries()).map((entry) => entry.kind);
  const count = (kind: string) => kinds.filter((other) => other === kind).length;
  assert.equal(count('access.admitted'), count('access.outcome'));
  assert.equal(count('record.sealed'), 2, 'the first token and its successor');
  assert.equal(count('record.shredded'), 1);
  assert.equal(count('rotation.intended'), count('rotation.settled'));
  assert.equal(count('removal.intended'), count('removal.settled'));
  assert.equal(count('access.denied'), 1);

  const owner = await kit.database.open('owner');
  const { rows } = await owner.sql.query<{ sealed: Buffer | null; state: string }>('select sealed, state from secrets');
  assert.deepEqual(rows, [{ sealed: null, state: 'removed' }]);
  assert.doesNotMatch(kit.log.join(''), ACCESS_TOKEN);
});

test('credentials and handles in the body work too, as old clients send them', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  const { handle } = await app.link();
  const answer = await send(kit.url, '/accounts/get', {
    client_id: app.id,
    access_token: handle,
    secret: app.key,
  });
  assert.equal(answer.status, 200, answer.text);
  assert.doesNotMatch(answer.text, ACCESS_TOKEN);
});

test('the same public token gives the same handle, whoever asks how often', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  const { body } = await app.post('/sandbox/public_token/create', {
    institution_id: 'ins_109508',
    initial_products: ['transactions'],
  });
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => app.post('/item/public_token/exchange', { public_token: body.public_token })),
  );
  assert.deepEqual(new Set(answers.map((answer) => answer.status)), new Set([200]));
  assert.equal(new Set(answers.map((answer) => answer.body.access_token)).size, 1);
  const calls = (await kit.reached()).filter((path) => path === '/item/public_token/exchange');
  assert.equal(calls.length, 1, 'Plaid was asked once');
});
