import type { RecordId } from '../base/ids.ts';
import type { Sql } from './sql.ts';

/**
 * Intents and outcomes of the calls that cannot be asked again. Leases run on the
 * database clock; a lease that ran out means "unknown", never "done" or "not done".
 */

export type OperationKind = 'rotation' | 'removal';

/** Claims the record. False: somebody else did, or the version moved on; read again. */
export async function beginOperation(
  sql: Sql,
  operation: { operationId: string; kind: OperationKind; recordId: RecordId; version: number; leaseMs: number },
): Promise<boolean> {
  const { rows } = await sql.query<{ begun: boolean }>(
    `select begin_operation($1, $2, $3, $4, $5 * interval '1 millisecond') as begun`,
    [operation.operationId, operation.kind, operation.recordId, operation.version, operation.leaseMs],
  );
  return rows[0]?.begun === true;
}

/** Saves the new token of a rotation; safe to repeat with the same ciphertext. False: the version moved on. */
export async function completeRotation(
  sql: Sql,
  rotation: {
    operationId: string;
    recordId: RecordId;
    fromVersion: number;
    sealed: Buffer;
    fingerprint: Buffer;
    dataKeyId: string;
  },
): Promise<boolean> {
  const { rows } = await sql.query<{ saved: boolean }>('select complete_rotation($1, $2, $3, $4, $5, $6) as saved', [
    rotation.operationId,
    rotation.recordId,
    rotation.fromVersion,
    rotation.sealed,
    rotation.fingerprint,
    rotation.dataKeyId,
  ]);
  return rows[0]?.saved === true;
}

export async function settleOperation(
  sql: Sql,
  operationId: string,
  state: 'done' | 'refused' | 'uncertain',
  recordState: 'active' | 'uncertain' | 'external' | 'removed',
  reason: string,
): Promise<void> {
  await sql.query('select settle_operation($1, $2, $3, $4)', [operationId, state, recordState, reason]);
}

export interface OpenOperation {
  readonly operationId: string;
  readonly kind: OperationKind;
  readonly recordId: RecordId;
  readonly applicationId: string;
  readonly fromVersion: number;
}

/** Operations whose holder let the lease run out: crashed, or cut off. */
export async function expiredOperations(sql: Sql, limit = 100): Promise<OpenOperation[]> {
  const { rows } = await sql.query<OpenOperation>(
    `select operation_id as "operationId", kind, record_id as "recordId", application_id as "applicationId",
            from_version as "fromVersion"
       from operations
      where state = 'open' and lease_until < now()
      order by opened_at
      limit $1`,
    [limit],
  );
  return rows;
}

export interface UnsettledOperation {
  readonly operationId: string;
  readonly kind: OperationKind | 'exchange';
  readonly recordId: RecordId | null;
  readonly applicationId: string;
  readonly state: string;
  readonly reason: string | null;
  readonly openedAt: Date;
  /** Longer open than its holder may take: nobody is at it any more. */
  readonly overdue: boolean;
}

/** What an operator has to look at: open and uncertain operations, oldest first. */
export async function unsettledOperations(sql: Sql, limit: number): Promise<UnsettledOperation[]> {
  const { rows } = await sql.query<UnsettledOperation>(
    `select operation_id::text as "operationId", kind, record_id as "recordId", application_id as "applicationId",
            state, reason, opened_at as "openedAt", lease_until < now() as overdue
       from operations where state in ('open', 'uncertain')
     union all
     select encode(public_token_mac, 'hex'), 'exchange', record_id, application_id, state,
            case state when 'uncertain' then 'possible orphan: link again' end, opened_at, lease_until < now()
       from exchanges where state <> 'done'
      order by "openedAt"
      limit $1`,
    [limit],
  );
  return rows;
}

export interface Exchange {
  readonly applicationId: string;
  readonly state: 'open' | 'done' | 'uncertain';
  readonly attempts: number;
  readonly recordId: RecordId | null;
  readonly itemId: string | null;
  readonly leaseExpired: boolean;
}

/**
 * Claims a public token for one exchange: the row's insert is the lock. A holder
 * that died leaves the row open; when its lease is over the next caller takes it
 * with one attempt more. Done rows older than a day are forgotten.
 *
 * @returns 'claimed' with the number of the attempt, or the row as it stands.
 */
export async function claimExchange(
  sql: Sql,
  mac: Buffer,
  applicationId: string,
  leaseMs: number,
): Promise<{ claimed: number } | Exchange> {
  const { rows } = await sql.query<{ attempts: number }>(
    `insert into exchanges (public_token_mac, application_id, lease_until)
     values ($1, $2, now() + $3 * interval '1 millisecond')
     on conflict (public_token_mac) do update
       set attempts = exchanges.attempts + 1, lease_until = excluded.lease_until
       where exchanges.state = 'open' and exchanges.lease_until < now()
     returning attempts`,
    [mac, applicationId, leaseMs],
  );
  if (rows[0] !== undefined) return { claimed: rows[0].attempts };
  const held = await exchangeByMac(sql, mac);
  // Released between the two statements: as if it had never been claimed.
  return held ?? claimExchange(sql, mac, applicationId, leaseMs);
}

export async function exchangeByMac(sql: Sql, mac: Buffer): Promise<Exchange | null> {
  const { rows } = await sql.query<Exchange>(
    `select application_id as "applicationId", state, attempts, record_id as "recordId", item_id as "itemId",
            lease_until < now() as "leaseExpired"
       from exchanges where public_token_mac = $1`,
    [mac],
  );
  return rows[0] ?? null;
}

/** Plaid refused for certain and nothing happened: the public token may be tried again. */
export async function releaseExchange(sql: Sql, mac: Buffer): Promise<void> {
  await sql.query(`delete from exchanges where public_token_mac = $1 and state = 'open'`, [mac]);
}

export async function finishExchange(sql: Sql, mac: Buffer, recordId: RecordId, itemId: string | null): Promise<void> {
  await sql.query(
    `update exchanges set state = 'done', record_id = $2, item_id = $3, settled_at = now() where public_token_mac = $1`,
    [mac, recordId, itemId],
  );
}

export async function markExchangeUncertain(sql: Sql, mac: Buffer): Promise<void> {
  await sql.query(
    `update exchanges set state = 'uncertain', settled_at = now() where public_token_mac = $1 and state = 'open'`,
    [mac],
  );
}

/**
 * Open exchanges whose public token has died of age (30 minutes at Plaid) and was
 * never asked for again: possible orphans. Also forgets done ones after a day.
 */
export async function expireExchanges(sql: Sql): Promise<{ mac: Buffer; applicationId: string }[]> {
  await sql.query(`delete from exchanges where state = 'done' and settled_at < now() - interval '24 hours'`);
  const { rows } = await sql.query<{ mac: Buffer; applicationId: string }>(
    `update exchanges set state = 'uncertain', settled_at = now()
      where state = 'open' and lease_until < now() and opened_at < now() - interval '31 minutes'
      returning public_token_mac as mac, application_id as "applicationId"`,
  );
  return rows;
}
