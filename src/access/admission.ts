import { StrongroomError } from '../base/errors.ts';
import type { ApplicationId, RecordId } from '../base/ids.ts';
import { type AccessCall, type Decision, isPolicyYes } from './decide.ts';

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

/**
 * Makes an entry durable. Resolves once it is; rejects when it is not or may not
 * be. Called exactly once per {@link admit}.
 */
export type Recorder = (
  kind: 'access.admitted' | 'access.denied',
  fields: Readonly<{ [name: string]: string | number | boolean | null }>,
) => Promise<EntryRef>;

/**
 * Records the decision durably, then admits or refuses.
 *
 * @param decision - A yes must be the one that {@link import('./decide.ts').decide}
 *   returned; a no may come from any limit.
 * @throws StrongroomError with the decision's code after a denial was recorded;
 *   `AUDIT_UNAVAILABLE` when the entry could not be made durable: then nothing was
 *   admitted, whatever the decision (no audit, no access).
 */
export async function admit(call: AccessCall, decision: Decision, record: Recorder): Promise<Admission> {
  // An "ok" that the policy did not give is a programming error, and worth stopping for.
  if (decision.ok && !isPolicyYes(decision))
    throw new StrongroomError('INTERNAL', { reason: 'decision not from decide()' });
  const records: RecordId[] = [];
  for (const claim of call.records) if (claim !== null) records.push(claim.id);
  const fields = {
    application: call.application,
    endpoint: call.endpoint.path,
    source: call.source,
    records: records.length === 0 ? null : records.join(' '),
  };
  if (!decision.ok) {
    await durably(record('access.denied', { ...fields, code: decision.code, reason: decision.reason }));
    throw new StrongroomError(decision.code, { application: call.application, endpoint: call.endpoint.path });
  }
  const entry = await durably(record('access.admitted', fields));
  // From here on a crash leaves an admitted call without an outcome, which reads "outcome unknown".
  return new AdmissionValue(MINT, call, records, entry);
}

async function durably(entry: Promise<EntryRef>): Promise<EntryRef> {
  try {
    return await entry;
  } catch (cause) {
    if (cause instanceof StrongroomError && cause.code === 'AUDIT_UNAVAILABLE') throw cause;
    throw new StrongroomError('AUDIT_UNAVAILABLE', {}, cause);
  }
}

/** Whether an admission is genuine and was given for this record. To be asked before every open. */
export function covers(admission: Admission, record: RecordId): boolean {
  return typeof admission === 'object' && admission !== null && (recordsOf(admission)?.includes(record) ?? false);
}
