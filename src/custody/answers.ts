import { Readable } from 'node:stream';
import { StrongroomError } from '../base/errors.ts';
import type { RecordId } from '../base/ids.ts';
import { Secret } from '../base/secret.ts';
import {
  type AnswerSpot,
  findLeak,
  findLeakInText,
  type Leak,
  type Range,
  readAnswer,
  scrub,
} from '../plaid/answer.ts';
import { createStreamScanner } from '../plaid/answer-stream.ts';
import { type Edit, splice } from '../plaid/json-spots.ts';
import type { CallSecrets } from '../plaid/known-secrets.ts';
import type { UpstreamAnswer } from '../plaid/upstream.ts';
import { insertReleased, insertSubjects, type NewSubject } from '../store/records.ts';
import type { Database } from '../store/sql.ts';
import type { AdmittedCall, Carried, GatewayAnswer } from './call.ts';
import type { Vault } from './vault.ts';

/**
 * What becomes of Plaid's answers: vaulted tokens are sealed and committed before
 * anybody is answered and leave as handles, released and short-lived ones leave
 * registered, ownership is learned, and anything else that looks like a secret
 * holds the whole answer back.
 */

export interface AnswersParts {
  readonly vault: Vault;
  readonly database: Database;
}

type Buffered = Extract<UpstreamAnswer, { kind: 'buffered' }>;
type Streamed = Extract<UpstreamAnswer, { kind: 'stream' }>;

export class Answers {
  readonly #parts: AnswersParts;

  constructor(parts: AnswersParts) {
    this.#parts = parts;
  }

  /**
   * @returns the application's answer, and how many secrets were sealed for it.
   * @throws UPSTREAM_LEAK, UPSTREAM_BROKEN; DATABASE_UNAVAILABLE when a new token
   *   could not be committed yet (the vault keeps it and goes on trying).
   */
  async receive(call: AdmittedCall, carried: Carried): Promise<{ answer: GatewayAnswer; sealed: number }> {
    const { answer } = carried;
    const secrets = secretsOf(carried);
    if (answer.kind === 'stream') return { answer: this.#streamed(call, answer, secrets), sealed: 0 };
    this.#stopHeaders(call, answer, secrets);
    if (answer.status >= 300) return { answer: await this.#refusal(call, carried, answer, secrets), sealed: 0 };
    if (!call.endpoint.binary) checkObject(answer.body, call);
    return this.#success(call, answer, secrets);
  }

  /** Too large to be read whole. What is not passed on is let go of: it would hold its connection. */
  #streamed(call: AdmittedCall, answer: Streamed, secrets: CallSecrets): GatewayAnswer {
    try {
      this.#stopHeaders(call, answer, secrets);
      // Nothing in it can be replaced, so nothing may be due for replacement; and no error of Plaid is that large.
      if (answer.status >= 300) throw broken(call, 'too large for an error');
      if (call.endpoint.tokensOut.length > 0) throw broken(call, 'too large to rewrite');
      return { ...answer, body: this.#scanned(call, answer.body, secrets) };
    } catch (error) {
      answer.body.destroy();
      throw error;
    }
  }

  #stopHeaders(call: AdmittedCall, answer: UpstreamAnswer, secrets: CallSecrets): void {
    // One look at all of them: no token and no spelling of a secret holds a newline.
    this.#stop(call, findLeakInText(Object.values(answer.headers).join('\n'), secrets));
  }

  async #success(
    call: AdmittedCall,
    answer: Buffered,
    secrets: CallSecrets,
  ): Promise<{ answer: GatewayAnswer; sealed: number }> {
    const spots = readAnswer(answer.body, call.endpoint);
    // An empty one is nothing that could be kept or used.
    const tokens = spots.filter(
      (spot) => spot.slot.token !== null && typeof spot.value === 'string' && spot.value !== '',
    );
    if (tokens.some((spot) => !isWord(spot.value as string))) throw broken(call, 'no token in its place');
    // Before anything is sealed: what is withheld must not have been kept under a handle that nobody got.
    this.#stop(call, findLeak(answer.body, secrets, tokens as readonly Range[]));

    const edits: Edit[] = [];
    let sealed = 0;
    for (const spot of tokens) {
      if (spot.slot.token?.disposition !== 'vaulted') continue;
      const handle = await this.#vaulted(call, spots, spot);
      edits.push({ start: spot.start, end: spot.end, text: JSON.stringify(handle) });
      sealed++;
    }
    await this.#learn(call, spots);
    return { answer: { ...answer, body: splice(answer.body, edits) }, sealed };
  }

