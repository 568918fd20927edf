import { StrongroomError } from '../base/errors.ts';
import type { DatabaseRole } from './connection.ts';
import type { Sql } from './statement.ts';

/**
 * What must be true of a server and of a login before we trust them: asked once,
 * at start. They can change later; an operator who does that is not stopped here.
 */

/** How a committed transaction survives the loss of the server, as the operator states it (`database.topology`). */
export type Topology =
  /** One server, its disk and its backups; no standby takes over. */
  | 'single'
  /** Standbys of our own that are waited for at every commit: checked. */
  | 'replicated'
  /** A managed service that commits on several machines by itself: believed. */
  | 'managed';

const OLDEST_VERSION = 150_000; // PostgreSQL 15

/** Setting, the values that lose nothing, and why another one would. */
const SETTINGS = [
  ['fsync', ['on'], 'without it a crash can lose or tear committed data'],
  ['full_page_writes', ['on'], 'without it a crash can leave half-written pages'],
  ['synchronous_commit', ['on', 'remote_apply'], 'anything less answers before the data is safe'],
  ['zero_damaged_pages', ['off'], 'it empties damaged pages in silence'],
  ['ignore_checksum_failure', ['off'], 'it hands out damaged data'],
  ['server_encoding', ['UTF8'], 'text must come back as it was written'],
  ['transaction_read_only', ['off'], 'this session cannot write; a standby, perhaps'],
] as const;

/**
 * @param sql - A pool or session that may write (`database.sql`, not `reads`).
 * @param production - Only there does `replicated` demand synchronous standbys.
 * @throws StrongroomError `DATABASE_UNFIT`, naming the setting, what it is and
 *   what it must be.
 */
export async function checkServer(
  sql: Sql,
  { production, topology }: { readonly production: boolean; readonly topology: Topology },
): Promise<void> {
  const { rows } = await sql.query<{ version: number; text: string; recovering: boolean; standbys: string }>(
    `select current_setting('server_version_num')::int as version, current_setting('server_version') as text,
            pg_is_in_recovery() as recovering, current_setting('synchronous_standby_names') as standbys`,
  );
  const [server] = rows;
  if (server === undefined) throw new StrongroomError('INTERNAL', { reason: 'no answer about the server' });
  if (server.version < OLDEST_VERSION) {
    throw unfit('server_version', `is ${server.text}, and PostgreSQL 15 or newer is needed`);
  }
  if (server.recovering) throw unfit('pg_is_in_recovery', 'is true: this is a standby; connect to the primary');

  const { rows: settings } = await sql.query<{ name: string; value: string }>(
    'select name, current_setting(name) as value from unnest($1::text[]) as name',
    [SETTINGS.map(([name]) => name)],
  );
  for (const [name, fitting, why] of SETTINGS) {
    const value = settings.find((setting) => setting.name === name)?.value ?? '';
    if (!(fitting as readonly string[]).includes(value)) {
      throw unfit(name, `is ${value} and must be ${fitting.join(' or ')}: ${why}`);
    }
  }

  if (production && topology === 'replicated' && server.standbys === '') {
    throw unfit(
      'synchronous_standby_names',
      'is empty: a failover could lose committed transactions. Name the standbys, or state database.topology ' +
        '(single or managed)',
    );
  }
}

/** As the server says it: `18.4`. */
export async function serverVersion(sql: Sql): Promise<string> {
  const { rows } = await sql.query<{ version: string }>(`select current_setting('server_version') as version`);
  return rows[0]?.version ?? '';
}

function unfit(setting: string, what: string): StrongroomError {
  return new StrongroomError('DATABASE_UNFIT', { detail: `${setting} ${what}.`, setting });
}

interface LoginFacts {
  readonly login: string;
  readonly attributes: string[];
  readonly uses_role: boolean;
  readonly other_roles: string[];
  readonly owns: string[];
  readonly own_grants: string[];
}

/**
 * Whether the login of this session may do what its role may, and no more. Each
 * finding is a sentence; empty when all is well.
 *
 * @param sql - A session of the login that is looked at.
 */
export async function loginFindings(sql: Sql, role: DatabaseRole): Promise<readonly string[]> {
  const group = `strongroom_${role}`;
  const { rows } = await sql.query<LoginFacts>(LOGIN_FACTS, [group]);
  const [facts] = rows;
  if (facts === undefined) throw new StrongroomError('INTERNAL', { reason: 'no answer about the login' });
  const findings: string[] = [];
  if (!facts.uses_role) findings.push(`${facts.login} has not the privileges of ${group}`);
  for (const attribute of facts.attributes) findings.push(`${facts.login} is ${attribute}`);
  for (const other of facts.other_roles) findings.push(`${facts.login} is a member of ${other} too`);
  for (const owned of facts.owns) findings.push(`${facts.login} owns ${owned}`);
  for (const granted of facts.own_grants)
    findings.push(`${facts.login} or PUBLIC has privileges of its own on ${granted}`);
  return findings;
}

/**
 * @param strict - True in staging and production: any finding refuses. Else only
 *   a login without its role refuses, and the rest comes back as warnings.
 * @throws StrongroomError `DATABASE_ROLE_UNFIT` with every finding.
 */
export async function checkLogin(sql: Sql, role: DatabaseRole, strict: boolean): Promise<readonly string[]> {
  const findings = await loginFindings(sql, role);
  const lacks = findings.some((finding) => finding.includes('has not the privileges'));
  if (findings.length > 0 && (strict || lacks)) {
    throw new StrongroomError('DATABASE_ROLE_UNFIT', { detail: `${findings.join('; ')}.`, role });
  }
  return findings;
}

const LOGIN_FACTS = `
with recursive me as (
  select oid, rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication
    from pg_roles where rolname = session_user
), mine (oid) as (
  select oid from me
  union
  select membership.roleid from pg_auth_members membership join mine on membership.member = mine.oid
)
select me.rolname::text as login,
       array_remove(array[case when rolsuper then 'superuser' end,
                          case when rolcreaterole then 'createrole' end,
                          case when rolcreatedb then 'createdb' end,
                          case when rolbypassrls then 'bypassrls' end,
                          case when rolreplication then 'replication' end], null) as attributes,
       coalesce((select pg_has_role(me.oid, g.oid, 'usage') from pg_roles g where g.rolname = $1), false) as uses_role,
       array(select r.rolname::text from mine join pg_roles r using (oid)
              where r.rolname <> $1 and r.oid <> me.oid order by 1) as other_roles,
       array(select 'the schema' from pg_namespace n
              where n.nspname = 'strongroom' and n.nspowner in (select oid from mine)
             union all
             select 'the database' from pg_database d
              where d.datname = current_database() and d.datdba in (select oid from mine)
             union all
             select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
              where n.nspname = 'strongroom' and c.relowner in (select oid from mine) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
             union all
             select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
              where n.nspname = 'strongroom' and p.proowner in (select oid from mine)) as owns,
       array(select distinct what from (
               select c.relname::text as what, c.relowner as owner, (aclexplode(c.relacl)).grantee
                 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'strongroom'
               union all
               select c.relname || '.' || a.attname, c.relowner, (aclexplode(a.attacl)).grantee
                 from pg_attribute a join pg_class c on c.oid = a.attrelid
                 join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'strongroom'
               union all
               select p.proname::text, p.proowner, (aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))).grantee
                 from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'strongroom'
               union all
               select 'the schema', n.nspowner, (aclexplode(n.nspacl)).grantee
                 from pg_namespace n where n.nspname = 'strongroom') grants
              where grantee in (0, (select oid from me)) and grantee <> owner order by 1) as own_grants
  from me`;
