import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { Clock } from '../../src/base/clock.ts';
import type { Database, Sql } from '../../src/store/sql.ts';
import { type UsageRequest, UsageReservations, usageOf } from '../../src/store/usage.ts';
import { someApplication } from '../support/applications.ts';
import { testDatabase } from '../support/database.ts';

/** Calls that the database counts ahead for a busy application: a quota is never passed, and nothing stays behind. */

let database: Awaited<ReturnType<typeof testDatabase>>;
let gateway: Database;
let admin: Database;

before(async () => {
  database = await testDatabase();
  gateway = await database.open('gateway');
  admin = await database.open('admin');
});
after(() => database.close());

const application = () => someApplication(admin.sql);

const limits = (calls: number) => ({ calls, items: 1_000_000, removals: 1_000_000, rotations: 1_000_000 });

const call = (applicationId: string, quota: number, change: Partial<UsageRequest> = {}): UsageRequest => ({
  applicationId,
  records: [],
  removals: 0,
  rotations: 0,
  limits: limits(quota),
  ...change,
});

const callsOf = async (id: string) => (await usageOf(admin.sql, id)).calls;

/** A replica whose statements are counted, and fail on demand. */
function replica(clock?: Clock) {
  const state = { sent: 0, failing: false };
  const sql: Sql = {
    query: async (statement, values) => {
      state.sent++;
      if (state.failing) throw new Error('injected');
      return gateway.sql.query(statement, values);
    },
  };
  return { state, usage: new UsageReservations(sql, clock === undefined ? {} : { clock }) };
}

const manyAtOnce = (usage: UsageReservations, id: string, quota: number, count: number) =>
  Promise.all(Array.from({ length: count }, () => usage.reserve(call(id, quota))));

test('a busy application far from its quota: later calls ask nobody, and what did not come is given back', async () => {
  const id = await application();
  const { state, usage } = replica();
  await manyAtOnce(usage, id, 1_000_000, 10);
  assert.equal(await callsOf(id), 10 + 160, 'sixteen ahead for each of the ten');
  state.sent = 0;
  for (let n = 0; n < 100; n++) assert.equal(await usage.reserve(call(id, 1_000_000)), null);
  assert.equal(state.sent, 0);
  assert.equal(await callsOf(id), 170);
  await usage.close();
  assert.equal(await callsOf(id), 110);
});

test('a quiet application is counted call by call', async () => {
  const id = await application();
  const { usage } = replica();
  for (let n = 1; n <= 5; n++) {
    await usage.reserve(call(id, 1_000_000));
    assert.equal(await callsOf(id), n);
  }
  await manyAtOnce(usage, id, 1_000_000, 3);
  assert.equal(await callsOf(id), 8);
});

test('near its quota nothing is counted ahead, and exactly the quota gets through', async () => {
  const id = await application();
  const replicas = [replica(), replica(), replica()];
  const answers = (await Promise.all(replicas.map(({ usage }) => manyAtOnce(usage, id, 500, 300)))).flat();
  assert.equal(answers.filter((exceeded) => exceeded === null).length, 500);
  assert.equal(await callsOf(id), 500);
});

test('over the whole way to the quota, on three replicas: never more, and all of it once nothing is held', async () => {
  const id = await application();
  const quota = 20_000;
  const replicas = [replica(), replica(), replica()];
  let through = 0;
  for (let refused = false; !refused; ) {
    const answers = (await Promise.all(replicas.map(({ usage }) => manyAtOnce(usage, id, quota, 400)))).flat();
    through += answers.filter((exceeded) => exceeded === null).length;
    refused = answers.includes('calls');
    assert.ok(through <= quota, `${through} calls`);
  }
  const held = (await callsOf(id)) - through;
  assert.ok(held >= 0, 'what was let through is counted');
  await Promise.all(replicas.map(({ usage }) => usage.close()));
  assert.equal(await callsOf(id), through, 'what is not held any more is counted once');
  const { usage } = replica();
  for (let n = through; n < quota; n++) assert.equal(await usage.reserve(call(id, quota)), null);
  assert.equal(await usage.reserve(call(id, quota)), 'calls');
});

test('what was counted ahead is good for a second, for its quota, and for calls that count nothing else', async () => {
  const id = await application();
  let now = 0;
  const { state, usage } = replica({ now: () => 0, monotonic: () => now });
  await manyAtOnce(usage, id, 1_000_000, 10);
  const asks = async (request: UsageRequest) => {
    state.sent = 0;
    assert.equal(await usage.reserve(request), null);
    return state.sent > 0;
  };
  const record = randomUUID();
  assert.equal(await asks(call(id, 1_000_000)), false);
  assert.equal(await asks(call(id, 999_999)), true, 'the quota has changed');
  assert.equal(await asks(call(id, 1_000_000, { removals: 1 })), true, 'a removal');
  assert.equal(await asks(call(id, 1_000_000, { rotations: 1 })), true, 'a rotation');
  assert.equal(await asks(call(id, 1_000_000, { records: [record] })), true, 'a record that is not counted yet');
  assert.equal(await asks(call(id, 1_000_000, { records: [record] })), false, 'and one that is');
  now = 999;
  assert.equal(await asks(call(id, 1_000_000)), false);
  now = 1_000;
  assert.equal(await asks(call(id, 1_000_000)), true);
  await usage.close();
});

test('given back by itself when calls stop coming; what cannot be given back stays counted', async () => {
  const id = await application();
  const { usage } = replica();
  await manyAtOnce(usage, id, 1_000_000, 10);
  const deadline = performance.now() + 10_000;
  while ((await callsOf(id)) !== 10 && performance.now() < deadline) await new Promise((next) => setTimeout(next, 50));
  assert.equal(await callsOf(id), 10);

  const other = replica();
  await manyAtOnce(other.usage, id, 1_000_000, 10);
  other.state.failing = true;
  await other.usage.close();
  assert.equal(await callsOf(id), 180, 'a quota is then spent early, never passed');
});

test('no more is given back than stands there, and nothing negative', async () => {
  const id = await application();
  const { usage } = replica();
  await usage.reserve(call(id, 100));
  const { rows } = await admin.sql.query<{ hour: number }>(
    `select (extract(epoch from date_trunc('hour', now(), 'UTC')) / 3600)::integer as hour`,
  );
  const back = (calls: number) => gateway.sql.query('select return_usage($1, $2, $3)', [rows[0]?.hour, id, calls]);
  await back(-50);
  assert.equal(await callsOf(id), 1);
  await back(50);
  assert.equal(await callsOf(id), 0);
});
