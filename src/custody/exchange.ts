import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, StrongroomError } from '../base/errors.ts';
import type { Secret } from '../base/secret.ts';
import type { DataKey } from '../envelope/envelope.ts';
import {
  claimExchange,
  exchangeByMac,
  finishExchange,
  markExchangeUncertain,
  releaseExchange,
  type Exchange as StoredExchange,
} from '../store/operations.ts';
import { insertSubjects } from '../store/records.ts';
import { type Answers, itemId, tokenIn, valueAt } from './answers.ts';
import type { AdmittedCall, Carried, GatewayAnswer } from './call.ts';
import { auditCode, type Forward } from './forward.ts';
import { OPERATION_LEASE_MS, type OperationParts } from './operation.ts';
import { neverSent } from './rotation.ts';

/**
 * `/item/public_token/exchange`: once at Plaid, as often as the application likes
 * here. The same application and public token get the same handle, also when our
 * answer was lost, when twenty callers ask at once, and on another replica.
 *
 * A public token works once. Between Plaid's answer and our commit lies a moment in
 * which a crash loses the new item's token; it is then named as a possible orphan.
 */

/** How long a caller waits for another one that is exchanging the same public token. */
const COMPANY_MS = 15_000;
const COMPANY_PAUSE_MS = 50;

export class Exchange {
  readonly #parts: OperationParts;
  readonly #forward: Forward;
  readonly #answers: Answers;

  constructor(parts: OperationParts, forward: Forward, answers: Answers) {
    this.#parts = parts;
    this.#forward = forward;
    this.#answers = answers;
  }

  carry = (call: AdmittedCall): Promise<GatewayAnswer> => this.#forward.outcomeOf(call, () => this.#carry(call));

  async #carry(call: AdmittedCall): Promise<GatewayAnswer> {
    const publicToken = call.body.spots.find((spot) => spot.slot.path === 'public_token')?.value;
    // Without one the request is wrong, and Plaid says so better than we could.
    if (typeof publicToken !== 'string') return this.#forward.carry(call);
    const mac = await this.#parts.vault.mac('public_token', call.application.id, publicToken);
    // Fetched before the claim, so that a key service that is away leaves nothing claimed.
    const dataKey = await this.#parts.vault.sealingKey();

    const deadline = performance.now() + COMPANY_MS;
    for (;;) {
      const claim = await claimExchange(this.#parts.database.sql, mac, call.application.id, OPERATION_LEASE_MS);
      if ('claimed' in claim) return this.#exchange(call, mac, dataKey, claim.claimed);
      if (claim.state === 'done') return this.#again(call, claim);
      if (claim.state === 'uncertain') throw new StrongroomError('EXCHANGE_UNCERTAIN');
      if (performance.now() > deadline) throw new StrongroomError('EXCHANGE_IN_PROGRESS');
      await sleep(COMPANY_PAUSE_MS);
    }
  }

