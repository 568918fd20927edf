import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { digestOf, matchingKey } from '../../src/access/credentials.ts';
import { presetPolicy } from '../../src/access/presets.ts';
import { systemRandom } from '../../src/base/clock.ts';
import { codeOf, type ErrorCode, StrongroomError } from '../../src/base/errors.ts';
import { isApplicationKey } from '../../src/base/ids.ts';
import type { Secret } from '../../src/base/secret.ts';
import { Applications } from '../../src/custody/applications.ts';
import { freezeApplication, listApplications, loadApplication } from '../../src/store/applications.ts';
import type { Database } from '../../src/store/sql.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { Entries } from '../support/entries.ts';

let database: TestDatabase;
let admin: Database;
let gateway: Database;

before(async () => {
  database = await testDatabase();
  admin = await database.open('admin');
  gateway = await database.open('gateway');
});
after(() => database.close());

const POLICY = presetPolicy('read-only', ['10.0.0.0/8']);
const CLIENTS = [{ name: 'main', clientId: 'c'.repeat(24) }];
let named = 0;
const freshName = () => `application ${named++}`;

function setUp(changed: Partial<ConstructorParameters<typeof Applications>[0]> = {}) {
  const entries = new Entries();
  const parts = { database: admin, audit: entries, plaidClients: CLIENTS, random: systemRandom, ...changed };
  return { entries, applications: new Applications(parts) };
}

const refusedWith = (code: ErrorCode) => (error: unknown) => {
  assert.equal(codeOf(error), code);
  return true;
};

/** Whether the gateway would take this key now. */
async function opens(id: string, key: Secret<string>): Promise<boolean> {
  const loaded = await loadApplication(gateway.sql, id);
  return matchingKey(loaded?.keys ?? [], digestOf(key), Date.now()) !== null;
}

test('an added application has one key that works, and the log says who got what', async () => {
  const { applications, entries } = setUp();
  const name = freshName();
  const { application, key, keyId } = await applications.add({ name, policy: POLICY }, 'tester');
  assert.match(application.id, /^[0-9a-f]{24}$/);
  assert.equal(application.plaidClientId, CLIENTS[0]?.clientId);
  assert.ok(isApplicationKey(key.reveal()));
  assert.equal(await opens(application.id, key), true);
  assert.deepEqual(
    application.keys.map((held) => held.keyId),
    [keyId],
  );
  assert.deepEqual(entries.kinds(), ['application.created']);
  assert.equal(entries.seen[0]?.fields.name, name);
  assert.ok(!JSON.stringify([entries.seen, await listApplications(admin.sql)]).includes(key.reveal()));
});

test('a key change lets both keys in for a while, and then the new one only', async () => {
  const { applications, entries } = setUp();
  const { application, key: first } = await applications.add({ name: freshName(), policy: POLICY }, 'tester');
  const { key: second } = await applications.rotateKey(application.id, {}, 'tester');
  assert.deepEqual([await opens(application.id, first), await opens(application.id, second)], [true, true]);
  await assert.rejects(applications.rotateKey(application.id, {}, 'tester'), refusedWith('KEYS_AT_LIMIT'));

  const { key: third } = await applications.rotateKey(
    application.id,
    { replaces: 'older', oldKeyValidSeconds: 0 },
    'tester',
  );
  const works = await Promise.all([first, second, third].map((key) => opens(application.id, key)));
  assert.deepEqual(works, [false, false, true]);
  assert.deepEqual(
    entries.of('application.key_rotated').map((fields) => fields.valid_keys),
    [2, 1],
  );
});

test('names that could hide something or pass for an id are refused', async () => {
  const { applications } = setUp();
  for (const name of [
    '',
    ' ',
    ' a',
    'a ',
    'a\r\nb',
    'a\u001b[2Kb',
    'a\u202eb',
    'a\u2066b',
    'a\u200bb',
    'a\u0000b',
    'a\tb',
    'a\u2028b',
    'a\ud800',
    '<b>',
    'a;b',
    'a'.repeat(65),
    'a'.repeat(24),
    '-rf',
    '../x',
  ]) {
    await assert.rejects(
      applications.add({ name, policy: POLICY }, 'tester'),
      refusedWith('INPUT_INVALID'),
      JSON.stringify(name),
    );
  }
  for (const name of ['Zahlungen für Köln', '支払い', 'pay-roll_2.0 @ eu/west', 'a']) {
    await applications.add({ name, policy: POLICY }, 'tester');
  }
});

