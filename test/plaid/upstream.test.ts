import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { codeOf, StrongroomError } from '../../src/base/errors.ts';
import { Secret } from '../../src/base/secret.ts';
import { type Endpoint, findEndpoint } from '../../src/plaid/endpoints.ts';
import {
  createUpstream,
  type UpstreamAnswer,
  type UpstreamOptions,
  type UpstreamRequest,
} from '../../src/plaid/upstream.ts';
import { type Answering, http, rawServer } from './raw-server.ts';
import { ACCESS } from './tokens.ts';

const CLIENT_SECRET = ['5d1c', '7e02b9', '4f8a3c6d', '1e0b9a8f7c6d'].join('');

function endpoint(path: string, method = 'POST'): Endpoint {
  const found = findEndpoint(method, path);
  assert.ok(found, path);
  return found;
}

const READ = endpoint('/accounts/get');
const CHANGE = endpoint('/item/public_token/exchange');

function request(part: Partial<UpstreamRequest> = {}): UpstreamRequest {
  const { endpoint: of = CHANGE } = part;
  return {
    endpoint: of,
    path: of.path,
    headers: {},
    body: Buffer.from(`{"access_token":"${ACCESS}"}`),
    client: { clientId: '5f0000000000000000000001', secret: new Secret(CLIENT_SECRET) },
    ...part,
  };
}

async function scene(t: TestContext, answer: Answering, options: Partial<UpstreamOptions> = {}) {
  const server = await rawServer(answer);
  const upstream = createUpstream({ environment: 'sandbox', origin: server.origin, ...options });
  t.after(async () => {
    await server.close();
    await upstream.close();
  });
  return { server, upstream };
}

