import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditWriter } from '../audit/writer.ts';
import type { Clock } from '../base/clock.ts';
import { codeOf, StrongroomError } from '../base/errors.ts';
import { parsePlaidError } from '../plaid/errors.ts';
import { splice } from '../plaid/json-spots.ts';
import type { Upstream } from '../plaid/upstream.ts';
import { noteHealth, type StoredRecord } from '../store/records.ts';
import type { Database } from '../store/sql.ts';
import type { Answers } from './answers.ts';
import type { AdmittedCall, Carried, GatewayAnswer, Placed } from './call.ts';
import { healthAfter } from './health.ts';
import type { PlaidClients } from './plaid-clients.ts';
import type { Vault } from './vault.ts';

/**
 * Carries an admitted call to Plaid: opens the records that it names, puts the
 * tokens in, sends, and hands what comes back to answers.ts. Writes the outcome
 * entry, whatever the outcome.
 */

export interface ForwardParts {
  readonly vault: Vault;
  readonly upstream: Upstream;
  readonly clients: Pick<PlaidClients, 'secretOf'>;
  readonly answers: Answers;
  readonly audit: AuditWriter;
  readonly database: Database;
  readonly clock: Clock;
}

/** How long a call whose token died on the way waits for the one who is replacing it, in milliseconds. */
const SETTLE_MS = 10_000;
const SETTLE_PAUSE_MS = 40;

export class Forward {
  readonly #parts: ForwardParts;
  /** Calls whose outcome entry is on its way. */
  readonly #told = new WeakSet<AdmittedCall>();

  constructor(parts: ForwardParts) {
    this.#parts = parts;
  }

  /** The carrier of ordinary endpoints. */
  carry = async (call: AdmittedCall): Promise<GatewayAnswer> => {
    try {
      const carried = await this.send(call, SETTLE_MS);
      const { answer, sealed } = await this.#parts.answers.receive(call, carried);
      this.outcome(call, carried, sealed);
      return answer;
    } catch (error) {
      this.failed(call, error);
      throw error;
    }
  };

  /**
   * Opens, splices, sends. When Plaid does not know a token of which a newer
   * version has been committed meanwhile (a rotation on another replica), it is
   * done again with the newer one, as often as that happens; Plaid has done
   * nothing in that case.
   *
   * @param patienceMs - How long to wait for a rotation that has ended the old
   *   token and not committed the new one yet. 0 for the rotation itself.
   * @throws StrongroomError TOKEN_ROTATING or TOKEN_UNCERTAIN when the token died
   *   under this call and there is no new one; whatever opening and sending throw.
   */
  async send(call: AdmittedCall, patienceMs = 0): Promise<Carried> {
    let records: readonly StoredRecord[] = call.slots.map((slot) => slot.record);
    for (;;) {
      const carried = await this.#sendOnce(call, records);
      const died = carried.error?.code === 'INVALID_ACCESS_TOKEN' && call.slots.length > 0;
      const newer = died ? await this.#newer(call, records, patienceMs) : null;
      if (newer === null) {
        await this.#learnHealth(call, carried);
        return carried;
      }
      records = newer;
    }
  }