  async #vaulted(call: AdmittedCall, spots: readonly AnswerSpot[], spot: AnswerSpot): Promise<string> {
    const { vault } = this.#parts;
    const owner = {
      applicationId: call.application.id,
      plaidClientId: call.application.plaidClientId,
      kind: (spot.slot.token as NonNullable<typeof spot.slot.token>).kind,
      itemId: itemOf(spots, spot),
    };
    const recordId = await vault.keep(null, new Secret(spot.value as string), owner);
    return vault.handleOf(recordId);
  }

  /** Ownership and the register of what left, in one transaction, before the answer leaves. */
  async #learn(call: AdmittedCall, spots: readonly AnswerSpot[]): Promise<void> {
    if (spots.length === 0 && call.endpoint.claims.length === 0) return;
    const subjects = await this.#subjects(call, spots, null);
    const released = await Promise.all(
      spots
        .filter((spot) => spot.slot.token?.disposition === 'released' && typeof spot.value === 'string')
        .map(async (spot) => ({
          kind: spot.slot.token?.kind as string,
          recordId: call.slots[0]?.record.recordId ?? null,
          fingerprint: await this.#parts.vault.fingerprintOf(new Secret(spot.value as string)),
        })),
    );
    const { database, vault } = this.#parts;
    if (subjects.length === 0 && released.length === 0) return;
    await vault.persist(() =>
      released.length === 0
        ? insertSubjects(database.sql, call.application.id, subjects)
        : database.transaction(async (sql) => {
            await insertSubjects(sql, call.application.id, subjects);
            await insertReleased(sql, call.application.id, released);
          }),
    );
    for (const token of released) {
      await vault.tell('token.released', {
        application: call.application.id,
        class: token.kind,
        endpoint: call.endpoint.path,
        record: token.recordId,
        count: 1,
      });
    }
  }

  /** What an exchange teaches, for its own transaction. */
  async learned(call: AdmittedCall, carried: Carried): Promise<(recordId: RecordId) => NewSubject[]> {
    const spots = carried.answer.kind === 'buffered' ? readAnswer(carried.answer.body, call.endpoint) : [];
    const subjects = await this.#subjects(call, spots, null);
    return (recordId) => subjects.map((subject) => ({ ...subject, recordId }));
  }

  /**
   * Subjects that the answer names, tokens that are not vaulted (whoever got one
   * may use it), and ids that the request claimed now that it succeeded.
   */
  async #subjects(call: AdmittedCall, spots: readonly AnswerSpot[], recordId: RecordId | null): Promise<NewSubject[]> {
    const client = call.application.plaidClientId;
    const { vault } = this.#parts;
    const claims = call.body.spots.filter((spot) => spot.slot.claim !== null && typeof spot.value === 'string');
    const person = claims.find((spot) => spot.slot.claim?.kind === 'client_user')?.value;
    const clientUserMac = typeof person === 'string' ? await vault.mac('client_user_id', client, person) : null;

    const subjects: NewSubject[] = [];
    const add = async (kind: string, value: string) => {
      const mac = await vault.mac('subject', client, kind, value);
      subjects.push({ mac, kind, recordId, clientUserMac: kind === 'link_token' ? clientUserMac : null });
    };
    for (const spot of spots) {
      // What is no Unicode has no digest, and no request could name it.
      if (typeof spot.value !== 'string' || !spot.value.isWellFormed()) continue;
      const { token, creates } = spot.slot;
      if (creates !== null) await add(creates.kind, spot.value);
      else if (token !== null && token.disposition !== 'vaulted') await add(token.kind, spot.value);
    }
    for (const spot of claims) await add(spot.slot.claim?.kind as string, spot.value as string);
    return subjects;
  }

  /** An error of Plaid, with our tokens in its texts turned back into handles. */
  async #refusal(call: AdmittedCall, carried: Carried, answer: Buffered, secrets: CallSecrets): Promise<GatewayAnswer> {
    let body = answer.body;
    if (carried.placed.some(({ token }) => body.includes(token.reveal()))) {
      const known = [];
      for (const { record, token } of carried.placed) {
        known.push({ secret: token, handle: await this.#parts.vault.handleOf(record.recordId) });
      }
      body = scrub(body, known);
    }
    this.#stop(call, findLeak(body, secrets));
    // What is no Plaid error is a proxy's page or worse: the SDK could not read it, and we do not vouch for it.
    if (carried.error === null) throw broken(call, 'error that is not Plaid-shaped');
    return { ...answer, body };
  }

  /** A hit destroys the source, and with it the connection to the application. */
  #scanned(call: AdmittedCall, body: Readable, secrets: CallSecrets): Readable {
    const scanner = createStreamScanner(secrets);
    const tell = (error: unknown) => {
      if (error instanceof StrongroomError && error.code === 'UPSTREAM_LEAK')
        this.#alarm(call, String(error.facts.kind));
    };
    const scanned = Readable.from(
      (async function* () {
        try {
          for await (const chunk of body) {
            const safe = scanner.push(chunk as Buffer);
            if (safe.length > 0) yield safe;
          }
          const rest = scanner.end();
          if (rest.length > 0) yield rest;
        } catch (error) {
          tell(error);
          throw error;
        } finally {
          body.destroy();
        }
      })(),
      { objectMode: false },
    );
    // A caller that left before the first part was asked for: the generator has not begun, and has no end either.
    return scanned.once('close', () => body.destroy());
  }

  #stop(call: AdmittedCall, leak: Leak | null): void {
    if (leak === null) return;
    this.#alarm(call, leak.kind);
    throw new StrongroomError('UPSTREAM_LEAK', {
      endpoint: call.endpoint.path,
      kind: leak.kind,
      spelling: leak.spelling,
    });
  }

  #alarm(call: AdmittedCall, kind: string): void {
    void this.#parts.vault.tell('upstream.leak', {
      application: call.application.id,
      endpoint: call.endpoint.path,
      class: kind,
      request: call.request.requestId,
    });
  }
}

