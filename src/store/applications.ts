import type { ApplicationId } from '../base/ids.ts';
import type { Sql } from './sql.ts';

/**
 * Applications, their keys and their freezes. Every change raises the
 * application's version (triggers do it), so that whoever keeps a copy needs to
 * ask for one number only.
 *
 * Times are milliseconds since 1970, by the database's clock.
 */

/**
 * The versions of many applications in one round trip; who is not in the map does
 * not exist. Asked at every request, so that a changed key, policy or freeze works at
 * the next one, on every replica.
 */
export async function versionsOf(sql: Sql, ids: readonly string[]): Promise<Map<string, number>> {
  const { rows } = await sql.query<{ id: string; version: number }>({
    name: 'application-versions',
    text: 'select id, version from applications where id = any($1::text[])',
    values: [ids],
  });
  const versions = new Map<string, number>();
  for (const row of rows) versions.set(row.id, row.version);
  return versions;
}

/** What the gateway knows of an application: all of it true at one moment. */
export interface LoadedApplication {
  readonly id: ApplicationId;
  readonly name: string;
  readonly plaidClientId: string;
  /** As stored. Read it with `parsePolicy`: what does not fit grants nothing. */
  readonly policy: unknown;
  readonly version: number;
  readonly disabled: boolean;
  /** At most two. Expired ones may still stand here. */
  readonly keys: readonly { readonly keyId: string; readonly sha256: Buffer; readonly expiresAt: number | null }[];
  readonly frozen: ReadonlySet<string>;
}

const MS = (column: string) => `(extract(epoch from ${column}) * 1000)::float8`;

/** With key digests: for the gateway's database role only. Null when there is no such application. */
export async function loadApplication(sql: Sql, id: string): Promise<LoadedApplication | null> {
  const { rows } = await sql.query<
    Omit<LoadedApplication, 'keys' | 'frozen'> & {
      keys: { keyId: string; sha256: string; expiresAt: number | null }[];
      frozen: string[];
    }
  >(
    `select a.id, a.name, a.plaid_client_id as "plaidClientId", a.policy, a.version,
            a.disabled_at is not null as disabled,
            coalesce((select json_agg(json_build_object('keyId', k.key_id, 'sha256', encode(k.key_sha256, 'hex'),
                                                        'expiresAt', ${MS('k.expires_at')}))
                        from application_keys k where k.application_id = a.id), '[]') as keys,
            coalesce((select json_agg(f.class) from application_freezes f where f.application_id = a.id), '[]') as frozen
       from applications a
      where a.id = $1`,
    [id],
  );
  const row = rows[0];
  if (row === undefined) return null;
  return {
    ...row,
    keys: row.keys.map((key) => ({ ...key, sha256: Buffer.from(key.sha256, 'hex') })),
    frozen: new Set(row.frozen),
  };
}

/** What people see of an application. No digest of a key. */
export interface ApplicationRow {
  readonly id: ApplicationId;
  readonly name: string;
  readonly plaidClientId: string;
  readonly policy: unknown;
  readonly version: number;
  readonly createdAt: number;
  readonly disabledAt: number | null;
  /** Valid ones, the oldest first. */
  readonly keys: readonly { readonly keyId: string; readonly createdAt: number; readonly expiresAt: number | null }[];
  readonly freezes: readonly { readonly class: string; readonly since: number; readonly reason: string }[];
}

const ROWS = `select a.id, a.name, a.plaid_client_id as "plaidClientId", a.policy, a.version,
       ${MS('a.created_at')} as "createdAt", ${MS('a.disabled_at')} as "disabledAt",
       coalesce((select json_agg(json_build_object('keyId', k.key_id, 'createdAt', ${MS('k.created_at')},
                                                   'expiresAt', ${MS('k.expires_at')}) order by k.expires_at nulls last)
                   from application_keys k
                  where k.application_id = a.id and (k.expires_at is null or k.expires_at > now())), '[]') as keys,
       coalesce((select json_agg(json_build_object('class', f.class, 'since', ${MS('f.since')}, 'reason', f.reason)
                                 order by f.class)
                   from application_freezes f where f.application_id = a.id), '[]') as freezes
  from applications a`;

/** All of them, by name. */
export async function listApplications(sql: Sql): Promise<ApplicationRow[]> {
  return (await sql.query<ApplicationRow>(`${ROWS} order by a.name, a.id`)).rows;
}

/** Keys that are valid, as the audit log names them: by id, and by a digest of what is stored. */
export async function keyChecks(sql: Sql): Promise<{ applicationId: string; keyId: string; keyCheck: string }[]> {
  const { rows } = await sql.query<{ applicationId: string; keyId: string; keyCheck: string }>(
    `select application_id as "applicationId", key_id as "keyId", key_check as "keyCheck"
       from application_key_checks where expires_at is null or expires_at > now() order by 1, 2`,
  );
  return rows;
}

export async function applicationRow(sql: Sql, id: string): Promise<ApplicationRow | null> {
  return (await sql.query<ApplicationRow>(`${ROWS} where a.id = $1`, [id])).rows[0] ?? null;
}

