import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ENDPOINT_CLASSES, RELEASED_KINDS } from '../../src/access/policy.ts';
import { ENDPOINTS } from '../../src/plaid/endpoints.ts';
import { assertConserved } from '../support/conservation.ts';
import { forTheFile } from '../support/database.ts';
import { assertRefused } from '../support/refusal.ts';
import { send, strongroom } from '../support/strongroom.ts';
import { bodyOf } from '../support/table-bodies.ts';
import { tableFault } from '../support/table-fault.ts';

/**
 * No audit, no access. Whatever keeps an entry from becoming durable, nothing is
 * opened and nothing is sent; and when the log takes entries again, so does the
 * gateway, without a restart.
 */

const kit = await strongroom(forTheFile);
const audit = await tableFault(forTheFile, kit.database, 'audit_groups');
// Everything that can be granted, so that nothing but the log stands in the way.
const app = await kit.application('everything', {
  classes: [...ENDPOINT_CLASSES],
  endpoints: [...new Set(ENDPOINTS.endpoints.map(({ path }) => path))],
  releases: [...RELEASED_KINDS],
});
const { handle } = await app.link();

async function recovered(): Promise<void> {
  for (let n = 0; ; n++) {
    const { status, text } = await app.post('/categories/get', {});
    if (status === 200) return;
    assert.ok(n < 200, `not recovered: ${text}`);
    await sleep(50);
  }
}

/**
 * What a database can say when it does not take a row. What may pass by itself is
 * tried again for five seconds, as with a lock; see below.
 */
const STATES: readonly (readonly [state: string, meaning: string])[] = [
  ['53100', 'the disk is full'],
  ['53200', 'out of memory'],
  ['25006', 'read only, after a failover'],
  ['42501', 'the right to insert was revoked'],
  ['42P01', 'the table is gone'],
  ['23514', 'a check does not hold'],
];

