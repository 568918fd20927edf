import type { IncomingHttpHeaders } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { admit } from '../access/admission.ts';
import { type AccessCall, type Decision, decide, type EndpointFacts } from '../access/decide.ts';
import type { ReleasedKind } from '../access/policy.ts';
import type { TokenBuckets } from '../access/rate.ts';
import { UNKNOWN_SOURCE } from '../access/source.ts';
import type { AuditWriter } from '../audit/writer.ts';
import type { Clock } from '../base/clock.ts';
import { codeOf, type ErrorCode, StrongroomError } from '../base/errors.ts';
import { type ApplicationId, looksLikeHandle, type PlaidEnvironment, parseHandle, type RecordId } from '../base/ids.ts';
import { Secret } from '../base/secret.ts';
import { type Endpoint, type EndpointTable, findEndpoint, type RequestSlot } from '../plaid/endpoints.ts';
import { type RequestReading, readRequest } from '../plaid/request.ts';
import { findToken } from '../plaid/token-shapes.ts';
import type { CustodyState, StoredRecord } from '../store/records.ts';
import type { Sql } from '../store/statement.ts';
import type { UsageReservations } from '../store/usage.ts';
import type { Application, Authentication, Credentials } from './authentication.ts';
import { spend } from './budgets.ts';
import type { AdmittedCall, GatewayAnswer, GatewayRequest, Slot, Trace } from './call.ts';
import type { Lookup } from './lookup.ts';
import { handleHash, type Vault } from './vault.ts';

/**
 * The way of a request: who calls, what it names, whether it may, and the durable
 * entry that says so. What is sent and what comes back is the carriers' matter;
 * they get an {@link AdmittedCall} and nothing else does.
 *
 * Every refusal of a known caller is an audit entry too.
 */

/** Carries an admitted call to Plaid and makes the application's answer of what comes back. */
export type Carrier = (call: AdmittedCall) => Promise<GatewayAnswer>;

export interface GatewayParts {
  readonly authentication: Authentication;
  readonly endpoints: EndpointTable;
  readonly lookup: Lookup;
  readonly vault: Vault;
  readonly usage: UsageReservations;
  readonly rates: TokenBuckets;
  readonly audit: AuditWriter;
  readonly sql: Sql;
  readonly clock: Clock;
  readonly plaidEnvironment: PlaidEnvironment;
  readonly bodyDepth: number;
  /** How long a call waits for an operation on its item, in milliseconds. */
  readonly settleMs: number;
  /** Carriers of endpoints that need more than forwarding, by path. */
  readonly special: ReadonlyMap<string, Carrier>;
  readonly forward: Carrier;
}

/** Handles of one call: as many as one audit entry can name. */
const MOST_RECORDS = 128;
/** Pause between two looks at an item that is being changed. */
const SETTLE_PAUSE_MS = 40;

export class Gateway {
  readonly #parts: GatewayParts;
  readonly #facts = new WeakMap<Endpoint, EndpointFacts>();

  constructor(parts: GatewayParts) {
    this.#parts = parts;
  }

  /** For callers with a large body: nothing is read for somebody who is not known. */
  async preauthenticate(headers: IncomingHttpHeaders, source: string): Promise<void> {
    await this.#parts.authentication.identify(headerCredentials(headers), source);
  }

