import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { codeOf } from '../../src/base/errors.ts';
import type { ApplicationId } from '../../src/base/ids.ts';
import {
  applicationRow,
  disableApplication,
  freezeApplication,
  insertApplication,
  keyExists,
  liftFreezes,
  listApplications,
  loadApplication,
  lockApplication,
  replaceKey,
  replacePolicy,
  versionsOf,
} from '../../src/store/applications.ts';
import type { Database } from '../../src/store/sql.ts';
import { isPermissionDenied, isUniqueViolation } from '../../src/store/sql-errors.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';

let database: TestDatabase;
let gateway: Database;
let admin: Database;

before(async () => {
  database = await testDatabase();
  gateway = await database.open('gateway');
  admin = await database.open('admin');
});
after(() => database.close());

let named = 0;
const digest = (n: number) => Buffer.alloc(32, n);

async function add(name = `application ${named++}`): Promise<ApplicationId> {
  const id = randomUUID().replaceAll('-', '').slice(0, 24) as ApplicationId;
  await insertApplication(admin.sql, {
    id,
    name,
    plaidClientId: 'client',
    policy: { classes: ['item'] },
    keyId: randomUUID(),
    keySha256: digest(1),
  });
  return id;
}

const version = async (id: string) => (await versionsOf(gateway.reads, [id])).get(id);

function changeKey(id: string, sha256: Buffer, replaces: 'older' | 'newer' | null = null, oldKeyValidSeconds = 60) {
  return admin.transaction(async (sql) => {
    await lockApplication(sql, id);
    return await replaceKey(sql, id, { keyId: randomUUID(), keySha256: sha256, oldKeyValidSeconds, replaces });
  });
}

/** First bytes of the stored digests, the ending ones first. */
async function keysOf(id: string): Promise<(number | undefined)[]> {
  const loaded = await loadApplication(gateway.sql, id);
  return (loaded?.keys ?? [])
    .toSorted((a, b) => (a.expiresAt ?? Infinity) - (b.expiresAt ?? Infinity))
    .map((key) => key.sha256[0]);
}

test('the gateway loads an application whole: policy, keys, freezes, state', async () => {
  const id = await add('shop');
  assert.equal(await freezeApplication(gateway.sql, id, 'item', 'distinct_items_per_hour'), true);
  const loaded = await loadApplication(gateway.sql, id);
  assert.ok(loaded);
  assert.deepEqual(
    [loaded.id, loaded.name, loaded.plaidClientId, loaded.policy, loaded.disabled, [...loaded.frozen]],
    [id, 'shop', 'client', { classes: ['item'] }, false, ['item']],
  );
  assert.equal(loaded.keys.length, 1);
  assert.deepEqual(loaded.keys[0]?.sha256, digest(1));
  assert.equal(loaded.keys[0]?.expiresAt, null);
  assert.equal(await loadApplication(gateway.sql, 'f'.repeat(24)), null);
});

test('every change raises the version, and a change of nothing does not', async () => {
  const id = await add();
  let last = (await version(id)) as number;
  const raised = async (what: string, change: () => Promise<unknown>) => {
    await change();
    const now = (await version(id)) as number;
    assert.ok(now > last, what);
    last = now;
  };
  await raised('policy', () => replacePolicy(admin.sql, id, { classes: [] }));
  await raised('key', () => changeKey(id, digest(2)));
  await raised('freeze', () => freezeApplication(gateway.sql, id, 'removal', 'removals_per_day'));
  assert.equal(await freezeApplication(gateway.sql, id, 'removal', 'again'), false);
  assert.equal(await version(id), last);
  await replacePolicy(admin.sql, id, { classes: [] });
  assert.equal(await version(id), last);
  await raised('unfreeze', async () => assert.deepEqual(await liftFreezes(admin.sql, id, null), ['removal']));
  await raised('disabling', () => disableApplication(admin.sql, id));
});

test('versions of many come in one round trip; who does not exist is not among them', async () => {
  const ids = [await add(), await add(), await add()];
  const versions = await versionsOf(gateway.reads, [...ids, 'f'.repeat(24), "'; drop table applications; --"]);
  assert.deepEqual([...versions.keys()].sort(), [...ids].sort());
  assert.equal((await versionsOf(gateway.reads, [])).size, 0);
});

test('during a change two keys are valid, and never three', async () => {
  const id = await add();
  assert.equal(await changeKey(id, digest(2)), 2);
  assert.deepEqual(await keysOf(id), [1, 2]);
  assert.equal(await changeKey(id, digest(3)), 'two_valid');
  assert.deepEqual(await keysOf(id), [1, 2]);
  const insert = `insert into application_keys (application_id, slot, key_id, key_sha256)
                  values ($1, 2, gen_random_uuid(), $2)`;
  await assert.rejects(admin.sql.query(insert, [id, digest(9)]));
});

