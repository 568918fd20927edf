import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LONG_LIVED, token } from '../plaid/tokens.ts';
import { forTheFile } from '../support/database.ts';
import { request, talk } from '../support/raw-http.ts';
import { assertRefused, type Refused } from '../support/refusal.ts';
import { strongroom } from '../support/strongroom.ts';

/**
 * An application that has a token of Plaid after all: wherever it puts it, the call
 * is refused and told of, nothing is sent, and the token is not written down.
 */

const kit = await strongroom(forTheFile);
const app = await kit.application('all', { releases: ['processor'] });
const { handle } = await app.link();
const RAW = token('access', 'sandbox', 'c0ffee00-1111-4222-8333-444455556666');

const escaped = (text: string) =>
  [...text].map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`).join('');
const LINK = '"client_name":"Demo","language":"en","country_codes":["US"],"products":["auth"]';

/** Bodies of a call that would be good without the token. `T` stands for it. */
const PLACES: readonly (readonly [name: string, path: string, body: string])[] = [
  ['the place of a handle', '/accounts/get', '{"access_token":"T"}'],
  [
    'the place of one of many handles',
    '/asset_report/create',
    `{"access_tokens":["${handle}","T"],"days_requested":1}`,
  ],
  ['the place of a user token', '/credit/employment/get', '{"user_token":"T"}'],
  ['beside a handle', '/accounts/get', `{"access_token":"${handle}","note":"T"}`],
  ['a key', '/accounts/get', `{"access_token":"${handle}","T":1}`],
  ['a key in the depth', '/accounts/get', `{"access_token":"${handle}","options":{"T":{"a":1}}}`],
  ['an option', '/accounts/get', `{"access_token":"${handle}","options":{"account_ids":["T"]}}`],
  ['a list in a list', '/accounts/get', `{"access_token":"${handle}","x":[[["T"]]]}`],
  ['a cursor', '/transactions/sync', `{"access_token":"${handle}","cursor":"T"}`],
  ['the middle of a text', '/transactions/sync', `{"access_token":"${handle}","cursor":"see T, please"}`],
  ['a webhook address', '/item/webhook/update', `{"access_token":"${handle}","webhook":"https://x.test/?t=T"}`],
  [
    'a redirect address',
    '/link/token/create',
    `{${LINK},"user":{"client_user_id":"1"},"redirect_uri":"https://x.test/T"}`,
  ],
  ["a user's own id", '/link/token/create', `{${LINK},"user":{"client_user_id":"T"}}`],
  [
    'a name',
    '/link/token/create',
    '{"client_name":"T","language":"en","country_codes":["US"],"user":{"client_user_id":"1"}}',
  ],
  ['the place of a link token', '/link/token/get', '{"link_token":"T"}'],
  ['the place of a public token', '/item/public_token/exchange', '{"public_token":"T"}'],
  ['the place of a user', '/user/get', '{"user_id":"T"}'],
  ['an endpoint that takes none', '/categories/get', '{"note":"T"}'],
  ['the place of a credential', '/categories/get', '{"client_id":"T","secret":"T"}'],
];

const SPELLINGS: readonly (readonly [name: string, spell: (text: string) => string])[] = [
  ['as it is', (text) => text],
  ['escaped whole', escaped],
  ['with escaped hyphens', (text) => text.replaceAll('-', '\\u002D')],
  ['with one character escaped', (text) => text.replace('e', '\\u0065')],
  ['escaped in its last character', (text) => text.slice(0, -1) + escaped(text.slice(-1))],
];

/** Sends each, and asserts that all are refused, told of one by one, and none of them sent on. */
async function refused(calls: readonly { name: string; path: string; body: string | object }[]): Promise<void> {
  const reached = (await kit.reached()).length;
  const told = (await kit.entries('raw_token.refused')).length;
  for (const { name, path, body } of calls) {
    const answer: Refused = await app.post(path, body);
    assert.match(answer.text, /RAW_TOKEN_REFUSED/, name);
    assertRefused(answer, 'RAW_TOKEN_REFUSED');
    assert.equal(answer.text.includes(RAW), false, name);
  }
  assert.equal((await kit.reached()).length, reached, 'nothing was sent');
  const entries = await kit.entries('raw_token.refused');
  assert.equal(entries.length, told + calls.length, 'each stands in the audit log');
  for (const { application } of entries) assert.equal(application, app.id);
}

for (const [place, path, body] of PLACES) {
  test(`a token in ${place} is refused, however it is spelled`, () =>
    refused(
      SPELLINGS.map(([name, spell]) => ({
        name,
        path,
        body: body.replaceAll('T"', `${spell(RAW)}"`).replace('T,', `${spell(RAW)},`),
      })),
    ));
}

