import type { KeyPurpose } from '../envelope/data-key.ts';
import type { DataKeyRows, KeyState, StoredDataKey } from '../envelope/keyring.ts';
import type { Sql } from './sql.ts';

/**
 * Wrapped data keys. The rows are of no use without the key service.
 */

const COLUMNS = 'id, purpose, state, wrapped, kek_id as "kekId", key_check as "keyCheck"';

/** The rows as the keyring asks for them. The gateway's role may load, the worker's also insert. */
export function dataKeyRows(sql: Sql): DataKeyRows {
  return rowsFrom(sql, 'data_keys');
}

/** For the admin role, which sees no wrapped key but those of purpose `fingerprint`. Inserting is refused. */
export function fingerprintKeyRows(sql: Sql): DataKeyRows {
  return rowsFrom(sql, 'fingerprint_keys()');
}

function rowsFrom(sql: Sql, source: 'data_keys' | 'fingerprint_keys()'): DataKeyRows {
  return {
    async loadActive(purpose: KeyPurpose) {
      const { rows } = await sql.query<StoredDataKey>(
        `select ${COLUMNS} from ${source} where purpose = $1 and state = 'active'`,
        [purpose],
      );
      return rows[0] ?? null;
    },

    async load(id: string) {
      const { rows } = await sql.query<StoredDataKey>(`select ${COLUMNS} from ${source} where id = $1`, [id]);
      return rows[0] ?? null;
    },

    async insertActive({ id, purpose, wrapped, kekId, keyCheck }) {
      // The unique index on the active key decides a race; the loser changes nothing.
      const { rowCount } = await sql.query(
        `insert into data_keys (id, purpose, state, wrapped, kek_id, key_check, activated_at)
         values ($1, $2, 'active', $3, $4, $5, now())
             on conflict (purpose) where state = 'active' do nothing`,
        [id, purpose, Buffer.from(wrapped), kekId, keyCheck],
      );
      return rowCount === 1;
    },
  };
}

/** A data key as operators and auditors see it: everything but the key. */
export interface DataKeySummary {
  readonly id: string;
  readonly purpose: KeyPurpose;
  readonly state: KeyState;
  readonly kekId: string;
  readonly createdAt: Date;
  readonly activatedAt: Date | null;
}

/** All keys, oldest first. */
export async function dataKeySummaries(sql: Sql): Promise<DataKeySummary[]> {
  const { rows } = await sql.query<DataKeySummary>(
    `select id, purpose, state, kek_id as "kekId", created_at as "createdAt", activated_at as "activatedAt"
       from data_keys
      order by created_at, id`,
  );
  return rows;
}
