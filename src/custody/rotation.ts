import { codeOf, StrongroomError } from '../base/errors.ts';
import { completeRotation } from '../store/operations.ts';
import { tokenIn } from './answers.ts';
import type { AdmittedCall, Carried, GatewayAnswer } from './call.ts';
import { auditCode, type Forward } from './forward.ts';
import { type Operation, type OperationParts, openOperation } from './operation.ts';

/**
 * `/item/access_token/invalidate` through the gateway, in its simplest safe form:
 * one call, never repeated, and every outcome that is not known for certain is
 * `uncertain`. The handle stays.
 *
 * Plaid ends the old token in the same step that returns the new one, and cannot
 * be asked again. If that one answer is lost the item is not served any more and
 * says so; nothing here guesses, and nothing here brings it back.
 */
export class Rotation {
  readonly #parts: OperationParts;
  readonly #forward: Forward;

  constructor(parts: OperationParts, forward: Forward) {
    this.#parts = parts;
    this.#forward = forward;
  }

  carry = (call: AdmittedCall): Promise<GatewayAnswer> => this.#forward.outcomeOf(call, () => this.#carry(call));

  async #carry(call: AdmittedCall): Promise<GatewayAnswer> {
    const record = call.slots[0]?.record;
    if (record === undefined) throw new StrongroomError('SUBJECT_MISSING');
    const { vault } = this.#parts;
    // Fetched first, so that sealing the answer is local and waits for nobody.
    const dataKey = await vault.sealingKey();
    const operation = await openOperation(this.#parts, 'rotation', call, record);

    let carried: Carried;
    try {
      carried = await this.#forward.sendWhole(call);
    } catch (error) {
      await this.#lost(call, operation, error);
      throw this.#named(error);
    }

    const fresh = carried.answer.status < 300 ? tokenIn(call, carried.answer, 'new_access_token') : null;
    if (fresh === null) return this.#refusedOrUnknown(call, operation, carried);

    const sealed = vault.reseal(dataKey, record, record.version + 1, fresh);
    // The old token is dead. Until the next line has returned, the new one lives in this process alone.
    const saved = await vault
      .persist(async () => {
        const completed = await completeRotation(this.#parts.database.sql, {
          operationId: operation.operationId,
          recordId: record.recordId,
          fromVersion: record.version,
          sealed,
          fingerprint: await vault.fingerprintOf(fresh),
          dataKeyId: dataKey.id,
        });
        // Here, so that it is said also when nobody waits any more.
        if (completed) {
          await vault.witness(record, record.version + 1, sealed, dataKey.id);
          this.#note(call, operation, 'settled', null);
        }
        return completed;
      })
      .catch((error: unknown) => {
        this.#forward.failed(call, error);
        // The vault goes on trying. Asking again later finds the new token in its place.
        throw codeOf(error) === 'DATABASE_UNAVAILABLE' ? new StrongroomError('TOKEN_ROTATING', {}, error) : error;
      });
    if (!saved) {
      // Somebody removed the record while Plaid was answering: there is nothing to serve.
      this.#note(call, operation, 'uncertain', 'version_moved');
      throw new StrongroomError('ROTATION_UNCERTAIN', { record: record.recordId });
    }
    this.#forward.outcome(call, carried, 1);

    const body = JSON.stringify({
      new_access_token: await vault.handleOf(record.recordId),
      request_id: requestIdOf(carried) ?? call.request.requestId,
    });
    return { status: 200, headers: { 'content-type': 'application/json' }, body: Buffer.from(body) };
  }

  /** Plaid answered, without a new token. */
  async #refusedOrUnknown(call: AdmittedCall, operation: Operation, carried: Carried): Promise<GatewayAnswer> {
    const code = carried.error?.code;
    if (code === 'INVALID_ACCESS_TOKEN') {
      await operation.settle('refused', 'external', 'INVALID_ACCESS_TOKEN');
      this.#note(call, operation, 'settled', 'INVALID_ACCESS_TOKEN');
      this.#forward.outcome(call, carried);
      throw new StrongroomError('TOKEN_EXTERNAL', { record: operation.record.recordId });
    }
    // A Plaid error with a 4xx status was decided before anything was done.
    if (code !== undefined && carried.answer.status < 500) {
      await operation.settle('refused', 'active', code);
      this.#parts.audit.note('rotation.refused', { ...stepOf(call, operation), code: auditCode(code) });
      this.#forward.outcome(call, carried);
      return this.#forward.answerOf(call, carried);
    }
    await operation.settle('uncertain', 'uncertain', 'answer_without_token');
    this.#note(call, operation, 'uncertain', 'answer_without_token');
    this.#forward.outcome(call, carried);
    throw new StrongroomError('ROTATION_UNCERTAIN', { record: operation.record.recordId });
  }

  /** No answer. Only a call that never left is known not to have been carried out. */
  async #lost(call: AdmittedCall, operation: Operation, error: unknown): Promise<void> {
    this.#forward.failed(call, error);
    if (neverSent(error)) {
      await operation.settle('refused', 'active', (error as StrongroomError).code);
      this.#parts.audit.note('rotation.refused', { ...stepOf(call, operation), code: (error as StrongroomError).code });
      return;
    }
    await operation.settle('uncertain', 'uncertain', 'answer_lost');
    this.#note(call, operation, 'uncertain', 'answer_lost');
  }

  #named(error: unknown): unknown {
    return neverSent(error) ? error : new StrongroomError('ROTATION_UNCERTAIN', {}, error);
  }

  #note(call: AdmittedCall, operation: Operation, how: 'settled' | 'uncertain', code: string | null): void {
    this.#parts.audit.note(`rotation.${how}`, { ...stepOf(call, operation), code });
  }
}

export function stepOf(call: AdmittedCall, operation: Operation) {
  return {
    operation: operation.operationId,
    application: call.application.id,
    record: operation.record.recordId,
    version: operation.record.version,
  };
}

/**
 * Whether a failure happened before anything went out: the connection was refused,
 * or we could not even open the record.
 */
export function neverSent(error: unknown): boolean {
  if (!(error instanceof StrongroomError)) return false;
  switch (error.code) {
    case 'UPSTREAM_UNAVAILABLE':
    case 'SEAL_BROKEN':
    case 'KMS_REFUSED':
    case 'KMS_UNAVAILABLE':
    case 'SECRET_UNREADABLE':
    case 'REQUEST_MALFORMED':
      return true;
    default:
      return false;
  }
}

function requestIdOf(carried: Carried): string | null {
  if (carried.answer.kind !== 'buffered') return null;
  const found = /"request_id"\s*:\s*"([A-Za-z0-9]{1,64})"/.exec(carried.answer.body.toString('latin1', 0, 4096));
  return found?.[1] ?? null;
}
