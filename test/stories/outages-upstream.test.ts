import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { http, rawServer } from '../plaid/raw-server.ts';
import { forTheFile } from '../support/database.ts';
import { assertRefused } from '../support/refusal.ts';
import { strongroom } from '../support/strongroom.ts';

/**
 * What Plaid, or whatever answers in its place, can answer wrong. The caller hears
 * our code and nothing of the garbage, the log says how it ended, and the next call
 * gets its own answer.
 */

const TOKEN = ['access', 'sandbox', '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0'].join('-');
const GARBAGE = 'zzGARBAGEzz';

/** What the other side does with the next call; a good answer when there is nothing planned. */
const plan: ((socket: Socket) => void)[] = [];
const plaid = await rawServer((socket, asked) => {
  const planned = plan.shift();
  if (planned !== undefined) return planned(socket);
  const exchange = asked.startsWith('POST /item/public_token/exchange');
  socket.write(http(200, JSON.stringify(exchange ? { access_token: TOKEN, item_id: 'one' } : { mark: 'good' })));
});
forTheFile.after(() => plaid.close());

const UPSTREAM_MS = 700;
const kit = await strongroom(forTheFile, {
  upstream: plaid.origin,
  config: { limits: { upstreamMs: UPSTREAM_MS, answerBytes: 1024 * 1024, bufferedAnswerBytes: 256 * 1024 } },
});
const app = await kit.application();
const exchanged = await app.post('/item/public_token/exchange', { public_token: 'public-sandbox-1' });
const handle = String(exchanged.body.access_token);
assert.match(handle, /^handle-/);

const say =
  (...parts: (string | Buffer)[]) =>
  (socket: Socket) => {
    for (const part of parts) socket.write(typeof part === 'string' ? Buffer.from(part, 'latin1') : part);
  };
const sayAndEnd =
  (...parts: (string | Buffer)[]) =>
  (socket: Socket) => {
    say(...parts)(socket);
    socket.end();
  };
const json = JSON.stringify({ mark: GARBAGE });
const page = `<html><body>${GARBAGE}</body></html>`;
const ok = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n';
const framed = `${ok}Content-Length: ${json.length}\r\n`;

type Wrong = readonly [name: string, code: string, ...does: ((socket: Socket) => void)[]];

/** Endings that may come from a connection that died before: asked for again once where asking changes nothing. */
const twice = (does: (socket: Socket) => void) => [does, does] as const;