  /** The records as they stand now, if any has a newer version than the one that was used. */
  async #newer(
    call: AdmittedCall,
    used: readonly StoredRecord[],
    patienceMs: number,
  ): Promise<readonly StoredRecord[] | null> {
    const now = await this.#settled(call, patienceMs);
    const moved = now.some((record, at) => record !== null && record.version > (used[at] as StoredRecord).version);
    const whole = now.every((record) => record !== null && record.sealed !== null);
    return moved && whole ? (now as readonly StoredRecord[]) : null;
  }

  /**
   * As {@link send}, for calls whose answer decides what becomes of a token: an
   * answer that is too large to be held is not understood.
   *
   * @throws StrongroomError UPSTREAM_BROKEN for such an answer; as send.
   */
  async sendWhole(call: AdmittedCall): Promise<Carried> {
    const carried = await this.send(call);
    if (carried.answer.kind !== 'stream') return carried;
    carried.answer.body.destroy();
    throw new StrongroomError('UPSTREAM_BROKEN', { endpoint: call.endpoint.path, reason: 'too_large' });
  }

  /** The records as they stand now, once nobody is changing them any more. */
  async #settled(call: AdmittedCall, patienceMs: number): Promise<readonly (StoredRecord | null)[]> {
    const { clock, vault } = this.#parts;
    const deadline = clock.monotonic() + patienceMs;
    for (;;) {
      const now = await Promise.all(call.slots.map((slot) => vault.reread(slot.record.recordId)));
      if (patienceMs === 0) return now;
      if (now.some((record) => record?.state === 'uncertain')) throw new StrongroomError('TOKEN_UNCERTAIN');
      if (!now.some((record) => record?.state === 'rotating')) return now;
      if (clock.monotonic() > deadline) throw new StrongroomError('TOKEN_ROTATING');
      await sleep(SETTLE_PAUSE_MS);
    }
  }

  async #sendOnce(call: AdmittedCall, records: readonly StoredRecord[]): Promise<Carried> {
    const { vault, upstream, clients } = this.#parts;
    const clientSecret = await clients.secretOf(call.application.plaidClientId);
    const placed: Placed[] = [];
    for (const record of records) placed.push({ record, token: await vault.open(record, call.admission) });

    const edits = call.body.cuts.concat(
      call.slots.map((slot, at) => ({
        start: slot.start,
        end: slot.end,
        // A token from a hostile answer may hold a quote: it goes back as JSON.
        text: JSON.stringify((placed[at] as Placed).token.reveal()),
      })),
    );
    const answer = await upstream.call({
      endpoint: call.endpoint,
      path: call.request.path,
      headers: call.request.headers,
      body: splice(call.request.body, edits),
      client: { clientId: call.application.plaidClientId, secret: clientSecret },
    });
    const error = answer.status >= 400 && answer.kind === 'buffered' ? parsePlaidError(answer.body) : null;
    return { answer, placed, clientSecret, error };
  }

  /** What an error says about the one item that the call was about. */
  async #learnHealth(call: AdmittedCall, carried: Carried): Promise<void> {
    const [slot, second] = call.slots;
    if (slot === undefined || second !== undefined || slot.record.kind !== 'access') return;
    const next = healthAfter(slot.record.health, carried.error);
    if (next === null) return;
    const code = carried.error?.code ?? null;
    try {
      await noteHealth(this.#parts.database.sql, slot.record.recordId, next, code);
      this.#parts.audit.note('health.changed', {
        record: slot.record.recordId,
        from: slot.record.health,
        to: next,
        code,
      });
    } catch {
      // The next call sees the same error and says it again.
    }
  }

  /**
   * Runs a carrier that writes its own outcome, and writes one for every failure
   * that has none yet: an admission without an outcome reads as a crash.
   */
  async outcomeOf(call: AdmittedCall, work: () => Promise<GatewayAnswer>): Promise<GatewayAnswer> {
    try {
      return await work();
    } catch (error) {
      if (!this.#told.has(call)) this.failed(call, error);
      throw error;
    }
  }

  /** The application's answer for what Plaid answered, for carriers that write their own outcome. */
  async answerOf(call: AdmittedCall, carried: Carried): Promise<GatewayAnswer> {
    return (await this.#parts.answers.receive(call, carried)).answer;
  }

  /** The outcome of a call that was answered without asking Plaid. */
  answered(call: AdmittedCall, status: number): void {
    this.#note(call, { status, code: null });
  }

  /** Joins the next group of audit entries; a crash before that reads "outcome unknown". */
  outcome(call: AdmittedCall, carried: Carried, sealed = 0): void {
    this.#note(call, {
      status: carried.answer.status,
      code: auditCode(carried.error?.code),
      plaid_request: carried.error?.requestId ?? null,
      sealed: sealed === 0 ? null : sealed,
    });
  }

  failed(call: AdmittedCall, error: unknown): void {
    this.#note(call, { status: error instanceof StrongroomError ? error.status : 500, code: codeOf(error) });
  }

  #note(
    call: AdmittedCall,
    seen: { status: number; code: string | null; plaid_request?: string | null; sealed?: number | null },
  ): void {
    this.#told.add(call);
    this.#parts.audit.note('access.outcome', {
      admitted: call.admission.entry.counter,
      admitted_by: call.admission.entry.writer,
      application: call.application.id,
      milliseconds: Math.round(this.#parts.clock.monotonic() - call.started),
      ...seen,
    });
  }
}

/** Plaid's codes are upper-case words; anything else is not worth an entry that does not fit. */
export function auditCode(code: string | undefined): string | null {
  return code !== undefined && /^[A-Z][A-Z0-9_]{0,63}$/.test(code) ? code : null;
}
