import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { startStrongroom } from '../../src/main.ts';
import { createLog } from '../../src/redaction/logger.ts';
import type { Database } from '../../src/store/sql.ts';
import { doctorOn, findingsOf } from '../support/doctor.ts';
import { type App, type Kit, strongroom } from '../support/strongroom.ts';

/** What an administrator of the database does behind our back, and what `strongroom doctor` says of it. */

test('an installation that is well has no finding, running and stopped, whichever login looks', async (t) => {
  const { kit, first, second, app } = await start(t);
  await app.post('/item/access_token/invalidate', { access_token: first.handle });
  await app.post('/item/remove', { access_token: second.handle });
  await kit.admin('POST', `/applications/${app.id}/keys`, {});
  assert.deepEqual(findingsOf(await doctorOn(kit)), []);
  await kit.stop();
  for (const login of ['auditor', 'admin', 'worker'] as const) {
    const checks = await doctorOn(kit, { logins: [login] });
    assert.deepEqual(findingsOf(checks), [], login);
    assert.equal(checks.keys?.outcome, login === 'worker' ? 'ok' : 'skipped', 'only the worker may unwrap');
  }
  assert.equal((await kit.entries('key.unwrapped')).length > 0, true);
});

interface Case {
  readonly name: string;
  readonly tamper: (sql: Database['sql'], first: string, second: string, app: App) => Promise<unknown>;
  /** `$1` and `$2` stand for the records, `$app` for the application. */
  readonly found: readonly string[];
}

const CASES: readonly Case[] = [
  {
    name: 'a whole row rolled back',
    tamper: (sql, first) =>
      sql.query(
        `update secrets set version = 1, sealed = (select sealed from kept), fingerprint = (select fingerprint from kept)
          where record_id = $1`,
        [first],
      ),
    found: ['records: rolled_back $1'],
  },
  {
    name: 'an old ciphertext in the newer row',
    tamper: (sql, first) =>
      sql.query('update secrets set sealed = (select sealed from kept) where record_id = $1', [first]),
    found: ['records: altered $1'],
  },
  {
    name: 'a row of a version that never was',
    tamper: (sql, first) => sql.query('update secrets set version = 9 where record_id = $1', [first]),
    found: ['records: never_sealed $1'],
  },
  {
    name: 'the handles of two records swapped',
    tamper: async (sql, first, second) => {
      const { rows } = await sql.query<{ hash: Buffer }>(
        'select handle_hash as hash from secrets order by record_id = $1',
        [first],
      );
      await sql.query('update secrets set handle_hash = $2 where record_id = $1', [second, Buffer.alloc(16, 1)]);
      await sql.query('update secrets set handle_hash = $2 where record_id = $1', [first, rows[0]?.hash]);
      await sql.query('update secrets set handle_hash = $2 where record_id = $1', [second, rows[1]?.hash]);
    },
    found: ['records: moved $1', 'records: moved $2'],
  },
  {
    name: 'a record given to another application',
    tamper: async (sql, first) => {
      await sql.query(`insert into applications (id, name, plaid_client_id, policy)
        select '${'ab'.repeat(12)}', 'thief', plaid_client_id, policy from applications`);
      await sql.query(`update secrets set application_id = '${'ab'.repeat(12)}' where record_id = $1`, [first]);
    },
    found: ['records: moved $1', `applications: application ${'ab'.repeat(12)}`],
  },
  {
    name: 'another item, kind or Plaid client in the row',
    tamper: async (sql, first, second) => {
      await sql.query(`update secrets set item_id = 'another' where record_id = $1`, [first]);
      await sql.query(`update secrets set kind = 'report' where record_id = $1`, [second]);
    },
    found: ['records: moved $1', 'records: moved $2'],
  },
  {
    name: 'a row deleted',
    tamper: async (sql, first) => {
      for (const table of ['subjects', 'exchanges', 'operations', 'secrets'])
        await sql.query(`delete from ${table} where record_id = $1`, [first]);
    },
    found: ['records: missing $1'],
  },
  {
    name: 'a ciphertext wiped',
    tamper: (sql, first) =>
      sql.query(`update secrets set state = 'removed', sealed = null, unwitnessed = false where record_id = $1`, [
        first,
      ]),
    found: ['records: emptied $1'],
  },
  {
    name: 'a policy widened by hand',
    tamper: (sql) => sql.query(`update applications set policy = jsonb_set(policy, '{classes}', '["money"]')`),
    found: ['applications: policy $app'],
  },
  {
    name: 'a key replaced by one of their own',
    tamper: (sql) => sql.query(`update application_keys set key_sha256 = sha256('mine')`),
    found: ['applications: key $app'],
  },
  {
    name: 'a second key put in',
    tamper: (sql) =>
      sql.query(`insert into application_keys (application_id, slot, key_id, key_sha256)
        select application_id, 1, gen_random_uuid(), sha256('mine') from application_keys`),
    found: ['applications: key $app'],
  },
  {
    name: 'an audit entry changed',
    tamper: (sql) =>
      unguarded(
        sql,
        'audit_groups',
        `update audit_groups set entries = replace(entries, '/accounts/get', '/auth/getxxxxx')`,
      ),
    found: ['audit log: altered'],
  },
  {
    name: 'audit entries deleted',
    tamper: (sql) => unguarded(sql, 'audit_groups', `delete from audit_groups where entries like '%/accounts/get%'`),
    found: ['audit log: missing'],
  },
  {
    name: 'a guard of the audit log taken off, and a right handed out',
    tamper: async (sql) => {
      await sql.query('alter table audit_groups disable trigger audit_groups_grow');
      await sql.query('grant select on secrets to strongroom_auditor');
    },
    found: ['schema: missing null', 'schema: unexpected null', 'schema: unexpected null'],
  },
];

