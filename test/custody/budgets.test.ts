import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { type AccessCall, compilePolicy, decide } from '../../src/access/decide.ts';
import { ANYWHERE, presetPolicy } from '../../src/access/presets.ts';
import { systemRandom } from '../../src/base/clock.ts';
import type { ApplicationId, RecordId } from '../../src/base/ids.ts';
import { Applications } from '../../src/custody/applications.ts';
import { spend } from '../../src/custody/budgets.ts';
import { loadApplication, versionsOf } from '../../src/store/applications.ts';
import type { Database } from '../../src/store/sql.ts';
import { UsageReservations } from '../../src/store/usage.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { Entries } from '../support/entries.ts';

let database: TestDatabase;
let gateway: Database;
let applications: Applications;

before(async () => {
  database = await testDatabase();
  gateway = await database.open('gateway');
  applications = new Applications({
    database: await database.open('admin'),
    audit: new Entries(),
    plaidClients: [{ name: 'main', clientId: 'c'.repeat(24) }],
    random: systemRandom,
  });
});
after(() => database.close());

const BASE = presetPolicy('demo', [...ANYWHERE]);
const POLICY = { ...BASE, budgets: { distinctItemsPerHour: 2, removalsPerDay: 1, rotationsPerDay: 1 }, dayQuota: 8 };

async function setUp() {
  const { application } = await applications.add({ name: `a ${randomUUID()}`, policy: POLICY }, 'tester');
  const entries = new Entries();
  const parts = { usage: new UsageReservations(gateway.sql), sql: gateway.sql, audit: entries };
  const frozen = async () => (await loadApplication(gateway.sql, application.id))?.frozen ?? new Set<string>();
  const call = async (path: string, owned: readonly string[] = []): Promise<AccessCall> => ({
    application: application.id,
    endpoint: { path, class: 'item', listsAll: false, releases: [] },
    source: '192.0.2.1',
    requestId: null,
    records: owned.map((id) => ({ id: id as RecordId, owner: application.id as ApplicationId })),
    subjectOwners: [],
    subjectMissing: false,
    frozen: await frozen(),
  });
  return { id: application.id, entries, parts, call, frozen };
}

test('one item too many freezes that class everywhere, tells once, and a person lifts it', async () => {
  const { id, entries, parts, call, frozen } = await setUp();
  const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()];
  const before = (await versionsOf(gateway.reads, [id])).get(id) as number;
  assert.equal(await spend(parts, POLICY, await call('/accounts/get', [first, second])), null);
  const refused = await Promise.all(
    [1, 2, 3].map(async () => spend(parts, POLICY, await call('/accounts/get', [third]))),
  );
  for (const answer of refused) {
    assert.deepEqual(answer, { ok: false, code: 'BUDGET_EXCEEDED', reason: 'distinct_items_per_hour' });
  }
  assert.deepEqual(entries.seen, [
    {
      kind: 'budget.exceeded',
      fields: { application: id, budget: 'distinct_items_per_hour', class: 'item', limit: 2 },
    },
  ]);
  // What every replica asks for at every request has changed.
  assert.ok(((await versionsOf(gateway.reads, [id])).get(id) as number) > before);
  assert.deepEqual([...(await frozen())], ['item']);
  const known = decide(compilePolicy(POLICY), await call('/accounts/get', [first]));
  assert.deepEqual(known, { ok: false, code: 'BUDGET_EXCEEDED', reason: 'frozen' });

  await applications.unfreeze(id, null, 'tester');
  assert.equal(decide(compilePolicy(POLICY), await call('/accounts/get', [first])).ok, true);
});

test('a removal too many stops removals and leaves reading alone', async () => {
  const { parts, call, frozen } = await setUp();
  assert.equal(await spend(parts, POLICY, await call('/item/remove')), null);
  const refused = await spend(parts, POLICY, await call('/item/remove'));
  assert.equal(refused?.ok === false && refused.reason, 'removals_per_day');
  assert.deepEqual([...(await frozen())], ['removal']);
  assert.equal(decide(compilePolicy(POLICY), await call('/item/get')).ok, true);
  assert.equal(decide(compilePolicy(POLICY), await call('/item/remove')).ok, false);
  assert.equal(await spend(parts, POLICY, await call('/item/access_token/invalidate')), null);
  assert.equal((await spend(parts, POLICY, await call('/item/access_token/invalidate')))?.ok, false);
  assert.deepEqual([...(await frozen())].sort(), ['removal', 'rotation']);
});

test('one call that removes several counts each of them', async () => {
  const { parts, call } = await setUp();
  const refused = await spend(parts, POLICY, await call('/user/items/remove'), 2);
  assert.equal(refused?.ok === false && refused.reason, 'removals_per_day');
});

test('a spent day quota refuses and freezes nothing', async () => {
  const { entries, parts, call, frozen } = await setUp();
  const answers = [];
  for (let i = 0; i < 9; i++) answers.push(await spend(parts, POLICY, await call('/item/get')));
  assert.deepEqual(answers.slice(0, 8), Array(8).fill(null));
  assert.deepEqual(answers[8], { ok: false, code: 'QUOTA_EXCEEDED', reason: 'day_quota' });
  assert.deepEqual(entries.seen, []);
  assert.equal((await frozen()).size, 0);
});
