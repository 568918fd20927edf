import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { test } from 'node:test';
import type { Simulator } from '../../simulator/start.ts';
import { cutOff, link, raw, refused, start, truth } from './kit.ts';

const ROTATE = '/item/access_token/invalidate';
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const plant = (simulator: Simulator, fault: object): Promise<{ id: string }> =>
  simulator.control('POST', '/faults', { endpoint: ROTATE, ...fault });

/** Reads the answer's bytes as they came, without an HTTP client's opinion. */
function rawBytes(simulator: Simulator, path: string, body: object): Promise<string> {
  const { hostname, port } = new URL(simulator.url);
  const text = JSON.stringify(body);
  return new Promise((resolve) => {
    let got = '';
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nPLAID-CLIENT-ID: ${simulator.clientId}\r\n` +
          `PLAID-SECRET: ${simulator.secret}\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
      );
    });
    socket.on('data', (bytes) => {
      got += bytes.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(got));
  });
}

/** Waits for a condition that the simulator's own events bring about. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

const heldCalls = async (simulator: Simulator): Promise<number> =>
  Object.values((await simulator.control<{ held: Record<string, number> }>('GET', '/state')).held).reduce(
    (sum, count) => sum + count,
    0,
  );

test('not_done: the connection ends and nothing has changed', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  await plant(simulator, { kind: 'not_done' });
  await cutOff(plaid.itemAccessTokenInvalidate({ access_token }));
  const { items, calls } = await truth(simulator);
  assert.deepEqual([items[0]?.rotations, items[0]?.access_token_sha256], [0, sha256(access_token)]);
  assert.deepEqual(
    calls.filter((call) => call.endpoint === ROTATE).map(({ done, status }) => [done, status]),
    [[false, null]],
  );
  await plaid.itemGet({ access_token });
});

test('answer_lost: it was done, and nobody heard of it', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  await plant(simulator, { kind: 'answer_lost', reset: true });
  await cutOff(plaid.itemAccessTokenInvalidate({ access_token }));
  const { items, calls } = await truth(simulator);
  assert.equal(items[0]?.rotations, 1);
  assert.notEqual(items[0]?.access_token_sha256, sha256(access_token));
  assert.deepEqual(
    calls.filter((call) => call.endpoint === ROTATE).map(({ done, status }) => [done, status]),
    [[true, null]],
  );
  await refused(plaid.itemGet({ access_token }), 'INVALID_ACCESS_TOKEN');
});

test('answer_cut: exactly the first n bytes of the body arrive, or all but the last', async (t) => {
  const { simulator, plaid } = await start(t);
  for (const bytes of [0, 1, 30, 75, -1]) {
    const { accessToken, itemId } = await link(plaid);
    await plant(simulator, { kind: 'answer_cut', bytes });
    const [head, body] = (await rawBytes(simulator, ROTATE, { access_token: accessToken })).split('\r\n\r\n') as [
      string,
      string,
    ];
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1]);
    assert.equal(body.length, bytes < 0 ? length + bytes : bytes);
    const live = (await truth(simulator)).items.find((item) => item.item_id === itemId)?.access_token_sha256;
    assert.notEqual(live, sha256(accessToken), 'it was done all the same');
    const caught = /access-sandbox-[0-9a-f-]{36}/.exec(body)?.[0];
    if (bytes === 75 || bytes === -1)
      assert.equal(sha256(caught as string), live, 'a cut answer that holds the token is an answer');
    else assert.equal(caught, undefined);
  }
});

test('delay: before the work or after it', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  for (const point of ['before_commit', 'after_commit']) {
    await simulator.control('POST', '/faults', { endpoint: '/item/get', kind: 'delay', ms: 40, point });
    const began = performance.now();
    await plaid.itemGet({ access_token });
    assert.ok(performance.now() - began >= 39, point);
  }
});

test('status: a 500 with nothing done, and a 500 with everything done', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  await plant(simulator, { kind: 'status', status: 500 });
  await refused(plaid.itemAccessTokenInvalidate({ access_token }), 'INTERNAL_SERVER_ERROR', 500);
  assert.equal((await truth(simulator)).items[0]?.rotations, 0);
  await plant(simulator, { kind: 'status', status: 503, point: 'after_commit' });
  await refused(plaid.itemAccessTokenInvalidate({ access_token }), 'PLANNED_MAINTENANCE', 503);
  assert.equal((await truth(simulator)).items[0]?.rotations, 1);
  await simulator.control('POST', '/faults', { endpoint: '*', kind: 'status', error_code: 'ITEM_LOCKED', times: 2 });
  for (let call = 0; call < 2; call++) await refused(plaid.accountsGet({ access_token }), 'ITEM_LOCKED');
});

test('body: any answer for any path, with what the caller sent echoed in disguise', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  await simulator.control('POST', '/faults', {
    endpoint: '/wallet/create',
    kind: 'body',
    body: { wallet_id: 'w', request_id: 'r' },
  });
  const unmodelled = await raw(simulator, '/wallet/create', '{}');
  assert.deepEqual([unmodelled.status, unmodelled.json], [200, { wallet_id: 'w', request_id: 'r' }]);

  const body =
    '{"a":"{{request.access_token}}","b":"{{request.access_token|base64}}","c":"{{request.access_token|unicode}}"}';
  await simulator.control('POST', '/faults', {
    endpoint: '/item/get',
    kind: 'body',
    body,
    headers: { 'x-echo': '{{request.access_token|hex}}' },
  });
  const answer = await fetch(`${simulator.url}/item/get`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ access_token }),
  });
  const text = await answer.text();
  assert.ok(text.includes('\\u0061\\u0063'), 'escaped on the wire');
  assert.deepEqual(JSON.parse(text), {
    a: access_token,
    b: Buffer.from(access_token).toString('base64'),
    c: access_token,
  });
  assert.equal(answer.headers.get('x-echo'), Buffer.from(access_token).toString('hex'));

  await plant(simulator, {
    kind: 'body',
    point: 'after_commit',
    body: '<p>{{answer.new_access_token}}</p>',
    headers: { 'content-type': 'text/html' },
  });
  const html = await rawBytes(simulator, ROTATE, { access_token });
  const fresh = /<p>(.*)<\/p>/.exec(html)?.[1] as string;
  assert.equal(
    sha256(fresh),
    (await truth(simulator)).items[0]?.access_token_sha256,
    'the true answer inside a wrong one',
  );
});

test('body: the true answer compressed unasked, and the token of another item in its place', async (t) => {
  const { simulator, plaid } = await start(t);
  const one = await link(plaid);
  const two = await link(plaid);
  await plant(simulator, { kind: 'body', point: 'after_commit', body: '{{answer}}', gzip: true });
  const answer = await fetch(simulator.url + ROTATE, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'accept-encoding': 'identity',
      'plaid-client-id': simulator.clientId,
      'plaid-secret': simulator.secret,
    },
    body: JSON.stringify({ access_token: one.accessToken }),
  });
  assert.equal(answer.headers.get('content-encoding'), 'gzip');
  const { new_access_token: fresh } = (await answer.json()) as { new_access_token: string };
  await plaid.itemGet({ access_token: fresh });
  await plant(simulator, { kind: 'body', point: 'after_commit', body: { new_access_token: `{{item.${two.itemId}}}` } });
  const { data } = await plaid.itemAccessTokenInvalidate({ access_token: fresh });
  assert.equal((await plaid.itemGet({ access_token: data.new_access_token })).data.item.item_id, two.itemId);
});

test('body: an answer larger than anybody wants, and one in small pieces', async (t) => {
  const { simulator } = await start(t);
  await simulator.control('POST', '/faults', {
    endpoint: '/item/get',
    kind: 'body',
    body: 'x'.repeat(1024),
    repeat: 5000,
  });
  const huge = await fetch(`${simulator.url}/item/get`, { method: 'POST', body: '{}' });
  assert.equal((await huge.text()).length, 1024 * 5000);
  await simulator.control('POST', '/faults', { endpoint: '/item/get', kind: 'body', body: 'abcdef', chunk_bytes: 1 });
  assert.equal(await (await fetch(`${simulator.url}/item/get`, { method: 'POST', body: '{}' })).text(), 'abcdef');
});

test('hold: a call stands still before or after its work until it is released', async (t) => {
  const { simulator, plaid } = await start(t);
  let token = (await link(plaid)).accessToken;
  for (const [point, done] of [
    ['before_read', false],
    ['before_commit', false],
    ['after_commit', true],
    ['mid_answer', true],
  ] as const) {
    const { id } = await plant(simulator, { kind: 'hold', point, bytes: 10 });
    const call = plaid.itemAccessTokenInvalidate({ access_token: token });
    await until(async () => (await heldCalls(simulator)) === 1);
    const live = (await truth(simulator)).items[0]?.access_token_sha256;
    assert.equal(live !== sha256(token), done, point);
    assert.deepEqual(await simulator.control('POST', '/release', { id }), { released: 1 });
    token = (await call).data.new_access_token;
  }
  await plant(simulator, { kind: 'hold', point: 'after_commit' });
  const lost = cutOff(plaid.itemAccessTokenInvalidate({ access_token: token }));
  await until(async () => (await heldCalls(simulator)) === 1);
  await simulator.control('POST', '/release', { how: 'destroy' });
  await lost;
});

test('hold: a first rotation held, a second made, either may win', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  await plant(simulator, { kind: 'hold' });
  const first = refused(plaid.itemAccessTokenInvalidate({ access_token }), 'INVALID_ACCESS_TOKEN');
  await until(async () => (await heldCalls(simulator)) === 1);
  const second = await plaid.itemAccessTokenInvalidate({ access_token });
  await simulator.control('POST', '/release');
  await first;
  await plaid.itemGet({ access_token: second.data.new_access_token });
});

test('a held call is carried out even when its caller has gone', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  await plant(simulator, { kind: 'hold' });
  const hangUp = new AbortController();
  const call = plaid.itemAccessTokenInvalidate({ access_token }, { signal: hangUp.signal });
  await until(async () => (await heldCalls(simulator)) === 1);
  hangUp.abort();
  await assert.rejects(call);
  await simulator.control('POST', '/release');
  await until(async () => (await truth(simulator)).items[0]?.rotations === 1);
});

test('times, after, item_id and DELETE bound where a fault strikes', async (t) => {
  const { simulator, plaid } = await start(t);
  const one = await link(plaid);
  const two = await link(plaid);
  const get = ({ accessToken }: typeof one) => plaid.itemGet({ access_token: accessToken });
  const fault = { endpoint: '/item/get', kind: 'status', status: 500 };
  await simulator.control('POST', '/faults', { ...fault, after: 1, times: 2 });
  await get(one);
  for (let call = 0; call < 2; call++) await refused(get(one), 'INTERNAL_SERVER_ERROR', 500);
  await get(one);
  await simulator.control('POST', '/faults', { ...fault, item_id: two.itemId });
  await get(one);
  await refused(get(two), 'INTERNAL_SERVER_ERROR', 500);
  await simulator.control('POST', '/faults', { ...fault, times: 100 });
  assert.deepEqual(await simulator.control('DELETE', '/faults'), { cleared: 1 });
  await get(one);
});

test('the truth names every call, also the ones without an answer, and never a token', async (t) => {
  const { simulator, plaid } = await start(t);
  const { accessToken } = await link(plaid);
  await raw(simulator, '/item/get', JSON.stringify({ access_token: accessToken }), { 'plaid-secret': 'wrong' });
  const body = JSON.stringify({ access_token: accessToken, options: {} });
  await raw(simulator, '/accounts/get', body, { 'x-odd': '1' });
  const all = await truth(simulator);
  assert.ok(!JSON.stringify(all).includes(accessToken));
  const [wrong, right] = all.calls.slice(-2);
  assert.deepEqual([wrong?.credentials_ok, wrong?.token_sha256, wrong?.status], [false, sha256(accessToken), 400]);
  assert.deepEqual([right?.credentials_ok, right?.done, right?.body_sha256], [true, true, sha256(body)]);
  assert.ok(right?.header_names.includes('x-odd'));
  const later = await simulator.control<{ calls: unknown[] }>('GET', `/truth?after=${wrong?.seq}`);
  assert.equal(later.calls.length, 1);
});
