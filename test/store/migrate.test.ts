import assert from 'node:assert/strict';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { codeOf, StrongroomError } from '../../src/base/errors.ts';
import { startEmbedded } from '../../src/store/embedded.ts';
import { MIGRATIONS_FOLDER, migrate, readMigrations, requireCurrentSchema } from '../../src/store/migrate.ts';
import { dumpSchema } from '../../src/store/schema-dump.ts';
import { openSession } from '../../src/store/session.ts';
import { startChild } from '../support/child.ts';
import { testDatabase } from '../support/database.ts';

const scratch = fs.mkdtempSync(path.join(tmpdir(), 'migrate-test-'));
after(() => fs.rmSync(scratch, { recursive: true, force: true }));

/** A folder with the real first migration and then these. */
function folderWith(files: Readonly<Record<string, string>>): string {
  const folder = fs.mkdtempSync(path.join(scratch, 'migrations-'));
  fs.copyFileSync(path.join(MIGRATIONS_FOLDER, '0001_roles.sql'), path.join(folder, '0001_roles.sql'));
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), text);
  return folder;
}

function refusal(code: string, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof StrongroomError);
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

async function emptyDatabase() {
  const database = await testDatabase({ empty: true });
  const owner = await database.open('owner');
  const tables = async () => {
    const { rows } = await owner.sql.query<{ name: string }>(
      `select relname as name from pg_class where relnamespace = to_regnamespace('strongroom') and relkind = 'r' order by 1`,
    );
    return rows.map(({ name }) => name);
  };
  return { database, owner, tables, connection: database.connection('owner') };
}

test('an empty database is brought up to date, once', async () => {
  const { connection, owner } = await emptyDatabase();
  const files = await readMigrations();
  const first = await migrate(connection);
  assert.deepEqual(
    first.applied.map(({ name }) => name),
    files.map(({ name }) => name),
  );
  assert.equal(first.version, files.length);
  assert.deepEqual((await migrate(connection)).applied, []);
  await requireCurrentSchema(owner.sql);
});

test('the committed schema dump is what the migrations make', async () => {
  const owner = await (await testDatabase()).open('owner');
  const made = (await dumpSchema(owner.sql)).split('\n');
  const committed = fs.readFileSync(path.join(MIGRATIONS_FOLDER, 'schema.txt'), 'utf8').split('\n');
  const line = made.findIndex((text, i) => text !== committed[i]);
  const remedy = `line ${line + 1}: run bin/node24 scripts/dump-schema.ts and commit the result`;
  assert.equal(made[line], committed[line], remedy);
  assert.equal(made.length, committed.length, remedy);
});

test('two replicas that start at once: each migration is done exactly once', async () => {
  const { database, tables } = await emptyDatabase();
  const folder = folderWith({
    // Long enough that they overlap, and not repeatable.
    '0002_slow.sql': 'create table slow (); select pg_sleep(0.3);',
    '0003_more.sql': 'create table more ();',
  });
  const replicas = [1, 2].map(() => startChild('migrate-once.ts', [folder]));
  for (const replica of replicas) assert.equal(await replica.next(), 'ready');
  for (const { process: child } of replicas) child.stdin?.end(database.ownerUrl);
  const answers = (await Promise.all(replicas.map((replica) => replica.next()))) as {
    applied: number[];
    version: number;
  }[];
  assert.deepEqual(
    answers.map(({ version }) => version),
    [3, 3],
  );
  assert.deepEqual(answers.map(({ applied }) => applied).sort(), [[], [1, 2, 3]]);
  assert.deepEqual(await tables(), ['migrations', 'more', 'slow']);
});

test('databases of one server that migrate at the same moment all get the roles', async () => {
  // A server of its own, since roles belong to the whole server and are to be missing.
  const home = path.join(scratch, 'home');
  const server = await startEmbedded({ home });
  try {
    const superuser = await openSession(server.connection('superuser'));
    const roles = ['gateway', 'webhooks', 'admin', 'worker', 'auditor'];
    await superuser.sql.query(
      `revoke connect on database strongroom from ${roles.map((role) => `strongroom_${role}`).join()}`,
    );
    for (const role of roles) await superuser.sql.query(`drop role strongroom_${role}_login`);
    for (const role of roles) await superuser.sql.query(`drop role strongroom_${role}`);
    await superuser.sql.query('alter role strongroom_owner createrole');
    const names = ['one', 'two', 'three', 'four'];
    for (const name of names) await superuser.sql.query(`create database ${name} owner strongroom_owner`);
    const done = await Promise.all(names.map((database) => migrate({ ...server.connection('owner'), database })));
    const { length } = await readMigrations();
    assert.deepEqual(
      done.map(({ applied }) => applied.length),
      names.map(() => length),
    );
    await superuser.close();
  } finally {
    await server.stop();
  }
});

test('a group role that exists with more power than it should have stops the migration', async () => {
  const { database, connection, tables } = await emptyDatabase();
  const superuser = await database.open('superuser' as 'owner');
  // Its own name, so that other databases of this server are not disturbed.
  const folder = folderWith({});
  const text = fs
    .readFileSync(path.join(folder, '0001_roles.sql'), 'utf8')
    .replaceAll('strongroom_auditor', `${database.name}_auditor`);
  fs.writeFileSync(path.join(folder, '0001_roles.sql'), text);
  await superuser.sql.query(`create role ${database.name}_auditor createdb`);
  await assert.rejects(migrate(connection, folder), refusal('MIGRATION_FAILED', /0001_roles\.sql.*0P000/));
  assert.deepEqual(await tables(), ['migrations']);
  await superuser.sql.query(`drop role ${database.name}_auditor`);
});