export interface NewApplication {
  readonly id: ApplicationId;
  readonly name: string;
  readonly plaidClientId: string;
  readonly policy: unknown;
  readonly keyId: string;
  readonly keySha256: Uint8Array;
}

/** The application and its first key, in one statement: both or neither. Rejects with a unique violation when the name is taken. */
export async function insertApplication(sql: Sql, application: NewApplication): Promise<void> {
  await sql.query(
    `with a as (insert into applications (id, name, plaid_client_id, policy) values ($1, $2, $3, $4) returning id)
     insert into application_keys (application_id, slot, key_id, key_sha256)
     select id, 0, $5, $6 from a`,
    [
      application.id,
      application.name,
      application.plaidClientId,
      JSON.stringify(application.policy),
      application.keyId,
      application.keySha256,
    ],
  );
}

/**
 * Locks an application for a change; concurrent changes queue. Not against rows
 * that only refer to it: the gateway goes on meanwhile.
 * @returns Its state before, or null when there is none.
 */
export async function lockApplication(sql: Sql, id: string): Promise<{ policy: unknown; disabled: boolean } | null> {
  const { rows } = await sql.query<{ policy: unknown; disabled: boolean }>(
    'select policy, disabled_at is not null as disabled from applications where id = $1 for no key update',
    [id],
  );
  return rows[0] ?? null;
}

/** Under {@link lockApplication}. */
export async function replacePolicy(sql: Sql, id: string, policy: unknown): Promise<void> {
  await sql.query('update applications set policy = $2 where id = $1', [id, JSON.stringify(policy)]);
}

export interface KeyReplacement {
  readonly keyId: string;
  readonly keySha256: Uint8Array;
  /** How long the key that is replaced stays valid, from now. 0 ends it at once. */
  readonly oldKeyValidSeconds: number;
  /** Which of two valid keys makes room; null refuses when there are two. */
  readonly replaces: 'older' | 'newer' | null;
}

/**
 * Adds a key and sets an end to the one before it. Under {@link lockApplication};
 * the two slots make a third key impossible all the same.
 *
 * @returns How many keys are valid now, or `two_valid` when nothing said which of
 *   two is to make room: then nothing that matters has changed.
 */
export async function replaceKey(sql: Sql, id: string, change: KeyReplacement): Promise<number | 'two_valid'> {
  await sql.query('delete from application_keys where application_id = $1 and expires_at <= now()', [id]);
  // The older one has an end, the newer one has none.
  const { rows: keys } = await sql.query<{ slot: number }>(
    'select slot from application_keys where application_id = $1 order by expires_at nulls last',
    [id],
  );
  const [older, newer] = keys;
  let kept = older;
  if (older !== undefined && newer !== undefined) {
    if (change.replaces === null) return 'two_valid';
    kept = change.replaces === 'older' ? newer : older;
    const gone = kept === newer ? older : newer;
    await sql.query('delete from application_keys where application_id = $1 and slot = $2', [id, gone.slot]);
  }
  if (kept !== undefined && change.oldKeyValidSeconds > 0) {
    await sql.query(
      `update application_keys set expires_at = now() + make_interval(secs => $3)
          where application_id = $1 and slot = $2`,
      [id, kept.slot, change.oldKeyValidSeconds],
    );
  } else if (kept !== undefined) {
    await sql.query('delete from application_keys where application_id = $1 and slot = $2', [id, kept.slot]);
  }
  await sql.query(
    `insert into application_keys (application_id, slot, key_id, key_sha256)
       values ($1, $2, $3, $4)`,
    [id, kept?.slot === 0 ? 1 : 0, change.keyId, change.keySha256],
  );
  return kept !== undefined && change.oldKeyValidSeconds > 0 ? 2 : 1;
}

/** Whether a key, by its id, is there: how a lost answer of a change is settled. */
export async function keyExists(sql: Sql, applicationId: string, keyId: string): Promise<boolean> {
  const { rowCount } = await sql.query('select from application_keys where application_id = $1 and key_id = $2', [
    applicationId,
    keyId,
  ]);
  return rowCount > 0;
}

/** For good; repeating it changes nothing. */
export async function disableApplication(sql: Sql, id: string): Promise<void> {
  await sql.query('update applications set disabled_at = now() where id = $1', [id]);
}

/**
 * Freezes an application for a class of calls. For the gateway's role, which can
 * do no other write here. True when the freeze is new.
 */
export async function freezeApplication(sql: Sql, id: string, freeze: string, reason: string): Promise<boolean> {
  const { rows } = await sql.query<{ frozen: boolean }>('select freeze_application($1, $2, $3) as frozen', [
    id,
    freeze,
    reason,
  ]);
  return rows[0]?.frozen === true;
}

/** Lifts the named freezes, or all of them for null. Returns the classes that were frozen. */
export async function liftFreezes(sql: Sql, id: string, classes: readonly string[] | null): Promise<string[]> {
  const { rows } = await sql.query<{ class: string }>(
    `delete from application_freezes
      where application_id = $1 and ($2::text[] is null or class = any($2::text[]))
      returning class`,
    [id, classes],
  );
  return rows.map((row) => row.class).sort();
}
