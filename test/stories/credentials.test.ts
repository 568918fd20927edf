import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { Pool } from 'undici';
import { formatApplicationKey } from '../../src/base/ids.ts';
import { forTheFile } from '../support/database.ts';
import { request, talk } from '../support/raw-http.ts';
import { assertRefused, faceOf, type Refused } from '../support/refusal.ts';
import { send, strongroom } from '../support/strongroom.ts';

/**
 * Who calls. However credentials are wrong, the answer is the same, and guessing
 * is slow. Each caller of this file has an address of its own, so that one test
 * does not throttle the next.
 */

const BEHIND_A_PROXY = { listeners: { gateway: { host: '127.0.0.1', port: 0, trustedProxies: ['127.0.0.1/32'] } } };

const kit = await strongroom(forTheFile, { config: BEHIND_A_PROXY });
const alice = await kit.application('alice');
const bob = await kit.application('bob');
const { handle } = await alice.link();

let callers = 0;
const address = () => `10.${(++callers >> 16) & 255}.${(callers >> 8) & 255}.${callers & 255}`;
const madeUp = () => formatApplicationKey(randomBytes(32));

async function accounts(headers: Record<string, string>, body: object = {}, from = address()): Promise<Refused> {
  return send(kit.url, '/accounts/get', { access_token: handle, ...body }, { 'x-forwarded-for': from, ...headers });
}

const shown = (id: string, key: string) => ({ 'plaid-client-id': id, 'plaid-secret': key });

test('missing, wrong, foreign, expired and disabled credentials get one and the same answer', async () => {
  const disabled = await kit.application('disabled');
  await kit.admin('POST', `/applications/${disabled.id}/disable`);
  const expired = await kit.application('expired');
  await kit.admin('POST', `/applications/${expired.id}/keys`, { old_key_valid_seconds: 0 });

  const nobody = '0'.repeat(24);
  const wrong: Record<string, () => Promise<Refused>> = {
    'nothing at all': () => accounts({}),
    'an id alone': () => accounts({ 'plaid-client-id': alice.id }),
    'a key alone': () => accounts({ 'plaid-secret': alice.key }),
    'empty ones': () => accounts(shown('', '')),
    'a wrong key': () => accounts(shown(alice.id, madeUp())),
    'half a key': () => accounts(shown(alice.id, alice.key.slice(0, -1))),
    'a key and a bit': () => accounts(shown(alice.id, `${alice.key}a`)),
    'a mistyped key': () =>
      accounts(
        shown(
          alice.id,
          alice.key.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a')),
        ),
      ),
    "another application's key": () => accounts(shown(alice.id, bob.key)),
    "another application's id": () => accounts(shown(bob.id, alice.key)),
    'an unknown id': () => accounts(shown(nobody, alice.key)),
    'an id in capitals': () => accounts(shown('ABCDEFABCDEFABCDEFABCDEF', alice.key)),
    'a name for an id': () => accounts(shown('alice', alice.key)),
    'a disabled application': () => accounts(shown(disabled.id, disabled.key)),
    'an expired key': () => accounts(shown(expired.id, expired.key)),
    'a bearer token': () => accounts({ authorization: `Bearer ${alice.key}` }),
    'a basic login': () =>
      accounts({ authorization: `Basic ${Buffer.from(`${alice.id}:${alice.key}`).toString('base64')}` }),
    'a wrong key in the body': () => accounts({}, { client_id: alice.id, secret: madeUp() }),
    'a disabled application in the body': () => accounts({}, { client_id: disabled.id, secret: disabled.key }),
    'a number for a key in the body': () => accounts({}, { client_id: alice.id, secret: 7 }),
    'a list for a key in the body': () => accounts({}, { client_id: alice.id, secret: [alice.key] }),
    'an id in a header and a key in the body': () => accounts({ 'plaid-client-id': alice.id }, { secret: alice.key }),
    'credentials in the depth of the body': () => accounts({}, { options: { client_id: alice.id, secret: alice.key } }),
    'wrong ones in headers, right ones in the body': () =>
      accounts(shown(alice.id, madeUp()), { client_id: alice.id, secret: alice.key }),
  };
  const reached = (await kit.reached()).length;
  const faces = new Map<string, unknown>();
  for (const [name, call] of Object.entries(wrong)) {
    const answer = await call();
    assertRefused(answer, 'CREDENTIALS_REFUSED');
    faces.set(name, faceOf(answer));
  }
  const [first] = faces.values();
  for (const [name, face] of faces) assert.deepEqual(face, first, name);
  assert.equal((await kit.reached()).length, reached, 'nothing was sent');
  assert.equal((await accounts(shown(alice.id, alice.key))).status, 200);
});

