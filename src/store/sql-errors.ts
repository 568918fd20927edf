import { type ErrorCode, type Facts, StrongroomError } from '../base/errors.ts';

/**
 * What the driver and the server say when something fails, in our words.
 *
 * PostgreSQL puts row values into `detail`, `where` and some messages ("Key
 * (handle_hash)=(...) already exists"). None of that is kept, nor the original
 * error as a cause: only the SQLSTATE, names from the catalog, and messages of
 * classes that cannot quote a value.
 */

/**
 * Whether the statement may have taken effect. `not_done`: the server said no,
 * or nothing was sent. `unknown`: the answer was lost.
 */
export type Outcome = 'not_done' | 'unknown';

interface ServerError extends Error {
  readonly code: string;
  readonly severity?: string;
  readonly position?: string;
  readonly constraint?: string;
  readonly table?: string;
}

const SQLSTATE = /^[0-9A-Z]{5}$/;

/** The server's own answer, in contrast to a broken connection or a mistake of ours. */
function isServerError(error: unknown): error is ServerError {
  return error instanceof Error && 'severity' in error && SQLSTATE.test(String((error as ServerError).code));
}

/**
 * Classes whose messages name objects, settings and limits, never row values
 * (PostgreSQL manual, appendix A). Left out on purpose: 22 and 23, and P0,
 * where a function of ours chose the words.
 */
const QUOTABLE = new Set(['08', '0A', '25', '26', '28', '3D', '3F', '40', '42', '53', '55', '57', '58']);

/** Classes that waiting, a reconnect or a failover can cure. */
const TRANSIENT = new Set(['08', '26', '28', '3D', '40', '53', '55', '57', '58', 'XX']);

/** Standby after a failover (25006) and a plan made stale by a migration (0A000, see {@link spoilsConnection}). */
const TRANSIENT_STATES = new Set(['25006', '0A000']);

export function databaseError(error: unknown, outcome: Outcome, more: Facts = {}): StrongroomError {
  if (error instanceof StrongroomError) return error;
  if (isServerError(error)) {
    const family = error.code.slice(0, 2);
    const facts: Record<string, string | number> = { sqlstate: error.code, outcome };
    if (QUOTABLE.has(family)) facts.reason = error.message;
    if (error.constraint !== undefined) facts.constraint = error.constraint;
    if (error.table !== undefined) facts.table = error.table;
    // 1-based, in characters of the statement's text.
    if (error.position !== undefined) facts.position = Number(error.position);
    return new StrongroomError(codeFor(error.code, family), { ...facts, ...more });
  }
  // A value that cannot be sent or read back, or a name used for two texts: our
  // mistake, and its words may quote the value.
  if (error instanceof TypeError || error instanceof RangeError || isNameClash(error)) {
    return new StrongroomError('INTERNAL', { sqlstate: null, outcome, reason: error.name, ...more });
  }
  return new StrongroomError('DATABASE_UNAVAILABLE', {
    sqlstate: null,
    outcome,
    reason: connectionReason(error),
    ...more,
  });
}

function isNameClash(error: unknown): error is Error {
  return error instanceof Error && error.message.startsWith('Prepared statements must be unique');
}

function codeFor(sqlstate: string, family: string): ErrorCode {
  if (sqlstate === '42501') return 'DATABASE_ROLE_UNFIT';
  if (TRANSIENT.has(family) || TRANSIENT_STATES.has(sqlstate)) return 'DATABASE_UNAVAILABLE';
  return 'INTERNAL';
}

/** The driver's and the system's words about a connection: an errno, a certificate's fault, a closed socket. */
function connectionReason(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === 'string' ? code : error.message;
}

/** True when the connection must not be used again. */
export function spoilsConnection(error: unknown): boolean {
  if (!isServerError(error)) return true;
  if (error.severity === 'FATAL' || error.severity === 'PANIC') return true;
  // A prepared statement that the server forgot, or whose result changed its
  // shape in a migration: only a new connection prepares it again.
  return error.code === '26000' || error.code === '0A000' || error.code.startsWith('08') || error.code.startsWith('XX');
}

/**
 * Whether a failed COMMIT certainly did nothing. Only a plain ERROR says so: a
 * FATAL can arrive after the commit record was written, while the server waited
 * for its standby.
 */
export function commitCertainlyFailed(error: unknown): boolean {
  return isServerError(error) && error.severity === 'ERROR';
}

/** The server's five-character code, or null when this was no answer of the server. */
export function sqlstateOf(error: unknown): string | null {
  if (!(error instanceof StrongroomError)) return null;
  const { sqlstate } = error.facts;
  return typeof sqlstate === 'string' ? sqlstate : null;
}

/** A row with this key is there already; with `constraint`, only when that one said so. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  return violates(error, '23505', constraint);
}

export function isForeignKeyViolation(error: unknown, constraint?: string): boolean {
  return violates(error, '23503', constraint);
}

export function isCheckViolation(error: unknown, constraint?: string): boolean {
  return violates(error, '23514', constraint);
}

function violates(error: unknown, sqlstate: string, constraint?: string): boolean {
  if (sqlstateOf(error) !== sqlstate) return false;
  return constraint === undefined || (error as StrongroomError).facts.constraint === constraint;
}

/** Another transaction came in between; the same work may be tried again from its start. */
export function isSerializationFailure(error: unknown): boolean {
  const sqlstate = sqlstateOf(error);
  return sqlstate === '40001' || sqlstate === '40P01';
}

/** The login may not do this. */
export function isPermissionDenied(error: unknown): boolean {
  return sqlstateOf(error) === '42501';
}

/** True when the statement may have taken effect although it failed. */
export function isOutcomeUnknown(error: unknown): boolean {
  return error instanceof StrongroomError && error.facts.outcome === 'unknown';
}