  /**
   * Carries out one call.
   *
   * @param trace - Filled in as far as the request gets, also when it is refused.
   * @throws StrongroomError with the code for the caller.
   */
  async handle(request: GatewayRequest, trace: Trace): Promise<GatewayAnswer> {
    const started = this.#parts.clock.monotonic();
    const endpoint = this.#parts.endpoints.find(request.method, request.path);
    trace.endpoint = endpoint?.path ?? null;

    // Most callers show credentials in headers, and are known before a byte of the body is looked at.
    const shown = headerCredentials(request.headers);
    const early = shown === null ? readBody(request, endpoint, this.#parts.bodyDepth) : null;
    if (early !== null && !early.ok && shown === null) throw early.error;
    const credentials = shown ?? bodyCredentials(early);
    let application = await this.#parts.authentication.identify(credentials, request.source);
    trace.application = application.id;
    if (credentials === null) throw new StrongroomError('CREDENTIALS_REFUSED');

    const refuse = (code: ErrorCode, reason: string): Promise<never> =>
      this.#refuse(application, endpoint?.path ?? null, request, code, reason);

    if (!this.#parts.rates.take(application.id, application.policy.policy.rate)) {
      // Not recorded one by one: an application must not be able to fill the log by calling fast.
      throw new StrongroomError('RATE_EXCEEDED', { application: application.id });
    }
    if (endpoint === null) return refuse('ENDPOINT_UNLISTED', 'endpoint_unlisted');
    const read = early ?? readBody(request, endpoint, this.#parts.bodyDepth);
    if (!read.ok) return refuse(codeOf(read.error), 'body');
    const { body } = read;

    const named = await this.#named(body, application);
    if (!named.ok) return refuse(named.code, named.reason);

    const question = { applicationId: application.id, handleHashes: named.hashes, subjectMacs: named.macs };
    let found = await this.#parts.lookup.find(question);
    application = await this.#parts.authentication.current(
      application,
      found.applicationVersion,
      credentials,
      request.source,
    );
    for (const deadline = started + this.#parts.settleMs; ; found = await this.#parts.lookup.find(question)) {
      // Only for what the caller may use: a wait would tell that somebody else's handle exists.
      const busy = found.records.some((record) => isBusy(record) && mayUse(record, application));
      if (!busy || this.#parts.clock.monotonic() > deadline) break;
      await sleep(SETTLE_PAUSE_MS);
    }

    const facts = this.#factsOf(endpoint);
    const call: AccessCall = {
      requestId: request.requestId,
      application: application.id,
      endpoint: facts,
      source: request.source,
      records: found.records.map((record) => claimOf(record, application)),
      // A subject that is only learned by naming it is nobody's yet; one that nobody owns may be anybody's.
      subjectOwners: found.owners
        .filter((owner, at) => owner !== null || named.mustBeOwned[at])
        .map((owner) => owner as ApplicationId | null),
      subjectMissing: endpoint.reach === 'own' && !named.something,
      frozen: application.frozen,
    };
    const items = body.spots.filter((spot) => spot.slot.subject?.kind === 'item' && typeof spot.value === 'string');
    const decision = await this.#decide(application, endpoint, call, found.records, named.kinds, items.length);
    const admission = await admit(call, decision, this.#parts.audit);

    const slots: Slot[] = named.slots.map((slot, at) => ({ ...slot, record: found.records[at] as StoredRecord }));
    const carrier = this.#parts.special.get(endpoint.path) ?? this.#parts.forward;
    return carrier({ request, endpoint, application, admission, body, slots, started });
  }

  /** Policy first, then the state of what is named, then what is counted: a refused call uses nothing up. */
  async #decide(
    application: Application,
    endpoint: Endpoint,
    call: AccessCall,
    records: readonly (StoredRecord | null)[],
    kinds: readonly (readonly string[])[],
    items: number,
  ): Promise<Decision> {
    const decision = decide(application.policy, call);
    if (!decision.ok) return decision;
    for (const [at, record] of records.entries()) {
      const code = record === null ? null : unfit(record, kinds[at] as readonly string[], endpoint);
      if (code !== null) return { ok: false, code, reason: 'record_state' };
    }
    // A call that removes a list of items counts as that many removals.
    return (await spend(this.#parts, application.policy.policy, call, Math.max(1, items))) ?? decision;
  }

  /** Reads what the body names: handles to find, subjects to ask about. Nothing is looked up yet. */
  async #named(body: RequestReading, application: Application): Promise<Named> {
    const { vault } = this.#parts;
    const named = {
      ok: true as const,
      slots: [] as { start: number; end: number }[],
      kinds: [] as (readonly string[])[],
      hashes: [] as Buffer[],
      macs: [] as Buffer[],
      mustBeOwned: [] as boolean[],
      something: false,
    };
    const [stray] = body.strays;
    if (stray?.what === 'handle') return { ok: false, code: 'HANDLE_MALFORMED', reason: 'handle_elsewhere' };
    if (stray !== undefined) return { ok: false, code: 'RAW_TOKEN_REFUSED', reason: 'raw_token_elsewhere' };
    // A field that means a token or a subject elsewhere: Plaid may honour what its types do not show.
    if (body.unexpected.length > 0) return { ok: false, code: 'SUBJECT_FOREIGN', reason: 'unexpected_field' };
    for (const spot of body.spots) {
      const { token, subject: field, claim } = spot.slot;
      if (spot.value === null) continue; // `null` means "none" at Plaid, and passes
      if (spot.value === undefined) {
        if (token === null && field === null && claim === null) continue;
        // A number, a list or an object where one string belongs: whatever Plaid would make of it.
        const code = token?.disposition === 'vaulted' ? 'HANDLE_MALFORMED' : 'SUBJECT_FOREIGN';
        return { ok: false, code, reason: 'not_a_string' };
      }
      if (token?.disposition === 'vaulted') {
        const handle = this.#handle(spot.value);
        if (!handle.ok) return handle;
        named.slots.push({ start: spot.start, end: spot.end });
        named.kinds.push(token.kinds);
        named.hashes.push(handleHash(handle.id));
        named.something = true;
        continue;
      }
      const kind = subjectKind(spot.slot);
      if (kind === null) continue;
      if (looksLikeHandle(spot.value)) return { ok: false, code: 'HANDLE_KIND_WRONG', reason: 'handle_for_other_kind' };
      named.macs.push(await vault.mac('subject', application.plaidClientId, kind, spot.value));
      // A name that the caller chooses itself is free until somebody has it: Plaid may answer with what it has
      // under that name, and it would be another application's.
      const chosen = token === null && field === null;
      // A browser makes public tokens, so one that nobody is known to own may be exchanged by whoever brings it.
      named.mustBeOwned.push(!chosen && kind !== 'public');
      if (!chosen) named.something = true;
    }
    if (named.hashes.length > MOST_RECORDS) return { ok: false, code: 'BODY_TOO_LARGE', reason: 'too_many_handles' };
    return named;
  }

  #handle(value: string): { ok: true; id: Buffer } | Refusal {
    if (!looksLikeHandle(value)) {
      // An empty or misplaced text is a mistake. Only a token is an exposure, and raises the alarm.
      if (findToken(value) === null) return { ok: false, code: 'HANDLE_MALFORMED', reason: 'handle_malformed' };
      return { ok: false, code: 'RAW_TOKEN_REFUSED', reason: 'raw_token' };
    }
    const handle = parseHandle(value);
    if (!handle.ok) return { ok: false, code: 'HANDLE_MALFORMED', reason: 'handle_malformed' };
    if (handle.environment !== this.#parts.plaidEnvironment || handle.tag !== this.#parts.vault.tag) {
      return { ok: false, code: 'HANDLE_FOREIGN', reason: 'handle_foreign' };
    }
    return { ok: true, id: handle.id };
  }

  /** A refusal before there was anything to decide on: recorded durably all the same. */
  async #refuse(
    application: Application,
    endpoint: string | null,
    { source, requestId }: GatewayRequest,
    code: ErrorCode,
    reason: string,
  ): Promise<never> {
    const from = source === UNKNOWN_SOURCE ? null : source; // gone already
    const fields = { application: application.id, endpoint: endpoint ?? 'unlisted', source: from };
    if (code === 'RAW_TOKEN_REFUSED') {
      await this.#parts.audit.append('raw_token.refused', fields);
    } else {
      await this.#parts.audit.append('access.denied', { ...fields, records: null, code, reason, request: requestId });
    }
    throw new StrongroomError(code, { application: application.id });
  }

  #factsOf(endpoint: Endpoint): EndpointFacts {
    let facts = this.#facts.get(endpoint);
    if (facts === undefined) {
      const releases = endpoint.tokensOut.filter((token) => token.disposition === 'released');
      facts = {
        path: endpoint.path,
        class: endpoint.class,
        effect: endpoint.effect,
        listsAll: endpoint.reach === 'client',
        releases: [...new Set(releases.map((token) => token.kind as ReleasedKind))],
      };
      this.#facts.set(endpoint, facts);
    }
    return facts;
  }
}

