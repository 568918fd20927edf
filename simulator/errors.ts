/**
 * Plaid's errors: type, code, HTTP status and the message as documented. The
 * body is put together in one place so that every error has Plaid's shape.
 */

export interface ErrorRow {
  readonly type: string;
  readonly status: number;
  readonly message: string;
  readonly display?: string;
}

const LOGIN =
  "the login details of this item have changed (credentials, MFA, or required user action) and a user login is required to update this information. use Link's update mode to restore the item to a good state";
const NOT_READY = 'the requested product is not yet ready. please provide a webhook or try the request again later';
const RATE = 'rate limit exceeded for attempts to access this item. please try again later';

const invalidInput = (message: string): ErrorRow => ({ type: 'INVALID_INPUT', status: 400, message });
const invalidRequest = (message: string, status = 400): ErrorRow => ({ type: 'INVALID_REQUEST', status, message });
const itemError = (message: string, display?: string): ErrorRow => ({
  type: 'ITEM_ERROR',
  status: 400,
  message,
  ...(display === undefined ? {} : { display }),
});
const limit = (): ErrorRow => ({ type: 'RATE_LIMIT_EXCEEDED', status: 429, message: RATE });
const institution = (message: string): ErrorRow => ({
  type: 'INSTITUTION_ERROR',
  status: 400,
  message,
  display: 'This financial institution is not currently responding to requests. We apologize for the inconvenience.',
});

export const PLAID_ERRORS = {
  INVALID_BODY: invalidRequest('body could not be parsed as JSON'),
  INVALID_HEADERS: invalidRequest('a required header is missing or invalid'),
  INCOMPATIBLE_API_VERSION: invalidRequest('the requested API version is not supported'),
  MISSING_FIELDS: invalidRequest('the following required fields are missing'),
  UNKNOWN_FIELDS: invalidRequest('the following fields are not recognized by this endpoint'),
  INVALID_FIELD: invalidRequest('a field has an invalid value'),
  NOT_FOUND: invalidRequest('the requested resource was not found', 404),
  SANDBOX_ONLY: invalidRequest(
    'access to this route is only available in the sandbox environment at https://sandbox.plaid.com/',
  ),

  INVALID_API_KEYS: invalidInput('invalid client_id or secret provided'),
  INVALID_ACCESS_TOKEN: invalidInput('could not find matching access token'),
  INVALID_PUBLIC_TOKEN: invalidInput('could not find matching public token'),
  INVALID_LINK_TOKEN: invalidInput('invalid link_token provided'),
  INVALID_USER_TOKEN: invalidInput('could not find matching user token'),
  INVALID_USER_ID: invalidInput('could not find matching user'),
  INVALID_PROCESSOR_TOKEN: invalidInput('could not find matching processor token'),
  INVALID_ASSET_REPORT_TOKEN: invalidInput('could not find matching asset report token'),
  INVALID_AUDIT_COPY_TOKEN: invalidInput('could not find matching audit copy token'),
  INVALID_RELAY_TOKEN: invalidInput('could not find matching relay token'),
  INVALID_PAYMENT_PROFILE_TOKEN: invalidInput('could not find matching payment profile token'),
  INVALID_THIRD_PARTY_USER_TOKEN: invalidInput('could not find matching third party user token'),
  INVALID_OAUTH_TOKEN: invalidInput('the token is invalid, expired or revoked'),
  INVALID_ACCOUNT_ID: invalidInput('failed to find requested account ID for requested item'),
  INVALID_INSTITUTION: invalidInput('invalid institution_id provided'),
  INVALID_PRODUCT: invalidInput('client is not authorized to access the following products'),
  INVALID_STRIPE_ACCOUNT: invalidInput('the Stripe account is not linked to this client'),
  ADDITIONAL_CONSENT_REQUIRED: invalidInput('client does not have user consent to access this product'),
  USER_PERMISSION_REVOKED: invalidInput(
    'the holder of this account has revoked their permission for your application to access it',
  ),
  INVALID_WEBHOOK_VERIFICATION_KEY_ID: invalidInput(
    'invalid key_id provided. note that key_ids are specific to Plaid environments, and verification requests must be made to the same environment that the webhook was sent from',
  ),

  ITEM_LOGIN_REQUIRED: itemError(
    LOGIN,
    'Username, password, or other information required to connect this account has changed. Please update it.',
  ),
  ITEM_NOT_FOUND: itemError(
    'The Item you requested cannot be found. This Item does not exist, has been previously removed via /item/remove, or has had access removed by the user.',
  ),
  ITEM_LOCKED: itemError('the account is locked. prompt the user to visit the institution and unlock their account'),
  ITEM_NOT_SUPPORTED: itemError('this account is currently not supported'),
  ITEM_CONCURRENTLY_DELETED: itemError('This item was deleted while the operation was in process.'),
  INVALID_CREDENTIALS: itemError(
    'the provided credentials were not correct',
    'The provided credentials were not correct. Please try again.',
  ),
  INVALID_MFA: itemError('the provided MFA response(s) were not correct'),
  INSUFFICIENT_CREDENTIALS: itemError('insufficient authorization was provided to complete the request'),
  MFA_NOT_SUPPORTED: itemError('this account requires a MFA type that we do not currently support for the institution'),
  PASSWORD_RESET_REQUIRED: itemError('the user must reset the password for this account'),
  USER_SETUP_REQUIRED: itemError(
    'the account has not been fully set up. prompt the user to visit the issuing institution',
  ),
  ACCESS_NOT_GRANTED: itemError('access to this product was not granted for the account'),
  MANUAL_VERIFICATION_REQUIRED: itemError('manual verification of the account is required'),
  NO_ACCOUNTS: itemError('no valid accounts were found for this item'),
  NO_AUTH_ACCOUNTS: itemError('no valid checking or savings account(s) were found to retrieve ACH numbers from'),
  NO_INVESTMENT_ACCOUNTS: itemError('no valid investment account(s) were found for this item'),
  NO_LIABILITY_ACCOUNTS: itemError('no valid liability account(s) were found for this item'),
  PRODUCT_NOT_READY: itemError(NOT_READY),
  PRODUCTS_NOT_SUPPORTED: itemError('the requested products are not supported by this item'),

  INSTITUTION_DOWN: institution('this institution is not currently responding to this request. please try again soon'),
  INSTITUTION_NOT_RESPONDING: institution(
    'this institution is not currently responding to this request. please try again soon',
  ),
  INSTITUTION_NOT_AVAILABLE: institution('this institution is not currently available'),
  INSTITUTION_NO_LONGER_SUPPORTED: institution('this institution is no longer supported'),

  TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION: {
    type: 'TRANSACTIONS_ERROR',
    status: 400,
    message:
      'Underlying transaction data changed since last page was fetched. Please restart pagination from last update.',
  },
  SANDBOX_PRODUCT_NOT_ENABLED: {
    type: 'SANDBOX_ERROR',
    status: 400,
    message: 'the item is not enabled for this product',
  },
  SANDBOX_WEBHOOK_INVALID: {
    type: 'SANDBOX_ERROR',
    status: 400,
    message: "Webhook for this item is either not set up, or invalid. Please update the item's webhook and try again.",
  },
  CUSTOMER_NOT_FOUND: { type: 'PARTNER_ERROR', status: 404, message: 'the end customer could not be found' },
  CUSTOMER_ALREADY_ENABLED: { type: 'PARTNER_ERROR', status: 400, message: 'the end customer is already enabled' },
  TRANSFER_NOT_CANCELLABLE: { type: 'TRANSFER_ERROR', status: 400, message: 'transfer is not cancellable' },
  WEBHOOK_EVENTS_CURSOR_EXPIRED: invalidRequest('the cursor has expired'),
  WEBHOOK_EVENTS_START_TIME_OUT_OF_RANGE: invalidRequest('start_time must be within the last 7 days'),

  RATE_LIMIT: limit(),
  ACCOUNTS_LIMIT: limit(),
  BALANCE_LIMIT: limit(),
  AUTH_LIMIT: limit(),
  IDENTITY_LIMIT: limit(),
  ITEM_GET_LIMIT: limit(),
  TRANSACTIONS_LIMIT: limit(),
  TRANSACTIONS_SYNC_LIMIT: limit(),
  TRANSACTIONS_REFRESH_LIMIT: limit(),
  INVESTMENT_HOLDINGS_GET_LIMIT: limit(),
  INVESTMENT_TRANSACTIONS_LIMIT: limit(),
  INSTITUTIONS_GET_LIMIT: limit(),
  INSTITUTIONS_GET_BY_ID_LIMIT: limit(),
  INTERNAL_SERVER_ERROR: { type: 'API_ERROR', status: 500, message: 'an unexpected error occurred' },
  PLANNED_MAINTENANCE: {
    type: 'API_ERROR',
    status: 503,
    message:
      'the Plaid API is temporarily unavailable due to planned maintenance. visit https://status.plaid.com/ for more information',
  },
} as const satisfies Record<string, ErrorRow>;

