import { StrongroomError } from '../base/errors.ts';
import type { DeploymentEnvironment, PlaidEnvironment } from '../base/ids.ts';
import type { Database } from './sql.ts';
import type { Sql } from './statement.ts';

/** The stamp that ties a database to one deployment. Written once, never changed. */

export interface Stamp {
  readonly deploymentId: string;
  readonly environment: DeploymentEnvironment;
  readonly plaidEnvironment: PlaidEnvironment;
  readonly kekId: string;
  /** Any order. */
  readonly plaidClients: readonly StampedClient[];
}

export interface StampedClient {
  readonly clientId: string;
  /** HMAC of the Plaid secret, 16 to 32 bytes. */
  readonly secretFingerprint: Uint8Array;
}

export interface StoredStamp extends Stamp {
  readonly stampedAt: Date;
}

/** Null before the first start. Any role may read it. */
export async function readStamp(sql: Sql): Promise<StoredStamp | null> {
  // One statement, so that stamp and clients belong together.
  const { rows } = await sql.query<Omit<StoredStamp, 'plaidClients'> & { clients: string[]; fingerprints: Buffer[] }>(
    `select deployment_id as "deploymentId", environment, plaid_environment as "plaidEnvironment",
            kek_id as "kekId", stamped_at as "stampedAt",
            array(select plaid_client_id from deployment_plaid_clients order by 1) as clients,
            array(select secret_fingerprint from deployment_plaid_clients order by plaid_client_id) as fingerprints
       from deployment`,
  );
  const [row] = rows;
  if (row === undefined) return null;
  const { clients, fingerprints, ...stamp } = row;
  return {
    ...stamp,
    plaidClients: clients.map((clientId, i) => ({ clientId, secretFingerprint: fingerprints[i] as Buffer })),
  };
}

/**
 * Stamps the database if it has no stamp yet, and answers the stamp that it has
 * now: ours or, when another replica was faster, that one's. The caller compares.
 * Needs the worker's role or the owner's.
 */
export async function stampOnce(database: Pick<Database, 'transaction'>, stamp: Stamp): Promise<StoredStamp> {
  return database.transaction(async (sql) => {
    const { rowCount } = await sql.query(
      `insert into deployment (deployment_id, environment, plaid_environment, kek_id)
       values ($1, $2, $3, $4)
       on conflict do nothing`,
      [stamp.deploymentId, stamp.environment, stamp.plaidEnvironment, stamp.kekId],
    );
    // Whoever inserted the one row adds the clients, in the same transaction.
    if (rowCount === 1) {
      await sql.query(
        `insert into deployment_plaid_clients (plaid_client_id, secret_fingerprint)
         select * from unnest($1::text[], $2::bytea[])`,
        [
          stamp.plaidClients.map((client) => client.clientId),
          stamp.plaidClients.map((client) => client.secretFingerprint),
        ],
      );
    }
    const stored = await readStamp(sql);
    if (stored === null) throw new StrongroomError('INTERNAL', { reason: 'the stamp is not there' });
    return stored;
  });
}

export interface StampDifference {
  readonly field:
    | 'deployment.id'
    | 'deployment.environment'
    | 'plaid.environment'
    | 'kms'
    | 'plaid.clients'
    | 'plaid.secret';
  /** What the database was stamped with, and what is configured; for a secret only whose it is. */
  readonly stamped: string;
  readonly configured: string;
}

/** Every difference, by the name of the setting; empty when the database is ours. Pure. */
export function compareStamp(stamped: Stamp, configured: Stamp): readonly StampDifference[] {
  const differences: StampDifference[] = [];
  const compare = (field: StampDifference['field'], was: string, is: string) => {
    if (was !== is) differences.push({ field, stamped: was, configured: is });
  };
  compare('deployment.id', stamped.deploymentId, configured.deploymentId);
  compare('deployment.environment', stamped.environment, configured.environment);
  compare('plaid.environment', stamped.plaidEnvironment, configured.plaidEnvironment);
  compare('kms', stamped.kekId, configured.kekId);
  compare('plaid.clients', clientIds(stamped), clientIds(configured));
  for (const { clientId, secretFingerprint } of stamped.plaidClients) {
    const now = configured.plaidClients.find((client) => client.clientId === clientId);
    if (now !== undefined && Buffer.compare(secretFingerprint, now.secretFingerprint) !== 0) {
      differences.push({ field: 'plaid.secret', stamped: `secret of ${clientId}`, configured: 'another secret' });
    }
  }
  return differences;
}

function clientIds({ plaidClients }: Stamp): string {
  return plaidClients
    .map(({ clientId }) => clientId)
    .sort()
    .join(', ');
}

/** @throws StrongroomError `STAMP_MISMATCH`, naming every setting that differs. Changes nothing. */
export function requireSameStamp(stamped: Stamp, configured: Stamp): void {
  const differences = compareStamp(stamped, configured);
  if (differences.length > 0) throw stampMismatch(differences);
}

export function stampMismatch(differences: readonly StampDifference[]): StrongroomError {
  const sentences = differences.map(
    ({ field, stamped: was, configured: is }) => `${field} is ${is}, the database has ${was}`,
  );
  return new StrongroomError('STAMP_MISMATCH', {
    detail: `${sentences.join('; ')}.`,
    fields: differences.map(({ field }) => field).join(' '),
  });
}
