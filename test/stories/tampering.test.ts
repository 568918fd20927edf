import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ENDPOINT_CLASSES } from '../../src/access/policy.ts';
import { dataKeyIdOf, isSealedFor, open, type RecordBinding } from '../../src/envelope/envelope.ts';
import { Keyring } from '../../src/envelope/keyring.ts';
import { fileKms } from '../../src/envelope/kms-file.ts';
import { dataKeyRows } from '../../src/store/keys.ts';
import { recordById, type StoredRecord } from '../../src/store/records.ts';
import type { Database } from '../../src/store/sql.ts';
import { admissionFor } from '../envelope/support.ts';
import { type App, type Kit, refusedWith, strongroom } from '../support/strongroom.ts';

/** Somebody who may write everything to the database, and holds no key. */

test('with any byte of a sealed record flipped it does not open', async (t) => {
  const { kit, owner, held } = await start(t);
  const record = await held();
  const { dataKey, binding } = await keyOf(kit, owner, record);
  const admission = await admissionFor(record.recordId);
  const sealed = record.sealed as Buffer;
  assert.match(open(dataKey, binding, sealed, admission).reveal(), /^access-sandbox-/);

  const broken = { code: 'SEAL_BROKEN' };
  for (let at = 0; at < sealed.length; at++) {
    for (const bits of [0x01, 0x80, 0xff]) {
      const altered = Buffer.from(sealed);
      altered[at] = (altered[at] as number) ^ bits;
      assert.throws(() => open(dataKey, binding, altered, admission), broken, `byte ${at}`);
      assert.equal(isSealedFor(dataKey, binding, altered), false, `byte ${at}`);
    }
    assert.throws(() => open(dataKey, binding, sealed.subarray(0, at), admission), broken, `${at} bytes`);
  }
  assert.throws(() => open(dataKey, binding, Buffer.concat([sealed, Buffer.alloc(1)]), admission), broken);
});

test('the gateway refuses an altered ciphertext, sends nothing, and goes on when it is put back', async (t) => {
  const { kit, app, owner, handle, held } = await start(t);
  const { sealed: good } = await held();
  assert.ok(good !== null);
  const sent = (await kit.reached()).length;
  // Magic, suite, data key, salt, commitment, nonce, ciphertext, tag: the ends of each, and a few between.
  for (const at of [0, 4, 5, 20, 21, 52, 53, 84, 85, 96, 97, good.length - 17, good.length - 16, good.length - 1]) {
    const altered = Buffer.from(good);
    altered[at] = (altered[at] as number) ^ 0x20;
    await owner.sql.query('update secrets set sealed = $1', [altered]);
    refusedWith(await app.post('/accounts/get', { access_token: handle }), 'SEAL_BROKEN', 500);
  }
  for (const sealed of [Buffer.alloc(1), good.subarray(0, -1), Buffer.concat([good, good])]) {
    await owner.sql.query('update secrets set sealed = $1', [sealed]);
    refusedWith(await app.post('/accounts/get', { access_token: handle }), 'SEAL_BROKEN', 500);
  }
  assert.equal((await kit.reached()).length, sent);
  const outcomes = (await kit.entries('access.outcome')).filter(({ code }) => code === 'SEAL_BROKEN');
  assert.equal(outcomes.length, 17, 'each attempt is in the log');

  await owner.sql.query('update secrets set sealed = $1', [good]);
  assert.equal((await app.post('/accounts/get', { access_token: handle })).status, 200);
});

test('ciphertexts swapped between two records open in neither', async (t) => {
  const { app, owner, handle, held } = await start(t);
  const mine = await held();
  const other = await app.link();
  await owner.sql.query(
    `update secrets a set sealed = b.sealed, data_key_id = b.data_key_id, fingerprint = a.fingerprint
       from secrets b where a.record_id <> b.record_id`,
  );
  for (const access_token of [handle, other.handle])
    refusedWith(await app.post('/accounts/get', { access_token }), 'SEAL_BROKEN');
  // Nor does a rotation or a removal do anything with what it cannot open.
  refusedWith(await app.post('/item/access_token/invalidate', { access_token: handle }), 'SEAL_BROKEN');
  refusedWith(await app.post('/item/remove', { access_token: handle }), 'SEAL_BROKEN');
  assert.equal((await recordById(owner.sql, mine.recordId))?.state, 'active');
});

test('an old ciphertext does not open in a newer row', async (t) => {
  const { app, owner, handle, held } = await start(t);
  const { sealed: old } = await held();
  assert.equal((await app.post('/item/access_token/invalidate', { access_token: handle })).status, 200);
  await owner.sql.query('update secrets set sealed = $1', [old]);
  refusedWith(await app.post('/accounts/get', { access_token: handle }), 'SEAL_BROKEN');
});

