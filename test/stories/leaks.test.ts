import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { http, rawServer } from '../plaid/raw-server.ts';
import { LONG_LIVED, token } from '../plaid/tokens.ts';
import { forTheFile } from '../support/database.ts';
import { Needles } from '../support/needles.ts';
import { answersIn, request, talk } from '../support/raw-http.ts';
import { assertRefused } from '../support/refusal.ts';
import { strongroom } from '../support/strongroom.ts';

/**
 * Plaid, or whatever answers in its place, gives back what it was given: the token,
 * the client's secret, somebody else's token. Looked at as bytes, none of it
 * arrives, however it is spelled and wherever it stands.
 */

const TOKEN = token('access', 'sandbox', 'c0ffee00-1111-4222-8333-444455556666');
const REPORT = token('assets', 'sandbox', 'deadbeef-1111-4222-8333-444455556666');

const plan: ((socket: Socket) => void)[] = [];
const plaid = await rawServer((socket, asked) => {
  const planned = plan.shift();
  if (planned !== undefined) return planned(socket);
  const created = asked.startsWith('POST /asset_report/create');
  const body = created
    ? { asset_report_token: REPORT, asset_report_id: 'report' }
    : { access_token: TOKEN, item_id: 'one' };
  socket.write(http(200, JSON.stringify({ ...body, request_id: 'a' })));
});
forTheFile.after(() => plaid.close());

const kit = await strongroom(forTheFile, {
  upstream: plaid.origin,
  config: { limits: { bufferedAnswerBytes: 256 * 1024 } },
});
const app = await kit.application('all', { releases: ['processor'] });
const SECRET = kit.simulator.secret;
const exchanged = await app.post('/item/public_token/exchange', { public_token: 'public-sandbox-1' });
const handle = String(exchanged.body.access_token);
const created = await app.post('/asset_report/create', { access_tokens: [handle], days_requested: 1 });
const reportHandle = String(created.body.asset_report_token);
assert.match(handle + reportHandle, /^handle-sandbox-[a-z2-7]{36}handle-sandbox-[a-z2-7]{36}$/);

const needles = new Needles();
needles.add('token', TOKEN.slice('access-sandbox-'.length));
needles.add('secret', SECRET);
needles.add('report token', REPORT.slice('assets-sandbox-'.length));

/** Everything that an application receives for one call. */
async function heard(path: string, body: object): Promise<Buffer> {
  const shown = { 'PLAID-CLIENT-ID': app.id, 'PLAID-SECRET': app.key };
  return (await talk(kit.url, request(path, shown, JSON.stringify(body)))).bytes;
}

let read = 0;
function clean(bytes: Buffer): void {
  assert.deepEqual(needles.find(bytes), []);
  const lines = kit.log.slice(read);
  read += lines.length;
  assert.deepEqual(needles.find(Buffer.from(lines.join(''))), [], 'nor does it stand in the log');
}

async function leaksTold(): Promise<number> {
  return (await kit.entries('upstream.leak')).length;
}

const escaped = (text: string, digits: (hex: string) => string = (hex) => hex) =>
  [...text].map((unit) => `\\u${digits(unit.charCodeAt(0).toString(16).padStart(4, '0'))}`).join('');
const base64At = (offset: number, text: string) =>
  Buffer.concat([Buffer.alloc(offset, 'x'), Buffer.from(text), Buffer.from('tail')]).toString('base64');

