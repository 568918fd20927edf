import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { StrongroomError } from '../../src/base/errors.ts';
import { Keyring } from '../../src/envelope/keyring.ts';
import { createKekFile, fileKms } from '../../src/envelope/kms-file.ts';
import { dataKeyRows, dataKeySummaries, fingerprintKeyRows } from '../../src/store/keys.ts';
import type { Database, Sql } from '../../src/store/sql.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';

const folder = mkdtempSync(join(tmpdir(), 'strongroom-keys-'));
after(() => rmSync(folder, { recursive: true }));
const kekPath = join(folder, 'kek');
before(() => createKekFile(kekPath));

const keyring = async (sql: Sql, rows = dataKeyRows(sql), path = kekPath) =>
  new Keyring({ kms: await fileKms(path), rows, deploymentId: 'a-deployment', environment: 'development' });

/** A database with one key of each purpose, made by the worker. */
async function withKeys(): Promise<{ database: TestDatabase; worker: Database }> {
  const database = await testDatabase();
  const worker = await database.open('worker');
  const ring = await keyring(worker.sql);
  for (const purpose of ['record', 'index', 'fingerprint'] as const) await ring.ensure(purpose);
  return { database, worker };
}

test('keys that the worker made are the same in the gateway, from the database and the KEK alone', async () => {
  const { database, worker } = await withKeys();
  const gateway = await keyring((await database.open('gateway')).reads);
  const ring = await keyring(worker.sql);
  for (const purpose of ['record', 'index', 'fingerprint'] as const) {
    const [here, there] = [await ring.current(purpose), await gateway.current(purpose)];
    assert.equal(here.id, there.id);
    assert.ok(here.key.equals(there.key));
  }
});

test('of many replicas that start at once on an empty database, one makes each key', async () => {
  const database = await testDatabase();
  const replicas = await Promise.all(Array.from({ length: 4 }, () => database.open('worker')));
  const made = await Promise.all(
    replicas.flatMap(({ sql }) => [1, 2].map(async () => (await keyring(sql)).ensure('record'))),
  );
  assert.equal(made.filter(({ created }) => created).length, 1);
  assert.equal(new Set(made.map(({ dataKey }) => dataKey.key.export().toString('hex'))).size, 1);
  assert.equal((await dataKeySummaries(replicas[0]?.sql as Sql)).length, 1);
});

test('before the worker has run, the gateway says that there is no key, and cannot make one', async () => {
  const database = await testDatabase();
  const { sql } = await database.open('gateway');
  const ring = await keyring(sql);
  await assert.rejects(ring.current('record'), { code: 'DATA_KEY_MISSING' });
  await assert.rejects(ring.ensure('record'), { code: 'DATABASE_ROLE_UNFIT' });
});

test('a start with the KEK file of another deployment is told by name', async () => {
  const { worker } = await withKeys();
  const other = join(folder, 'other');
  await createKekFile(other);
  await assert.rejects(
    (await keyring(worker.sql, dataKeyRows(worker.sql), other)).ensure('record'),
    (error: unknown) => {
      assert.ok(error instanceof StrongroomError && error.code === 'KEK_WRONG');
      assert.match(error.message, /wrapped under file:[0-9a-f]{32}; configured is file:[0-9a-f]{32}/);
      return true;
    },
  );
});

test('the database alone gives no key: no wrapped row holds its key, and without the KEK file nothing starts', async () => {
  const { worker } = await withKeys();
  const ring = await keyring(worker.sql);
  const { rows } = await worker.sql.query<{ id: string; whole: string }>(
    'select id, data_keys::text as whole from data_keys',
  );
  for (const { id, whole } of rows) {
    const hex = (await ring.get(id)).key.export().toString('hex');
    for (let at = 0; at + 16 <= hex.length; at += 2) assert.ok(!whole.includes(hex.slice(at, at + 16)));
  }
  await assert.rejects(fileKms(join(folder, 'gone')), { code: 'KEK_MISSING' });
});

test('wrapped keys exchanged between rows give no key', async () => {
  const { database, worker } = await withKeys();
  const owner = await database.open('owner');
  await owner.sql.query(
    `update data_keys set wrapped = (select wrapped from data_keys where purpose = 'index'),
                          key_check = (select key_check from data_keys where purpose = 'index')
      where purpose = 'record'`,
  );
  await assert.rejects((await keyring(worker.sql)).current('record'), { code: 'KMS_REFUSED' });
});

test('the admin role gets the fingerprint key, and neither another key nor a wrapped column', async () => {
  const { database, worker } = await withKeys();
  const { sql } = await database.open('admin');
  const ring = await keyring(sql, fingerprintKeyRows(sql));
  const expected = await (await keyring(worker.sql)).current('fingerprint');
  assert.ok((await ring.current('fingerprint')).key.equals(expected.key));
  await assert.rejects(ring.current('record'), { code: 'DATA_KEY_MISSING' });
  const record = (await dataKeySummaries(sql)).find(({ purpose }) => purpose === 'record');
  await assert.rejects(ring.get(record?.id as string), { code: 'SEAL_BROKEN' });
  for (const text of ['select wrapped from data_keys', 'select * from data_keys']) {
    await assert.rejects(sql.query(text), { code: 'DATABASE_ROLE_UNFIT' });
  }
});

test('nobody but the worker makes keys, and nobody changes or deletes one', async () => {
  const { database } = await withKeys();
  for (const role of ['gateway', 'webhooks', 'admin', 'worker', 'auditor'] as const) {
    const { sql } = await database.open(role);
    for (const text of [`update data_keys set state = 'destroyed'`, 'delete from data_keys', 'truncate data_keys']) {
      await assert.rejects(sql.query(text), { code: 'DATABASE_ROLE_UNFIT' }, `${role}: ${text}`);
    }
    if (role === 'worker') continue;
    await assert.rejects(
      dataKeyRows(sql).insertActive({
        id: randomUUID(),
        purpose: 'record',
        wrapped: Buffer.alloc(61),
        kekId: 'x',
        keyCheck: Buffer.alloc(32),
      }),
      { code: 'DATABASE_ROLE_UNFIT' },
      role,
    );
  }
  const webhooks = await database.open('webhooks');
  await assert.rejects(webhooks.sql.query('select id from data_keys'), { code: 'DATABASE_ROLE_UNFIT' });
  await assert.rejects(webhooks.sql.query('select * from fingerprint_keys()'), { code: 'DATABASE_ROLE_UNFIT' });
});

test('a key destroyed keeps its row and loses its bytes, and no other state does', async () => {
  const { database } = await withKeys();
  const { sql } = await database.open('owner');
  const wrong = [
    `update data_keys set wrapped = null where purpose = 'record'`,
    `update data_keys set state = 'destroyed', destroyed_at = now() where purpose = 'record'`,
    `update data_keys set state = 'suspended' where purpose = 'record'`,
    `update data_keys set activated_at = null where purpose = 'record'`,
    `update data_keys set state = 'expired' where purpose = 'record'`,
  ];
  for (const text of wrong) await assert.rejects(sql.query(text), { code: 'INTERNAL' }, text);
  await sql.query(
    `update data_keys set state = 'destroyed', destroyed_at = now(), wrapped = null where purpose = 'record'`,
  );
});
