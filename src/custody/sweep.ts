import type { AuditWriter } from '../audit/writer.ts';
import { expiredOperations, expireExchanges, settleOperation } from '../store/operations.ts';
import type { Database } from '../store/sql.ts';
import { pruneUsage } from '../store/usage.ts';

/**
 * What a worker does about calls whose holder died: names them. Runs at start and
 * every few seconds, on every replica; each step is a compare-and-set, so that it
 * does not matter how many sweep at once.
 *
 * It settles nothing: an expired lease means that the outcome is unknown, and that
 * is what it writes down.
 */
export async function sweep(database: Database, audit: AuditWriter): Promise<{ uncertain: number; orphans: number }> {
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
  return { uncertain, orphans: orphans.length };
}

/** Forgets counters that are older than anybody asks for. Once an hour is plenty. */
export async function tidy(database: Database): Promise<void> {
  await pruneUsage(database.sql);
}
