import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codeOf } from '../../src/base/errors.ts';
import { compareStamp, readStamp, requireSameStamp, type Stamp, stampOnce } from '../../src/store/deployment.ts';
import { isCheckViolation, isPermissionDenied } from '../../src/store/sql-errors.ts';
import { testDatabase } from '../support/database.ts';

const STAMP: Stamp = {
  deploymentId: 'staging-eu',
  environment: 'staging',
  plaidEnvironment: 'sandbox',
  kekId: 'file:0123456789abcdef',
  plaidClients: [
    { clientId: 'b'.repeat(24), secretFingerprint: Buffer.alloc(32, 2) },
    { clientId: 'a'.repeat(24), secretFingerprint: Buffer.alloc(32, 1) },
  ],
};

test('the first stamp stays, every role reads it, and the order of clients means nothing', async () => {
  const database = await testDatabase();
  const worker = await database.open('worker');
  assert.equal(await readStamp(worker.sql), null);
  await stampOnce(worker, STAMP);
  const again = await stampOnce(worker, { ...STAMP, deploymentId: 'another', plaidClients: [] });
  assert.equal(again.deploymentId, 'staging-eu');
  assert.equal(again.plaidClients.length, 2);
  for (const role of ['gateway', 'webhooks', 'admin', 'worker', 'auditor'] as const) {
    const stored = await readStamp((await database.open(role)).reads);
    assert.ok(stored !== null && stored.stampedAt instanceof Date);
    assert.deepEqual(compareStamp(stored, STAMP), []);
    requireSameStamp(stored, STAMP);
  }
});

test('of replicas that stamp at once one does, and all see the same', async () => {
  const database = await testDatabase();
  const replicas = await Promise.all([1, 2, 3, 4].map(() => database.open('worker')));
  const stamps = await Promise.all(
    replicas.map((replica, i) => stampOnce(replica, { ...STAMP, deploymentId: `replica-${i}` })),
  );
  assert.equal(new Set(stamps.map(({ deploymentId }) => deploymentId)).size, 1);
  assert.ok(stamps.every(({ plaidClients }) => plaidClients.length === 2));
});

test('every difference is named, and a secret is never shown', () => {
  const other: Stamp = {
    deploymentId: 'production-eu',
    environment: 'production',
    plaidEnvironment: 'production',
    kekId: 'file:fedcba9876543210',
    plaidClients: [
      { clientId: 'a'.repeat(24), secretFingerprint: Buffer.alloc(32, 9) },
      { clientId: 'c'.repeat(24), secretFingerprint: Buffer.alloc(32, 3) },
    ],
  };
  assert.deepEqual(
    compareStamp(STAMP, other).map(({ field }) => field),
    ['deployment.id', 'deployment.environment', 'plaid.environment', 'kms', 'plaid.clients', 'plaid.secret'],
  );
  assert.throws(
    () => requireSameStamp(STAMP, other),
    (error) => {
      assert.equal(codeOf(error), 'STAMP_MISMATCH');
      assert.match((error as Error).message, /deployment\.id is production-eu, the database has staging-eu/);
      assert.ok(!(error as Error).message.includes('0909'));
      return true;
    },
  );
  assert.deepEqual(compareStamp(STAMP, { ...STAMP, plaidClients: [...STAMP.plaidClients].reverse() }), []);
});

test('nobody changes or removes a stamp, and only the worker writes one', async () => {
  const database = await testDatabase();
  const worker = await database.open('worker');
  await stampOnce(worker, STAMP);
  for (const role of ['gateway', 'webhooks', 'admin', 'worker', 'auditor'] as const) {
    const { sql } = await database.open(role);
    for (const text of [
      `update deployment set kek_id = 'mine'`,
      'delete from deployment',
      'truncate deployment, deployment_plaid_clients',
      `update deployment_plaid_clients set secret_fingerprint = '\\x00'`,
      'delete from deployment_plaid_clients',
    ]) {
      await assert.rejects(sql.query(text), isPermissionDenied, `${role}: ${text}`);
    }
  }
  const gateway = await (await testDatabase()).open('gateway');
  await assert.rejects(stampOnce(gateway, STAMP), isPermissionDenied);
});

test('the database itself refuses environments that do not go together, and a second row', async () => {
  const database = await testDatabase();
  const worker = await database.open('worker');
  for (const stamp of [
    { ...STAMP, environment: 'production', plaidEnvironment: 'sandbox' },
    { ...STAMP, environment: 'development', plaidEnvironment: 'production' },
  ] as Stamp[]) {
    await assert.rejects(stampOnce(worker, stamp), (error) => isCheckViolation(error));
  }
  const owner = await database.open('owner');
  await stampOnce(owner, STAMP);
  await assert.rejects(
    owner.sql.query(`insert into deployment (only_one, deployment_id, environment, plaid_environment, kek_id)
                     values (false, 'x', 'staging', 'sandbox', 'k')`),
    (error) => isCheckViolation(error),
  );
});