type Refusal = { readonly ok: false; readonly code: ErrorCode; readonly reason: string };
type Named =
  | Refusal
  | {
      readonly ok: true;
      /** Where handles stand, in the order of `hashes`. */
      readonly slots: readonly { start: number; end: number }[];
      /** Kinds of secret that each place takes. */
      readonly kinds: readonly (readonly string[])[];
      readonly hashes: readonly Buffer[];
      readonly macs: readonly Buffer[];
      /** Whether a subject that nobody owns is refused, in the order of `macs`. */
      readonly mustBeOwned: readonly boolean[];
      /** Whether it names anything beside what the caller chose itself. */
      readonly something: boolean;
    };

type Read = { readonly ok: true; readonly body: RequestReading } | { readonly ok: false; readonly error: unknown };

/**
 * What a place of a request names that an application can own: an id, or a token
 * that is not vaulted (a released one is the caller's if it was released to it).
 */
function subjectKind({ token, subject, claim }: RequestSlot): string | null {
  if (subject !== null) return subject.kind;
  if (token === null) return claim?.kind ?? null;
  return token.kinds[0] === 'exchange_auth' ? null : (token.kinds[0] as string);
}

/** A GET has no body; to the table it is an empty object. */
const NO_BODY = Buffer.from('{}');
const ENDPOINT_FOR_CREDENTIALS = findEndpoint('POST', '/categories/get') as Endpoint;

