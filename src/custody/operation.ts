import type { AuditWriter } from '../audit/writer.ts';
import type { Random } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
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
   */
  settle(
    state: 'done' | 'refused' | 'uncertain',
    recordState: 'active' | 'uncertain' | 'external' | 'removed',
    code: string,
  ): Promise<void>;
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
  if (!(await beginOperation(parts.database.sql, claim))) {
    throw new StrongroomError('ROTATION_CONFLICT', { record: record.recordId });
  }
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
    settle: (state, recordState, code) =>
      parts.vault.persist(() => settleOperation(parts.database.sql, operationId, state, recordState, code)),
  };
  try {
    await parts.audit.append(`${kind}.intended`, step);
  } catch (error) {
    // No audit, no call. The record goes back to what it was.
    const was = record.state === 'uncertain' ? 'uncertain' : 'active';
    await operation.settle('refused', was, 'intent_not_recorded').catch(() => {});
    throw error;
  }
  return operation;
}
