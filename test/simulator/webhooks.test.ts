import assert from 'node:assert/strict';
import { createHash, createPublicKey, type JsonWebKey, verify } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { PlaidApi } from 'plaid';
import { waitOf } from '../../simulator/delivery.ts';
import { type Kit, link, Products, refused, start, stoppedClock } from './kit.ts';

interface Received {
  readonly body: Buffer;
  readonly jwt: string | undefined;
  readonly json: Record<string, unknown>;
}

/** A receiver of webhooks. `answers` says what it replies next; 200 when it is empty. */
async function receiver(t: TestContext): Promise<{
  url: string;
  received: Received[];
  answers: { status: number; headers?: Record<string, string> }[];
  arrived(count: number): Promise<void>;
}> {
  const received: Received[] = [];
  const answers: { status: number; headers?: Record<string, string> }[] = [];
  const waiting: (() => void)[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    received.push({
      body,
      jwt: request.headers['plaid-verification'] as string | undefined,
      json: JSON.parse(body.toString()),
    });
    const { status = 200, headers = {} } = answers.shift() ?? {};
    response.writeHead(status, headers).end();
    for (const wake of waiting.splice(0)) wake();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/plaid`,
    received,
    answers,
    async arrived(count) {
      while (received.length < count) await new Promise<void>((resolve) => waiting.push(resolve));
    },
  };
}

/** A verifier of our own, from Plaid's documentation alone: shares no code with the product. */
async function verified(plaid: PlaidApi, { body, jwt }: Received, now: number): Promise<'ok' | string> {
  if (jwt === undefined) return 'unsigned';
  const [header, claims, signature] = jwt.split('.') as [string, string, string];
  const { alg, kid, typ } = JSON.parse(Buffer.from(header, 'base64url').toString());
  if (alg !== 'ES256' || typ !== 'JWT') return 'header';
  let jwk: unknown;
  try {
    jwk = (await plaid.webhookVerificationKeyGet({ key_id: kid })).data.key;
  } catch {
    return 'kid';
  }
  const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
  const signed = Buffer.from(`${header}.${claims}`);
  if (!verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url')))
    return 'signature';
  const { iat, request_body_sha256: digest } = JSON.parse(Buffer.from(claims, 'base64url').toString());
  if (Math.abs(now / 1000 - iat) > 300) return 'age';
  return createHash('sha256').update(body).digest('hex') === digest ? 'ok' : 'body';
}

async function linkedWithHook(
  t: TestContext,
  options: Parameters<typeof start>[1] = {},
): Promise<Kit & Awaited<ReturnType<typeof link>> & { hook: Awaited<ReturnType<typeof receiver>> }> {
  const kit = await start(t, options);
  const hook = await receiver(t);
  const linked = await link(kit.plaid, [Products.Auth], hook.url);
  return { ...kit, ...linked, hook };
}

test('a webhook is signed with ES256 over two-space JSON with sorted keys', async (t) => {
  const { plaid, hook, accessToken, itemId } = await linkedWithHook(t);
  await plaid.sandboxItemResetLogin({ access_token: accessToken });
  await hook.arrived(1);
  const [got] = hook.received as [Received];
  assert.equal(await verified(plaid, got, Date.now()), 'ok');
  const names = Object.keys(got.json);
  assert.deepEqual(names, [...names].sort());
  assert.equal(got.body.toString(), JSON.stringify(got.json, null, 2));
  assert.deepEqual(
    [got.json.webhook_type, got.json.webhook_code, got.json.item_id, got.json.environment],
    ['ITEM', 'ERROR', itemId, 'sandbox'],
  );
  assert.equal((got.json.error as { error_code: string }).error_code, 'ITEM_LOGIN_REQUIRED');
  const { status } = (await plaid.itemGet({ access_token: accessToken })).data;
  assert.equal(status?.last_webhook?.code_sent, 'ERROR');
});

test('forged, stale and altered webhooks can be had on demand', async (t) => {
  const { simulator, plaid, hook, itemId } = await linkedWithHook(t);
  const cases = [
    [{}, 'ok'],
    [{ wrong_key: true }, 'signature'],
    [{ unknown_kid: true }, 'kid'],
    [{ stale_iat: true }, 'age'],
    [{ stale_iat: -600 }, 'age'],
    [{ tamper: true }, 'body'],
    [{ unsigned: true }, 'unsigned'],
  ] as const;
  for (const [options, outcome] of cases) {
    await simulator.control('POST', '/webhooks/fire', {
      item_id: itemId,
      webhook_type: 'ITEM',
      webhook_code: 'LOGIN_REPAIRED',
      ...options,
    });
    await simulator.webhooksIdle();
    await hook.arrived(1);
    assert.equal(
      await verified(plaid, hook.received.shift() as Received, Date.now()),
      outcome,
      JSON.stringify(options),
    );
  }
  await simulator.control('POST', '/webhooks/fire', { item_id: itemId, webhook_code: 'ERROR', duplicate: 2 });
  await hook.arrived(3);
  assert.equal(new Set(hook.received.map((got) => got.body.toString())).size, 1);
  await assert.rejects(
    simulator.control('POST', '/webhooks/fire', { item_id: itemId, stale: true }),
    /stale is not known/,
  );
});

test('webhooks can be held back and let go in the wrong order', async (t) => {
  const { simulator, hook, itemId } = await linkedWithHook(t);
  await simulator.control('POST', '/webhooks/hold');
  const codes = ['NEW_ACCOUNTS_AVAILABLE', 'ERROR', 'LOGIN_REPAIRED'];
  for (const webhook_code of codes)
    await simulator.control('POST', '/webhooks/fire', { item_id: itemId, webhook_code });
  assert.deepEqual(await simulator.control('POST', '/webhooks/release', { order: 'reverse' }), { released: 3 });
  await hook.arrived(3);
  assert.deepEqual(
    hook.received.map((got) => got.json.webhook_code),
    codes.toReversed(),
  );
});

test('keys rotate: the new one signs, the old one stays known and says that it expired', async (t) => {
  const { simulator, plaid, hook, accessToken } = await linkedWithHook(t);
  const kidOf = ({ jwt }: Received): string =>
    JSON.parse(Buffer.from((jwt as string).split('.')[0] as string, 'base64url').toString()).kid;
  await plaid.sandboxItemFireWebhook({ access_token: accessToken, webhook_code: 'NEW_ACCOUNTS_AVAILABLE' as never });
  await hook.arrived(1);
  const { kid } = await simulator.control<{ kid: string }>('POST', '/webhook-keys/rotate');
  await plaid.sandboxItemFireWebhook({ access_token: accessToken, webhook_code: 'NEW_ACCOUNTS_AVAILABLE' as never });
  await hook.arrived(2);
  const [before, after] = hook.received as [Received, Received];
  assert.equal(kidOf(after), kid);
  assert.equal(await verified(plaid, after, Date.now()), 'ok');
  const old = (await plaid.webhookVerificationKeyGet({ key_id: kidOf(before) })).data.key;
  const fresh = (await plaid.webhookVerificationKeyGet({ key_id: kid })).data.key;
  assert.deepEqual(
    [typeof old.expired_at, fresh.expired_at, fresh.alg, fresh.crv, fresh.use],
    ['number', null, 'ES256', 'P-256', 'sig'],
  );
});

test('a refused webhook comes again after 30 s, 2 min, 8 min and so on for 24 hours, then never', async (t) => {
  const clock = stoppedClock();
  const { simulator, plaid, hook, itemId } = await linkedWithHook(t, { clock });
  hook.answers.push(...Array.from({ length: 20 }, () => ({ status: 204 })));
  await simulator.control('POST', '/webhooks/fire', { item_id: itemId, webhook_code: 'ERROR' });
  await hook.arrived(1);
  await simulator.webhooksIdle();
  let attempts = 1;
  for (let wait = 30_000; attempts < 7; wait *= 4) {
    if (wait >= 122_880_000) break; // a day has passed by then
    await simulator.control('POST', '/clock', { advance_ms: wait - 1 });
    await simulator.webhooksIdle();
    assert.equal(hook.received.length, attempts, `not before ${wait} ms`);
    await simulator.control('POST', '/clock', { advance_ms: 1 });
    await hook.arrived(++attempts);
    await simulator.webhooksIdle();
  }
  assert.equal(attempts, 7);
  await simulator.control('POST', '/clock', { advance_ms: 30 * 3_600_000 });
  await simulator.webhooksIdle();
  assert.equal(hook.received.length, 7);
  const { webhook_events: events } = (await plaid.betaWebhookEventsList({ webhook_codes: ['ERROR'] })).data;
  assert.deepEqual(
    [events[0]?.delivery_status, events[0]?.attempt_count, events[0]?.last_http_status_code],
    ['FAILED', 7, 204],
  );
  const jwts = hook.received.map((got) => got.jwt);
  assert.equal(new Set(jwts).size, 7, 'signed anew for each attempt');
});

test('retries can repeat the first signature instead', async (t) => {
  const clock = stoppedClock();
  const { simulator, plaid, hook, itemId } = await linkedWithHook(t, { clock, settings: { resignRetries: false } });
  hook.answers.push({ status: 500 });
  await simulator.control('POST', '/webhooks/fire', { item_id: itemId, webhook_code: 'ERROR' });
  await hook.arrived(1);
  await simulator.webhooksIdle();
  await simulator.control('POST', '/clock', { advance_ms: 400_000 });
  await hook.arrived(2);
  assert.equal(hook.received[0]?.jwt, hook.received[1]?.jwt);
  const later = await simulator.control<{ now: string }>('GET', '/clock');
  assert.equal(await verified(plaid, hook.received[1] as Received, Date.parse(later.now)), 'age');
});

test('Retry-After is honoured up to four hours, in all three spellings', async (t) => {
  const now = Date.UTC(2026, 0, 1);
  assert.equal(waitOf('90', now), 90_000);
  assert.equal(waitOf(new Date(now + 60_000).toUTCString(), now), 60_000);
  assert.equal(waitOf(new Date(now + 60_000).toISOString(), now), 60_000);
  assert.equal(waitOf('86400', now), 4 * 3_600_000);
  assert.equal(waitOf('soon', now), null);
  const clock = stoppedClock();
  const { simulator, hook, itemId } = await linkedWithHook(t, { clock });
  hook.answers.push({ status: 429, headers: { 'retry-after': '600' } });
  await simulator.control('POST', '/webhooks/fire', { item_id: itemId, webhook_code: 'ERROR' });
  await hook.arrived(1);
  await simulator.webhooksIdle();
  await simulator.control('POST', '/clock', { advance_ms: 599_000 });
  await simulator.webhooksIdle();
  assert.equal(hook.received.length, 1);
  await simulator.control('POST', '/clock', { advance_ms: 1000 });
  await hook.arrived(2);
});

test('a receiver that refuses nearly everything gets no retries', async (t) => {
  const clock = stoppedClock();
  const { simulator, hook, itemId } = await linkedWithHook(t, { clock });
  hook.answers.push(...Array.from({ length: 100 }, () => ({ status: 500 })));
  for (let sent = 1; sent <= 12; sent++) {
    await simulator.control('POST', '/webhooks/fire', { item_id: itemId, webhook_code: 'ERROR', payload: { n: sent } });
    await hook.arrived(sent);
    await simulator.webhooksIdle();
  }
  await simulator.control('POST', '/clock', { advance_ms: 30_000 });
  await hook.arrived(12 + 9);
  await simulator.webhooksIdle();
  assert.equal(hook.received.length, 21, 'the first nine were still owed a retry; the others were not');
});

test('webhooks leave the machine only when told so, and not at all when switched off', async (t) => {
  for (const [webhooks, url] of [
    ['loopback', 'http://192.0.2.1/'],
    ['none', 'http://127.0.0.1:9/'],
  ] as const) {
    const { plaid } = await start(t, { settings: { webhooks } });
    const { accessToken } = await link(plaid, [Products.Auth], url);
    await plaid.sandboxItemResetLogin({ access_token: accessToken });
    const { webhook_events: events } = (await plaid.betaWebhookEventsList({})).data;
    assert.deepEqual(
      events.map((event) => [event.delivery_status, event.attempt_count]),
      [['FAILED', 0]],
    );
  }
});

test('the log pages, filters and forgets after seven days', async (t) => {
  const { simulator, plaid, hook, itemId } = await linkedWithHook(t);
  for (const webhook_code of ['ERROR', 'LOGIN_REPAIRED', 'ERROR']) {
    await simulator.control('POST', '/webhooks/fire', { item_id: itemId, webhook_code });
  }
  await hook.arrived(3);
  await simulator.webhooksIdle();
  const first = (await plaid.betaWebhookEventsList({ count: 2 })).data;
  const second = (await plaid.betaWebhookEventsList({ count: 2, cursor: first.next_cursor })).data;
  assert.deepEqual(
    [first.webhook_events.length, first.has_more, second.webhook_events.length, second.has_more],
    [2, true, 1, false],
  );
  assert.equal((await plaid.betaWebhookEventsList({ webhook_codes: ['ERROR'] })).data.webhook_events.length, 2);
  assert.ok(first.webhook_events.every((event) => String(event.delivery_status) === 'DELIVERED'));
  await refused(plaid.betaWebhookEventsList({ cursor: 'x' }), 'WEBHOOK_EVENTS_CURSOR_EXPIRED');
  await refused(
    plaid.betaWebhookEventsList({ start_time: '2020-01-01T00:00:00Z' }),
    'WEBHOOK_EVENTS_START_TIME_OUT_OF_RANGE',
  );
  await simulator.control('POST', '/clock', { advance_ms: 8 * 86_400_000 });
  assert.equal((await plaid.betaWebhookEventsList({})).data.webhook_events.length, 0);
});

test('an item without a webhook URL has none to fire; changing the URL is acknowledged at the new one', async (t) => {
  const { plaid } = await start(t);
  const { accessToken: access_token } = await link(plaid);
  await refused(
    plaid.sandboxItemFireWebhook({ access_token, webhook_code: 'DEFAULT_UPDATE' as never }),
    'SANDBOX_WEBHOOK_INVALID',
  );
  const hook = await receiver(t);
  await plaid.itemWebhookUpdate({ access_token, webhook: hook.url });
  await hook.arrived(1);
  assert.deepEqual(
    [hook.received[0]?.json.webhook_code, hook.received[0]?.json.new_webhook_url],
    ['WEBHOOK_UPDATE_ACKNOWLEDGED', hook.url],
  );
  await refused(plaid.itemWebhookUpdate({ access_token, webhook: 'not a url' }), 'INVALID_FIELD');
  assert.equal((await plaid.itemWebhookUpdate({ access_token, webhook: null as never })).data.item.webhook, null);
});

test('Link tells its results by webhook', async (t) => {
  const { simulator, plaid } = await start(t);
  const hook = await receiver(t);
  const { data } = await plaid.linkTokenCreate({
    client_name: 'c',
    language: 'en',
    country_codes: ['US' as never],
    user: { client_user_id: 'u' },
    products: [Products.Auth],
    webhook: hook.url,
  });
  const { public_token } = await simulator.control<{ public_token: string }>('POST', '/link/complete', {
    link_token: data.link_token,
  });
  await hook.arrived(2);
  const finished = hook.received.find((got) => got.json.webhook_code === 'SESSION_FINISHED');
  assert.deepEqual(finished?.json.public_tokens, [public_token]);
  assert.equal(finished?.json.link_token, data.link_token);
});
