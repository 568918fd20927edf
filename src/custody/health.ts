import { healthHint, type PlaidError } from '../plaid/errors.ts';
import type { Health } from '../store/records.ts';

/**
 * What one error of Plaid changes about the health that we believe in. Pure.
 *
 * @returns the new health, or null when there is nothing to write down.
 */
export function healthAfter(now: Health, error: PlaidError | null): Health | null {
  // A success proves little: cached products answer while the login is broken. What
  // clears a state is said in docs/architecture.md, and a plain success is not in it,
  // but for an institution that was down: it answers again.
  if (error === null) return now === 'degraded' ? 'healthy' : null;
  const hint = healthHint(error.code);
  if (hint === null || hint === now) return null;
  // A bank that is down says nothing about a login that is broken.
  if (hint === 'degraded' && now !== 'healthy' && now !== 'expiring') return null;
  // What is gone stays gone.
  return now === 'gone' || now === 'revoked' ? null : hint;
}
