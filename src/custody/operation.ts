import type { AuditWriter } from '../audit/writer.ts';
import type { Random } from '../base/clock.ts';
import { codeOf, StrongroomError } from '../base/errors.ts';
import { beginOperation, type OperationKind, settleOperation } from '../store/operations.ts';
import type { StoredRecord } from '../store/records.ts';
import type { Database } from '../store/sql.ts';
import type { AdmittedCall } from './call.ts';
import type { Vault } from './vault.ts';

/**
 * The frame of a call that changes a token and cannot be asked again: claim the
 * record, make the intent durable, call once, settle by name. Used by rotation and
 * removal; what counts as "done" and "not done" is theirs.
 */

/**
 * Longer than the longest call to Plaid. After that another process may say that
 * the outcome is unknown; it never says more than that.
 */
export const OPERATION_LEASE_MS = 180_000;

export interface Operation {
  readonly operationId: string;
  readonly kind: OperationKind;
  readonly record: StoredRecord;
  /**
   * Ends the operation. Repeated until the database has it: while it does not, the
   * record stays claimed, which is never shown as healthy.
   *
   * @returns false when the database has not taken it yet. What became of the call
   *   is not in doubt for that, so it is no error: this process goes on trying.
   */
  settle(
    state: 'done' | 'refused' | 'uncertain',
    recordState: 'active' | 'uncertain' | 'external' | 'removed',
    code: string,
  ): Promise<boolean>;
}

export interface OperationParts {
  readonly database: Database;
  readonly audit: AuditWriter;
  readonly vault: Vault;
  readonly random: Random;
}

/**
 * Claims the record and writes the intent. When this returns, both are durable and
 * nothing has been sent; a crash from here on leaves an open operation, which
 * becomes `uncertain` when its lease is over.
 *
 * @throws ROTATION_CONFLICT when somebody else has claimed the record;
 *   AUDIT_UNAVAILABLE with the claim given back; DATABASE_UNAVAILABLE.
 */
export async function openOperation(
  parts: OperationParts,
  kind: OperationKind,
  call: AdmittedCall,
  record: StoredRecord,
): Promise<Operation> {
  const operationId = parts.random.uuid();
  const claim = { operationId, kind, recordId: record.recordId, version: record.version, leaseMs: OPERATION_LEASE_MS };
  const step = {
    operation: operationId,
    application: call.application.id,
    record: record.recordId,
    version: record.version,
  };
  const operation: Operation = {
    operationId,
    kind,
    record,
    async settle(state, recordState, code) {
      try {
        await parts.vault.persist(() => settleOperation(parts.database.sql, operationId, state, recordState, code));
        return true;
      } catch (error) {
        if (codeOf(error) !== 'DATABASE_UNAVAILABLE') throw error;
        return false;
      }
    },
  };
  // No claim, no audit, no call. The record goes back to what it was.
  const was = record.state === 'uncertain' ? 'uncertain' : 'active';
  const begun = await beginOperation(parts.database.sql, claim).catch((error: unknown) => {
    // It may have been claimed and the answer lost. Nothing was sent, so nobody has to wait for the lease.
    void operation.settle('refused', was, 'claim_not_answered').catch(() => {});
    throw error;
  });
  if (!begun) throw new StrongroomError('ROTATION_CONFLICT', { record: record.recordId });
  try {
    await parts.audit.append(`${kind}.intended`, step);
  } catch (error) {
    await operation.settle('refused', was, 'intent_not_recorded').catch(() => {});
    throw error;
  }
  return operation;
}