test('a failing migration is rolled back whole and named with its place; earlier ones stay', async () => {
  const { connection, owner, tables } = await emptyDatabase();
  const folder = folderWith({
    '0002_good.sql': 'create table good ();',
    '0003_bad.sql': '-- ünïcödé 🔑\ncreate table half ();\ninsert into  nowhere values (1);\n',
  });
  await assert.rejects(
    migrate(connection, folder),
    refusal('MIGRATION_FAILED', /0003_bad\.sql line 3 column 14: relation "nowhere" does not exist/),
  );
  assert.deepEqual(await tables(), ['good', 'migrations']);
  await assert.rejects(requireCurrentSchema(owner.sql, folder), refusal('SCHEMA_OLDER', /at 2, this program needs 3/));

  fs.writeFileSync(path.join(folder, '0003_bad.sql'), 'create table half ();');
  assert.deepEqual(
    (await migrate(connection, folder)).applied.map(({ number }) => number),
    [3],
  );
});

test('values in rows that a migration stumbles over are not told', async () => {
  const { connection } = await emptyDatabase();
  const folder = folderWith({
    '0002_table.sql': `create table t (a text); insert into t values ('canary-row'), ('canary-row');`,
    '0003_unique.sql': 'create unique index t_a on t (a);',
  });
  await assert.rejects(migrate(connection, folder), (error) => {
    assert.match((error as Error).message, /0003_unique\.sql.*t_a \(23505\)/);
    assert.ok(!JSON.stringify([error, (error as Error).message, (error as Error).cause]).includes('canary'));
    return true;
  });
});

test('a file that ends its own transaction is refused', async () => {
  const { connection } = await emptyDatabase();
  const folder = folderWith({ '0002_commit.sql': 'create table t (); commit; begin;' });
  await assert.rejects(
    migrate(connection, folder),
    refusal('MIGRATION_FAILED', /0002_commit\.sql ends its own transaction/),
  );
});

test('a file that was applied and then changed, or renamed, is refused and nothing changes', async () => {
  const { connection, owner, tables } = await emptyDatabase();
  const folder = folderWith({ '0002_a.sql': 'create table a ();' });
  await migrate(connection, folder);
  fs.writeFileSync(path.join(folder, '0003_b.sql'), 'create table b ();');
  fs.appendFileSync(path.join(folder, '0002_a.sql'), '\n-- harmless');
  await assert.rejects(
    migrate(connection, folder),
    refusal('MIGRATION_FAILED', /0002_a\.sql is not the file that was applied/),
  );
  await assert.rejects(requireCurrentSchema(owner.sql, folder), refusal('MIGRATION_FAILED', /0002_a\.sql/));
  assert.deepEqual(await tables(), ['a', 'migrations']);
});

test('gaps are refused, in the files and in the database', async () => {
  const { connection, owner } = await emptyDatabase();
  for (const name of ['0003_gap.sql', '02_short.sql', '0002-dash.sql', '0001_twice.sql']) {
    await assert.rejects(
      migrate(connection, folderWith({ [name]: '' })),
      refusal('MIGRATION_FAILED', new RegExp(name)),
    );
  }
  const folder = folderWith({ '0002_a.sql': '', '0003_b.sql': '' });
  await migrate(connection, folder);
  await owner.sql.query('delete from migrations where number = 2');
  await assert.rejects(migrate(connection, folder), refusal('MIGRATION_FAILED', /lacks migration 2/));
});

test('a database from a newer version is refused, by the migrator and by every role', async () => {
  const { connection, database } = await emptyDatabase();
  const newer = folderWith({ '0002_future.sql': '' });
  await migrate(connection, newer);
  const older = folderWith({});
  await assert.rejects(migrate(connection, older), refusal('SCHEMA_NEWER', /at 2, this program knows 1/));
  for (const role of ['gateway', 'webhooks', 'admin', 'worker', 'auditor'] as const) {
    const { sql } = await database.open(role);
    await requireCurrentSchema(sql, newer);
    await assert.rejects(requireCurrentSchema(sql, older), refusal('SCHEMA_NEWER', /./));
  }
});

test('a database that nobody has migrated is older, for every role', async () => {
  const { database } = await emptyDatabase();
  await assert.rejects(requireCurrentSchema((await database.open('gateway')).sql), refusal('SCHEMA_OLDER', /at 0/));
});

test('a migrator killed in the middle leaves nothing behind, and the next one does it', async () => {
  const { connection, database, owner, tables } = await emptyDatabase();
  const stuck = folderWith({ '0002_long.sql': 'create table long (); select pg_sleep(600);' });
  const child = startChild('migrate-once.ts', [stuck]);
  await child.next();
  child.process.stdin?.end(database.ownerUrl);
  const superuser = await database.open('superuser' as 'owner');
  while (
    (
      await superuser.sql.query(`select 1 from pg_stat_activity where datname = $1 and wait_event = 'PgSleep'`, [
        database.name,
      ])
    ).rowCount === 0
  );
  await child.kill('SIGKILL');
  assert.deepEqual(await tables(), ['migrations']);
  const folder = folderWith({ '0002_long.sql': 'create table long ();' });
  assert.deepEqual(
    (await migrate(connection, folder)).applied.map(({ number }) => number),
    [2],
  );
  await requireCurrentSchema(owner.sql, folder);
});

test('an unreachable database is an outage, not a failed migration', async () => {
  const { connection } = await emptyDatabase();
  await assert.rejects(
    migrate({ ...connection, database: 'nowhere' }),
    (error) => codeOf(error) === 'DATABASE_UNAVAILABLE',
  );
});

test('a login that may not create is told so by the migration', async () => {
  const { database } = await emptyDatabase();
  await assert.rejects(migrate(database.connection('gateway')), (error) => codeOf(error) === 'DATABASE_ROLE_UNFIT');
});
