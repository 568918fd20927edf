import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { StrongroomError } from '../../src/base/errors.ts';
import { DATABASE_ROLES } from '../../src/store/connection.ts';
import { checkLogin, checkServer, loginFindings } from '../../src/store/server-checks.ts';
import { openSession } from '../../src/store/session.ts';
import type { Database, Sql } from '../../src/store/sql.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';

let database: TestDatabase;
let owner: Database;
let superuser: Database;

before(async () => {
  database = await testDatabase();
  owner = await database.open('owner');
  superuser = await database.open('superuser' as 'owner');
});

function refusal(code: string, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof StrongroomError);
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

/** The real server's answers but for some that we cannot make it give. */
function pretending(answers: Readonly<Record<string, unknown>>): Sql {
  return {
    query: async <R extends object>(...query: Parameters<Sql['query']>) => {
      const { rows, rowCount } = await owner.sql.query<R>(...query);
      const altered = rows.map((row) => {
        const named = row as { name?: string };
        if (named.name !== undefined && named.name in answers) return { ...row, value: answers[named.name] };
        return Object.fromEntries(Object.entries(row).map(([key, value]) => [key, answers[key] ?? value])) as R;
      });
      return { rows: altered, rowCount };
    },
  };
}

const LAX = { production: false, topology: 'replicated' } as const;

test('this server fits', async () => {
  await checkServer(owner.sql, LAX);
  await checkServer(owner.sql, { production: true, topology: 'single' });
  await checkServer(owner.sql, { production: true, topology: 'managed' });
});

test('a server that may lose committed data is refused, and the setting is named', async () => {
  const settings = {
    fsync: 'off',
    full_page_writes: 'off',
    synchronous_commit: 'remote_write',
    zero_damaged_pages: 'on',
    ignore_checksum_failure: 'on',
    server_encoding: 'SQL_ASCII',
    transaction_read_only: 'on',
  };
  for (const [name, value] of Object.entries(settings)) {
    await assert.rejects(
      checkServer(pretending({ [name]: value }), LAX),
      refusal('DATABASE_UNFIT', new RegExp(`${name} is ${value} and must be`)),
    );
  }
  await assert.rejects(
    checkServer(pretending({ version: 140_011, text: '14.11' }), LAX),
    refusal('DATABASE_UNFIT', /14\.11.*15 or newer/),
  );
  await assert.rejects(checkServer(pretending({ recovering: true }), LAX), refusal('DATABASE_UNFIT', /standby/));
});

test('what the session itself changed shows', async () => {
  const session = await openSession(database.connection('superuser'));
  for (const change of ['synchronous_commit = off', 'zero_damaged_pages = on', 'default_transaction_read_only = on']) {
    await session.sql.query(`set ${change}`);
    await assert.rejects(checkServer(session.sql, LAX), refusal('DATABASE_UNFIT', /./));
    await session.sql.query('reset all');
    await session.sql.query('set synchronous_commit = on');
  }
  await session.close();
});

test('in production a failover must not lose data, unless the operator answers for it', async () => {
  const replicated = { production: true, topology: 'replicated' } as const;
  await assert.rejects(
    checkServer(owner.sql, replicated),
    refusal('DATABASE_UNFIT', /synchronous_standby_names is empty/),
  );
  await checkServer(pretending({ standbys: 'ANY 1 (a, b)' }), replicated);
});

test('the logins that we make fit their roles exactly, and no other role', async () => {
  for (const role of DATABASE_ROLES) {
    const { sql } = await database.open(role);
    assert.deepEqual(await checkLogin(sql, role, true), []);
    for (const other of DATABASE_ROLES) {
      if (other === role) continue;
      await assert.rejects(
        checkLogin(sql, other, false),
        refusal('DATABASE_ROLE_UNFIT', new RegExp(`not the privileges of strongroom_${other}`)),
      );
    }
  }
});

test('a login that may do more is found out', async () => {
  const login = `${database.name}_login`;
  await superuser.sql.query(`create role ${login} login password 'x' in role strongroom_gateway`);
  const session = await openSession(database.connection('superuser'));
  await session.sql.query(`set session authorization ${login}`);
  const findings = () => loginFindings(session.sql, 'gateway');
  assert.deepEqual(await findings(), []);

  const cases: [string, string, RegExp][] = [
    [`alter role ${login} superuser`, `alter role ${login} nosuperuser`, /is superuser/],
    [`alter role ${login} createrole`, `alter role ${login} nocreaterole`, /is createrole/],
    [`alter role ${login} createdb`, `alter role ${login} nocreatedb`, /is createdb/],
    [`alter role ${login} bypassrls`, `alter role ${login} nobypassrls`, /is bypassrls/],
    [`alter role ${login} replication`, `alter role ${login} noreplication`, /is replication/],
    [
      `grant strongroom_worker to ${login}`,
      `revoke strongroom_worker from ${login}`,
      /member of strongroom_worker too/,
    ],
    [`grant pg_read_all_data to ${login}`, `revoke pg_read_all_data from ${login}`, /member of pg_read_all_data too/],
    [`alter table deployment owner to ${login}`, 'alter table deployment owner to strongroom_owner', /owns deployment/],
    [
      `alter schema strongroom owner to ${login}`,
      'alter schema strongroom owner to strongroom_owner',
      /owns the schema/,
    ],
    [
      `alter database ${database.name} owner to ${login}`,
      `alter database ${database.name} owner to strongroom_owner`,
      /owns the database/,
    ],
    [
      `grant delete on deployment to ${login}`,
      `revoke delete on deployment from ${login}`,
      /privileges of its own on deployment/,
    ],
    [
      `grant update (kek_id) on deployment to ${login}`,
      `revoke update (kek_id) on deployment from ${login}`,
      /deployment\.kek_id/,
    ],
    [
      'grant select on deployment to public',
      'revoke select on deployment from public',
      /PUBLIC has privileges of its own on deployment/,
    ],
    [`grant create on schema strongroom to ${login}`, `revoke create on schema strongroom from ${login}`, /the schema/],
    [
      `alter role ${login} noinherit; revoke strongroom_gateway from ${login}`,
      `alter role ${login} inherit; grant strongroom_gateway to ${login}`,
      /not the privileges of strongroom_gateway/,
    ],
  ];
  for (const [change, undo, expected] of cases) {
    for (const statement of change.split('; ')) await superuser.sql.query(statement);
    const found = await findings();
    for (const statement of undo.split('; ')) await superuser.sql.query(statement);
    assert.equal(found.length, 1, `${change}: ${found.join('; ')}`);
    assert.match(found[0] ?? '', expected, change);
  }
  assert.deepEqual(await findings(), []);

  await superuser.sql.query(`grant strongroom_worker to ${login}`);
  await assert.rejects(
    checkLogin(session.sql, 'gateway', true),
    refusal('DATABASE_ROLE_UNFIT', /member of strongroom_worker/),
  );
  assert.equal((await checkLogin(session.sql, 'gateway', false)).length, 1, 'in development a warning');
  await session.close();
  await superuser.sql.query(`drop role ${login}`);
});

test('the owner of the schema does not pass for a role', async () => {
  await assert.rejects(
    checkLogin(owner.sql, 'gateway', true),
    refusal('DATABASE_ROLE_UNFIT', /owns the schema.*owns the database/),
  );
});