  /** The row is ours. `attempt` above 1: an earlier holder died, and Plaid may have answered it. */
  async #exchange(call: AdmittedCall, mac: Buffer, dataKey: DataKey, attempt: number): Promise<GatewayAnswer> {
    const step = { application: call.application.id };
    try {
      await this.#parts.audit.append('exchange.intended', step);
    } catch (error) {
      if (attempt === 1) await releaseExchange(this.#parts.database.sql, mac).catch(() => {});
      throw error;
    }

    let carried: Carried;
    let token: Secret<string> | null;
    let mayHaveHappened = attempt > 1;
    // Twice does no harm: a public token works once, whoever gets the answer.
    for (let tries = 1; ; tries++) {
      try {
        carried = await this.#forward.sendWhole(call);
      } catch (error) {
        if (neverSent(error) && !mayHaveHappened) return this.#notDone(call, mac, error);
        if (!neverSent(error)) mayHaveHappened = true;
        if (tries > 1) return this.#unknown(call, mac, error);
        continue;
      }
      token = carried.answer.status < 300 ? tokenIn(call, carried.answer, 'access_token') : null;
      if (token !== null || isRefusal(carried) || tries > 1) break;
      mayHaveHappened = true;
    }

    if (token === null) {
      const code = carried.error?.code;
      if (!isRefusal(carried) || (mayHaveHappened && code === 'INVALID_PUBLIC_TOKEN')) {
        this.#forward.outcome(call, carried);
        return this.#unknown(call, mac, null);
      }
      // A claim that stays is taken over when its lease is over.
      await releaseExchange(this.#parts.database.sql, mac).catch(() => {});
      this.#parts.audit.note('exchange.settled', { ...step, code: auditCode(code) });
      this.#forward.outcome(call, carried);
      return this.#forward.answerOf(call, carried);
    }

    const item = itemId(valueAt(call, carried.answer, 'item_id'));
    const owner = {
      applicationId: call.application.id,
      plaidClientId: call.application.plaidClientId,
      kind: 'access',
      itemId: item,
    };
    let recordId: string;
    try {
      recordId = await this.#parts.vault.keep(
        dataKey,
        token,
        owner,
        async (sql, record) => {
          const learned = await this.#answers.learned(call, carried);
          await insertSubjects(sql, call.application.id, learned(record));
          await finishExchange(sql, mac, record, item);
        },
        (record) => this.#parts.audit.note('exchange.settled', { ...step, record, version: 1 }),
      );
    } catch (error) {
      this.#forward.failed(call, error);
      // The vault goes on trying. Asking again later gives the handle.
      throw codeOf(error) === 'DATABASE_UNAVAILABLE' ? new StrongroomError('EXCHANGE_IN_PROGRESS', {}, error) : error;
    }
    this.#forward.outcome(call, carried, 1);
    return this.#handleAnswer(call, recordId as StoredExchange['recordId'], item);
  }

  /** Done before: the same handle, and nobody asks Plaid. */
  async #again(call: AdmittedCall, exchange: StoredExchange): Promise<GatewayAnswer> {
    const answer = await this.#handleAnswer(call, exchange.recordId, exchange.itemId);
    this.#forward.answered(call, answer.status);
    return answer;
  }

  async #handleAnswer(
    call: AdmittedCall,
    recordId: StoredExchange['recordId'],
    itemId: string | null,
  ): Promise<GatewayAnswer> {
    if (recordId === null) throw new StrongroomError('INTERNAL');
    const body = {
      access_token: await this.#parts.vault.handleOf(recordId),
      ...(itemId === null ? {} : { item_id: itemId }),
      request_id: call.request.requestId,
    };
    return { status: 200, headers: { 'content-type': 'application/json' }, body: Buffer.from(JSON.stringify(body)) };
  }

  async #notDone(call: AdmittedCall, mac: Buffer, error: unknown): Promise<never> {
    await releaseExchange(this.#parts.database.sql, mac).catch(() => {});
    this.#parts.audit.note('exchange.settled', { application: call.application.id, code: codeOf(error) });
    this.#forward.failed(call, error);
    throw error;
  }

  async #unknown(call: AdmittedCall, mac: Buffer, error: unknown): Promise<never> {
    try {
      // Another caller's commit may have won while we asked.
      const held = await exchangeByMac(this.#parts.database.sql, mac);
      if (held?.state !== 'done') await markExchangeUncertain(this.#parts.database.sql, mac);
    } catch {
      // Left open, it is called a possible orphan when its lease and the public token are over.
    }
    this.#parts.audit.note('exchange.uncertain', { application: call.application.id, code: 'answer_lost' });
    if (error !== null) this.#forward.failed(call, error);
    throw new StrongroomError('EXCHANGE_UNCERTAIN', {}, error ?? undefined);
  }
}

/** An error of Plaid with a 4xx status was decided before anything was done. */
function isRefusal({ answer, error }: Carried): boolean {
  return error !== null && answer.status < 500;
}
