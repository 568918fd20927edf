import type { StoredRecord } from './records.ts';
import type { Sql } from './sql.ts';

/** The one read of every gateway call: is the application as we know it, and what does its handle stand for. */

/** An application and, where the call names one, the hash of a handle. */
export interface Wanted {
  readonly applicationId: string;
  readonly handleHash: Buffer | null;
}

export interface Looked {
  /** Number of the pair in the question, from 1. */
  readonly at: number;
  /** Null: no such application. */
  readonly applicationVersion: number | null;
  /** Null: nothing is held under the hash. */
  readonly record: StoredRecord | null;
}

interface Row extends StoredRecord {
  readonly at: number;
  readonly applicationVersion: number | null;
}

/** Many pairs in one round trip, so that waiting requests share it; one row for each, in any order. */
export async function lookUp(sql: Sql, wanted: readonly Wanted[]): Promise<Looked[]> {
  const { rows } = await sql.query<Row>({
    name: 'gateway look-up',
    text: `select q.at::int as at, a.version as "applicationVersion", s.record_id as "recordId", s.kind,
                  s.handle_hash as "handleHash", s.application_id as "applicationId",
                  s.plaid_client_id as "plaidClientId", s.item_id as "itemId", s.version, s.state, s.health,
                  s.health_code as "healthCode", s.sealed
             from unnest($1::text[], $2::bytea[]) with ordinality as q (application, hash, at)
             left join applications a on a.id = q.application
             left join secrets s on s.handle_hash = q.hash`,
    values: [wanted.map((pair) => pair.applicationId), wanted.map((pair) => pair.handleHash)],
  });
  return rows.map(({ at, applicationVersion, ...record }) => ({
    at,
    applicationVersion,
    record: record.recordId === null ? null : record,
  }));
}
