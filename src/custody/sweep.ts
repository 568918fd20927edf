import type { AuditWriter } from '../audit/writer.ts';
import { expiredOperations, expireExchanges, settleOperation } from '../store/operations.ts';
import { markWitnessed, type RecordDigest, unwitnessedRecords } from '../store/records.ts';
import type { Database } from '../store/sql.ts';
import { pruneUsage } from '../store/usage.ts';

export interface SweepParts {
  readonly database: Database;
  readonly audit: AuditWriter;
  /** Whether we sealed what the row holds, for this row and version; true for one without ciphertext. */
  readonly isGenuine: (record: RecordDigest) => Promise<boolean>;
}

/** Longer than a gateway that lives takes to write an entry itself. */
const WITNESS_PATIENCE_MS = 30_000;

/**
 * What a worker does about calls whose holder died: names them, and says in the
 * audit log what a dead process had no time to say. Runs at start and
 * every few seconds, on every replica; each step is a compare-and-set, so that it
 * does not matter how many sweep at once.
 *
 * It settles nothing: an expired lease means that the outcome is unknown, and that
 * is what it writes down.
 */
export async function sweep({
  database,
  audit,
  isGenuine,
}: SweepParts): Promise<{ uncertain: number; orphans: number }> {
  let uncertain = 0;
  for (const operation of await expiredOperations(database.sql)) {
    await audit.append(`${operation.kind}.uncertain`, {
      operation: operation.operationId,
      application: operation.applicationId,
      record: operation.recordId,
      version: operation.fromVersion,
      code: 'holder_gone',
    });
    await settleOperation(database.sql, operation.operationId, 'uncertain', 'uncertain', 'holder_gone');
    uncertain++;
  }
  const orphans = await expireExchanges(database.sql);
  for (const orphan of orphans) {
    await audit.append('exchange.uncertain', { application: orphan.applicationId, code: 'never_settled' });
  }
  let failed: unknown = null;
  for (const record of await unwitnessedRecords(database.sql, WITNESS_PATIENCE_MS)) {
    // A row that fits no entry must not keep the others from theirs.
    await witnessFor(record).catch((error: unknown) => {
      failed ??= error;
    });
  }
  if (failed !== null) throw failed;
  return { uncertain, orphans: orphans.length };

  /**
   * A row that somebody put in by hand gets no entry, so that doctor goes on naming
   * it. One that is genuine and was put back says nothing new: the later entries of
   * its record stand in the log.
   */
  async function witnessFor(record: RecordDigest): Promise<void> {
    if (!(await isGenuine(record))) return;
    const { recordId, version, kind, ciphertextSha256, dataKeyId, applicationId, rowSha256 } = record;
    if (ciphertextSha256 === null) {
      await audit.append('record.shredded', { record: recordId, version, reason: 'holder_gone' });
    } else {
      await audit.append('record.sealed', {
        record: recordId,
        version,
        record_kind: kind,
        ciphertext_sha256: ciphertextSha256,
        data_key: dataKeyId,
        application: applicationId,
        row_sha256: rowSha256,
      });
    }
    await markWitnessed(database.sql, recordId, version, ciphertextSha256 === null);
  }
}

/** Forgets counters that are older than anybody asks for. Once an hour is plenty. */
export async function tidy(database: Database): Promise<void> {
  await pruneUsage(database.sql);
}