test('a header that comes twice is no header, whatever its values', async () => {
  const body = JSON.stringify({ access_token: handle });
  for (const [name, first, second] of [
    ['PLAID-SECRET', alice.key, alice.key],
    ['PLAID-SECRET', alice.key, madeUp()],
    ['PLAID-SECRET', madeUp(), alice.key],
    ['PLAID-CLIENT-ID', alice.id, alice.id],
    ['PLAID-CLIENT-ID', alice.id, bob.id],
  ] as const) {
    const other = name === 'PLAID-SECRET' ? { 'PLAID-CLIENT-ID': alice.id } : { 'PLAID-SECRET': alice.key };
    const once = request('/accounts/get', { ...other, [name]: first, 'X-Forwarded-For': address() }, body);
    const twice = once.replace('\r\nHost', `\r\n${name.toLowerCase()}: ${second}\r\nHost`);
    assert.notEqual(twice, once);
    const { answers } = await talk(kit.url, twice);
    assertRefused(answers[0] as Refused, 'CREDENTIALS_REFUSED');
  }
});

test('a body with the same credential twice is refused before anybody is asked', async () => {
  const body = `{"client_id":"${alice.id}","secret":"${alice.key}","s\\u0065cret":"${bob.key}","access_token":"${handle}"}`;
  const answer = await send(kit.url, '/accounts/get', body, { 'x-forwarded-for': address() });
  assertRefused(answer, 'BODY_DUPLICATE_KEY');
});

test('right ones in headers win over whatever stands in the body, and none of it travels on', async () => {
  const answer = await accounts(shown(alice.id, alice.key), { client_id: bob.id, secret: madeUp() });
  assert.equal(answer.status, 200, answer.text);
});

test('a key stops working the moment it is revoked, and the new one works at once', async () => {
  const carol = await kit.application('carol');
  const call = (key: string) =>
    send(kit.url, '/categories/get', {}, { ...shown(carol.id, key), 'x-forwarded-for': address() });
  assert.equal((await call(carol.key)).status, 200);
  const { key } = await kit.admin<{ key: string }>('POST', `/applications/${carol.id}/keys`, {
    old_key_valid_seconds: 0,
  });
  assertRefused(await call(carol.key), 'CREDENTIALS_REFUSED');
  assert.equal((await call(key)).status, 200);
  await kit.admin('POST', `/applications/${carol.id}/disable`);
  assertRefused(await call(key), 'CREDENTIALS_REFUSED');
});

test('of ten thousand guesses a handful is looked at; others are served meanwhile', async () => {
  const guesser = address();
  const reached = (await kit.reached()).length;
  const pool = new Pool(kit.url, { connections: 16 });
  const codes = new Map<string, number>();
  const guess = async () => {
    const { body, headers } = await pool.request({
      method: 'POST',
      path: '/accounts/get',
      headers: { 'content-type': 'application/json', 'x-forwarded-for': guesser, ...shown(alice.id, madeUp()) },
      body: `{"access_token":"${handle}"}`,
    });
    const { error_code: code } = (await body.json()) as { error_code: string };
    if (code === 'CREDENTIALS_THROTTLED') assert.equal(headers['retry-after'], '1');
    codes.set(code, (codes.get(code) ?? 0) + 1);
  };
  const guessing = Promise.all(
    Array.from({ length: 16 }, async () => {
      for (let n = 0; n < 625; n++) await guess();
    }),
  );
  let served = 0;
  let over = false;
  void guessing.finally(() => {
    over = true;
  });
  while (!over) {
    assert.equal((await accounts(shown(alice.id, alice.key))).status, 200, 'the owner of the key, from elsewhere');
    served++;
  }
  await guessing;
  await pool.close();

  assert.ok(served > 10, `${served} calls served`);
  const looked = codes.get('CREDENTIALS_REFUSED') ?? 0;
  assert.ok(looked >= 1 && looked <= 40, `${looked} guesses were looked at`);
  assert.equal(looked + (codes.get('CREDENTIALS_THROTTLED') ?? 0), 10_000);
  assert.equal((await kit.reached()).length - reached, served, 'no guess reached Plaid');

  // Also the right key: a guesser must not learn that he has hit it. His neighbours go on.
  assertRefused(await accounts(shown(alice.id, alice.key), {}, guesser), 'CREDENTIALS_THROTTLED');
  const neighbour = await send(
    kit.url,
    '/categories/get',
    {},
    { ...shown(bob.id, bob.key), 'x-forwarded-for': guesser },
  );
  assert.equal(neighbour.status, 200, 'another application behind the same address');
});

