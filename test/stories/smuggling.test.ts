import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { http, rawServer } from '../plaid/raw-server.ts';
import { forTheFile } from '../support/database.ts';
import { evilListener } from '../support/evil.ts';
import { type RawAnswer, request, talk } from '../support/raw-http.ts';
import { assertRefused } from '../support/refusal.ts';
import { strongroom } from '../support/strongroom.ts';
import { SMUGGLED, tricks } from './smuggling-tricks.ts';

/**
 * One way in, one way out: no trick of HTTP makes the gateway call another host,
 * take two requests for one, or send a request that nobody was admitted for.
 */

const kit = await strongroom(forTheFile, {
  config: { limits: { requestMs: 1_500 } },
  // Plaid itself calls webhooks; here only the gateway could.
  simulator: { settings: { webhooks: 'none' } },
});
const app = await kit.application();
const { handle } = await app.link();
const evil = await evilListener(forTheFile);
const credentials = { 'PLAID-CLIENT-ID': app.id, 'PLAID-SECRET': app.key };
const body = JSON.stringify({ access_token: handle });

const ours = (answer: RawAnswer) => !answer.text.includes('"alive"');
const corpus = tricks({ credentials, body, evil: evil.authority });

test(`the corpus holds ${corpus.length} tricks`, () => assert.ok(corpus.length >= 100));

for (const trick of corpus) {
  test(`${trick.name}: ${trick.calls === 1 ? 'one call at most' : 'refused'}`, async () => {
    const before = (await kit.reached()).length;
    const { answers, closed } = await talk(kit.url, trick.parts);
    assert.ok(closed, 'the connection ends');
    const told = answers.filter(ours);
    let calls = (await kit.reached()).slice(before);
    // A call whose connection was cut goes on: it has to be over before the next trick is counted.
    for (let wait = 0; trick.calls === 1 && calls.length === 0 && wait < 100; wait++) {
      await sleep(20);
      calls = (await kit.reached()).slice(before);
    }
    assert.ok(!calls.includes(SMUGGLED), 'a request was smuggled');
    assert.ok(calls.length <= (trick.calls ?? 0), `Plaid heard ${calls}`);
    const bad = told.filter(({ status }) => !(status >= 400 && status < 500));
    assert.ok(
      bad.length <= calls.length && bad.every(({ status }) => status === 200),
      `answered ${told.map(({ status }) => status)}`,
    );
    for (const answer of told) {
      assert.ok(answer.whole, 'an answer was cut');
      // Node itself answers a request without Host, and an expectation that it does not know: without a body.
      if (answer.status >= 400 && answer.text !== '') assertRefused(answer, ...REFUSALS);
    }
  });
}

const REFUSALS = [
  'REQUEST_MALFORMED',
  'ENDPOINT_UNLISTED',
  'ENDPOINT_DENIED',
  'CREDENTIALS_REFUSED',
  'BODY_MALFORMED',
  'BODY_TIMEOUT',
  'CONTENT_TYPE_REFUSED',
];

for (const status of [301, 302, 303, 307, 308]) {
  test(`a redirect of Plaid (${status}) is not followed`, async () => {
    await kit.simulator.control('POST', '/faults', {
      endpoint: '/accounts/get',
      kind: 'body',
      status,
      headers: { Location: `http://${evil.authority}/accounts/get`, Refresh: `0; url=http://${evil.authority}/` },
      body: {},
    });
    const answer = await app.post('/accounts/get', { access_token: handle });
    assertRefused(answer, 'UPSTREAM_BROKEN');
    assert.equal(answer.headers.location ?? answer.headers.refresh, undefined);
  });
}

test('addresses in webhook and redirect fields are for Plaid to call, and for nobody here', async () => {
  const url = `http://${evil.authority}/webhook`;
  const created = await app.post('/link/token/create', {
    client_name: 'Demo',
    country_codes: ['US'],
    language: 'en',
    products: ['transactions'],
    user: { client_user_id: 'one' },
    webhook: url,
    redirect_uri: url,
  });
  assert.equal(created.status, 200, created.text);
  assert.equal((await app.post('/item/webhook/update', { access_token: handle, webhook: url })).status, 200);
  assert.equal(
    (await app.post('/sandbox/item/fire_webhook', { access_token: handle, webhook_code: 'DEFAULT_UPDATE' })).status,
    200,
  );
});

test('what goes to Plaid is written anew: a few known headers, and the body with the token in the place of the handle', async (t) => {
  const token = ['access', 'sandbox', '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0'].join('-');
  const plaid = await rawServer((socket, asked) => {
    const exchange = asked.startsWith('POST /item/public_token/exchange');
    socket.write(http(200, JSON.stringify(exchange ? { access_token: token, item_id: 'one' } : { accounts: [] })));
  });
  t.after(() => plaid.close());
  const raw = await strongroom(t, { upstream: plaid.origin });
  const { id, key, post } = await raw.application();
  const exchanged = await post('/item/public_token/exchange', { public_token: 'public-sandbox-1' });
  const held = String(exchanged.body.access_token);

  const odd = {
    'PLAID-CLIENT-ID': id,
    'PLAID-SECRET': key,
    'Plaid-Version': '2020-09-14',
    'User-Agent': 'Plaid Node v47',
    Authorization: 'Bearer x',
    Cookie: 'a=b',
    'X-Forwarded-For': '1.2.3.4',
    'X-Anything': 'y',
    'Accept-Encoding': 'gzip',
    Accept: 'text/html',
    Host: evil.authority,
  };
  const sent = (value: string) => `{ "client_id" : "a", "n":1.50e+1 ,"access_token":"${value}","secret":"b" }`;
  const { answers } = await talk(raw.url, request('/accounts/get', odd, sent(held)));
  assert.equal(answers[0]?.status, 200, answers[0]?.text);

  const [head = '', body] = (plaid.requests.at(-1) as string).split('\r\n\r\n');
  assert.equal(body, `{ "n":1.50e+1 ,"access_token":"${token}" }`);
  const [line, ...headers] = head.split('\r\n');
  assert.equal(line, 'POST /accounts/get HTTP/1.1');
  assert.deepEqual(headers.map((header) => header.toLowerCase()).sort(), [
    'accept-encoding: identity',
    'accept: */*',
    'connection: keep-alive',
    `content-length: ${body?.length}`,
    'content-type: application/json',
    `host: ${new URL(plaid.origin).host}`,
    `plaid-client-id: ${raw.config.plaid.clients[0]?.clientId}`,
    `plaid-secret: ${raw.simulator.secret}`,
    'plaid-version: 2020-09-14',
    'user-agent: strongroom (plaid node v47)',
  ]);
});

test('nobody but Plaid has heard anything', () => assert.deepEqual(evil.heard, []));

test('the gateway still serves', async () => {
  assert.equal((await app.post('/accounts/get', { access_token: handle })).status, 200);
});
