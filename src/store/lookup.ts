import { StrongroomError } from '../base/errors.ts';
import type { StoredRecord } from './records.ts';
import type { Sql } from './sql.ts';

/** The one read of every gateway call: is the application as we know it, and what does its handle stand for. */

/** An application and, where the call names one, the hash of a handle. */
export interface Wanted {
  readonly applicationId: string;
  readonly handleHash: Buffer | null;
}

export interface Looked {
  /** Null: no such application. */
  readonly applicationVersion: number | null;
  /** Null: nothing is held under the hash. */
  readonly record: StoredRecord | null;
}

/** One row of the answer: the application's version, then the record's columns. */
type Found = readonly [
  applicationVersion: number | null,
  recordId: StoredRecord['recordId'] | null,
  kind: string,
  applicationId: string,
  plaidClientId: string,
  itemId: string | null,
  version: number,
  state: StoredRecord['state'],
  health: StoredRecord['health'],
  healthCode: string | null,
  sealed: string | null,
];

const HASH_BYTES = 16;
/** Stands where no handle is named; no hash that is held looks like it. */
const NO_HASH = Buffer.alloc(HASH_BYTES);

/**
 * Many pairs in one round trip, so that waiting requests share it; in their order.
 *
 * Two values go and one comes back, and not a dozen columns: every request passes
 * here, and the driver's work grows with columns and array elements.
 */
export async function lookUp(sql: Sql, wanted: readonly Wanted[]): Promise<Looked[]> {
  const { rows } = await sql.query<{ found: string }>({
    name: 'gateway look-up',
    // unnest() and not string_to_table(): of the latter the planner expects a thousand rows, and reads whole tables.
    text: `select json_agg(json_build_array(a.version, s.record_id, s.kind, s.application_id, s.plaid_client_id, s.item_id,
                                            s.version, s.state, s.health, s.health_code, encode(s.sealed, 'hex'))
                           order by q.at)::text as found
             from (select application, at, substr($2::bytea, ${HASH_BYTES} * (at::int - 1) + 1, ${HASH_BYTES}) as hash
                     from unnest(string_to_array($1::text, ',')) with ordinality as u (application, at)) q
             left join applications a on a.id = q.application
             left join secrets s on s.handle_hash = q.hash`,
    values: [
      wanted.map((pair) => pair.applicationId).join(),
      Buffer.concat(wanted.map((pair) => pair.handleHash ?? NO_HASH)),
    ],
  });
  const found = JSON.parse(rows[0]?.found ?? '[]') as readonly Found[];
  if (found.length !== wanted.length) throw new StrongroomError('INTERNAL', { reason: 'look-up' });
  return wanted.map(({ handleHash }, at) => recordOf(found[at] as Found, handleHash));
}

function recordOf(row: Found, handleHash: Buffer | null): Looked {
  const [applicationVersion, recordId, kind, applicationId, plaidClientId, itemId, version, state] = row;
  if (recordId === null || handleHash === null) return { applicationVersion, record: null };
  const [, , , , , , , , health, healthCode, sealed] = row;
  const bytes = sealed === null ? null : Buffer.from(sealed, 'hex');
  return {
    applicationVersion,
    record: {
      recordId,
      handleHash,
      kind,
      applicationId,
      plaidClientId,
      itemId,
      version,
      state,
      health,
      healthCode,
      sealed: bytes,
    },
  };
}