test('guessing over many names is throttled by address', async () => {
  const guesser = address();
  const guess = (n: number) =>
    send(
      kit.url,
      '/categories/get',
      {},
      {
        ...shown(n.toString(16).padStart(24, '0'), madeUp()),
        'x-forwarded-for': guesser,
      },
    );
  for (let n = 0; n < 300; n++) assertRefused(await guess(n), 'CREDENTIALS_REFUSED');
  assertRefused(await guess(300), 'CREDENTIALS_THROTTLED');
  const right = await send(kit.url, '/categories/get', {}, { ...shown(bob.id, bob.key), 'x-forwarded-for': guesser });
  assertRefused(right, 'CREDENTIALS_THROTTLED');
});

test('a forged X-Forwarded-For does not make a new guesser: only what a trusted proxy added counts', async () => {
  const guesser = address();
  const looked: string[] = [];
  for (let n = 0; n < 25; n++) {
    const answer = await accounts(shown(bob.id, madeUp()), {}, `10.99.99.${n}, ${guesser}`);
    looked.push(assertRefused(answer, 'CREDENTIALS_REFUSED', 'CREDENTIALS_THROTTLED').code);
  }
  assert.deepEqual(looked.slice(20), Array(5).fill('CREDENTIALS_THROTTLED'));
});

test('time does not tell a known application from an unknown one', async () => {
  const timed = async (id: string) => {
    const headers = shown(id, madeUp());
    const started = process.hrtime.bigint();
    await accounts(headers);
    return Number(process.hrtime.bigint() - started) / 1e6;
  };
  const known: number[] = [];
  const unknown: number[] = [];
  // One of each in turn: whatever else this machine does, it does to both.
  for (let n = 0; n < 200; n++) {
    known.push(await timed(alice.id));
    unknown.push(await timed(randomBytes(12).toString('hex')));
  }
  const median = (times: number[]) => times.sort((a, b) => a - b)[times.length / 2] as number;
  const ratio = median(known) / median(unknown);
  assert.ok(ratio > 0.6 && ratio < 1.6, `known takes ${ratio.toFixed(2)} times as long as unknown`);
});

test('refused callers cannot fill the audit log, and every refusal is counted in it', async (t) => {
  const other = await strongroom(t, { config: BEHIND_A_PROXY });
  for (let n = 0; n < 120; n++) {
    const answer = await send(
      other.url,
      '/categories/get',
      {},
      { 'x-forwarded-for': n % 2 === 0 ? '10.0.0.1' : '10.0.0.2' },
    );
    assertRefused(answer, 'CREDENTIALS_REFUSED', 'CREDENTIALS_THROTTLED');
  }
  await other.stop();
  const entries = await other.entries('access.refused');
  assert.equal(entries.length, 4, 'the first of each address, and the rest as a count');
  for (const source of ['10.0.0.1', '10.0.0.2']) {
    const counts = entries.filter((entry) => entry.source === source).map((entry) => Number(entry.count));
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0),
      60,
    );
  }
});

test('no key stands in the log', () => {
  const log = kit.log.join('');
  for (const { key } of [alice, bob]) assert.equal(log.includes(key), false);
});