const WRONG: readonly Wrong[] = [
  ['a page with status 200', 'UPSTREAM_BROKEN', say(http(200, page, { 'content-type': 'text/html' }))],
  ['a page that says it is JSON', 'UPSTREAM_BROKEN', say(http(200, page))],
  ['a page with status 502', 'UPSTREAM_BROKEN', say(http(502, page, { 'content-type': 'text/html' }))],
  ['a page with status 403', 'UPSTREAM_BROKEN', say(http(403, page, { 'content-type': 'text/html' }))],
  ['JSON that is no error of Plaid', 'UPSTREAM_BROKEN', say(http(500, json))],
  ['a list', 'UPSTREAM_BROKEN', say(http(200, `["${GARBAGE}"]`))],
  ['a text', 'UPSTREAM_BROKEN', say(http(200, `"${GARBAGE}"`))],
  ['null', 'UPSTREAM_BROKEN', say(http(200, 'null'))],
  ['nothing', 'UPSTREAM_BROKEN', say(http(200, ''))],
  ['half a document', 'UPSTREAM_BROKEN', say(http(200, json.slice(0, -1)))],
  ['a byte order mark', 'UPSTREAM_BROKEN', say(http(200, `\ufeff${json}`))],
  ['no content', 'UPSTREAM_BROKEN', say('HTTP/1.1 204 No Content\r\n\r\n')],
  ['not modified', 'UPSTREAM_BROKEN', say('HTTP/1.1 304 Not Modified\r\n\r\n')],
  ['gzip in spite of identity', 'UPSTREAM_BROKEN', say(http(200, gzipSync(json), { 'content-encoding': 'gzip' }))],
  ['a coding that is only said', 'UPSTREAM_BROKEN', say(http(200, json, { 'content-encoding': 'br' }))],
  ['a redirect', 'UPSTREAM_BROKEN', say(http(307, '', { location: 'http://127.0.0.1:1/' }))],
  ['no length', 'UPSTREAM_BROKEN', sayAndEnd(`${ok}Connection: close\r\n\r\n${json}`)],
  ['less than it said', 'UPSTREAM_BROKEN', sayAndEnd(`${ok}Content-Length: 1000\r\n\r\n${json}`)],
  ['chunks that end early', 'UPSTREAM_BROKEN', sayAndEnd(`${ok}Transfer-Encoding: chunked\r\n\r\n5\r\n{"a":`)],
  ['chunks of nonsense', 'UPSTREAM_BROKEN', say(`${ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n${json}\r\n0\r\n\r\n`)],
  [
    'a length and chunks',
    'UPSTREAM_BROKEN',
    ...twice(say(`${framed}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`)),
  ],
  ['two lengths', 'UPSTREAM_BROKEN', ...twice(say(`${framed}Content-Length: 2\r\n\r\n${json}`))],
  ['a negative length', 'UPSTREAM_BROKEN', ...twice(say(`${ok}Content-Length: -1\r\n\r\n${json}`))],
  ['ten terabytes', 'UPSTREAM_BROKEN', say(`${ok}Content-Length: 10000000000000\r\n\r\n{`)],
  ['a repeated type', 'UPSTREAM_BROKEN', say(`${framed}Content-Type: text/html\r\n\r\n${json}`)],
  ['HTTP/0.9', 'UPSTREAM_BROKEN', ...twice(sayAndEnd(json))],
  ['another protocol', 'UPSTREAM_BROKEN', ...twice(sayAndEnd('220 mail.example ESMTP\r\n'))],
  ['a broken status', 'UPSTREAM_BROKEN', ...twice(sayAndEnd('HTTP/1.1 2x0 OK\r\n\r\n'))],
  ['a bare line feed in a header', 'UPSTREAM_BROKEN', ...twice(say(`${ok}X: a\nContent-Length: 2\r\n\r\n{}`))],
  [
    'headers of 20 KB',
    'UPSTREAM_BROKEN',
    ...twice(say(`${ok}X: ${'a'.repeat(20_000)}\r\nContent-Length: 2\r\n\r\n{}`)),
  ],
  [
    'an upgrade',
    'UPSTREAM_BROKEN',
    ...twice(say('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n')),
  ],
  ['the end, at once', 'UPSTREAM_BROKEN', ...twice((socket) => socket.end())],
  ['a reset', 'UPSTREAM_BROKEN', ...twice((socket) => socket.resetAndDestroy())],
  ['half its headers', 'UPSTREAM_BROKEN', ...twice(sayAndEnd('HTTP/1.1 200 OK\r\nContent-Le'))],
  ['silence', 'UPSTREAM_TIMEOUT', () => {}],
  ['headers and then silence', 'UPSTREAM_TIMEOUT', say(`${framed}\r\n`)],
  ['half an answer and then silence', 'UPSTREAM_TIMEOUT', say(`${framed}\r\n${json.slice(0, 5)}`)],
  ['one byte at a time, for ever', 'UPSTREAM_TIMEOUT', drip],
  // Nobody asked whether to go on, so the first promise is one too many.
  ['promises to go on, for ever', 'UPSTREAM_BROKEN', ...twice(promises)],
];

function drip(socket: Socket): void {
  socket.write(`${ok}Content-Length: 100000\r\n\r\n{`);
  every(socket, 20, () => socket.write(' '));
}

function promises(socket: Socket): void {
  every(socket, 5, () => socket.write('HTTP/1.1 100 Continue\r\n\r\n'));
}

function every(socket: Socket, ms: number, work: () => void): void {
  const timer = setInterval(work, ms);
  socket.on('close', () => clearInterval(timer));
}

