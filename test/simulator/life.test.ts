import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { CountryCode, link, Products, refused, start, truth } from './kit.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

test('the official SDK links a bank, reads it, rotates the token and removes the item', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken, itemId } = await link(plaid, [Products.Auth, Products.Transactions]);
  assert.match(accessToken, /^access-sandbox-[0-9a-f-]{36}$/);
  assert.match(itemId, /^[A-Za-z0-9]{37}$/);

  const accounts = await plaid.accountsGet({ access_token: accessToken });
  assert.equal(accounts.data.accounts.length, 9);
  assert.equal(accounts.data.item.item_id, itemId);
  assert.match(accounts.data.request_id, /^[A-Za-z0-9]{15}$/);

  const seen = new Set<string>();
  let cursor = '';
  let pages = 0;
  for (let more = true; more; pages++) {
    const page = await plaid.transactionsSync({ access_token: accessToken, cursor, count: 60 });
    for (const transaction of page.data.added) seen.add(transaction.transaction_id);
    cursor = page.data.next_cursor;
    more = page.data.has_more;
  }
  assert.equal(seen.size, 200);
  assert.equal(pages, 4);

  assert.equal((await plaid.identityGet({ access_token: accessToken })).data.accounts[0]?.owners.length, 1);
  assert.ok((await plaid.authGet({ access_token: accessToken })).data.numbers.ach.length > 0);
  assert.ok((await plaid.liabilitiesGet({ access_token: accessToken })).data.liabilities.mortgage);
  assert.ok((await plaid.investmentsHoldingsGet({ access_token: accessToken })).data.holdings.length > 0);

  const { new_access_token: fresh } = (await plaid.itemAccessTokenInvalidate({ access_token: accessToken })).data;
  assert.notEqual(fresh, accessToken);
  await refused(plaid.itemGet({ access_token: accessToken }), 'INVALID_ACCESS_TOKEN');
  assert.equal((await plaid.itemGet({ access_token: fresh })).data.item.item_id, itemId);
  assert.equal((await truth(simulator)).items[0]?.access_token_sha256, sha256(fresh));

  await plaid.itemRemove({ access_token: fresh });
  await refused(plaid.itemGet({ access_token: fresh }), 'ITEM_NOT_FOUND');
  await refused(plaid.itemRemove({ access_token: fresh }), 'ITEM_NOT_FOUND');
  const [item] = (await truth(simulator)).items;
  assert.deepEqual([item?.state, item?.access_token_sha256], ['removed', null]);
});

test('of 200 exchanges of one public token at once, one wins', async (t) => {
  const { plaid } = await start(t);
  const { public_token } = (
    await plaid.sandboxPublicTokenCreate({ institution_id: 'ins_109508', initial_products: [Products.Auth] })
  ).data;
  const outcomes = await Promise.allSettled(
    Array.from({ length: 200 }, () => plaid.itemPublicTokenExchange({ public_token })),
  );
  assert.equal(outcomes.filter((outcome) => outcome.status === 'fulfilled').length, 1);
});

test('of 50 rotations of one token at once, one wins and its token is the live one', async (t) => {
  const { plaid } = await start(t);
  const { accessToken, itemId } = await link(plaid);
  const outcomes = await Promise.allSettled(
    Array.from({ length: 50 }, () => plaid.itemAccessTokenInvalidate({ access_token: accessToken })),
  );
  const won = outcomes.flatMap((outcome) =>
    outcome.status === 'fulfilled' ? [outcome.value.data.new_access_token] : [],
  );
  assert.equal(won.length, 1);
  assert.equal((await plaid.itemGet({ access_token: won[0] as string })).data.item.item_id, itemId);
});