test('two spellings of one name are one name', async () => {
  const { applications } = setUp();
  await applications.add({ name: 'Zoe\u0308', policy: POLICY }, 'tester');
  await assert.rejects(
    applications.add({ name: 'Zo\u00eb', policy: POLICY }, 'tester'),
    refusedWith('APPLICATION_EXISTS'),
  );
});

test('with several Plaid clients one has to be named, and only a configured one', async () => {
  const plaidClients = [...CLIENTS, { name: 'second', clientId: 'd'.repeat(24) }];
  const { applications } = setUp({ plaidClients });
  const add = (plaidClient?: string) => applications.add({ name: freshName(), policy: POLICY, plaidClient }, 'tester');
  await assert.rejects(add(), refusedWith('INPUT_INVALID'));
  await assert.rejects(add('third'), refusedWith('INPUT_INVALID'));
  assert.equal((await add('second')).application.plaidClientId, 'd'.repeat(24));
  assert.equal((await add('c'.repeat(24))).application.plaidClientId, 'c'.repeat(24));
});

test('a policy is replaced as a whole, and the log holds both digests', async () => {
  const { applications, entries } = setUp();
  const { application } = await applications.add({ name: freshName(), policy: POLICY }, 'tester');
  await assert.rejects(applications.setPolicy(application.id, { classes: [] }, 'tester'), refusedWith('INPUT_INVALID'));
  const changed = await applications.setPolicy(application.id, { ...POLICY, classes: ['link'] }, 'tester');
  assert.deepEqual((changed.policy as typeof POLICY).classes, ['link']);
  const [created] = entries.of('application.created');
  const [fields] = entries.of('application.policy_changed');
  assert.equal(fields?.previous_sha256, created?.policy_sha256);
  assert.notEqual(fields?.policy_sha256, fields?.previous_sha256);
});

test('freezes are lifted by class, each with its entry', async () => {
  const { applications, entries } = setUp();
  const { application } = await applications.add({ name: freshName(), policy: POLICY }, 'tester');
  for (const frozen of ['item', 'removal', 'user'])
    await freezeApplication(gateway.sql, application.id, frozen, 'test');
  const left = await applications.unfreeze(application.id, ['item', 'money'], 'tester');
  assert.deepEqual(
    left.freezes.map((freeze) => freeze.class),
    ['removal', 'user'],
  );
  assert.deepEqual((await applications.unfreeze(application.id, null, 'tester')).freezes, []);
  assert.deepEqual(
    entries.of('application.unfrozen').map((fields) => fields.class),
    ['item', 'removal', 'user'],
  );
});

test('a disabled application can be disabled again, and nothing else', async () => {
  const { applications, entries } = setUp();
  const { application } = await applications.add({ name: freshName(), policy: POLICY }, 'tester');
  await applications.disable(application.id, 'tester');
  await applications.disable(application.id, 'tester');
  assert.equal(entries.of('application.disabled').length, 1);
  for (const change of [
    () => applications.rotateKey(application.id, {}, 'tester'),
    () => applications.setPolicy(application.id, POLICY, 'tester'),
    () => applications.unfreeze(application.id, null, 'tester'),
  ]) {
    await assert.rejects(change, refusedWith('APPLICATION_DISABLED'));
  }
});

test('what does not exist is unknown to every operation', async () => {
  const { applications, entries } = setUp();
  const id = 'e'.repeat(24);
  for (const change of [
    () => applications.show(id),
    () => applications.rotateKey(id, {}, 'tester'),
    () => applications.setPolicy(id, POLICY, 'tester'),
    () => applications.disable(id, 'tester'),
    () => applications.unfreeze(id, null, 'tester'),
  ]) {
    await assert.rejects(change, refusedWith('APPLICATION_UNKNOWN'));
  }
  assert.deepEqual(entries.seen, []);
});

