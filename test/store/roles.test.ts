import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { DATABASE_ROLES, type DatabaseRole } from '../../src/store/connection.ts';
import { effectivePrivileges, type Privilege } from '../../src/store/schema-dump.ts';
import type { Database } from '../../src/store/sql.ts';
import { isPermissionDenied } from '../../src/store/sql-errors.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';

/**
 * What the roles may do is written in migrations/schema.txt, which a test
 * compares. Here: laws that no list may break, and the proof by trying that the
 * server lets a role do what the list says and nothing else.
 */

let database: TestDatabase;
let owner: Database;
let privileges: readonly Privilege[];
/** Every table and view with its columns. */
let relations: readonly { readonly name: string; readonly kind: string; readonly columns: readonly string[] }[];

before(async () => {
  database = await testDatabase();
  owner = await database.open('owner');
  privileges = await effectivePrivileges(owner.sql);
  const { rows } = await owner.sql.query<(typeof relations)[number]>(
    `select c.relname::text as name, c.relkind::text as kind,
            array(select attname::text from pg_attribute
                   where attrelid = c.oid and attnum > 0 and not attisdropped order by attnum) as columns
       from pg_class c
      where c.relnamespace = 'strongroom'::regnamespace and c.relkind in ('r', 'p', 'v') order by 1`,
  );
  relations = rows;
});

const of = (role: DatabaseRole) => privileges.filter((privilege) => privilege.role === `strongroom_${role}`);

function reads(role: DatabaseRole, column: string, table?: string): boolean {
  return relations
    .filter(({ name, columns }) => columns.includes(column) && (table === undefined || name === table))
    .some(({ name }) =>
      of(role).some((p) => p.object === name && p.privilege === 'select' && (p.column === null || p.column === column)),
    );
}

test('sealed records and wrapped keys are read by gateway and worker only', () => {
  for (const column of ['sealed', 'wrapped']) {
    assert.ok(
      relations.some(({ columns }) => columns.includes(column)),
      `there is a column ${column}`,
    );
    assert.deepEqual(
      DATABASE_ROLES.filter((role) => reads(role, column)),
      ['gateway', 'worker'],
      column,
    );
  }
});

test('the auditor changes nothing and runs nothing', () => {
  assert.deepEqual([...new Set(of('auditor').map(({ privilege }) => privilege))].sort(), ['select', 'usage']);
});

test('the webhooks role reads no record, no key and no application', () => {
  for (const table of ['secrets', 'data_keys', 'applications', 'application_keys']) {
    assert.ok(relations.some(({ name }) => name === table));
    assert.deepEqual(
      of('webhooks').filter(({ object }) => object === table),
      [],
    );
  }
});

test('nobody can change or delete what was audited', () => {
  const audit = relations.filter(({ name, kind }) => name.startsWith('audit_') && kind !== 'v');
  assert.ok(audit.length > 0);
  for (const { name } of audit) {
    if (name === 'audit_tree') continue; // one row: where the sequencer stands
    const harmful = privileges.filter(
      (p) => p.object === name && ['update', 'delete', 'truncate'].includes(p.privilege),
    );
    assert.deepEqual(harmful, [], name);
  }
});

test('nobody but the owner creates, truncates, refers to, or hangs triggers on anything', () => {
  const powerful = privileges.filter(({ privilege }) =>
    ['create', 'truncate', 'references', 'trigger'].includes(privilege),
  );
  assert.deepEqual(powerful, []);
});

test('PUBLIC has nothing, now and for what later migrations make', async () => {
  await owner.sql.query('create function later() returns int language sql as $$ select 1 $$');
  await owner.sql.query('create table later_table ()');
  const after = await effectivePrivileges(owner.sql);
  assert.deepEqual(after, privileges);
  await owner.sql.query('drop function later()');
  await owner.sql.query('drop table later_table');
});

test('every function with the rights of its owner fixes its search path and belongs to the owner of the schema', async () => {
  const { rows } = await owner.sql.query<{ name: string; config: string[] | null; owned: boolean }>(
    `select p.proname::text as name, p.proconfig as config, p.proowner = n.nspowner as owned
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = 'strongroom' and p.prosecdef`,
  );
  assert.ok(rows.length > 0);
  for (const { name, config, owned } of rows) {
    assert.ok(config?.includes('search_path=strongroom, pg_temp'), name);
    assert.ok(owned, name);
  }
});

/** One attempt per kind of access, each without effect on any row. */
function attempts({
  name,
  columns,
  kind,
}: (typeof relations)[number]): { privilege: string; column: string | null; text: string }[] {
  const whole = [
    { privilege: 'delete', column: null, text: `delete from ${name} where false` },
    ...(kind === 'v' ? [] : [{ privilege: 'truncate', column: null, text: `truncate ${name} cascade` }]),
  ];
  const perColumn = columns.flatMap((column) => [
    { privilege: 'select', column, text: `select "${column}" from ${name} limit 0` },
    { privilege: 'update', column, text: `update ${name} set "${column}" = default where false` },
    {
      privilege: 'insert',
      column,
      text: `insert into ${name} ("${column}") overriding system value select null where false`,
    },
  ]);
  return [...whole, ...perColumn];
}

for (const role of DATABASE_ROLES) {
  test(`${role} can do what is listed and is refused everything else, table by table and column by column`, async () => {
    const { sql } = await database.open(role);
    let refused = 0;
    for (const relation of relations) {
      for (const { privilege, column, text } of attempts(relation)) {
        const listed = of(role).some(
          (p) => p.object === relation.name && p.privilege === privilege && (p.column === null || p.column === column),
        );
        const denied = await sql.query(text).then(
          () => false,
          // A view that cannot be written, a generated column or a type that does not fit is no permission.
          (error: unknown) => isPermissionDenied(error) || (!listed && relation.kind === 'v'),
        );
        assert.equal(denied, !listed, `${role}: ${text}`);
        if (denied) refused++;
      }
    }
    assert.ok(refused > 100, `only ${refused} attempts were refused`);
  });

  test(`${role} runs the functions that are listed and no other`, async () => {
    const { sql } = await database.open(role);
    const { rows: functions } = await owner.sql.query<{ signature: string; call: string }>(
      `select p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as signature,
              format('select %I(%s) where false', p.proname,
                     (select coalesce(string_agg(format('null::%s', format_type(t, null)), ', '), '') from unnest(p.proargtypes) t)) as call
         from pg_proc p where p.pronamespace = 'strongroom'::regnamespace and p.prorettype <> 'trigger'::regtype`,
    );
    assert.ok(functions.length > 0);
    for (const { signature, call } of functions) {
      const listed = of(role).some(({ kind, object }) => kind === 'function' && object === signature);
      const denied = await sql.query(call).then(() => false, isPermissionDenied);
      assert.equal(denied, !listed, `${role}: ${call}`);
    }
  });

  test(`${role} makes no object and no role, and becomes nobody else`, async () => {
    const { sql } = await database.open(role);
    for (const text of [
      'create table strongroom.mine ()',
      'create table public.mine ()',
      'create temporary table mine ()',
      'create schema mine',
      'create role mine',
      'alter table deployment owner to current_user',
      'set role strongroom_owner',
      `set role strongroom_${role === 'gateway' ? 'worker' : 'gateway'}`,
      `copy deployment to program 'true'`,
      `select pg_read_file('/etc/passwd')`,
      'select rolpassword from pg_authid',
      'alter system set fsync = off',
    ]) {
      await assert.rejects(sql.query(text), isPermissionDenied, `${role}: ${text}`);
    }
  });
}