test('a public token is good for 30 minutes', async (t) => {
  const { simulator, plaid } = await start(t);
  const make = async (): Promise<string> =>
    (await plaid.sandboxPublicTokenCreate({ institution_id: 'ins_109508', initial_products: [Products.Auth] })).data
      .public_token;
  const [inTime, late] = [await make(), await make()];
  await simulator.control('POST', '/clock', { advance_ms: 29 * 60_000 });
  await plaid.itemPublicTokenExchange({ public_token: inTime });
  await simulator.control('POST', '/clock', { advance_ms: 60_000 });
  await refused(plaid.itemPublicTokenExchange({ public_token: late }), 'INVALID_PUBLIC_TOKEN');
});

test('Link: a token with products becomes an item, one with an access token repairs the item', async (t) => {
  const { simulator, plaid } = await start(t);
  const common = {
    client_name: 'A shop',
    language: 'en',
    country_codes: [CountryCode.Us],
    user: { client_user_id: 'u1' },
  };
  const fresh = await plaid.linkTokenCreate({
    ...common,
    products: [Products.Auth],
    access_token: null,
    hosted_link: {},
  });
  assert.ok(fresh.data.hosted_link_url?.startsWith(`${simulator.url}/hosted/`));
  const done = await simulator.control<{ public_token: string; item_id: string }>('POST', '/link/complete', {
    link_token: fresh.data.link_token,
  });
  const session = (await plaid.linkTokenGet({ link_token: fresh.data.link_token })).data.link_sessions?.[0];
  assert.equal(session?.on_success?.public_token, done.public_token);
  assert.equal(session?.results?.item_add_results[0]?.public_token, done.public_token);
  const { access_token } = (await plaid.itemPublicTokenExchange({ public_token: done.public_token })).data;

  await plaid.sandboxItemResetLogin({ access_token });
  await refused(plaid.accountsGet({ access_token }), 'ITEM_LOGIN_REQUIRED');
  const broken = await plaid.itemGet({ access_token });
  assert.equal(
    broken.data.item.error?.error_code,
    'ITEM_LOGIN_REQUIRED',
    '/item/get answers 200 with the error in the body',
  );
  const update = await plaid.linkTokenCreate({ ...common, access_token });
  const minutes = (Date.parse(update.data.expiration) - Date.now()) / 60_000;
  assert.ok(minutes > 28 && minutes <= 30, 'update mode: 30 minutes');
  await simulator.control('POST', '/link/complete', { link_token: update.data.link_token });
  assert.equal((await plaid.accountsGet({ access_token })).status, 200, 'same token, good again');
});

test('the control API completes update mode by item id', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken, itemId } = await link(plaid);
  await plaid.sandboxItemResetLogin({ access_token: accessToken });
  await simulator.control('POST', `/items/${itemId}/complete-update-mode`);
  assert.equal((await plaid.itemGet({ access_token: accessToken })).data.item.error, null);
});

test('a sandbox item loses its login after 30 days', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken } = await link(plaid);
  await simulator.control('POST', '/clock', { advance_ms: 29 * 86_400_000 });
  await plaid.accountsGet({ access_token: accessToken });
  await simulator.control('POST', '/clock', { advance_ms: 2 * 86_400_000 });
  await refused(plaid.accountsGet({ access_token: accessToken }), 'ITEM_LOGIN_REQUIRED');
});