export type PlaidCode = keyof typeof PLAID_ERRORS;

export function isPlaidCode(code: string): code is PlaidCode {
  return Object.hasOwn(PLAID_ERRORS, code);
}

/** Thrown by an endpoint; the server answers with {@link errorBody}. */
export class PlaidFailure extends Error {
  override readonly name = 'PlaidFailure';
  readonly code: PlaidCode;
  readonly type: string;
  readonly causes: readonly unknown[] | null;

  constructor(code: PlaidCode, message?: string, more: { type?: string; causes?: readonly unknown[] } = {}) {
    super(message ?? PLAID_ERRORS[code].message);
    this.code = code;
    this.type = more.type ?? PLAID_ERRORS[code].type;
    this.causes = more.causes ?? null;
  }

  get status(): number {
    return PLAID_ERRORS[this.code].status;
  }
}

/** Plaid's error body. Inside webhooks and items there is a `status` and no `request_id`. */
export function errorBody(failure: PlaidFailure, requestId: string): Record<string, unknown> {
  const row: ErrorRow = PLAID_ERRORS[failure.code];
  return {
    display_message: row.display ?? null,
    documentation_url: `https://plaid.com/docs/?ref=error#${failure.type.toLowerCase().replaceAll('_', '-')}-errors`,
    error_code: failure.code,
    error_message: failure.message,
    error_type: failure.type,
    request_id: requestId,
    suggested_action: null,
    ...(failure.causes === null ? {} : { causes: failure.causes }),
  };
}

/** The same error as it stands in `item.error` and in webhooks. */
export function storedError(code: PlaidCode, reason: string | null = null, type?: string): Record<string, unknown> {
  const row: ErrorRow = PLAID_ERRORS[code];
  return {
    display_message: row.display ?? null,
    error_code: code,
    error_code_reason: reason,
    error_message: row.message,
    error_type: type ?? row.type,
    status: row.status,
  };
}