const REFUSED_CALLS: readonly (readonly [path: string, body: () => object])[] = [
  ['/accounts/get', () => ({ access_token: handle })],
  ['/item/public_token/exchange', () => ({ public_token: 'public-sandbox-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0' })],
  ['/item/access_token/invalidate', () => ({ access_token: handle })],
  ['/item/remove', () => ({ access_token: handle })],
  // What would be refused anyway is not told so either: that would be an unrecorded answer.
  ['/accounts/get', () => ({ access_token: handle.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a')) })],
  ['/made/up', () => ({})],
];

for (const [state, meaning] of STATES) {
  test(`${meaning} (${state}): AUDIT_UNAVAILABLE, nothing is sent, and back without a restart`, async () => {
    const before = (await kit.reached()).length;
    await audit.refuse(state);
    for (const [path, body] of REFUSED_CALLS) {
      const answer = await app.post(path, body());
      assertRefused(answer, 'AUDIT_UNAVAILABLE');
      assert.equal(answer.headers['retry-after'], '1');
    }
    assert.equal((await kit.reached()).length, before);
    await audit.mend();
    await recovered();
    await assertConserved(kit, { settled: false });
  });
}

test('without the log no endpoint of the table sends anything; with it these same calls go out', async () => {
  const calls = ENDPOINTS.endpoints
    .filter(({ effect, method, path }) => effect !== 'remove' && method === 'POST' && !path.includes('reset_login'))
    .map((endpoint) => {
      const places = endpoint.tokensIn.filter(({ kinds }) => kinds.includes('access'));
      return { path: endpoint.path, body: bodyOf(Object.fromEntries(places.map(({ path }) => [path, handle]))) };
    });
  const callAll = async () => {
    const answers = [];
    for (let at = 0; at < calls.length; at += 16)
      answers.push(
        ...(await Promise.all(calls.slice(at, at + 16).map(async ({ path, body }) => app.post(path, body)))),
      );
    return answers;
  };
  const before = (await kit.reached()).length;
  await audit.refuse('53100');
  for (const answer of await callAll()) assertRefused(answer, 'AUDIT_UNAVAILABLE');
  assert.equal((await kit.reached()).length, before);
  await audit.mend();
  await recovered();
  await callAll();
  const sent = (await kit.reached()).length - before;
  assert.ok(sent > calls.length * 0.9, `${sent} of ${calls.length} calls go out with the log`);
});

test('callers that are not known, health and readiness need no entry', async () => {
  await audit.refuse('53100');
  assertRefused(await app.post('/accounts/get', { access_token: handle }), 'AUDIT_UNAVAILABLE');
  assertRefused(await send(kit.url, '/accounts/get', { access_token: handle }), 'CREDENTIALS_REFUSED');
  assert.equal((await fetch(`${kit.url}/healthz`)).status, 200);
  await audit.mend();
  await recovered();
});

const CREATED = { institution_id: 'ins_109508', initial_products: ['transactions'] };
const publicToken = async () => String((await app.post('/sandbox/public_token/create', CREATED)).body.public_token);

/** Entries that come before a call is sent, beside the admission itself. */
const INTENTS: readonly (readonly [kind: string, path: string, body: () => Promise<object>])[] = [
  ['exchange.intended', '/item/public_token/exchange', async () => ({ public_token: await publicToken() })],
  ['rotation.intended', '/item/access_token/invalidate', async () => ({ access_token: (await app.link()).handle })],
  ['removal.intended', '/item/remove', async () => ({ access_token: (await app.link()).handle })],
];

for (const [kind, path, prepare] of INTENTS) {
  test(`a log that refuses ${kind}: nothing is sent, nothing stays claimed, and the same call works afterwards`, async () => {
    const body = await prepare();
    const before = (await kit.reached()).length;
    await audit.refuse('53100', kind);
    assertRefused(await app.post(path, body), 'AUDIT_UNAVAILABLE');
    assert.equal((await kit.reached()).length, before);
    await audit.mend();
    await recovered();
    const answer = await app.post(path, body);
    assert.equal(answer.status, 200, answer.text);
    await assertConserved(kit);
  });
}

/** Entries about what has happened: their absence stops nothing that is done, and they are written later. */
const AFTERWARDS: readonly (readonly [kind: string, path: string, body: () => Promise<object>])[] = [
  ['record.sealed', '/item/public_token/exchange', async () => ({ public_token: await publicToken() })],
  ['record.sealed', '/item/access_token/invalidate', async () => ({ access_token: (await app.link()).handle })],
  ['record.shredded', '/item/remove', async () => ({ access_token: (await app.link()).handle })],
  ['rotation.settled', '/item/access_token/invalidate', async () => ({ access_token: (await app.link()).handle })],
  ['removal.settled', '/item/remove', async () => ({ access_token: (await app.link()).handle })],
  ['exchange.settled', '/item/public_token/exchange', async () => ({ public_token: await publicToken() })],
  ['access.outcome', '/accounts/get', async () => ({ access_token: handle })],
];

for (const [kind, path, prepare] of AFTERWARDS) {
  test(`a log that refuses ${kind} of ${path}: what Plaid has done stands, and the entry is written later`, async () => {
    const body = await prepare();
    const count = async () => (await kit.entries(kind)).length;
    const before = await count();
    await audit.refuse('53100', kind);
    const answer = await app.post(path, body);
    assert.equal(answer.status, 200, answer.text);
    await audit.mend();
    await recovered();
    await assertConserved(kit);
    for (let n = 0; (await count()) <= before; n++) {
      assert.ok(n < 100, 'the entry is written');
      await sleep(50);
    }
  });
}

test('a log that is locked: callers wait a bounded time, then AUDIT_UNAVAILABLE', async () => {
  const owner = await kit.database.open('owner', { poolSize: 1 });
  const before = (await kit.reached()).length;
  await owner.transaction(async (sql) => {
    await sql.query('lock table audit_groups in exclusive mode');
    const started = performance.now();
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => app.post('/accounts/get', { access_token: handle })),
    );
    for (const answer of answers) assertRefused(answer, 'AUDIT_UNAVAILABLE');
    const ms = performance.now() - started;
    assert.ok(ms < 14_000, `after ${Math.round(ms)} ms`);
  }, {});
  await owner.close();
  assert.equal((await kit.reached()).length, before);
  await recovered();
});

test('the log says itself that it was away, and how many were refused', async () => {
  await kit.stop();
  const recoveries = await kit.entries('writer.recovered');
  assert.ok(recoveries.length >= STATES.length, `${recoveries.length} recoveries`);
  const shed = await kit.entries('audit.shed');
  const refused = shed.reduce((sum, entry) => sum + Number(entry.callers), 0);
  assert.ok(refused >= STATES.length * REFUSED_CALLS.length, `${refused} refused callers`);
  assert.equal(
    shed.reduce((sum, entry) => sum + Number(entry.notes), 0),
    0,
    'no note was lost',
  );
  // An admission has its outcome, but for those that arrived after their callers had been refused.
  const late = recoveries.reduce((sum, { landed, entries }) => sum + (landed === true ? Number(entries) : 0), 0);
  const open = (await kit.entries('access.admitted')).length - (await kit.entries('access.outcome')).length;
  assert.ok(open >= 0 && open <= late, `${open} admissions without an outcome, ${late} late entries`);
});