test('without an audit entry nothing changes', async () => {
  const { applications, entries } = setUp();
  const { application, key } = await applications.add({ name: freshName(), policy: POLICY }, 'tester');
  await freezeApplication(gateway.sql, application.id, 'item', 'test');
  const before = await applications.show(application.id);
  const count = (await applications.list()).length;
  entries.failure = new StrongroomError('AUDIT_UNAVAILABLE');
  for (const change of [
    () => applications.add({ name: freshName(), policy: POLICY }, 'tester'),
    () => applications.rotateKey(application.id, {}, 'tester'),
    () => applications.setPolicy(application.id, { ...POLICY, classes: ['money'] }, 'tester'),
    () => applications.disable(application.id, 'tester'),
    () => applications.unfreeze(application.id, null, 'tester'),
  ]) {
    await assert.rejects(change, refusedWith('AUDIT_UNAVAILABLE'));
  }
  assert.deepEqual(await applications.show(application.id), before);
  assert.equal((await applications.list()).length, count);
  assert.equal(await opens(application.id, key), true);
});

/** The admin's database, whose next change fails in the given way. `blind`: reading back fails too. */
function faulty(fault: 'not_done' | 'answer_lost', blind: boolean): Database & { armed: boolean } {
  const lost = () => new StrongroomError('DATABASE_UNAVAILABLE', { outcome: 'unknown' });
  let down = false;
  const wrapped = {
    ...admin,
    armed: false,
    sql: {
      query: (...query: Parameters<Database['sql']['query']>) => {
        if (down) throw lost();
        return admin.sql.query(...query);
      },
    } as Database['sql'],
    transaction: async <T>(work: (sql: Database['sql']) => Promise<T>): Promise<T> => {
      if (!wrapped.armed) return admin.transaction(work);
      wrapped.armed = false;
      down = blind;
      try {
        if (fault === 'answer_lost') await admin.transaction(work);
      } finally {
        if (blind) setImmediate(() => setImmediate(() => (down = false)));
      }
      throw lost();
    },
  };
  return wrapped;
}

for (const fault of ['not_done', 'answer_lost'] as const) {
  for (const blind of [false, true]) {
    const how = `${fault}${blind ? ', and nothing can be read back' : ''}`;

    test(`adding (${how}): the caller has a working key, or can add or rotate to get one`, async () => {
      const broken = faulty(fault, blind);
      const { applications } = setUp({ database: broken });
      const name = freshName();
      broken.armed = true;
      const outcome = await applications.add({ name, policy: POLICY }, 'tester').catch((error: unknown) => error);
      const exists = (await listApplications(admin.sql)).find((application) => application.name === name);
      assert.equal(exists !== undefined, fault === 'answer_lost');
      if (fault === 'answer_lost' && !blind) {
        const { application, key } = outcome as Awaited<ReturnType<Applications['add']>>;
        assert.equal(await opens(application.id, key), true);
        return;
      }
      assert.equal(codeOf(outcome), 'DATABASE_UNAVAILABLE');
      assert.equal((outcome as StrongroomError).detail !== null, blind, 'says so when it does not know');
      if (exists === undefined) {
        const { application, key } = await applications.add({ name, policy: POLICY }, 'tester');
        assert.equal(await opens(application.id, key), true);
      } else {
        await assert.rejects(applications.add({ name, policy: POLICY }, 'tester'), refusedWith('APPLICATION_EXISTS'));
        const { key } = await applications.rotateKey(exists.id, { oldKeyValidSeconds: 0 }, 'tester');
        assert.equal(await opens(exists.id, key), true);
      }
    });

    test(`changing a key (${how}): the key in use goes on, and a working new one can be had`, async () => {
      const broken = faulty(fault, blind);
      const { applications } = setUp({ database: broken });
      const { application, key: inUse } = await applications.add({ name: freshName(), policy: POLICY }, 'tester');
      broken.armed = true;
      const outcome = await applications.rotateKey(application.id, {}, 'tester').catch((error: unknown) => error);
      assert.equal(await opens(application.id, inUse), true);
      let fresh: Secret<string>;
      if (fault === 'answer_lost' && !blind) {
        fresh = (outcome as Awaited<ReturnType<Applications['rotateKey']>>).key;
      } else {
        assert.equal(codeOf(outcome), 'DATABASE_UNAVAILABLE');
        ({ key: fresh } = await applications.rotateKey(application.id, { replaces: 'newer' }, 'tester'));
      }
      assert.deepEqual([await opens(application.id, inUse), await opens(application.id, fresh)], [true, true]);
      assert.equal((await applications.show(application.id)).keys.length, 2);
    });
  }
}