/** The error of a call, which must not show what was sent. */
async function failure(call: Promise<UpstreamAnswer>): Promise<StrongroomError> {
  const error = await call.then(
    (answer) => assert.fail(`answered ${answer.status}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof StrongroomError, String(error));
  const shown = JSON.stringify([error.facts, error.message, error.stack, String(error.cause)]);
  assert.ok(!shown.includes(CLIENT_SECRET) && !shown.includes(ACCESS), 'the error shows a secret');
  return error;
}

test('a call arrives once, with our credentials and nothing of the caller but what is listed', async (t) => {
  const { server, upstream } = await scene(t, (socket) => {
    const headers = { 'plaid-request-id': 'abc', 'retry-after': '3', 'set-cookie': 'a=b', server: 'x', 'x-leak': 'y' };
    socket.write(http(200, '{"request_id":"abc"}', headers));
  });
  const answer = await upstream.call(
    request({
      headers: {
        host: 'evil.example',
        'plaid-client-id': 'app',
        'plaid-secret': 'app key',
        'plaid-version': '2020-09-14',
        'user-agent': 'Plaid Node v47.0.0',
        authorization: 'Bearer x',
        cookie: 'a=b',
        'x-forwarded-for': '1.2.3.4',
        'x-forwarded-host': 'evil.example',
        'accept-encoding': 'gzip',
        'transfer-encoding': 'chunked',
        connection: 'upgrade',
        expect: '100-continue',
      },
    }),
  );
  assert.deepEqual(answer, {
    kind: 'buffered',
    status: 200,
    headers: { 'content-type': 'application/json', 'plaid-request-id': 'abc', 'retry-after': '3' },
    body: Buffer.from('{"request_id":"abc"}'),
  });
  const [head, body] = (server.requests[0] as string).split('\r\n\r\n');
  assert.equal(body, `{"access_token":"${ACCESS}"}`);
  assert.deepEqual(head?.toLowerCase().split('\r\n').sort(), [
    'accept-encoding: identity',
    'accept: */*',
    'connection: keep-alive',
    `content-length: ${body?.length}`,
    'content-type: application/json',
    `host: ${new URL(server.origin).host}`,
    'plaid-client-id: 5f0000000000000000000001',
    `plaid-secret: ${CLIENT_SECRET}`,
    'plaid-version: 2020-09-14',
    'post /item/public_token/exchange http/1.1',
    'user-agent: strongroom (plaid node v47.0.0)',
  ]);
  assert.equal(server.requests.length, 1);
});

test('a GET carries no body, and a status is passed as it is', async (t) => {
  const { server, upstream } = await scene(t, (socket, _, nth) =>
    socket.write(nth === 1 ? http(404, '{}') : http(429, '{}')),
  );
  const get = request({
    endpoint: endpoint('/fdx/recipients', 'GET'),
    body: Buffer.alloc(0),
    headers: { 'oauth-state-id': 'abc-1' },
  });
  assert.equal((await upstream.call(get)).status, 404);
  assert.match(server.requests[0] as string, /^GET \/fdx\/recipients HTTP\/1\.1\r\n/);
  assert.doesNotMatch(server.requests[0] as string, /content-/i);
  assert.match(server.requests[0] as string, /oauth-state-id: abc-1/i);
  assert.equal((await upstream.call(request())).status, 429);
});

test('a header that Plaid would not take is refused before anything is sent', async (t) => {
  const { server, upstream } = await scene(t, (socket) => socket.write(http(200, '{}')));
  for (const headers of [
    { 'plaid-version': `2020-09-14 ${ACCESS}` },
    { 'plaid-version': '2020-09-14\r\nx: y' },
    { 'plaid-new-user-api-enabled': 'maybe' },
    { 'oauth-state-id': 'a b' },
    { 'plaid-version': ['2020-09-14', '2020-09-14'] as unknown as string },
  ]) {
    assert.equal((await failure(upstream.call(request({ headers })))).code, 'REQUEST_MALFORMED');
  }
  assert.equal(server.connections(), 0);
  await upstream.call(request({ headers: { 'user-agent': `x\r\ny: ${ACCESS}` } }));
  assert.match(server.requests[0] as string, /user-agent: Strongroom\r\n/i);
});

test('when no connection comes about, nothing was sent and the error says so', async () => {
  const gone = await rawServer(() => undefined);
  await gone.close();
  for (const [origin, why] of [
    [gone.origin, /ECONNREFUSED/],
    ['http://strongroom.invalid', /ENOTFOUND|EAI_AGAIN|TIMEOUT/],
  ] as const) {
    const upstream = createUpstream({ environment: 'sandbox', origin, connectMs: 3_000 });
    for (const fresh of [false, true]) {
      const error = await failure(upstream.call(request({ fresh })));
      assert.equal(error.code, 'UPSTREAM_UNAVAILABLE');
      assert.match(String(error.facts.reason), why);
    }
    await upstream.close();
  }
});

test('a certificate that nobody vouches for is refused, whatever the environment variables say', async (t) => {
  const file = (name: string) => readFileSync(new URL(`../support/tls/${name}`, import.meta.url), 'utf8');
  const server = await rawServer((socket) => socket.write(http(200, '{}')), {
    key: file('server.key'),
    cert: file('server.pem'),
  });
  const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  t.after(async () => {
    if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
    await server.close();
  });
  for (const fresh of [false, true]) {
    const upstream = createUpstream({ environment: 'sandbox', origin: server.origin });
    const error = await failure(upstream.call(request({ fresh })));
    assert.equal(error.code, 'UPSTREAM_UNAVAILABLE');
    await upstream.close();
  }
  assert.deepEqual(server.requests, []);
  const trusting = createUpstream({ environment: 'sandbox', origin: server.origin, ca: file('authority.pem') });
  assert.equal((await trusting.call(request())).status, 200);
  await trusting.close();
});

/** Ways to spoil an answer after the call was carried out. */
const SPOILED: Readonly<Record<string, Answering>> = {
  'the connection is reset before an answer': (socket) => socket.resetAndDestroy(),
  'the connection is closed before an answer': (socket) => socket.end(),
  'the status line is cut': (socket) => socket.end('HTTP/1.1 20'),
  'the head is cut': (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n'),
  'half a body comes': (socket) => socket.end(http(200, '{"a":1}', { 'content-length': '100' })),
  'half a body comes, then a reset': (socket) => {
    socket.write(http(200, '{"a":1}', { 'content-length': '100' }), () => setImmediate(() => socket.resetAndDestroy()));
  },
  'a chunked body is cut': (socket) =>
    socket.end('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n'),
  'the length is not said': (socket) => socket.end('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"a":1}'),
  'two lengths are said': (socket) =>
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 7\r\n\r\n{"a":1}'),
  'length and chunks are said': (socket) =>
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n'),
  'the length is no number': (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 7x\r\n\r\n{"a":1}'),
  'it speaks gibberish': (socket) => socket.write('\u0000\u0001\u0002 hello\r\n\r\n'),
  'it speaks another protocol': (socket) => socket.write('SSH-2.0-OpenSSH_9.9\r\n'),
  'the answer is compressed': (socket) => socket.write(http(200, 'x', { 'content-encoding': 'gzip' })),
  'the answer is compressed oddly': (socket) => socket.write(http(200, 'x', { 'content-encoding': 'identity, br' })),
  'it redirects': (socket) => socket.write(http(307, '', { location: 'http://127.0.0.1:1/' })),
  'it redirects for good': (socket) => socket.write(http(301, '{}', { location: 'https://evil.example/' })),
  'it says 100 Continue unasked': (socket) =>
    socket.write(`HTTP/1.1 100 Continue\r\n\r\n${http(200, '{}').toString()}`),
  'it upgrades': (socket) =>
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n'),
  'it floods headers': (socket) =>
    socket.write(`HTTP/1.1 200 OK\r\n${'x-a: aaaaaaaaaaaaaaaaaaaa\r\n'.repeat(2_000)}content-length: 2\r\n\r\n{}`),
  'one header never ends': (socket) => socket.write(`HTTP/1.1 200 OK\r\nx-a: ${'a'.repeat(200_000)}`),
  'the type is said twice': (socket) =>
    socket.write('HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-type: c/d\r\ncontent-length: 2\r\n\r\n{}'),
  'the answer is larger than allowed': (socket) => socket.write(http(200, '{}', { 'content-length': '999999999' })),
};

for (const [how, answer] of Object.entries(SPOILED)) {
  test(`when ${how}, the call may have been done: it is sent once and the error says so`, async (t) => {
    const { server, upstream } = await scene(t, answer, { answerBytes: 1_000_000, headersMs: 5_000, totalMs: 8_000 });
    const error = await failure(upstream.call(request()));
    assert.equal(error.code, 'UPSTREAM_BROKEN', String(error.facts.reason));
    assert.equal((await failure(upstream.call(request({ fresh: true })))).code, 'UPSTREAM_BROKEN');
    assert.equal(server.requests.length, 2);
  });
}

test('only a read is repeated, once, and only when no answer had begun', async (t) => {
  const flaky: Answering = (socket, _, nth) => (nth === 1 ? socket.resetAndDestroy() : socket.write(http(200, '{}')));
  const first = await scene(t, flaky);
  assert.equal((await first.upstream.call(request({ endpoint: READ }))).status, 200);
  assert.equal(first.server.requests.length, 2);

  const second = await scene(t, flaky);
  assert.equal((await failure(second.upstream.call(request()))).code, 'UPSTREAM_BROKEN');
  assert.equal(second.server.requests.length, 1);

  const always = await scene(t, (socket) => socket.resetAndDestroy());
  await failure(always.upstream.call(request({ endpoint: READ })));
  assert.equal(always.server.requests.length, 2);

  const begun = await scene(t, (socket) => socket.end(http(200, '{"a":1}', { 'content-length': '100' })));
  await failure(begun.upstream.call(request({ endpoint: READ })));
  assert.equal(begun.server.requests.length, 1);
});

test('a connection that died while idle costs a change nothing on a fresh one, and is never used twice', async (t) => {
  // Answers the first call of each connection, then kills the connection at the second.
  const served = new WeakSet<object>();
  const answer: Answering = (socket) => {
    if (served.has(socket)) return socket.resetAndDestroy();
    served.add(socket);
    socket.write(http(200, '{}'));
  };
  const { server, upstream } = await scene(t, answer);
  await upstream.call(request());
  assert.equal((await upstream.call(request({ fresh: true }))).status, 200);
  assert.equal((await failure(upstream.call(request()))).code, 'UPSTREAM_BROKEN');
  assert.equal(server.requests.length, 3);
});

test('bytes that follow an answer are never taken for the answer to the next call', async (t) => {
  const { upstream } = await scene(t, (socket, _, nth) =>
    socket.write(
      nth === 1 ? Buffer.concat([http(200, '{"n":1}'), http(200, '{"n":"forged"}')]) : http(200, `{"n":${nth}}`),
    ),
  );
  const said: string[] = [];
  for (let n = 0; n < 3; n++) {
    const answer = await upstream.call(request()).catch(() => null);
    if (answer?.kind === 'buffered') said.push(answer.body.toString());
  }
  assert.ok(!said.some((body) => body.includes('forged')), said.join());
});

test('a slow answer runs out of time: to begin, in between, and in all', async (t) => {
  const silent = await scene(t, () => undefined, { headersMs: 100 });
  const stalled = await scene(t, (socket) => socket.write(http(200, '{', { 'content-length': '100' })), {
    bodyMs: 100,
  });
  const dripping = await scene(
    t,
    (socket) => {
      socket.write(http(200, '', { 'content-length': '100000' }));
      const drip = setInterval(() => socket.write(' '), 20);
      socket.on('close', () => clearInterval(drip));
    },
    { totalMs: 200 },
  );
  for (const { server, upstream } of [silent, stalled, dripping]) {
    const error = await failure(upstream.call(request({ endpoint: READ })));
    assert.equal(error.code, 'UPSTREAM_TIMEOUT', String(error.facts.reason));
    assert.equal(server.requests.length, 1);
  }
});

test('a caller who gives up is told whether anything was sent', async (t) => {
  const { server, upstream } = await scene(t, () => undefined);
  const abort = new AbortController();
  const sent = failure(upstream.call(request({ signal: abort.signal })));
  while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  abort.abort();
  assert.equal((await sent).code, 'UPSTREAM_TIMEOUT');
  assert.equal((await failure(upstream.call(request({ signal: abort.signal })))).code, 'UPSTREAM_UNAVAILABLE');
  assert.equal(server.requests.length, 1);
});

test('a call given up while it waited for a connection is not sent when one becomes free', async (t) => {
  const held: (() => void)[] = [];
  const { server, upstream } = await scene(t, (socket) => void held.push(() => socket.write(http(200, '{}'))), {
    connections: 1,
  });
  const body = (n: number) => ({ body: Buffer.from(`{"n":${n}}`) });
  const first = upstream.call(request(body(1)));
  while (held.length === 0) await new Promise((resolve) => setImmediate(resolve));
  const abort = new AbortController();
  const second = failure(upstream.call(request({ ...body(2), signal: abort.signal })));
  const third = upstream.call(request(body(3)));
  abort.abort();
  assert.equal((await second).code, 'UPSTREAM_UNAVAILABLE');
  held[0]?.();
  assert.equal((await first).status, 200);
  while (held.length === 1) await new Promise((resolve) => setImmediate(resolve));
  held[1]?.();
  assert.equal((await third).status, 200);
  assert.deepEqual(
    server.requests.map((text) => text.slice(-7)),
    ['{"n":1}', '{"n":3}'],
  );
});

test('an answer larger than the buffer comes as a stream, whole and in order', async (t) => {
  const large = Buffer.from(Array.from({ length: 200_000 }, (_, i) => `${i},`).join(''));
  const chunked = `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${large.length.toString(16)}\r\n${large.toString()}\r\n0\r\n\r\n`;
  const { upstream } = await scene(t, (socket, _, nth) => socket.write(nth === 1 ? http(200, large) : chunked), {
    bufferBytes: 100_000,
  });
  for (const _ of [1, 2]) {
    const answer = await upstream.call(request());
    assert.equal(answer.kind, 'stream');
    const parts: Buffer[] = [];
    if (answer.kind === 'stream') for await (const part of answer.body) parts.push(part as Buffer);
    assert.deepEqual(Buffer.concat(parts), large);
  }
});

test('a stream that is cut ends with an error, and one that nobody wants cuts the connection', async (t) => {
  const { server, upstream } = await scene(
    t,
    (socket, _, nth) => {
      socket.write(http(200, Buffer.alloc(300_000, 'x'), { 'content-length': '50000000' }));
      if (nth === 1) socket.end();
    },
    { bufferBytes: 100_000 },
  );
  const cut = await upstream.call(request());
  assert.ok(cut.kind === 'stream');
  await assert.rejects(cut.body.toArray(), (error) => codeOf(error) === 'UPSTREAM_BROKEN');

  const unwanted = await upstream.call(request());
  assert.ok(unwanted.kind === 'stream');
  unwanted.body.destroy();
  await once(unwanted.body, 'close');
  assert.equal(server.requests.length, 2);

  const grown = await scene(
    t,
    (socket) => socket.write(http(200, Buffer.alloc(300_000, 'x'), { 'content-length': '50000000' })),
    { bufferBytes: 100_000, answerBytes: 60_000_000, bodyMs: 100 },
  );
  const stalled = await grown.upstream.call(request());
  assert.ok(stalled.kind === 'stream');
  await assert.rejects(stalled.body.toArray(), (error) => codeOf(error) === 'UPSTREAM_TIMEOUT');
});

test('an endless chunked answer stops at the limit', async (t) => {
  const { upstream } = await scene(
    t,
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n');
      const pour = () => {
        while (!socket.destroyed && socket.write(`10000\r\n${'x'.repeat(65_536)}\r\n`));
      };
      socket.on('drain', pour);
      pour();
    },
    { bufferBytes: 4_000_000, answerBytes: 1_000_000 },
  );
  const error = await failure(upstream.call(request()));
  assert.deepEqual([error.code, error.facts.reason], ['UPSTREAM_BROKEN', 'too_large']);
});

test('early hints before an answer are skipped, and an empty 204 is an answer', async (t) => {
  const { upstream } = await scene(t, (socket, _, nth) =>
    socket.write(
      nth === 1
        ? `HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n${http(200, '{"a":1}').toString()}`
        : 'HTTP/1.1 204 No Content\r\n\r\n',
    ),
  );
  const first = await upstream.call(request());
  assert.deepEqual([first.status, first.kind === 'buffered' && first.body.toString()], [200, '{"a":1}']);
  const second = await upstream.call(request());
  assert.deepEqual([second.status, second.kind === 'buffered' && second.body.length], [204, 0]);
});

test('many calls share connections and each gets its own answer', async (t) => {
  const { server, upstream } = await scene(
    t,
    (socket, text) => socket.write(http(200, text.slice(text.indexOf('\r\n\r\n') + 4))),
    { connections: 4 },
  );
  const bodies = Array.from({ length: 200 }, (_, n) => `{"n":${n}}`);
  const answers = await Promise.all(bodies.map((body) => upstream.call(request({ body: Buffer.from(body) }))));
  assert.deepEqual(
    answers.map((answer) => (answer.kind === 'buffered' ? answer.body.toString() : null)),
    bodies,
  );
  assert.ok(server.connections() <= 4);
});

test('the origin is an origin and nothing else', () => {
  for (const origin of [
    'https://127.0.0.1:1/path',
    'ftp://127.0.0.1',
    '127.0.0.1:80',
    'https://user:pw@127.0.0.1',
    'https://x?y',
    '',
  ]) {
    assert.throws(
      () => createUpstream({ environment: 'sandbox', origin }),
      (error) => codeOf(error) === 'CONFIG_INVALID',
      origin,
    );
  }
});
