import type { ErrorCode } from '../base/errors.ts';
import type { ApplicationId, RecordId } from '../base/ids.ts';
import type { EndpointClass, Policy, ReleasedKind } from './policy.ts';
import { AddressSet } from './source.ts';

/**
 * What a policy means for one call. Pure: no clock, no store. Rates, quotas and
 * budgets are counted elsewhere and join as a decision of their own.
 */

/** What a decision needs to know of an endpoint; a row of the endpoint table fits. */
export interface EndpointFacts {
  readonly path: string;
  readonly class: EndpointClass;
  /** Answers over everything that the Plaid client has, not over one subject. */
  readonly listsAll: boolean;
  /** Released kinds that its answer may hold. */
  readonly releases: readonly ReleasedKind[];
  /** What the table says that it does; its path is judged all the same, see {@link effectOf}. */
  readonly effect?: 'read' | 'change' | 'remove' | 'rotate';
}

export interface RecordClaim {
  readonly id: RecordId;
  /** An application id. */
  readonly owner: string;
}

export interface AccessCall {
  readonly application: ApplicationId;
  readonly endpoint: EndpointFacts;
  /** The caller's address; see source.ts. */
  readonly source: string;
  /** As the caller is told it, for the audit log. */
  readonly requestId: string | null;
  /** The records behind the handles of the call, null for a handle that stands for none. */
  readonly records: readonly (RecordClaim | null)[];
  /** The owners of the subjects that the call names, null for a subject that nobody owns. */
  readonly subjectOwners: readonly (string | null)[];
  /** The endpoint takes a subject and the call names neither one nor a record. */
  readonly subjectMissing: boolean;
  /** What the application is frozen for at the moment. */
  readonly frozen: ReadonlySet<string>;
}

export type Decision =
  | { readonly ok: true }
  /** `code` goes to the caller, `reason` only to the audit log: it may tell apart what the caller must not. */
  | { readonly ok: false; readonly code: ErrorCode; readonly reason: string };

/** Ends something at Plaid for good, or replaces a token. */
export type Effect = 'removal' | 'rotation';

/** A freeze is for one endpoint class or for one effect. */
export type FreezeClass = EndpointClass | Effect;

const REMOVING = /\/(?:remove|delete|revoke|revocation|terminate|unlink|unregister)$/;
const ROTATING = /\/invalidate$/;

/**
 * What a call ends or replaces. The last segment of the path counts beside what
 * the table says, so that an endpoint that somebody declared carelessly is
 * guarded too.
 */
export function effectOf(endpoint: Pick<EndpointFacts, 'path' | 'effect'>): Effect | null {
  if (endpoint.effect === 'rotate' || ROTATING.test(endpoint.path)) return 'rotation';
  return endpoint.effect === 'remove' || REMOVING.test(endpoint.path) ? 'removal' : null;
}

class Paths {
  readonly #exact = new Set<string>();
  readonly #prefixes: string[] = [];

  constructor(globs: readonly string[]) {
    for (const glob of globs) {
      if (glob.endsWith('/*')) this.#prefixes.push(glob.slice(0, -1));
      else this.#exact.add(glob);
    }
  }

  hasExactly(path: string): boolean {
    return this.#exact.has(path);
  }

  covers(path: string): boolean {
    return this.#exact.has(path) || this.#prefixes.some((prefix) => path.startsWith(prefix));
  }
}

/** A policy in the form that is asked on every call: made once per policy version. */
export interface CompiledPolicy {
  readonly policy: Policy;
  readonly sources: AddressSet;
  readonly classes: ReadonlySet<string>;
  readonly granted: Paths;
  readonly denied: Paths;
  readonly shares: ReadonlySet<string>;
  readonly releases: ReadonlySet<string>;
}

/** @param policy - As {@link import('./policy.ts').parsePolicy} returns it. */
export function compilePolicy(policy: Policy): CompiledPolicy {
  return {
    policy,
    sources: new AddressSet(policy.sourceCidrs),
    classes: new Set(policy.classes),
    granted: new Paths(policy.endpoints),
    denied: new Paths(policy.denied),
    shares: new Set(policy.shares),
    releases: new Set(policy.releases),
  };
}

const ALLOWED: Decision = Object.freeze({ ok: true });
const deny = (code: ErrorCode, reason: string): Decision => Object.freeze({ ok: false, code, reason });

const SOURCE = deny('SOURCE_DENIED', 'source');
const ENDPOINT = deny('ENDPOINT_DENIED', 'endpoint');
const FROZEN = deny('BUDGET_EXCEEDED', 'frozen');
const RELEASE = deny('TOKEN_CLASS_DENIED', 'release');
// One answer for "not yours" and "does not exist"; the audit log tells them apart.
const RECORD_UNKNOWN = deny('HANDLE_UNKNOWN', 'record_unknown');
const RECORD_FOREIGN = deny('HANDLE_UNKNOWN', 'record_foreign');
const SUBJECT_UNKNOWN = deny('SUBJECT_FOREIGN', 'subject_unknown');
const SUBJECT_FOREIGN = deny('SUBJECT_FOREIGN', 'subject_foreign');
const SUBJECT_MISSING = deny('SUBJECT_MISSING', 'subject_missing');

/**
 * Whether a policy allows a call. What is asked of the endpoint comes first, so
 * that an application that may not call it learns nothing about the handle.
 * Law: taking a grant away, or adding a denial or a freeze, never allows more.
 */
export function decide(compiled: CompiledPolicy, call: AccessCall): Decision {
  const { endpoint } = call;
  if (!compiled.sources.has(call.source)) return SOURCE;
  if (!allowsEndpoint(compiled, endpoint)) return ENDPOINT;
  if (call.frozen.size > 0) {
    const effect = effectOf(endpoint);
    if (call.frozen.has(endpoint.class) || (effect !== null && call.frozen.has(effect))) return FROZEN;
  }
  for (const kind of endpoint.releases) if (!compiled.releases.has(kind)) return RELEASE;
  for (const record of call.records) {
    if (record === null) return RECORD_UNKNOWN;
    if (!mayUse(compiled, call.application, record.owner)) return RECORD_FOREIGN;
  }
  for (const owner of call.subjectOwners) {
    if (owner === null) return SUBJECT_UNKNOWN;
    if (!mayUse(compiled, call.application, owner)) return SUBJECT_FOREIGN;
  }
  if (call.subjectMissing && !compiled.granted.hasExactly(endpoint.path)) return SUBJECT_MISSING;
  return ALLOWED;
}

/** Whether a decision is a yes of {@link decide}, and not an object that looks like one. */
export function isPolicyYes(decision: Decision): boolean {
  return decision === ALLOWED;
}

/**
 * Endpoints that need more than an ordinary grant:
 * - a removal, a rotation, or an answer over the whole Plaid client needs its
 *   exact path in `endpoints`: neither class nor glob grants it;
 * - `money` and `admin` need the class by name, or the exact path: a glob that
 *   happens to cover such a path does not grant it.
 */
export function allowsEndpoint(compiled: CompiledPolicy, endpoint: EndpointFacts): boolean {
  const { path } = endpoint;
  if (compiled.denied.covers(path)) return false;
  if (compiled.granted.hasExactly(path)) return true;
  if (endpoint.listsAll || effectOf(endpoint) !== null) return false;
  if (compiled.classes.has(endpoint.class)) return true;
  if (endpoint.class === 'money' || endpoint.class === 'admin') return false;
  return compiled.granted.covers(path);
}

function mayUse(compiled: CompiledPolicy, application: string, owner: string): boolean {
  return owner === application || compiled.shares.has(owner);
}