function secretsOf(carried: Carried): CallSecrets {
  return { client: carried.clientSecret, tokens: carried.placed.map(({ token }) => token) };
}

const OPENING = 0x7b; // {
const CLOSING = 0x7d; // }

/** Every answer of Plaid that is no file is one JSON object. An HTML page with status 200 is a middlebox speaking. */
function checkObject(body: Buffer, call: AdmittedCall): void {
  let end = body.length - 1;
  while (end > 0 && (body[end] as number) <= 0x20) end--;
  let start = 0;
  while (start < end && (body[start] as number) <= 0x20) start++;
  if (body[start] !== OPENING || body[end] !== CLOSING) throw broken(call, 'answer that is no JSON object');
}

function broken(call: AdmittedCall, reason: string): StrongroomError {
  return new StrongroomError('UPSTREAM_BROKEN', { endpoint: call.endpoint.path, reason });
}

/**
 * The item that a token belongs to: the item id in the same object or, for two
 * lists side by side, at the same place of its list.
 */
function itemOf(spots: readonly AnswerSpot[], token: AnswerSpot): string | null {
  const parent = parentOf(token.slot.path);
  const ids = spots.filter((spot) => spot.slot.creates?.kind === 'item' && parentOf(spot.slot.path) === parent);
  const tokens = spots.filter((spot) => spot.slot.path === token.slot.path);
  if (ids.length !== tokens.length) return null;
  return itemId(ids[tokens.indexOf(token)]?.value);
}

/** An item id as it can be kept, else null: what no table can hold must not cost the token beside it. */
export function itemId(value: unknown): string | null {
  return typeof value === 'string' && /^[\x21-\x7e]{1,128}$/.test(value) ? value : null;
}

function parentOf(path: string): string {
  const dot = path.lastIndexOf('.');
  return dot < 0 ? '' : path.slice(0, dot);
}

/** The token at a path of a buffered answer that the endpoint table knows, or null. */
export function tokenIn(call: AdmittedCall, answer: UpstreamAnswer, path: string): Secret<string> | null {
  const text = valueAt(call, answer, path);
  return text === null || !isWord(text) ? null : new Secret(text);
}

/** Whatever Plaid's tokens look like tomorrow, they are words. What is none is an answer that was not understood. */
function isWord(text: string): boolean {
  return /^[\x21-\x7e]{1,4096}$/.test(text);
}

/** The text at a path of a buffered answer that the endpoint table knows, or null. */
export function valueAt(call: AdmittedCall, answer: UpstreamAnswer, path: string): string | null {
  if (answer.kind !== 'buffered') return null;
  try {
    const value = readAnswer(answer.body, call.endpoint).find((spot) => spot.slot.path === path)?.value;
    return typeof value === 'string' ? value : null;
  } catch {
    return null; // not JSON: whoever asked treats it as an answer without a token
  }
}