for (const { name, tamper, found } of CASES) {
  test(`${name}: named`, async (t) => {
    const { kit, app, first, second, owner } = await start(t);
    // A copy of what was there before the rotation, as a backup would have it.
    await owner.sql.query('create table kept as select * from secrets where record_id = $1', [first.record]);
    assert.equal((await app.post('/item/access_token/invalidate', { access_token: first.handle })).status, 200);
    await app.post('/accounts/get', { access_token: first.handle });
    await kit.stop();

    await tamper(owner.sql, first.record, second.record, app);
    await owner.sql.query('drop table kept');
    const checks = await doctorOn(kit);
    const expected = found.map((text) =>
      text.replace('$1', first.record).replace('$2', second.record).replace('$app', app.id),
    );
    // In the log one altered entry may break several places after it; the first is the one that is named here.
    const said = findingsOf(checks).map((text) => (text.startsWith('audit log') ? text.replace(/ [^ ]*$/, '') : text));
    assert.deepEqual([...new Set(said)].sort(), [...new Set(expected)].sort());
    for (const check of Object.values(checks)) if (check.outcome === 'finding') assert.match(check.remedy ?? '', /\.$/);
  });
}

test('a removed item that comes back from a backup is named', async (t) => {
  const { kit, app, first, owner } = await start(t);
  await owner.sql.query('create table kept as select * from secrets where record_id = $1', [first.record]);
  assert.equal((await app.post('/item/remove', { access_token: first.handle })).status, 200);
  await owner.sql.query(
    `update secrets set state = 'active', sealed = (select sealed from kept) where record_id = $1`,
    [first.record],
  );
  await owner.sql.query('drop table kept');
  assert.deepEqual(findingsOf(await doctorOn(kit)), [`records: revived ${first.record}`]);
});