for (const [name, code, ...does] of WRONG) {
  test(`${name}: ${code}`, async () => {
    plan.push(...does);
    const before = plaid.requests.length;
    const started = performance.now();
    const answer = await app.post('/accounts/get', { access_token: handle });
    const ms = performance.now() - started;
    const { requestId } = assertRefused(answer, code);
    assert.equal(answer.text.includes('GARBAGE'), false);
    assert.equal(plaid.requests.length - before, does.length, 'so often Plaid was asked');
    assert.equal(plan.length, 0);
    assert.ok(ms < UPSTREAM_MS + 5_000, `after ${Math.round(ms)} ms`);
    assert.ok(kit.log.some((line) => line.includes(requestId) && line.includes(code)));

    const next = await app.post('/accounts/get', { access_token: handle });
    assert.deepEqual([next.status, next.text], [200, '{"mark":"good"}']);
  });
}

test('what is sent behind an answer is never taken for the next one', async () => {
  for (const extra of [
    `HTTP/1.1 200 OK\r\nContent-Length: ${json.length}\r\n\r\n${json}`,
    GARBAGE,
    '\r\n\r\n',
    '0\r\n\r\n',
  ]) {
    const good = http(200, '{"mark":"first"}').toString('latin1');
    plan.push(say(good + extra));
    assert.equal((await app.post('/accounts/get', { access_token: handle })).text, '{"mark":"first"}');
    for (let n = 0; n < 3; n++)
      assert.equal((await app.post('/accounts/get', { access_token: handle })).text, '{"mark":"good"}');
  }
});

test('of the headers of an answer three pass', async () => {
  plan.push(
    say(
      http(200, '{}', {
        'set-cookie': 'a=b',
        server: 'x',
        location: 'http://127.0.0.1:1/',
        'access-control-allow-origin': '*',
        'x-anything': 'y',
        'alt-svc': 'h2="127.0.0.1:1"',
        'plaid-request-id': 'abcdefghijklmno',
        'retry-after': '7',
      }),
    ),
  );
  const answer = await app.post('/accounts/get', { access_token: handle });
  const { date: _, ...shown } = answer.headers;
  assert.deepEqual(shown, {
    'content-type': 'application/json',
    'content-length': '2',
    connection: 'keep-alive',
    'keep-alive': 'timeout=72',
    'plaid-request-id': 'abcdefghijklmno',
    'retry-after': '7',
  });
});

test('an error of Plaid passes as it is, whatever its status', async () => {
  for (const status of [400, 401, 404, 409, 429, 500, 503]) {
    const body = {
      error_type: 'API_ERROR',
      error_code: 'INTERNAL_SERVER_ERROR',
      error_message: 'an unexpected error occurred',
      display_message: null,
      request_id: 'abcdefghijklmno',
    };
    plan.push(say(http(status, JSON.stringify(body))));
    const answer = await app.post('/accounts/get', { access_token: handle });
    assert.deepEqual([answer.status, answer.body], [status, body]);
  }
});

test('what changes something is asked once, however it ends', async () => {
  for (const does of [(socket: Socket) => socket.end(), (socket: Socket) => socket.resetAndDestroy()]) {
    const before = plaid.requests.length;
    plan.push(does);
    const answer = await app.post('/processor/token/create', {
      access_token: handle,
      account_id: 'a',
      processor: 'dwolla',
    });
    assertRefused(answer, 'UPSTREAM_BROKEN');
    assert.equal(plaid.requests.length - before, 1);
  }
});

test('a Plaid that is not there: UPSTREAM_UNAVAILABLE, and nothing was sent', async (t) => {
  const gone = await rawServer(() => {});
  const other = await strongroom(t, { upstream: gone.origin });
  const caller = await other.application();
  await gone.close();
  assertRefused(await caller.post('/categories/get', {}), 'UPSTREAM_UNAVAILABLE');
  const answer = await caller.post('/item/public_token/exchange', { public_token: 'public-sandbox-2' });
  assertRefused(answer, 'UPSTREAM_UNAVAILABLE');
});

test('each of these calls has its outcome in the audit log', async () => {
  await kit.stop();
  const admitted = await kit.entries('access.admitted');
  const outcomes = await kit.entries('access.outcome');
  assert.equal(outcomes.length, admitted.length);
  const codes = outcomes.map(({ code }) => code);
  for (const code of ['UPSTREAM_BROKEN', 'UPSTREAM_TIMEOUT', 'INTERNAL_SERVER_ERROR'])
    assert.ok(codes.includes(code), code);
  assert.equal(kit.log.join('').includes('GARBAGE'), false, 'nothing of an answer stands in the log');
});