function readBody(request: GatewayRequest, endpoint: Endpoint | null, depth: number): Read {
  try {
    // A path that is not in the table is refused whatever its body holds; only credentials are wanted from it.
    const fields = endpoint ?? ENDPOINT_FOR_CREDENTIALS;
    return { ok: true, body: readRequest(request.body.length === 0 ? NO_BODY : request.body, fields, { depth }) };
  } catch (error) {
    return { ok: false, error };
  }
}

function headerCredentials(headers: IncomingHttpHeaders): Credentials | null {
  const id = headers['plaid-client-id'];
  const key = headers['plaid-secret'];
  return typeof id === 'string' && typeof key === 'string' ? { id, key: new Secret(key) } : null;
}

function bodyCredentials(read: Read | null): Credentials | null {
  if (read === null || !read.ok) return null;
  const shown = (...names: string[]) => read.body.credentials.find(({ name }) => names.includes(name))?.value;
  const id = shown('client_id');
  const key = shown('secret', 'client_secret');
  return typeof id === 'string' && typeof key === 'string' ? { id, key: new Secret(key) } : null;
}

/** A record of another Plaid client is as good as none. */
function claimOf(record: StoredRecord | null, application: Application): { id: RecordId; owner: ApplicationId } | null {
  if (record === null || record.plaidClientId !== application.plaidClientId) return null;
  return { id: record.recordId, owner: record.applicationId as ApplicationId };
}

function mayUse(record: StoredRecord | null, { id, policy }: Application): boolean {
  return record !== null && (record.applicationId === id || policy.shares.has(record.applicationId));
}

function isBusy(record: StoredRecord | null): boolean {
  return record?.state === 'rotating' || record?.state === 'removing';
}

const UNFIT: Readonly<Record<Exclude<CustodyState, 'active'>, ErrorCode>> = {
  rotating: 'TOKEN_ROTATING',
  removing: 'TOKEN_ROTATING',
  uncertain: 'TOKEN_UNCERTAIN',
  lost: 'TOKEN_LOST',
  external: 'TOKEN_EXTERNAL',
  frozen: 'TOKEN_FROZEN',
  removed: 'TOKEN_REMOVED',
};

/** Why a record cannot serve this call, or null. */
function unfit(record: StoredRecord, kinds: readonly string[], endpoint: Endpoint): ErrorCode | null {
  if (!kinds.includes(record.kind)) return 'HANDLE_KIND_WRONG';
  if (record.state === 'active') return null;
  // Removing again is how an uncertain removal is settled: Plaid says ITEM_NOT_FOUND if it was done.
  if (record.state === 'uncertain' && endpoint.path === '/item/remove') return null;
  return UNFIT[record.state];
}