const SPELLINGS: readonly (readonly [name: string, spell: (secret: string) => string | Buffer])[] = [
  ['as it is', (secret) => secret],
  ['in the middle of a word', (secret) => `xx${secret}yy`],
  ['behind a slash', (secret) => `https://example.test/${secret}/x`],
  ['in JSON in JSON', (secret) => JSON.stringify(JSON.stringify({ t: secret })).slice(1, -1)],
  ['escaped whole', (secret) => escaped(secret)],
  ['escaped in capitals', (secret) => escaped(secret, (hex) => hex.toUpperCase())],
  ['with escaped hyphens', (secret) => secret.replaceAll('-', '\\u002d')],
  ['with one character escaped', (secret) => secret.replace(/[a-f]/, (one) => escaped(one))],
  ['in base64 at 0', (secret) => base64At(0, secret)],
  ['in base64 at 1', (secret) => base64At(1, secret)],
  ['in base64 at 2', (secret) => base64At(2, secret)],
  ['in base64 for URLs', (secret) => Buffer.from(`?${secret}`).toString('base64url')],
  ['in hex', (secret) => Buffer.from(secret).toString('hex')],
  ['in hex in capitals', (secret) => Buffer.from(secret).toString('hex').toUpperCase()],
  ['as part of a URL', (secret) => `https://example.test/?token=${encodeURIComponent(secret)}&x=1`],
  ['with percent signs for its hyphens', (secret) => secret.replaceAll('-', '%2D')],
  [
    'with percent signs for everything',
    (secret) => secret.replace(/./g, (one) => `%${one.charCodeAt(0).toString(16)}`),
  ],
];

const error = (text: string) =>
  `{"error_type":"INVALID_INPUT","error_code":"INVALID_FIELD","error_message":"not ${text}","display_message":null,"request_id":"a"}`;

/** Where in an answer it can stand. */
const PLACES: readonly (readonly [name: string, answer: (echo: string) => Buffer])[] = [
  ['a field', (echo) => http(200, `{"accounts":[],"debug":"${echo}"}`)],
  ['a key', (echo) => http(200, `{"accounts":[],"${echo}":1}`)],
  ['the depth', (echo) => http(200, `{"a":[[{"b":{"c":["x","${echo}"]}}]]}`)],
  ['a webhook address', (echo) => http(200, `{"item":{"webhook":"https://example.test/hook?t=${echo}"}}`)],
  ['behind 100 KB', (echo) => http(200, `{"a":"${'x'.repeat(100_000)}","b":"${echo}"}`)],
  ['an error message', (echo) => http(400, error(echo))],
  ['the error of a broken server', (echo) => http(500, error(echo))],
  ['a page', (echo) => http(502, `<html>${echo}</html>`)],
];

for (const [what, secret] of [
  ['the token', TOKEN],
  ["the client's secret", SECRET],
] as const) {
  for (const [spelling, spell] of SPELLINGS) {
    test(`${what} ${spelling}: it never arrives, wherever it stands`, async () => {
      const before = await leaksTold();
      let told = 0;
      for (const [place, answer] of PLACES) {
        const echo = spell(secret);
        plan.push((socket) => socket.write(answer(echo.toString())));
        const bytes = await heard('/item/get', { access_token: handle });
        clean(bytes);
        const [got] = answersIn(bytes);
        assert.ok(got !== undefined, place);
        // In an error of Plaid a token that is spelled plainly is turned back into its handle.
        if (got.status === 400 || got.status === 500) assert.ok(got.text.includes(handle), `${place}: ${got.text}`);
        else if (place === 'a page') {
          told += assertRefused(got, 'UPSTREAM_LEAK', 'UPSTREAM_BROKEN').code === 'UPSTREAM_LEAK' ? 1 : 0;
        } else {
          assertRefused(got, 'UPSTREAM_LEAK');
          told++;
        }
      }
      assert.ok(told >= PLACES.length - 3);
      for (let n = 0; (await leaksTold()) - before !== told; n++) assert.ok(n < 50, 'each stands in the audit log');
    });
  }
}

test('UTF-16 hides nothing', async () => {
  for (const secret of [TOKEN, SECRET]) {
    for (const echo of [Buffer.from(secret, 'utf16le'), Buffer.from(secret, 'utf16le').swap16()]) {
      const body = Buffer.concat([Buffer.from('{"a":"'), echo, Buffer.from('"}')]);
      plan.push((socket) => socket.write(http(200, body)));
      const bytes = await heard('/item/get', { access_token: handle });
      clean(bytes);
      assertRefused(answersIn(bytes)[0] as never, 'UPSTREAM_LEAK');
    }
  }
});

