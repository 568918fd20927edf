/** Who calls: client_id and secret, in headers or in the body. */
import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { PlaidFailure } from './errors.ts';
import type { State } from './state.ts';

/** The one endpoint of Plaid that needs no credentials. */
const OPEN = new Set(['/categories/get']);

/**
 * The calling client's id. Throws MISSING_FIELDS when nothing was sent and
 * INVALID_API_KEYS for a wrong pair; unknown client and wrong secret look alike.
 */
export function authenticate(
  path: string,
  headers: IncomingHttpHeaders,
  body: Readonly<Record<string, unknown>>,
  state: State,
): string {
  const id = body.client_id ?? headers['plaid-client-id'];
  const secret =
    body.secret ?? (path.startsWith('/oauth/') ? body.client_secret : undefined) ?? headers['plaid-secret'];
  if (OPEN.has(path) && id === undefined && secret === undefined) return '';
  const missing = [...(id === undefined ? ['client_id'] : []), ...(secret === undefined ? ['secret'] : [])];
  if (missing.length > 0)
    throw new PlaidFailure('MISSING_FIELDS', `the following required fields are missing: ${missing.join(', ')}`);
  for (const [name, value] of [
    ['client_id', id],
    ['secret', secret],
  ] as const) {
    if (typeof value !== 'string' || value === '') {
      throw new PlaidFailure('INVALID_FIELD', `${name} must be a properly formatted, non-empty string`);
    }
  }
  const client = state.clients.get(id as string);
  if (client === undefined || !client.secrets.some((known) => same(known, secret as string)))
    throw new PlaidFailure('INVALID_API_KEYS');
  return client.id;
}

export function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
