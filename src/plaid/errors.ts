/**
 * Plaid's error bodies: read with suspicion, and what a code says about an item.
 * A code that we do not know is normal; it says nothing.
 */

/** The fields of an error body that we use. Texts are Plaid's, unchecked but bounded. */
export interface PlaidError {
  readonly type: string;
  readonly code: string;
  readonly message: string | null;
  /** Why a login is required, for instance OAUTH_CONSENT_EXPIRED. */
  readonly reason: string | null;
  readonly requestId: string | null;
}

/** A longer body is no error of Plaid's. */
const LONGEST_BODY = 64 * 1024;
const LONGEST_TEXT = 2000;

/** Reads an error body; null when it is none. Never throws. */
export function parsePlaidError(body: Buffer): PlaidError | null {
  if (body.length === 0 || body.length > LONGEST_BODY) return null;
  try {
    return plaidErrorOf(JSON.parse(body.toString('utf8')));
  } catch {
    return null;
  }
}

/** The same for a parsed value, such as `item.error` of /item/get, which answers 200. Never throws. */
export function plaidErrorOf(value: unknown): PlaidError | null {
  if (typeof value !== 'object' || value === null) return null;
  const fields = value as Record<string, unknown>;
  const type = text(fields.error_type);
  const code = text(fields.error_code);
  if (type === null || code === null) return null;
  return {
    type,
    code,
    message: text(fields.error_message),
    reason: text(fields.error_code_reason),
    requestId: text(fields.request_id),
  };
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value.slice(0, LONGEST_TEXT) : null;
}

/** Plaid does not know the token: rotated elsewhere, of another environment or team, or never real. */
export function isInvalidAccessToken(error: PlaidError | null): boolean {
  return error?.code === 'INVALID_ACCESS_TOKEN';
}

/** What an error says about the item behind the call. */
export type HealthHint =
  | 'login_required'
  | 'action_at_bank'
  | 'permission_missing'
  | 'revoked'
  | 'gone'
  | 'degraded'
  | 'drift';

const HINTS: Readonly<Record<HealthHint, readonly string[]>> = {
  login_required: ['ITEM_LOGIN_REQUIRED'],
  // The user has to do something at the bank before update mode can help.
  action_at_bank: ['ITEM_LOCKED', 'PASSWORD_RESET_REQUIRED', 'USER_SETUP_REQUIRED'],
  permission_missing: [
    'ACCESS_NOT_GRANTED',
    'ADDITIONAL_CONSENT_REQUIRED',
    'NO_AUTH_ACCOUNTS',
    'NO_ACCOUNTS',
    'MANUAL_VERIFICATION_REQUIRED',
  ],
  revoked: ['USER_PERMISSION_REVOKED'],
  gone: ['ITEM_NOT_FOUND', 'ITEM_CONCURRENTLY_DELETED', 'INSTITUTION_NO_LONGER_SUPPORTED'],
  degraded: ['INSTITUTION_DOWN', 'INSTITUTION_NOT_RESPONDING', 'INSTITUTION_NOT_AVAILABLE'],
  drift: ['INVALID_ACCESS_TOKEN'],
};

const HINT_OF: ReadonlyMap<string, HealthHint> = new Map(
  (Object.entries(HINTS) as [HealthHint, readonly string[]][]).flatMap(([hint, codes]) =>
    codes.map((code): [string, HealthHint] => [code, hint]),
  ),
);

/**
 * What an error code says about an item's health, or null: it is about the
 * request, the product, the moment (PRODUCT_NOT_READY, rate limits) or a Link
 * session (INVALID_CREDENTIALS, INVALID_MFA), and the item is as it was.
 */
export function healthHint(code: string): HealthHint | null {
  return HINT_OF.get(code) ?? null;
}