test("somebody else's token of any class is held back too", async () => {
  for (const [kind, foreign] of LONG_LIVED) {
    for (const body of [`{"debug":"${foreign}"}`, error(foreign), error(escaped(foreign))]) {
      plan.push((socket) => socket.write(http(body.includes('error_type') ? 400 : 200, body)));
      const bytes = await heard('/item/get', { access_token: handle });
      assert.equal(bytes.includes(foreign), false, kind);
      assertRefused(answersIn(bytes)[0] as never, 'UPSTREAM_LEAK');
    }
  }
});

test('no header carries it', async () => {
  for (const secret of [TOKEN, SECRET, token('user')]) {
    for (const name of ['plaid-request-id', 'retry-after', 'content-type', 'x-debug', 'set-cookie', 'location']) {
      for (const spell of [(text: string) => text, (text: string) => base64At(1, text)]) {
        plan.push((socket) => socket.write(http(200, '{"accounts":[]}', { [name]: `x ${spell(secret)}` })));
        const bytes = await heard('/item/get', { access_token: handle });
        clean(bytes);
        assert.equal(bytes.includes(secret), false, name);
      }
    }
  }
});

/** Positions at which the answer may hold a token, and what must not stand there. */
const WRONG_PLACES: readonly (readonly [path: string, request: () => object, answer: object])[] = [
  ['/link/token/create', () => ({ client_name: 'x' }), { link_token: TOKEN }],
  ['/sandbox/public_token/create', () => ({ institution_id: 'x' }), { public_token: token('user') }],
  [
    '/processor/token/create',
    () => ({ access_token: handle, account_id: 'a', processor: 'dwolla' }),
    { processor_token: TOKEN },
  ],
  [
    '/processor/token/create',
    () => ({ access_token: handle, account_id: 'a', processor: 'dwolla' }),
    { processor_token: token('user') },
  ],
  ['/processor/token/create', () => ({ access_token: handle, account_id: 'a', processor: 'dwolla' }), { note: TOKEN }],
  ['/user/create', () => ({ client_user_id: 'x' }), { user_token: token('user'), user_id: 'u', note: SECRET }],
];

test('a position that takes one class of token gives no licence to another', async () => {
  for (const [path, body, answer] of WRONG_PLACES) {
    plan.push((socket) => socket.write(http(200, JSON.stringify({ ...answer, request_id: 'a' }))));
    const bytes = await heard(path, body());
    clean(bytes);
    assertRefused(answersIn(bytes)[0] as never, 'UPSTREAM_LEAK');
  }
});

test('the special calls answer in their own words: whatever Plaid adds is left out', async () => {
  const echo = { debug: TOKEN, secret: SECRET, access: base64At(2, TOKEN) };
  plan.push((socket) => socket.write(http(200, JSON.stringify({ new_access_token: TOKEN, request_id: 'a', ...echo }))));
  const rotated = await heard('/item/access_token/invalidate', { access_token: handle });
  clean(rotated);
  assert.equal((JSON.parse(answersIn(rotated)[0]?.text ?? '') as Record<string, unknown>).new_access_token, handle);
  plan.push((socket) => socket.write(http(200, JSON.stringify({ access_token: TOKEN, item_id: 'one', ...echo }))));
  const again = await heard('/item/public_token/exchange', { public_token: 'public-sandbox-2' });
  clean(again);
  assert.equal((JSON.parse(answersIn(again)[0]?.text ?? '') as Record<string, unknown>).access_token, handle);
});

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n';
const chunk = (bytes: string | Buffer) =>
  Buffer.concat([
    Buffer.from(`${bytes.length.toString(16)}\r\n`),
    typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes,
    Buffer.from('\r\n'),
  ]);
const LARGE = 'x'.repeat(300 * 1024); // more than is held

test('split over the chunks of a large answer, at every seam: cut before its first byte', async () => {
  for (const [spelling, spell] of SPELLINGS) {
    const echo = spell(TOKEN).toString();
    const seams = spelling === 'as it is' ? Array.from(echo, (_, at) => at) : [1, 9, Math.floor(echo.length / 2)];
    for (const seam of seams) {
      plan.push((socket) => {
        socket.write(HEAD);
        for (const part of [
          `{"a":"${LARGE}`,
          `","b":"${echo.slice(0, seam)}`,
          `${echo.slice(seam)}","c":"`,
          LARGE,
          '"}',
        ])
          socket.write(chunk(part));
        socket.write('0\r\n\r\n');
      });
      const bytes = await heard('/item/get', { access_token: handle });
      clean(bytes);
      const [answer] = answersIn(bytes);
      // Whatever of the answer has left by then, the application sees that it was cut.
      assert.ok(answer === undefined || (answer.status === 200 && !answer.whole), `${spelling}, ${seam}`);
    }
  }
});