test('tokens of every class and environment are known, in the place of a handle and elsewhere', () =>
  refused(
    LONG_LIVED.flatMap(([name, raw]) => [
      { name, path: '/accounts/get', body: { access_token: raw } },
      { name, path: '/accounts/get', body: { access_token: handle, options: { note: [raw] } } },
    ]),
  ));

test('a token that was released may be used in its own place, and nowhere else', async () => {
  const { body } = await app.post('/accounts/get', { access_token: handle });
  const [account] = body.accounts as { account_id: string }[];
  const made = await app.post('/processor/token/create', {
    access_token: handle,
    account_id: account?.account_id,
    processor: 'dwolla',
  });
  assert.equal(made.status, 200, made.text);
  const processor = String(made.body.processor_token);
  assert.match(processor, /^processor-sandbox-/);
  assert.equal((await app.post('/processor/account/get', { processor_token: processor })).status, 200);
  const misplaced = [{ access_token: processor }, { access_token: handle, note: processor }, { [processor]: 1 }];
  await refused(misplaced.map((body) => ({ name: 'misplaced', path: '/accounts/get', body })));
});

test('no header carries a token to Plaid, and no path', async () => {
  const shown = { 'PLAID-CLIENT-ID': app.id, 'PLAID-SECRET': app.key };
  for (const name of ['User-Agent', 'OAuth-State-Id', 'Plaid-Version', 'X-Token', 'Authorization', 'Cookie']) {
    const start = (await kit.reached()).length;
    const bytes = request('/accounts/get', { ...shown, [name]: RAW }, JSON.stringify({ access_token: handle }));
    const { answers } = await talk(kit.url, bytes);
    assert.ok([200, 400].includes(answers[0]?.status ?? 0), name);
    const { calls } = await kit.simulator.control<{ calls: { header_names: string[] }[] }>('GET', '/truth');
    for (const { header_names: names } of calls.slice(start))
      for (const header of ['oauth-state-id', 'plaid-version', 'x-token', 'authorization', 'cookie'])
        assert.equal(names.includes(header), false, header);
  }
  const start = (await kit.reached()).length;
  assertRefused(await app.post(`/accounts/get/${RAW}`, {}), 'ENDPOINT_UNLISTED');
  assertRefused(await app.post(`/accounts/get?access_token=${RAW}`, {}), 'ENDPOINT_UNLISTED');
  assert.equal((await kit.reached()).length, start);
});

test('nothing that was refused stands in the log, the audit log or the database', async () => {
  const tails = ['c0ffee00-1111-4222-8333-444455556666', ...LONG_LIVED.map(([, raw]) => raw.slice(-12))];
  const owner = await kit.database.open('owner', { poolSize: 1 });
  const { rows: tables } = await owner.sql.query<{ name: string }>(
    `select table_name as name from information_schema.tables where table_schema = 'strongroom' and table_type = 'BASE TABLE'`,
  );
  let stored = '';
  for (const { name } of tables) {
    const { rows } = await owner.sql.query<{ row: string }>(`select t::text as row from strongroom.${name} t`);
    stored += rows.map(({ row }) => row).join('\n');
  }
  await owner.close();
  assert.ok(stored.length > 10_000);
  for (const [where, text] of [
    ['log', kit.log.join('')],
    ['database', stored],
    ['audit log', JSON.stringify(await kit.entries())],
  ] as const)
    for (const tail of tails) assert.equal(text.includes(tail), false, `${tail} stands in the ${where}`);
});
