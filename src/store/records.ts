import { hash } from 'node:crypto';
import type { RecordId } from '../base/ids.ts';
import type { Sql } from './sql.ts';

/**
 * Sealed records, the subjects that applications own, and the register of
 * released tokens. Nothing here opens anything.
 */

export type CustodyState =
  | 'active'
  | 'rotating'
  | 'uncertain'
  | 'lost'
  | 'external'
  | 'frozen'
  | 'removing'
  | 'removed';

export type Health =
  | 'healthy'
  | 'expiring'
  | 'login_required'
  | 'action_at_bank'
  | 'permission_missing'
  | 'revoked'
  | 'gone'
  | 'degraded'
  | 'drift';

/** A record as the gateway needs it. `sealed` is null once shredded. */
export interface StoredRecord {
  readonly recordId: RecordId;
  readonly handleHash: Buffer;
  readonly kind: string;
  readonly applicationId: string;
  readonly plaidClientId: string;
  readonly itemId: string | null;
  readonly version: number;
  readonly state: CustodyState;
  readonly health: Health;
  readonly healthCode: string | null;
  readonly sealed: Buffer | null;
}

const COLUMNS = `record_id as "recordId", handle_hash as "handleHash", kind, application_id as "applicationId",
       plaid_client_id as "plaidClientId", item_id as "itemId", version, state, health,
       health_code as "healthCode", sealed`;

export async function recordById(sql: Sql, recordId: RecordId): Promise<StoredRecord | null> {
  const { rows } = await sql.query<StoredRecord>(`select ${COLUMNS} from secrets where record_id = $1`, [recordId]);
  return rows[0] ?? null;
}

/** The record that already holds this very token for this application, if any. */
export async function recordByFingerprint(
  sql: Sql,
  applicationId: string,
  fingerprint: Buffer,
): Promise<StoredRecord | null> {
  const { rows } = await sql.query<StoredRecord>(
    `select ${COLUMNS} from secrets where application_id = $1 and fingerprint = $2`,
    [applicationId, fingerprint],
  );
  return rows[0] ?? null;
}

export interface NewRecord {
  readonly recordId: RecordId;
  readonly handleHash: Buffer;
  readonly kind: string;
  readonly applicationId: string;
  readonly plaidClientId: string;
  readonly itemId: string | null;
  readonly fingerprint: Buffer;
  readonly dataKeyId: string;
  readonly sealed: Buffer;
}

/**
 * Keeps a new record, version 1.
 *
 * @returns the record id that holds the token now: the given one, or the one
 *   under which this application already had it (repeating is harmless, and a
 *   commit whose answer was lost can be repeated).
 */
export async function insertRecord(sql: Sql, record: NewRecord): Promise<RecordId> {
  const { rows } = await sql.query<{ recordId: RecordId }>(
    `with kept as (
       insert into secrets (record_id, handle_hash, kind, application_id, plaid_client_id, item_id,
                            fingerprint, data_key_id, sealed)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
       on conflict (application_id, fingerprint) do nothing
       returning record_id
     )
     select record_id as "recordId" from kept
     union all
     select record_id from secrets where application_id = $4 and fingerprint = $7
     limit 1`,
    [
      record.recordId,
      record.handleHash,
      record.kind,
      record.applicationId,
      record.plaidClientId,
      record.itemId,
      record.fingerprint,
      record.dataKeyId,
      record.sealed,
    ],
  );
  const kept = rows[0];
  // A concurrent insert of the same token may be committed but not yet visible to
  // this statement's snapshot; the next statement sees it.
  if (kept === undefined) {
    const other = await recordByFingerprint(sql, record.applicationId, record.fingerprint);
    if (other === null) throw new Error('a record conflicted and then was not there');
    return other.recordId;
  }
  return kept.recordId;
}

/**
 * SHA-256 over what a row says and its ciphertext is not bound to: whose the record
 * is, and which handle and item stand for it. The same as record_digests.row_sha256.
 */
export function rowSha256(
  row: Pick<NewRecord, 'kind' | 'applicationId' | 'plaidClientId' | 'itemId' | 'handleHash'>,
): string {
  const { kind, applicationId, plaidClientId, itemId, handleHash } = row;
  return hash('sha256', [kind, applicationId, plaidClientId, itemId ?? '', handleHash.toString('hex')].join('\n'));
}

/** The audit log has an entry about this version of the record, or about its end. */
export async function markWitnessed(sql: Sql, recordId: RecordId, version: number, shredded: boolean): Promise<void> {
  await sql.query('select record_witnessed($1, $2, $3)', [recordId, version, shredded]);
}

/** A row of record_digests: what an auditor sees of a record. */
export interface RecordDigest {
  readonly recordId: RecordId;
  readonly kind: string;
  readonly applicationId: string;
  readonly version: number;
  readonly state: CustodyState;
  readonly dataKeyId: string;
  /** Null once shredded. */
  readonly ciphertextSha256: string | null;
  readonly rowSha256: string;
}

const DIGESTS = `record_id as "recordId", kind, application_id as "applicationId", version, state,
       data_key_id as "dataKeyId", ciphertext_sha256 as "ciphertextSha256", row_sha256 as "rowSha256"`;

