import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { codeOf } from '../../src/base/errors.ts';
import type { Database } from '../../src/store/sql.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';

let database: TestDatabase;
let first: Database;
let second: Database;

before(async () => {
  database = await testDatabase();
  first = await database.open('worker');
  second = await database.open('worker');
});

test('of two contenders one holds the lock, and the other gets it when it is given back', async () => {
  const held = await first.tryLock('sequencer');
  assert.ok(held !== null);
  assert.equal(await second.tryLock('sequencer'), null);
  const another = await second.tryLock('another name');
  assert.ok(another !== null);
  await held.release();
  await held.release();
  const next = await second.tryLock('sequencer');
  assert.ok(next !== null);
  await Promise.all([next.release(), another.release()]);
});

test('a holder that was cut off learns it, cannot write any more, and somebody else takes over', async () => {
  const held = await first.tryLock('sequencer');
  assert.ok(held !== null);
  const lost = new Promise((resolve) => held.lost.addEventListener('abort', resolve));
  const { rows } = await held.sql.query<{ pid: number }>('select pg_backend_pid() as pid');
  const superuser = await database.open('superuser' as 'owner');
  await superuser.sql.query('select pg_terminate_backend($1, 5000)', [rows[0]?.pid]);

  await lost;
  await assert.rejects(held.sql.query('select 1'), (error) => codeOf(error) === 'DATABASE_UNAVAILABLE');
  await assert.rejects(
    held.transaction((sql) => sql.query('select 1')),
    (error) => codeOf(error) === 'DATABASE_UNAVAILABLE',
  );
  const next = await second.tryLock('sequencer');
  assert.ok(next !== null);
  await next.release();
  await held.release();
});

test('the lock of one database does not hold in another', async () => {
  const other = await testDatabase();
  const held = await first.tryLock('sequencer');
  const elsewhere = await (await other.open('worker')).tryLock('sequencer');
  assert.ok(held !== null && elsewhere !== null);
  await Promise.all([held.release(), elsewhere.release()]);
  await other.close();
});