test('the newer key can be replaced when nobody has it, without touching the one in use', async () => {
  const id = await add();
  await changeKey(id, digest(2));
  assert.equal(await changeKey(id, digest(3), 'newer'), 2);
  assert.deepEqual(await keysOf(id), [1, 3]);
  assert.equal(await changeKey(id, digest(4), 'older'), 2);
  assert.deepEqual(await keysOf(id), [3, 4]);
});

test('an expired key makes room by itself, and an old key can be ended at once', async () => {
  const id = await add();
  await changeKey(id, digest(2));
  const owner = await database.open('owner');
  await owner.sql.query("update application_keys set expires_at = now() - interval '1 s' where expires_at is not null");
  assert.equal(await changeKey(id, digest(3)), 2);
  assert.deepEqual(await keysOf(id), [2, 3]);
  assert.equal(await changeKey(id, digest(4), 'older', 0), 1);
  assert.deepEqual(await keysOf(id), [4]);
});

test('of two key changes at once one wins and the other is told', async () => {
  const id = await add();
  const outcomes = await Promise.all([changeKey(id, digest(2)), changeKey(id, digest(3))]);
  assert.deepEqual(outcomes.toSorted(), [2, 'two_valid']);
  assert.equal((await keysOf(id)).length, 2);
});

test('disabled is for good, also for whoever has the admin login', async () => {
  const id = await add();
  await disableApplication(admin.sql, id);
  await admin.sql.query('update applications set disabled_at = null where id = $1', [id]);
  assert.equal((await loadApplication(gateway.sql, id))?.disabled, true);
  const at = (await applicationRow(admin.sql, id))?.disabledAt;
  await disableApplication(admin.sql, id);
  assert.equal((await applicationRow(admin.sql, id))?.disabledAt, at);
});

test('a name is taken once', async () => {
  await add('twice');
  await assert.rejects(add('twice'), (error) => isUniqueViolation(error, 'applications_name_key'));
});

test('what people see has no digest of a key in it', async () => {
  const id = await add();
  await changeKey(id, digest(2));
  const listed = JSON.stringify(await listApplications(admin.sql));
  assert.ok(listed.includes(id));
  for (const n of [1, 2]) assert.ok(!listed.includes(digest(n).toString('hex')));
  const row = await applicationRow(admin.sql, id);
  assert.equal(row?.keys.length, 2);
  assert.notEqual(row?.keys[0]?.expiresAt, null);
  assert.equal(await keyExists(admin.sql, id, row?.keys[0]?.keyId as string), true);
  assert.equal(await keyExists(admin.sql, id, randomUUID()), false);
});

test('each database role may do its own part and no more', async () => {
  const id = await add();
  await freezeApplication(gateway.sql, id, 'item', 'x');
  const refused: Record<'gateway' | 'admin' | 'worker' | 'auditor' | 'webhooks', string[]> = {
    gateway: [
      `update applications set policy = '{}'`,
      `update applications set version = 1`,
      `insert into application_freezes (application_id, class, reason) values ('${id}', 'user', 'x')`,
      'delete from application_freezes',
      'delete from application_keys',
      `update application_keys set expires_at = null`,
      `insert into applications (id, name, plaid_client_id, policy) values ('${'e'.repeat(24)}', 'e', 'c', '{}')`,
    ],
    admin: [
      'select key_sha256 from application_keys',
      'select * from application_keys',
      `update application_keys set key_sha256 = '\\x00'`,
      'update applications set version = 1',
      'update applications set plaid_client_id = name',
      `select freeze_application('${id}', 'user', 'x')`,
      'delete from applications',
    ],
    worker: [
      'select * from application_keys',
      `update applications set policy = '{}'`,
      'delete from application_freezes',
    ],
    auditor: ['select key_sha256 from application_keys', `update applications set policy = '{}'`],
    webhooks: ['select * from applications', 'select * from application_keys', 'select * from application_freezes'],
  };
  for (const [role, statements] of Object.entries(refused)) {
    const login = await database.open(role as keyof typeof refused);
    for (const statement of statements) {
      await assert.rejects(
        login.sql.query(statement),
        (error) => isPermissionDenied(error) && codeOf(error) === 'DATABASE_ROLE_UNFIT',
        `${role}: ${statement}`,
      );
    }
  }
});