test('a ciphertext opens for its record, kind, version, Plaid client and deployment only', async (t) => {
  const { kit, app, owner, handle, held } = await start(t);
  const record = await held();
  const alter = (change: string) =>
    owner.sql.query(`update secrets set ${change} where record_id = $1`, [record.recordId]);
  const sent = (await kit.reached()).length;

  await alter('version = 2');
  refusedWith(await app.post('/accounts/get', { access_token: handle }), 'SEAL_BROKEN');
  await alter(`version = 1, kind = 'report'`);
  refusedWith(await app.post('/accounts/get', { access_token: handle }), 'HANDLE_KIND_WRONG');
  refusedWith(await app.post('/asset_report/get', { asset_report_token: handle }), 'SEAL_BROKEN');
  await alter(`kind = 'access', plaid_client_id = '${'e1'.repeat(12)}'`);
  refusedWith(await app.post('/accounts/get', { access_token: handle }), 'HANDLE_UNKNOWN');
  await alter(`plaid_client_id = '${record.plaidClientId}'`);
  // A new id for the row is a new handle; the old one is unknown, and the new one is nobody's to make.
  await alter(`record_id = '00000000-0000-4000-8000-000000000000', handle_hash = handle_hash`).catch(() => {});
  assert.equal((await kit.reached()).length, sent);

  const { dataKey, binding } = await keyOf(kit, owner, record);
  const elsewhere: Partial<RecordBinding>[] = [
    { deploymentId: 'other' },
    { plaidEnvironment: 'production' },
    { plaidClientId: 'e1'.repeat(12) },
    { recordId: '00000000-0000-4000-8000-000000000000' as RecordBinding['recordId'] },
    { kind: 'report' },
    { version: 2 },
  ];
  for (const change of elsewhere)
    assert.equal(isSealedFor(dataKey, { ...binding, ...change }, record.sealed as Buffer), false);
  assert.equal(isSealedFor(dataKey, binding, record.sealed as Buffer), true);
});

test('with the handles of two items swapped neither is served as the other', async (t) => {
  const { kit, app, owner, handle } = await start(t);
  const other = await app.link();
  await swapHandles(owner);
  const sent = (await kit.reached()).length;
  for (const access_token of [handle, other.handle]) {
    refusedWith(await app.post('/item/get', { access_token }), 'SEAL_BROKEN');
  }
  assert.equal((await kit.reached()).length, sent);
});

async function swapHandles(owner: Database): Promise<void> {
  const { rows } = await owner.sql.query<{ id: string; hash: Buffer }>(
    'select record_id as id, handle_hash as hash from secrets',
  );
  const [a, b] = rows;
  await owner.sql.query('update secrets set handle_hash = $2 where record_id = $1', [a?.id, Buffer.alloc(16)]);
  await owner.sql.query('update secrets set handle_hash = $2 where record_id = $1', [b?.id, a?.hash]);
  await owner.sql.query('update secrets set handle_hash = $2 where record_id = $1', [a?.id, b?.hash]);
}

interface Started {
  readonly kit: Kit;
  readonly app: App;
  readonly owner: Database;
  readonly handle: string;
  /** The one record as it stands. */
  held(): Promise<StoredRecord>;
}

async function start(t: TestContext): Promise<Started> {
  const kit = await strongroom(t);
  const app = await kit.application('app', { classes: [...ENDPOINT_CLASSES] });
  const { handle } = await app.link(['assets', 'transactions']);
  const owner = await kit.database.open('owner');
  const { rows } = await owner.sql.query<{ id: StoredRecord['recordId'] }>('select record_id as id from secrets');
  const [{ id }] = rows as [{ id: StoredRecord['recordId'] }];
  const held = async () => (await recordById(owner.sql, id)) ?? assert.fail('the record is gone');
  return { kit, app, owner, handle, held };
}

/** The true data key of a record and what the record is bound to. */
async function keyOf({ config }: Kit, owner: Database, record: StoredRecord) {
  const keyring = new Keyring({
    kms: await fileKms(config.kms.file?.path ?? ''),
    rows: dataKeyRows(owner.sql),
    deploymentId: config.deployment.id,
    environment: config.deployment.environment,
  });
  const { plaidClientId, recordId, kind, version } = record;
  const binding: RecordBinding = {
    deploymentId: config.deployment.id,
    plaidEnvironment: config.plaid.environment,
    plaidClientId,
    recordId,
    kind,
    version,
  };
  return { dataKey: await keyring.get(dataKeyIdOf(record.sealed as Buffer)), binding };
}
