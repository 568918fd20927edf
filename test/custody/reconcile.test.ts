import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reconcileRecords } from '../../src/custody/reconcile.ts';
import { doctorOn, findingsOf } from '../support/doctor.ts';
import { strongroom } from '../support/strongroom.ts';

/** Single cases are in test/stories/tampering-doctor.test.ts; here: pages, archives, and a system under load. */

test('pages of any size find the same', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  for (let i = 0; i < 7; i++) await app.link();
  const owner = await kit.database.open('owner');
  const { rows } = await owner.sql.query<{ id: string }>('select record_id as id from secrets order by 1');
  const [first, , , fourth, , , last] = rows.map(({ id }) => id);
  for (const table of ['subjects', 'exchanges', 'secrets']) {
    await owner.sql.query(`delete from ${table} where record_id = any($1)`, [[first, last]]);
  }
  await owner.sql.query('update secrets set version = 2 where record_id = $1', [fourth]);

  for (const size of [1, 2, 3, 5, 7, 100]) {
    const { compared, drifts, driftsTotal, unproven } = await reconcileRecords(owner.sql, size);
    assert.deepEqual([compared, driftsTotal, unproven], [5, 3, 0], `pages of ${size}`);
    assert.deepEqual(
      drifts.map(({ code, id }) => `${code} ${id}`).sort(),
      [`missing ${first}`, `missing ${last}`, `never_sealed ${fourth}`].sort(),
      `pages of ${size}`,
    );
  }
});

test('what was sealed before the log that is kept is not proven, and not accused either', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  await app.link();
  await kit.stop();
  const owner = await kit.database.open('owner');
  await owner.sql.query('alter table audit_groups disable trigger user');
  await owner.sql.query('delete from audit_groups');
  await owner.sql.query('alter table audit_groups enable trigger user');
  assert.equal((await reconcileRecords(owner.sql)).driftsTotal, 1, 'gone, and nothing says that it was archived');
  await owner.sql.query(`insert into audit_archives (first_index, frontier) values (1, sha256(''))`);
  const { compared, driftsTotal, unproven } = await reconcileRecords(owner.sql);
  assert.deepEqual([compared, driftsTotal, unproven], [1, 0, 1]);
});

test('items that are linked, rotated and removed meanwhile are no finding', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  let looking = true;
  const busy = Array.from({ length: 4 }, async () => {
    while (looking) {
      const { handle } = await app.link();
      for (const path of ['/item/access_token/invalidate', '/item/access_token/invalidate', '/item/remove']) {
        assert.equal((await app.post(path, { access_token: handle })).status, 200);
      }
    }
  });
  try {
    for (let i = 0; i < 3; i++) assert.deepEqual(findingsOf(await doctorOn(kit, { settleMs: 1_000 })), []);
  } finally {
    looking = false;
    await Promise.all(busy);
  }
});