test('sync reports what a refresh changed, and refuses to go on when pages no longer fit', async (t) => {
  const { plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  const first = await plaid.transactionsSync({ access_token, count: 500 });
  assert.equal(first.data.has_more, false);
  await plaid.transactionsRefresh({ access_token });
  const update = await plaid.transactionsSync({ access_token, cursor: first.data.next_cursor });
  assert.equal(update.data.removed.length, 2, 'the pending ones were posted under new ids');
  assert.equal(update.data.added.length, 4);
  const page = await plaid.transactionsSync({ access_token, count: 10 });
  await plaid.transactionsRefresh({ access_token });
  await refused(
    plaid.transactionsSync({ access_token, cursor: page.data.next_cursor, count: 10 }),
    'TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION',
  );
  const other = await link(plaid);
  await refused(
    plaid.transactionsSync({ access_token: other.accessToken, cursor: first.data.next_cursor }),
    'INVALID_FIELD',
  );

  const all = await plaid.transactionsGet({
    access_token,
    start_date: '2000-01-01',
    end_date: '2100-01-01',
    options: { count: 500 },
  });
  const ids = new Set(all.data.transactions.map((transaction) => transaction.transaction_id));
  assert.equal(ids.size, all.data.total_transactions);
  for (const gone of update.data.removed) assert.ok(!ids.has(gone.transaction_id));
});

test('transactions can be made only for the dynamic test user', async (t) => {
  const { plaid } = await start(t, { settings: { loginDays: 0 } });
  const made = await plaid.sandboxPublicTokenCreate({
    institution_id: 'ins_109508',
    initial_products: [Products.Transactions],
    options: { override_username: 'user_transactions_dynamic' },
  });
  const { access_token } = (await plaid.itemPublicTokenExchange({ public_token: made.data.public_token })).data;
  const today = new Date().toISOString().slice(0, 10);
  const entry = { date_transacted: today, date_posted: today, amount: 12.5, description: 'A BOOK' };
  const before = await plaid.transactionsSync({ access_token, count: 500 });
  await plaid.sandboxTransactionsCreate({ access_token, transactions: [entry] });
  const after = await plaid.transactionsSync({ access_token, cursor: before.data.next_cursor });
  assert.deepEqual(
    after.data.added.map(({ name, amount }) => [name, amount]),
    [['A BOOK', 12.5]],
  );
  const old = { ...entry, date_posted: '2020-01-01' };
  await refused(plaid.sandboxTransactionsCreate({ access_token, transactions: [old] }), 'INVALID_FIELD');
  const plain = await link(plaid);
  await refused(
    plaid.sandboxTransactionsCreate({ access_token: plain.accessToken, transactions: [entry] }),
    'INVALID_FIELD',
  );
});

test('products are not ready right after linking when the simulator is told so', async (t) => {
  const { simulator, plaid } = await start(t, { settings: { readyAfterMs: 60_000 } });
  const { accessToken: access_token } = await link(plaid);
  const range = { access_token, start_date: '2000-01-01', end_date: '2100-01-01' };
  await refused(plaid.transactionsGet(range), 'PRODUCT_NOT_READY');
  const empty = await plaid.transactionsSync({ access_token });
  assert.deepEqual(
    [empty.data.added.length, empty.data.next_cursor, String(empty.data.transactions_update_status)],
    [0, '', 'NOT_READY'],
  );
  await simulator.control('POST', '/clock', { advance_ms: 61_000 });
  assert.ok((await plaid.transactionsGet(range)).data.total_transactions > 0);
});

test('the escrow question can be answered both ways', async (t) => {
  for (const survives of [false, true]) {
    const { simulator, plaid } = await start(t, { settings: { escrowSurvives: survives } });
    const { accessToken, itemId } = await link(plaid);
    const { public_token } = (await plaid.itemCreatePublicToken({ access_token: accessToken })).data;
    const { new_access_token: fresh } = (await plaid.itemAccessTokenInvalidate({ access_token: accessToken })).data;
    if (!survives) {
      await refused(plaid.itemPublicTokenExchange({ public_token }), 'INVALID_PUBLIC_TOKEN');
      continue;
    }
    const back = (await plaid.itemPublicTokenExchange({ public_token })).data;
    assert.deepEqual([back.item_id, back.access_token], [itemId, fresh]);
    await simulator.control('POST', '/settings', { secondExchange: 'replace' });
    const again = (await plaid.itemCreatePublicToken({ access_token: fresh })).data.public_token;
    const replaced = (await plaid.itemPublicTokenExchange({ public_token: again })).data.access_token;
    assert.notEqual(replaced, fresh);
    await refused(plaid.itemGet({ access_token: fresh }), 'INVALID_ACCESS_TOKEN');
  }
});
