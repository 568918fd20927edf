import { StrongroomError } from '../base/errors.ts';
import type { AdmittedCall, Carried, GatewayAnswer } from './call.ts';
import type { Forward } from './forward.ts';
import { type Operation, type OperationParts, openOperation } from './operation.ts';
import { neverSent, stepOf } from './rotation.ts';

/**
 * `/item/remove`: Plaid first, then the ciphertext is shredded. The token is kept
 * until Plaid has confirmed, since it is the only way to end the item. An outcome
 * that is not known leaves the record `uncertain`; removing again settles it.
 */
export class Removal {
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
    const operation = await openOperation(this.#parts, 'removal', call, record);

    let carried: Carried;
    try {
      carried = await this.#forward.sendWhole(call);
    } catch (error) {
      this.#forward.failed(call, error);
      if (neverSent(error)) {
        await this.#settle(call, operation, 'refused', (error as StrongroomError).code);
        throw error;
      }
      await this.#settle(call, operation, 'uncertain', 'answer_lost');
      throw new StrongroomError('REMOVAL_UNCERTAIN', { record: record.recordId }, error);
    }

    this.#forward.outcome(call, carried);
    const code = carried.error?.code;
    if (confirms(carried) || code === 'ITEM_NOT_FOUND') {
      // From here on nothing can bring the token back, and nothing needs to.
      const shredded = await this.#settle(call, operation, 'done', code ?? 'removed');
      if (shredded) await this.#parts.vault.witnessEnd(record.recordId, record.version);
    } else if (code !== undefined && carried.answer.status < 500) {
      await this.#settle(call, operation, 'refused', code);
    } else {
      await this.#settle(call, operation, 'uncertain', 'answer_not_understood');
      throw new StrongroomError('REMOVAL_UNCERTAIN', { record: record.recordId });
    }
    return this.#forward.answerOf(call, carried);
  }

  async #settle(
    call: AdmittedCall,
    operation: Operation,
    how: 'done' | 'refused' | 'uncertain',
    code: string,
  ): Promise<boolean> {
    // A refused removal of a record that was uncertain before has not made it certain;
    // a token that Plaid does not know is dead already, by somebody else's hand.
    const refused =
      code === 'INVALID_ACCESS_TOKEN' ? 'external' : operation.record.state === 'uncertain' ? 'uncertain' : 'active';
    const state = how === 'done' ? 'removed' : how === 'uncertain' ? 'uncertain' : refused;
    const settled = await operation.settle(how, state, code);
    const kind = how === 'uncertain' ? 'removal.uncertain' : 'removal.settled';
    this.#parts.audit.note(kind, { ...stepOf(call, operation), code });
    return settled;
  }
}

/**
 * Plaid's own yes. A page with status 200 is a middlebox speaking: the item lives
 * on, and without its token nobody could end it any more.
 */
function confirms({ answer }: Carried): boolean {
  if (answer.kind !== 'buffered' || answer.status >= 300) return false;
  try {
    const body = JSON.parse(answer.body.toString('utf8')) as { request_id?: unknown } | null;
    return typeof body?.request_id === 'string';
  } catch {
    return false;
  }
}
