import { type ErrorCode, StrongroomError } from '../base/errors.ts';
import type { ApplicationId, RecordId } from '../base/ids.ts';
import { type AccessCall, type Decision, isPolicyYes } from './decide.ts';
import { UNKNOWN_SOURCE } from './source.ts';

/**
 * Decide and record, in one step. An {@link Admission} is the proof that it was
 * done; opening a sealed record asks for one, so that forgetting the check does
 * not compile. Nothing outside this file can make one, tests included.
 */

/** Names an audit entry: which writer, and its how-manieth. */
export interface EntryRef {
  readonly writer: string;
  readonly counter: number;
}

// The constructor hangs on every instance, so it asks for something that only this module has.
const MINT = Symbol('mint');
let recordsOf: (value: object) => readonly RecordId[] | null;

class AdmissionValue {
  /** Who was admitted. */
  readonly application: ApplicationId;
  /** To which path of the endpoint table. */
  readonly endpoint: string;
  /** The durable entry that says so. */
  readonly entry: EntryRef;
  readonly #records: readonly RecordId[];

  static {
    // A closure and not a method: a method could be replaced from outside.
    recordsOf = (value) => (#records in value ? value.#records : null);
  }

  constructor(mint: typeof MINT, call: AccessCall, records: readonly RecordId[], entry: EntryRef) {
    if (mint !== MINT) throw new TypeError('an admission comes from admit() only');
    this.application = call.application;
    this.endpoint = call.endpoint.path;
    this.entry = entry;
    this.#records = records;
    Object.freeze(this);
  }
}

/**
 * The proof of one admitted call: which application, which endpoint, which
 * records, and the durable entry. Good for that call alone; keep it in its scope.
 */
export type Admission = AdmissionValue;

interface CallFields {
  readonly application: string;
  readonly endpoint: string;
  /** Null when it is not known. */
  readonly source: string | null;
  /** Ids with one space between, null for none. */
  readonly records: string | null;
  readonly request: string | null;
}

/**
 * Where decisions are recorded; the audit writer fits. A promise resolves once its
 * entry is durable and rejects when it is not or may not be.
 */
// An intersection and not two overloads: against those, TypeScript erases the writer's generic.
export type Recorder = {
  append(kind: 'access.admitted', fields: CallFields & { readonly class: string }): Promise<EntryRef>;
} & {
  append(
    kind: 'access.denied',
    fields: CallFields & { readonly code: string; readonly reason: string },
  ): Promise<EntryRef>;
};

/**
 * Records the decision durably, then admits or refuses.
 *
 * @param decision - A yes must be the one that {@link import('./decide.ts').decide}
 *   returned; a no may come from any limit.
 * @throws StrongroomError with the decision's code after a denial was recorded;
 *   `AUDIT_UNAVAILABLE`, `OVERLOADED` or `SHUTTING_DOWN` when the entry could not be
 *   made durable: then nobody was admitted, whatever the decision (no audit, no access).
 */
export async function admit(call: AccessCall, decision: Decision, audit: Recorder): Promise<Admission> {
  // An "ok" that the policy did not give is a programming error, and worth stopping for.
  if (decision.ok && !isPolicyYes(decision))
    throw new StrongroomError('INTERNAL', { reason: 'decision not from decide()' });
  const records: RecordId[] = [];
  for (const claim of call.records) if (claim !== null) records.push(claim.id);
  const fields: CallFields = {
    application: call.application,
    endpoint: call.endpoint.path,
    source: call.source === UNKNOWN_SOURCE ? null : call.source,
    records: records.length === 0 ? null : records.join(' '),
    request: call.requestId,
  };
  if (!decision.ok) {
    await durably(() => audit.append('access.denied', { ...fields, code: decision.code, reason: decision.reason }));
    throw new StrongroomError(decision.code, { application: call.application, endpoint: call.endpoint.path });
  }
  const entry = await durably(() => audit.append('access.admitted', { ...fields, class: call.endpoint.class }));
  // From here on a crash leaves an admitted call without an outcome, which reads "outcome unknown".
  return new AdmissionValue(MINT, call, records, entry);
}

/** Failures that say by themselves that nothing was written. */
const TELLING = new Set<ErrorCode>(['AUDIT_UNAVAILABLE', 'OVERLOADED', 'SHUTTING_DOWN']);

async function durably(append: () => Promise<EntryRef>): Promise<EntryRef> {
  try {
    return await append();
  } catch (cause) {
    if (cause instanceof StrongroomError && TELLING.has(cause.code)) throw cause;
    throw new StrongroomError('AUDIT_UNAVAILABLE', {}, cause);
  }
}

/** Whether an admission is genuine and was given for this record. To be asked before every open. */
export function covers(admission: Admission, record: RecordId): boolean {
  return typeof admission === 'object' && admission !== null && (recordsOf(admission)?.includes(record) ?? false);
}