/** Records that the audit log may say nothing about, after whoever should have written it has had time to. */
export async function unwitnessedRecords(sql: Sql, olderThanMs: number, limit = 100): Promise<RecordDigest[]> {
  const { rows } = await sql.query<RecordDigest>(
    `select ${DIGESTS} from record_digests
      where unwitnessed and changed_at < now() - $1 * interval '1 millisecond'
        and (ciphertext_sha256 is not null
             or exists (select from operations o
                         where o.record_id = record_digests.record_id and o.kind = 'removal' and o.state = 'done'))
      order by changed_at limit $2`,
    [olderThanMs, limit],
  );
  return rows;
}

/** Writes what a call showed of an item's health. A no-op when nothing changed. */
export async function noteHealth(sql: Sql, recordId: RecordId, health: Health, code: string | null): Promise<void> {
  await sql.query('select note_health($1, $2, $3)', [recordId, health, code]);
}

/** Who may name a Plaid id. */
export interface Subject {
  readonly subjectMac: Buffer;
  readonly applicationId: string;
}

export async function subjectsByMac(sql: Sql, macs: readonly Buffer[]): Promise<Subject[]> {
  const { rows } = await sql.query<Subject>(
    `select subject_mac as "subjectMac", application_id as "applicationId" from subjects where subject_mac = any($1)`,
    [macs],
  );
  return rows;
}

export interface NewSubject {
  readonly mac: Buffer;
  readonly kind: string;
  readonly clientUserMac: Buffer | null;
  readonly recordId: RecordId | null;
}

/** Learns ownership. The first owner stays: a later answer cannot move a subject to somebody else. */
export async function insertSubjects(sql: Sql, applicationId: string, subjects: readonly NewSubject[]): Promise<void> {
  if (subjects.length === 0) return;
  await sql.query(
    `insert into subjects (subject_mac, kind, application_id, client_user_mac, record_id)
     select mac, kind, $1, client_user, record
       from unnest($2::bytea[], $3::text[], $4::bytea[], $5::uuid[]) as learned (mac, kind, client_user, record)
     on conflict (subject_mac) do nothing`,
    [
      applicationId,
      subjects.map((subject) => subject.mac),
      subjects.map((subject) => subject.kind),
      subjects.map((subject) => subject.clientUserMac),
      subjects.map((subject) => subject.recordId),
    ],
  );
}

/** Registers tokens that leave custody by design: by whom, of which record, and a fingerprint to recognise them by. */
export async function insertReleased(
  sql: Sql,
  applicationId: string,
  released: readonly { kind: string; recordId: RecordId | null; fingerprint: Buffer }[],
): Promise<void> {
  if (released.length === 0) return;
  await sql.query(
    `insert into released_tokens (application_id, kind, record_id, fingerprint)
     select $1, kind, record, fingerprint
       from unnest($2::text[], $3::uuid[], $4::bytea[]) as gone (kind, record, fingerprint)`,
    [
      applicationId,
      released.map((token) => token.kind),
      released.map((token) => token.recordId),
      released.map((token) => token.fingerprint),
    ],
  );
}

/** A record as people see it: no ciphertext, no handle. */
export interface ListedRecord {
  readonly recordId: RecordId;
  readonly kind: string;
  readonly applicationId: string;
  readonly itemId: string | null;
  readonly version: number;
  readonly state: CustodyState;
  readonly health: Health;
  readonly healthCode: string | null;
  readonly createdAt: Date;
  readonly changedAt: Date;
}

const LISTED = `record_id as "recordId", kind, application_id as "applicationId", item_id as "itemId", version, state,
       health, health_code as "healthCode", created_at as "createdAt", changed_at as "changedAt"`;

/** Newest first, at most `limit` (1 to 1000), before the given record's creation when paging. */
export async function listRecords(
  sql: Sql,
  filter: { applicationId?: string; state?: CustodyState; before?: Date; limit: number },
): Promise<ListedRecord[]> {
  const { rows } = await sql.query<ListedRecord>(
    `select ${LISTED}
       from secrets
      where ($1::text is null or application_id = $1)
        and ($2::text is null or state = $2)
        and ($3::timestamptz is null or created_at < $3)
      order by created_at desc, record_id
      limit $4`,
    [filter.applicationId ?? null, filter.state ?? null, filter.before ?? null, filter.limit],
  );
  return rows;
}

export async function listedRecord(sql: Sql, recordId: RecordId): Promise<ListedRecord | null> {
  const { rows } = await sql.query<ListedRecord>(`select ${LISTED} from secrets where record_id = $1`, [recordId]);
  return rows[0] ?? null;
}

/** One page in record order, for holding the table against the audit log. */
export async function recordDigests(sql: Sql, after: string | null, limit: number): Promise<RecordDigest[]> {
  const { rows } = await sql.query<RecordDigest>(
    `select ${DIGESTS} from record_digests
      where ($1::uuid is null or record_id > $1)
      order by record_id
      limit $2`,
    [after, limit],
  );
  return rows;
}