test('one byte in each chunk hides nothing', async () => {
  plan.push((socket) => {
    socket.write(HEAD);
    socket.write(chunk(`{"a":"${LARGE}`));
    socket.write(Buffer.concat([...TOKEN].map(chunk)));
    socket.write(`${chunk('"}')}0\r\n\r\n`);
  });
  clean(await heard('/item/get', { access_token: handle }));
});

test('files are looked through as well, small and large', async () => {
  const before = await leaksTold();
  let sent = 0;
  for (const size of [100, 400_000]) {
    const noise = Buffer.from(Array.from({ length: size }, (_, at) => (at * 167 + 13) & 255));
    for (const secret of [TOKEN, REPORT, SECRET]) {
      for (const [, spell] of SPELLINGS.slice(0, 15)) {
        const echo = Buffer.from(spell(secret).toString());
        const pdf = Buffer.concat([Buffer.from('%PDF-1.7\n'), noise, echo, noise, Buffer.from('%%EOF')]);
        plan.push((socket) => socket.write(http(200, pdf, { 'content-type': 'application/pdf' })));
        const bytes = await heard('/asset_report/pdf/get', { asset_report_token: reportHandle });
        if (secret !== TOKEN) clean(bytes);
        else if (bytes.includes(TOKEN)) assert.fail('a token of another record arrived');
        sent++;
      }
    }
  }
  assert.ok((await leaksTold()) - before >= (sent * 2) / 3);
});

test('an answer that is made to be slow to look through is not', async () => {
  for (const piece of ['\\\\', '%25', '%2', '\\\\u002', 'access-sandbox-', 'a-sandbox-b-', '=', 'pda-']) {
    const body = `{"a":"${piece.repeat(Math.floor(4_000_000 / piece.length))}"}`;
    plan.push((socket) => socket.write(http(200, body)));
    const started = performance.now();
    await heard('/item/get', { access_token: handle });
    const ms = performance.now() - started;
    assert.ok(ms < 3_000, `4 MB of ${piece} took ${Math.round(ms)} ms`);
  }
});

test('a token that strayed into a header goes no further', async () => {
  const stray = token('user', 'sandbox', 'facade00-1111-4222-8333-444455556666');
  const shown = { 'PLAID-CLIENT-ID': app.id, 'PLAID-SECRET': app.key };
  for (const name of ['User-Agent', 'OAuth-State-Id', 'X-Token']) {
    plan.push((socket) => socket.write(http(200, '{"accounts":[]}')));
    await talk(kit.url, request('/item/get', { ...shown, [name]: stray }, JSON.stringify({ access_token: handle })));
    plan.length = 0;
  }
  assert.equal(plaid.requests.join('').includes(stray), false);
});

test('what is no secret passes: handles, short-lived tokens and ordinary words', async () => {
  const body = `{"link_token":"${token('link')}","public_token":"${token('public')}","handle":"${handle}","n":1.50e+1}`;
  plan.push((socket) => socket.write(http(200, body)));
  const answer = await app.post('/item/get', { access_token: handle });
  assert.deepEqual([answer.status, answer.text], [200, body]);
});

test('each leak names application, endpoint, class and request, and nothing of the secret', async () => {
  const entries = await kit.entries('upstream.leak');
  for (const entry of entries) {
    assert.equal(entry.application, app.id);
    assert.match(String(entry.endpoint), /^\/[a-z_/]+$/);
    assert.match(String(entry.class), /^[a-z_]+$/);
    assert.match(String(entry.request), /^[A-Za-z0-9]{15}$/);
  }
  assert.deepEqual(needles.find(Buffer.from(JSON.stringify(await kit.entries()))), []);
});
