import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { inspect } from 'node:util';
import type { Clock } from '../../src/base/clock.ts';
import { codeOf, StrongroomError } from '../../src/base/errors.ts';
import { Secret } from '../../src/base/secret.ts';
import { type Database, openDatabase } from '../../src/store/sql.ts';
import {
  isCheckViolation,
  isOutcomeUnknown,
  isPermissionDenied,
  isUniqueViolation,
  sqlstateOf,
} from '../../src/store/sql-errors.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { wireTo } from '../support/wire.ts';

let database: TestDatabase;
let owner: Database;

before(async () => {
  database = await testDatabase({ empty: true });
  owner = await database.open('owner');
  await owner.sql.query('create schema strongroom');
  await owner.sql.query(
    `create table notes (id integer primary key, text text constraint notes_text check (text <> 'bad'))`,
  );
});

async function failureOf(work: Promise<unknown>): Promise<StrongroomError> {
  const error = await work.then(
    () => assert.fail('it did not fail'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof StrongroomError, inspect(error));
  return error;
}

let lastId = 0;
const newId = () => ++lastId;
const countOf = async (id: number) => (await owner.sql.query('select 1 from notes where id = $1', [id])).rowCount;

test('values come back as documented, and nothing is rounded', async () => {
  const { rows } = await owner.reads.query(
    `select 9007199254740991::int8 as counted, 1.10::numeric as exact, '\\x00ff'::bytea as bytes,
            date '2026-03-29' as day, timestamp '2026-03-29 02:30' as wall, timestamptz '2026-03-29 02:30+00' as instant`,
  );
  assert.deepEqual(rows, [
    {
      counted: 9007199254740991,
      exact: '1.10',
      bytes: Buffer.from([0, 255]),
      day: '2026-03-29',
      wall: '2026-03-29 02:30:00',
      instant: new Date('2026-03-29T02:30:00Z'),
    },
  ]);
  const error = await failureOf(owner.reads.query('select 9007199254740992::int8'));
  assert.equal(error.code, 'INTERNAL');
});

test('a text with two statements is refused, with and without values', async () => {
  for (const values of [[], [1]]) {
    const error = await failureOf(owner.sql.query('select 1; drop table notes', values));
    assert.equal(sqlstateOf(error), '42601');
  }
});

test('no failure of a statement carries a value that was sent or stored', async () => {
  const canary = 'canary-value-7f3a';
  const id = newId();
  await owner.sql.query('insert into notes values ($1, $2)', [id, canary]);
  await owner.sql.query(
    `create or replace function complain(p_text text) returns void language plpgsql as
       $$ begin raise exception 'heard %', p_text using detail = p_text, hint = p_text; end $$`,
  );
  const failing: [string, unknown[]][] = [
    ['insert into notes values ($1, $2)', [id, canary]],
    ['update notes set text = $2 where id = $1 and text::int = 1', [id, 'x']],
    ['select $1::int', [canary]],
    ['select $1::uuid', [canary]],
    ['select $1::jsonb', [`{"${canary}": `]],
    ['select complain($1)', [canary]],
    [`insert into notes values (${newId()}, $1 || chr(0))`, [canary]],
    ['select $1::text', [`${canary}\0`]],
    ['insert into notes values (null, $1)', [canary]],
  ];
  for (const [text, values] of failing) {
    const error = await failureOf(owner.sql.query(text, values));
    const everything = inspect(error, { depth: null, showHidden: true }) + JSON.stringify(error);
    assert.ok(!everything.includes(canary), `${text}: ${everything}`);
  }
});

test('the caller can tell which constraint refused', async () => {
  const id = newId();
  await owner.sql.query('insert into notes values ($1, null)', [id]);
  const twice = await failureOf(owner.sql.query('insert into notes values ($1, null)', [id]));
  assert.ok(isUniqueViolation(twice) && isUniqueViolation(twice, 'notes_pkey') && !isUniqueViolation(twice, 'other'));
  const checked = await failureOf(owner.sql.query('insert into notes values ($1, $2)', [newId(), 'bad']));
  assert.ok(isCheckViolation(checked, 'notes_text') && !isUniqueViolation(checked));
});

test('what the login may not do is told apart from an outage', async () => {
  const gateway = await database.open('gateway');
  const error = await failureOf(gateway.sql.query('create table public.mine ()'));
  assert.equal(error.code, 'DATABASE_ROLE_UNFIT');
  assert.ok(isPermissionDenied(error));
});

test('the session settings hold against what the server sets for the login', async () => {
  const superuser = await database.open('superuser' as 'owner');
  const { user } = database.connection('webhooks');
  for (const setting of [
    'synchronous_commit = off',
    'search_path = public',
    'datestyle = german',
    'statement_timeout = 0',
  ]) {
    await superuser.sql.query(`alter role ${user} in database ${database.name} set ${setting}`);
  }
  const webhooks = await database.open('webhooks');
  for (const sql of [webhooks.sql, webhooks.reads]) {
    const { rows } = await sql.query(
      `select current_setting('synchronous_commit') as commit, current_setting('search_path') as path,
              current_setting('datestyle') as dates, current_setting('statement_timeout') as patience`,
    );
    assert.deepEqual(rows, [{ commit: 'on', path: 'strongroom,pg_temp', dates: 'ISO, MDY', patience: '10s' }]);
  }
});

test('a transaction is whole or not at all, and throws the error of the work', async () => {
  const [kept, dropped] = [newId(), newId()];
  const result = await owner.transaction(async (sql) => {
    await sql.query('insert into notes values ($1, null)', [kept]);
    return 'done';
  });
  assert.equal(result, 'done');
  const mine = new Error('mine');
  await assert.rejects(
    owner.transaction(async (sql) => {
      await sql.query('insert into notes values ($1, null)', [dropped]);
      throw mine;
    }),
    (error) => error === mine,
  );
  assert.deepEqual([await countOf(kept), await countOf(dropped)], [1, 0]);
});

test('a failing rollback does not hide the first error, and the connection is not used again', async () => {
  const mine = new Error('mine');
  await assert.rejects(
    owner.transaction(async (sql) => {
      await sql.query('select pg_terminate_backend(pg_backend_pid())').catch(() => {});
      throw mine;
    }),
    (error) => error === mine,
  );
  assert.equal((await owner.sql.query('select 1 as one')).rowCount, 1);
});

test('a transaction whose failed statement was swallowed does not pass for committed', async () => {
  const id = newId();
  const error = await failureOf(
    owner.transaction(async (sql) => {
      await sql.query('insert into notes values ($1, null)', [id]);
      await sql.query('insert into notes values ($1, null)', [id]).catch(() => {});
    }),
  );
  assert.equal(error.code, 'INTERNAL');
  assert.equal(await countOf(id), 0);
});

test('a statement after the end of its transaction is refused', async () => {
  let escaped: { query(text: string): Promise<unknown> } | undefined;
  await owner.transaction(async (sql) => {
    escaped = sql;
  });
  await assert.rejects(async () => escaped?.query('select 1'), /unexpected error/);
});

test('isolation and read only are what was asked for', async () => {
  const { rows } = await owner.transaction(
    (sql) =>
      sql.query(
        `select current_setting('transaction_isolation') as level, current_setting('transaction_read_only') as ro`,
      ),
    { isolation: 'serializable', readOnly: true },
  );
  assert.deepEqual(rows, [{ level: 'serializable', ro: 'on' }]);
});

test('connections that die while idle are replaced, and the process stays up', async () => {
  const lost: StrongroomError[] = [];
  const gateway = await database.open('gateway', { onLost: (error) => lost.push(error) });
  await gateway.sql.query('select 1');
  const superuser = await database.open('superuser' as 'owner');
  const { rowCount } = await superuser.sql.query(
    'select pg_terminate_backend(pid) from pg_stat_activity where usename = $1 and datname = current_database()',
    [database.connection('gateway').user],
  );
  assert.ok(rowCount >= 2);
  // The first use may meet the dying connection; then it says so, and the next one works.
  for (const sql of [gateway.sql, gateway.reads]) {
    await sql.query('select 1').catch((error: unknown) => assert.equal(codeOf(error), 'DATABASE_UNAVAILABLE'));
    assert.equal((await sql.query('select 1')).rowCount, 1);
  }
  assert.ok(lost.every(({ code }) => code === 'DATABASE_UNAVAILABLE'));
});

for (const [fault, stands] of [
  ['not_done', 0],
  ['answer_lost', 1],
] as const) {
  test(`when a commit is ${fault}, the failure says that the outcome is unknown`, async () => {
    const wire = await wireTo(database.connection('owner'));
    const far = await openDatabase({ ...wire.connection, role: 'owner' });
    wire.judge = (chunk) => (chunk.includes('commit\0') ? fault : 'pass');
    const id = newId();
    const error = await failureOf(far.transaction((sql) => sql.query('insert into notes values ($1, null)', [id])));
    assert.equal(error.code, 'DATABASE_UNAVAILABLE');
    assert.ok(isOutcomeUnknown(error));
    assert.equal(await countOf(id), stands);
    await far.close();
  });

  test(`when a single statement is ${fault}, the failure says that the outcome is unknown`, async () => {
    const wire = await wireTo(database.connection('owner'));
    const far = await openDatabase({ ...wire.connection, role: 'owner' });
    wire.judge = (chunk) => (chunk.includes('insert') ? fault : 'pass');
    const id = newId();
    const error = await failureOf(far.sql.query('insert into notes values ($1, null)', [id]));
    assert.ok(error.code === 'DATABASE_UNAVAILABLE' && isOutcomeUnknown(error));
    assert.equal(await countOf(id), stands);
    await far.close();
  });
}

test('a statement that failed inside a transaction has certainly done nothing', async () => {
  const wire = await wireTo(database.connection('owner'));
  const far = await openDatabase({ ...wire.connection, role: 'owner' });
  wire.judge = (chunk) => (chunk.includes('insert') ? 'answer_lost' : 'pass');
  const id = newId();
  const error = await failureOf(far.transaction((sql) => sql.query('insert into notes values ($1, null)', [id])));
  assert.ok(error.code === 'DATABASE_UNAVAILABLE' && !isOutcomeUnknown(error));
  assert.equal(await countOf(id), 0);
  await far.close();
});

test('a network that swallows everything is given up', async () => {
  const wire = await wireTo(database.connection('owner'));
  const far = await openDatabase({ ...wire.connection, role: 'owner', statementTimeoutMs: 50 });
  await far.sql.query('select 1');
  wire.judge = () => 'swallow';
  const [write, read] = await Promise.all([
    failureOf(far.sql.query('select 2')),
    failureOf(far.reads.query('select 2')),
  ]);
  assert.ok(isOutcomeUnknown(write));
  assert.equal(read.code, 'DATABASE_UNAVAILABLE');
  wire.judge = () => 'pass';
  assert.equal((await far.reads.query('select 3')).rowCount, 1);
  await far.close();
});

test('a statement that takes too long is cancelled by the server', async () => {
  const hurried = await database.open('owner', { statementTimeoutMs: 50 });
  const error = await failureOf(hurried.sql.query('select pg_sleep(60)'));
  assert.equal(sqlstateOf(error), '57014');
  assert.equal(error.code, 'DATABASE_UNAVAILABLE');
});

test('pipelined reads each get their own answer, also when one of them fails', async () => {
  const answers = await Promise.allSettled(
    Array.from({ length: 200 }, (_, i) =>
      i % 10 === 7
        ? owner.reads.query('select 1 / $1::int', [0])
        : owner.reads.query<{ n: number }>({ name: 'echo', text: 'select $1::int as n', values: [i] }),
    ),
  );
  for (const [i, answer] of answers.entries()) {
    if (i % 10 === 7) assert.equal(answer.status, 'rejected');
    else assert.deepEqual(answer.status === 'fulfilled' && answer.value.rows, [{ n: i }]);
  }
});

test('reads cannot write', async () => {
  const error = await failureOf(owner.reads.query('insert into notes values ($1, null)', [newId()]));
  assert.equal(sqlstateOf(error), '25006');
});

test('one name for two statements is a mistake, not an outage', async () => {
  await owner.reads.query({ name: 'same', text: 'select 1' });
  const error = await failureOf(owner.reads.query({ name: 'same', text: 'select 2' }));
  assert.equal(error.code, 'INTERNAL');
});

test('a prepared statement that a migration made stale works again at once', async () => {
  await owner.sql.query('create table wide (a integer)');
  const statement = { name: 'wide', text: 'select * from wide' };
  await owner.reads.query(statement);
  await owner.sql.query('alter table wide add b integer');
  const error = await failureOf(owner.reads.query(statement));
  assert.ok(error.retryable);
  assert.equal((await owner.reads.query(statement)).rowCount, 0);
});

test('while the server is away reads fail alike without storming it, and go on when it is back', async () => {
  const wire = await wireTo(database.connection('owner'));
  let now = 0;
  const clock: Clock = { now: () => now, monotonic: () => now };
  const far = await openDatabase({ ...wire.connection, role: 'owner', clock });
  wire.cut();
  await failureOf(far.reads.query('select 1'));
  const first = await failureOf(far.reads.query('select 1'));
  await wire.mend();
  assert.equal(await failureOf(far.reads.query('select 1')), first, 'asked the server again at once');
  now += 101;
  assert.equal((await far.reads.query('select 1')).rowCount, 1);
  await far.close();
});

test('a refused password is an outage whose error does not hold it', async () => {
  const password = new Secret('wrong-password-canary');
  const error = await failureOf(openDatabase({ ...database.connection('gateway'), password, role: 'gateway' }));
  assert.equal(error.code, 'DATABASE_UNAVAILABLE');
  assert.equal(sqlstateOf(error), '28P01');
  assert.ok(!inspect(error, { depth: null, showHidden: true }).includes('wrong-password-canary'));
});

test('closing waits for running work and can be repeated', async () => {
  const short = await database.open('owner');
  const running = short.sql.query('select pg_sleep(0.05)');
  await Promise.all([short.close(), short.close()]);
  await running;
  const error = await failureOf(short.reads.query('select 1'));
  assert.equal(error.code, 'DATABASE_UNAVAILABLE');
});