test('a worker tells the log of genuine rows that a crash left untold, and of no others', async (t) => {
  const { kit, first, second, owner } = await start(t);
  await kit.stop();
  const forged = '00000000-0000-4000-8000-000000000001';
  await owner.sql.query(
    `insert into secrets (record_id, handle_hash, kind, application_id, plaid_client_id, item_id, fingerprint, data_key_id, sealed)
     select $2, substr(sha256(handle_hash), 1, 16), kind, application_id, plaid_client_id, item_id, sha256(fingerprint), data_key_id, sealed
       from secrets where record_id = $1`,
    [first.record, forged],
  );
  // And one that was moved: the second account of it contradicts the first.
  await owner.sql.query(`update secrets set item_id = 'another' where record_id = $1`, [second.record]);
  await owner.sql.query(`update secrets set unwitnessed = true, changed_at = now() - interval '1 hour'`);
  const before = (await kit.entries('record.sealed')).length;

  await kit.start();
  await kit.stop(); // ends the sweep that the start began
  const { rows } = await owner.sql.query<{ id: string }>('select record_id as id from secrets where unwitnessed');
  assert.deepEqual(rows, [{ id: forged }]);
  assert.equal((await kit.entries('record.sealed')).length, before + 2);
  assert.deepEqual(
    findingsOf(await doctorOn(kit)).sort(),
    [
      `records: contradicted ${second.record}`,
      `records: moved ${second.record}`,
      `records: never_sealed ${forged}`,
    ].sort(),
  );
});

test('an audit entry that is deleted before it has an index is named, with and without a worker', async (t) => {
  const { kit, app, first, owner } = await start(t);
  await kit.stop();
  // Without a worker nothing gets an index.
  const half = await startStrongroom({
    config: kit.config,
    roles: ['gateway', 'admin'],
    connection: (role) => kit.database.connection(role),
    log: createLog({ write: () => {} }),
  });
  const call = async (path: string) => {
    const headers = { 'content-type': 'application/json', 'plaid-client-id': app.id, 'plaid-secret': app.key };
    const body = JSON.stringify({ access_token: first.handle });
    assert.equal((await fetch(half.gatewayUrl + path, { method: 'POST', headers, body })).status, 200);
  };
  for (const path of ['/item/get', '/accounts/get', '/item/get', '/item/get']) await call(path);
  await half.stop();
  await unguarded(
    owner.sql,
    'audit_groups',
    `delete from audit_groups where entries like '%access.admitted%/accounts/get%'
        and not exists (select from audit_runs r where r.writer = audit_groups.writer and r.first_n >= audit_groups.first_n)`,
  );

  const [found, ...more] = findingsOf(await doctorOn(kit));
  assert.match(String(found), /^audit log: missing [0-9a-f-]{36}$/);
  assert.deepEqual(more, []);
  await kit.start();
  await kit.stop();
  const gaps = await kit.entries('audit.gap');
  assert.deepEqual(
    gaps.map(({ reason }) => reason),
    ['missing'],
    'the sequencer saw it too',
  );
  assert.match(String(findingsOf(await doctorOn(kit))), /^audit log: (recorded|missing)/);
});

test('a rotation whose answer was lost is listed until a person has dealt with it', async (t) => {
  const { kit, app, first } = await start(t);
  await kit.simulator.control('POST', '/faults', { endpoint: '/item/access_token/invalidate', kind: 'answer_lost' });
  const answer = await app.post('/item/access_token/invalidate', { access_token: first.handle });
  assert.equal(answer.body.error_code, 'ROTATION_UNCERTAIN');
  assert.deepEqual(findingsOf(await doctorOn(kit)), [`operations: uncertain ${first.record}`]);
});

/** Guards hold for the owner of the tables too, who can take them off and put them back. */
async function unguarded(sql: Database['sql'], table: string, statement: string): Promise<void> {
  await sql.query(`alter table ${table} disable trigger user`);
  const { rowCount } = await sql.query(statement);
  assert.ok(rowCount > 0, 'nothing was changed');
  await sql.query(`alter table ${table} enable trigger user`);
}

interface Held {
  readonly handle: string;
  readonly record: string;
}

async function start(t: TestContext): Promise<{ kit: Kit; app: App; first: Held; second: Held; owner: Database }> {
  const kit = await strongroom(t);
  const app = await kit.application();
  const owner = await kit.database.open('owner', { poolSize: 1 });
  const link = async (): Promise<Held> => {
    const { handle, itemId } = await app.link();
    const { rows } = await owner.sql.query<{ record: string }>(
      'select record_id as record from secrets where item_id = $1',
      [itemId],
    );
    return { handle, record: rows[0]?.record ?? assert.fail('no record') };
  };
  return { kit, app, first: await link(), second: await link(), owner };
}
