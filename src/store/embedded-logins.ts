import type { Secret } from '../base/secret.ts';
import { DATABASE_ROLES, type DatabaseRole } from './connection.ts';
import { scramVerifier } from './scram.ts';
import type { Sql } from './statement.ts';

/**
 * The logins of a server that is ours: one per role, each a member of exactly
 * its group role, and one that owns the schema and runs the migrations. An
 * operator of another server makes the same by hand (docs/operations/database.md).
 */

export type LoginName = DatabaseRole | 'owner';
export const LOGIN_NAMES: readonly LoginName[] = [...DATABASE_ROLES, 'owner'];

export function loginUser(name: LoginName): string {
  return name === 'owner' ? 'strongroom_owner' : `strongroom_${name}_login`;
}

/**
 * Makes what is missing and sets every password. As superuser; may be repeated.
 * The group roles are made here too, so that the owner needs no CREATEROLE.
 */
export async function ensureLogins(sql: Sql, passwords: Readonly<Record<LoginName, Secret<string>>>): Promise<void> {
  for (const name of LOGIN_NAMES) {
    if (name !== 'owner') await ensureRole(sql, `strongroom_${name}`);
    const user = loginUser(name);
    await ensureRole(sql, user);
    await sql.query(`alter role ${user} login password '${scramVerifier(passwords[name])}'`);
    if (name !== 'owner') await sql.query(`grant strongroom_${name} to ${user}`);
  }
}

async function ensureRole(sql: Sql, name: string): Promise<void> {
  const { rows } = await sql.query('select 1 from pg_roles where rolname = $1', [name]);
  if (rows.length === 0) await sql.query(`create role ${name}`);
}

/** Makes a database that only our logins can enter, owned by the login that migrates. */
export async function ensureDatabase(sql: Sql, name: string, template?: string): Promise<void> {
  const { rows } = await sql.query('select 1 from pg_database where datname = $1', [name]);
  if (rows.length === 0) {
    await sql.query(
      `create database ${name} owner ${loginUser('owner')}${template === undefined ? '' : ` template ${template}`}`,
    );
  }
  // Not copied with a template.
  await sql.query(`revoke all on database ${name} from public`);
  const groups = DATABASE_ROLES.map((role) => `strongroom_${role}`).join(', ');
  await sql.query(`grant connect on database ${name} to ${groups}`);
}
