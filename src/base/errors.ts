/**
 * Every failure that a caller can observe, in one table. A code is a promise:
 * once released it keeps its meaning. `status` is the HTTP answer (also used
 * where no HTTP is involved, to grade it), `retryable` tells clients and jobs
 * whether waiting can help, `says` goes to the caller, `remedy` to the reader of
 * docs/errors.md, which is checked against this table.
 */
export const ERRORS = {
  // The caller's identity
  CREDENTIALS_REFUSED: {
    status: 401,
    retryable: false,
    says: 'The application id or key is missing, wrong or disabled.',
    remedy:
      'Send PLAID-CLIENT-ID (application id) and PLAID-SECRET (application key). `strongroom apps rotate-key` makes a new key.',
  },
  CREDENTIALS_THROTTLED: {
    status: 429,
    retryable: true,
    says: 'Too many refused attempts from this address.',
    remedy: 'Wait a minute, then send correct credentials.',
  },
  SOURCE_DENIED: {
    status: 403,
    retryable: false,
    says: 'This application may not call from this address.',
    remedy:
      "Add the address to the application's source CIDRs, or set listeners.gateway.trustedProxies if a proxy stands in front.",
  },

  // What is asked
  ENDPOINT_UNLISTED: {
    status: 404,
    retryable: false,
    says: 'This method and path are not in the endpoint table.',
    remedy: 'Check the path. A new Plaid endpoint can be declared under `endpoints` in the configuration.',
  },
  ENDPOINT_DENIED: {
    status: 403,
    retryable: false,
    says: "The application's policy does not allow this endpoint.",
    remedy: 'Grant the endpoint class or path with `strongroom apps policy`.',
  },
  CONTENT_TYPE_REFUSED: {
    status: 415,
    retryable: false,
    says: 'The request body must be application/json, without content encoding.',
    remedy: 'Send JSON with Content-Type: application/json and no Content-Encoding.',
  },
  BODY_MALFORMED: {
    status: 400,
    retryable: false,
    says: 'The request body is not one well-formed JSON object.',
    remedy: 'Send one JSON object in UTF-8.',
  },
  BODY_DUPLICATE_KEY: {
    status: 400,
    retryable: false,
    says: 'The request body names the same key twice in one object.',
    remedy: 'Send each key once: two parsers could read such a body differently.',
  },
  BODY_TOO_DEEP: {
    status: 400,
    retryable: false,
    says: 'The request body is nested too deeply.',
    remedy: 'Nest at most 64 levels.',
  },
  BODY_TOO_LARGE: {
    status: 413,
    retryable: false,
    says: 'The request body is too large.',
    remedy: 'Stay within limits.bodyBytes.',
  },
  BODY_TIMEOUT: {
    status: 408,
    retryable: true,
    says: 'The request did not arrive in time.',
    remedy: 'Send the whole request within limits.requestMs.',
  },
  REQUEST_MALFORMED: {
    status: 400,
    retryable: false,
    says: 'The HTTP request is malformed.',
    remedy: 'Use an HTTP/1.1 client that sends one unambiguous length and no forbidden characters.',
  },

  // Tokens, handles and subjects
  RAW_TOKEN_REFUSED: {
    status: 400,
    retryable: false,
    says: 'A Plaid token stands where a handle belongs.',
    remedy: 'Send the handle. If the token came from your own store, import it; treat it as exposed.',
  },
  HANDLE_MALFORMED: {
    status: 400,
    retryable: false,
    says: 'This is not a handle, or it was mistyped.',
    remedy: 'Copy the handle again: its checksum does not fit.',
  },
  HANDLE_FOREIGN: {
    status: 400,
    retryable: false,
    says: 'This handle belongs to another deployment or Plaid environment.',
    remedy: 'Call the deployment that issued the handle.',
  },
  HANDLE_UNKNOWN: {
    status: 404,
    retryable: false,
    says: 'No secret is held under this handle for this application.',
    remedy:
      'Check the handle and which application owns the item. The answer is the same for a handle of somebody else.',
  },
  HANDLE_KIND_WRONG: {
    status: 400,
    retryable: false,
    says: 'This handle stands for another kind of secret than the field takes.',
    remedy: 'Send a handle that was issued for this kind of token.',
  },
  SUBJECT_FOREIGN: {
    status: 404,
    retryable: false,
    says: 'This application does not own what the call refers to.',
    remedy:
      'Use an id that this application created through Strongroom. The answer is the same for an id that does not exist.',
  },
  SUBJECT_MISSING: {
    status: 400,
    retryable: false,
    says: 'The call names nothing that this application could own.',
    remedy: 'Name the subject (for example user_id or transfer_id), or grant the endpoint by its path.',
  },
  TOKEN_CLASS_DENIED: {
    status: 403,
    retryable: false,
    says: "The application's policy does not release this class of token.",
    remedy: 'Add the class to `releases` in the policy, knowing that a released token leaves custody.',
  },
  TOKEN_ROTATING: {
    status: 503,
    retryable: true,
    says: 'The token behind this handle is being replaced.',
    remedy: 'Try again in a few seconds.',
  },
  TOKEN_UNCERTAIN: {
    status: 409,
    retryable: false,
    says: 'It is not known whether the token behind this handle is still valid.',
    remedy: 'An operator settles it; see `strongroom items show`.',
  },
  TOKEN_LOST: {
    status: 410,
    retryable: false,
    says: 'The token behind this handle is lost.',
    remedy: 'The user has to link the bank again.',
  },
  TOKEN_EXTERNAL: {
    status: 410,
    retryable: false,
    says: 'The token behind this handle was ended outside Strongroom.',
    remedy: 'Find out who called Plaid directly; the user has to link again.',
  },
  TOKEN_FROZEN: {
    status: 403,
    retryable: false,
    says: 'This item is frozen.',
    remedy: 'An operator froze it; ask them.',
  },
  TOKEN_REMOVED: {
    status: 410,
    retryable: false,
    says: 'This item has been removed.',
    remedy: 'The user has to link again.',
  },

  // Remote steps whose outcome matters
  EXCHANGE_IN_PROGRESS: {
    status: 409,
    retryable: true,
    says: 'The same public token is being exchanged.',
    remedy: 'Try again: the same handle comes back.',
  },
  EXCHANGE_UNCERTAIN: {
    status: 502,
    retryable: false,
    says: 'It is not known whether Plaid exchanged the public token; the item may be an orphan.',
    remedy: 'Let the user link again. The possible orphan is listed for the operator.',
  },
  ROTATION_CONFLICT: {
    status: 409,
    retryable: true,
    says: 'Another operation on this item is under way.',
    remedy: 'Try again in a few seconds.',
  },
  ROTATION_UNCERTAIN: {
    status: 502,
    retryable: false,
    says: 'It is not known whether Plaid replaced the token.',
    remedy: 'The item is marked uncertain and an operator is told. Do not repeat the call.',
  },
  REMOVAL_UNCERTAIN: {
    status: 502,
    retryable: true,
    says: 'It is not known whether Plaid removed the item.',
    remedy: 'Repeat the removal: Plaid answers ITEM_NOT_FOUND when it was done.',
  },

  // Limits
  RATE_EXCEEDED: {
    status: 429,
    retryable: true,
    says: 'The application calls faster than its policy allows.',
    remedy: 'Slow down; the rate counts per replica and second.',
  },
  QUOTA_EXCEEDED: {
    status: 429,
    retryable: false,
    says: "The application's quota for today is used up.",
    remedy: 'Wait for the next UTC day or raise the quota.',
  },
  BUDGET_EXCEEDED: {
    status: 403,
    retryable: false,
    says: 'The application went past a safety budget and is frozen for this class of calls.',
    remedy: 'Find out why, then lift the freeze with `strongroom apps policy --unfreeze`.',
  },
  OVERLOADED: {
    status: 503,
    retryable: true,
    says: 'Too many requests, or too many large ones, are under way.',
    remedy: 'Try again with back-off.',
  },

  // Plaid
  UPSTREAM_UNAVAILABLE: {
    status: 502,
    retryable: true,
    says: 'Plaid could not be reached; nothing was sent.',
    remedy: 'Try again.',
  },
  UPSTREAM_TIMEOUT: {
    status: 504,
    retryable: false,
    says: 'Plaid did not answer in time; the call may have been carried out.',
    remedy: 'Check the effect before repeating a call that changes something.',
  },
  UPSTREAM_BROKEN: {
    status: 502,
    retryable: false,
    says: "Plaid's answer was cut, too large or not understood; the call may have been carried out.",
    remedy: 'Check the effect before repeating a call that changes something.',
  },
  UPSTREAM_LEAK: {
    status: 502,
    retryable: false,
    says: "Plaid's answer held a secret where none belongs and was withheld.",
    remedy: 'Report it: the audit log names the endpoint and the class of the secret.',
  },

  // Ourselves
  DATABASE_UNAVAILABLE: {
    status: 503,
    retryable: true,
    says: 'The database did not answer.',
    remedy: 'Try again; an operator checks the database.',
  },
  AUDIT_UNAVAILABLE: {
    status: 503,
    retryable: true,
    says: 'The audit log could not take the entry, so nothing was done.',
    remedy: 'Try again; an operator checks database space and availability.',
  },
  KMS_UNAVAILABLE: {
    status: 503,
    retryable: true,
    says: 'The key service did not answer.',
    remedy: 'Try again; an operator checks the key service.',
  },
  KMS_REFUSED: {
    status: 503,
    retryable: false,
    says: 'The key service refused.',
    remedy: 'An operator checks the permission on the key, and that it is the right key.',
  },
  DATA_KEY_MISSING: {
    status: 503,
    retryable: true,
    says: 'There is no active data key for this purpose.',
    remedy: 'Start a process with the worker role once: it makes the first data keys.',
  },
  DATA_KEY_UNUSABLE: {
    status: 503,
    retryable: false,
    says: 'The data key is suspended, destroyed or not yet activated.',
    remedy: 'Its state stands in the table data_keys: find out who changed it, and why.',
  },
  SEAL_BROKEN: {
    status: 500,
    retryable: false,
    says: 'A sealed record did not open.',
    remedy: 'An operator looks at the audit log: the record was altered or belongs elsewhere.',
  },
  SHUTTING_DOWN: {
    status: 503,
    retryable: true,
    says: 'This process is stopping.',
    remedy: 'Try again: another replica answers.',
  },
  INTERNAL: {
    status: 500,
    retryable: false,
    says: 'An unexpected error occurred.',
    remedy: 'Look for the request_id in the log.',
  },

  // Admin API
  ADMIN_UNAUTHORIZED: {
    status: 401,
    retryable: false,
    says: 'The admin token is missing or wrong.',
    remedy: 'Send Authorization: Bearer with the admin token.',
  },
  INPUT_INVALID: {
    status: 400,
    retryable: false,
    says: 'The input does not fit.',
    remedy: 'The message names the field and what it takes.',
  },
  ROUTE_UNKNOWN: { status: 404, retryable: false, says: 'There is no such route.', remedy: 'Check the path.' },
  ITEM_UNKNOWN: {
    status: 404,
    retryable: false,
    says: 'There is no such record.',
    remedy: '`strongroom items list` names them.',
  },
  APPLICATION_UNKNOWN: {
    status: 404,
    retryable: false,
    says: 'There is no such application.',
    remedy: '`strongroom apps list` names them.',
  },
  APPLICATION_EXISTS: {
    status: 409,
    retryable: false,
    says: 'An application of this name exists.',
    remedy: 'Choose another name.',
  },
  APPLICATION_DISABLED: {
    status: 409,
    retryable: false,
    says: 'The application is disabled.',
    remedy: 'A disabled application stays disabled; add a new one.',
  },

  KEYS_AT_LIMIT: {
    status: 409,
    retryable: false,
    says: 'The application has two valid keys; one has to make room.',
    remedy:
      'Wait until the older one ends, or say which one to replace: `strongroom apps rotate-key --replace older|newer`.',
  },

  // Starting and the command line
  CONFIG_INVALID: {
    status: 500,
    retryable: false,
    says: 'The configuration is not valid.',
    remedy: 'Each finding names the file, the line and what to write instead.',
  },
  PRODUCTION_REFUSED: {
    status: 500,
    retryable: false,
    says: 'This setting is not allowed in production.',
    remedy: 'Each finding names the setting and what production needs.',
  },
  STAMP_MISMATCH: {
    status: 500,
    retryable: false,
    says: 'This database belongs to another deployment, environment, key or Plaid client.',
    remedy:
      'Point the configuration at the right database, or the database at the right configuration. Nothing was changed.',
  },
  HOME_IN_USE: {
    status: 500,
    retryable: false,
    says: 'Another Strongroom runs on this home folder.',
    remedy: 'Stop it, or set STRONGROOM_HOME to another folder.',
  },
  HOME_UNUSABLE: {
    status: 500,
    retryable: false,
    says: 'The home folder cannot be used.',
    remedy: 'It must be writable and belong to the user who starts Strongroom.',
  },
  EMBEDDED_FAILED: {
    status: 500,
    retryable: false,
    says: 'The embedded database did not start.',
    remedy: "The message carries the last lines of the server's log.",
  },
  MIGRATION_FAILED: {
    status: 500,
    retryable: false,
    says: 'The database schema could not be brought up to date.',
    remedy: 'The failing migration was rolled back; the message names it.',
  },
  SCHEMA_NEWER: {
    status: 500,
    retryable: false,
    says: 'The database schema is newer than this program.',
    remedy: 'Start the newer version.',
  },
  SCHEMA_OLDER: {
    status: 500,
    retryable: false,
    says: 'The database schema is older than this program.',
    remedy: 'Run `strongroom migrate` first.',
  },
  DATABASE_UNFIT: {
    status: 500,
    retryable: false,
    says: 'The database server is too old or set up so that it may lose committed data.',
    remedy: 'The message names the setting and the value that is needed.',
  },
  DATABASE_ROLE_UNFIT: {
    status: 500,
    retryable: false,
    says: 'The database login lacks its role or may do more than its role.',
    remedy: 'Grant the login exactly the role that the message names.',
  },
  KEK_MISSING: {
    status: 500,
    retryable: false,
    says: 'The key-encryption key is not there.',
    remedy: 'Put it back. Without it the sealed records stay unreadable.',
  },
  KEK_WRONG: {
    status: 500,
    retryable: false,
    says: 'This is not the key-encryption key that the data keys are wrapped with.',
    remedy: 'Configure the key that the message names.',
  },
  SECRET_REFERENCE_INVALID: {
    status: 500,
    retryable: false,
    says: 'A secret must be given by reference.',
    remedy: 'Write file:/path/to/file.',
  },
  SECRET_UNREADABLE: {
    status: 500,
    retryable: false,
    says: 'A referenced secret could not be read safely.',
    remedy: 'The file must exist, belong to this user, have mode 0600 or 0400 and not be empty.',
  },
  LISTEN_FAILED: {
    status: 500,
    retryable: false,
    says: 'A listener could not be opened.',
    remedy: 'The port is taken or not allowed; choose another.',
  },
  AUDIT_BROKEN: {
    status: 500,
    retryable: false,
    says: 'The audit log is not whole.',
    remedy: 'The message names the first bad entry. Keep everything as it is and investigate.',
  },
  USAGE: { status: 400, retryable: false, says: 'The command line is not understood.', remedy: 'Add --help.' },
  NOT_RUNNING: {
    status: 503,
    retryable: true,
    says: 'No running Strongroom was found.',
    remedy: 'Start it, or name its admin URL with --admin-url.',
  },
} as const satisfies Record<string, { status: number; retryable: boolean; says: string; remedy: string }>;

export type ErrorCode = keyof typeof ERRORS;

export type Facts = Readonly<Record<string, string | number | boolean | null>>;

/**
 * The one error class. `facts` go to logs and the audit log; they are scalars so
 * that a request or a key cannot ride along, and never hold a secret. The caller
 * sees `says` and, where given, `detail`: a sentence that must not hold a secret
 * or anything of another application.
 */
export class StrongroomError extends Error {
  override readonly name = 'StrongroomError';
  readonly code: ErrorCode;
  readonly facts: Facts;
  readonly detail: string | null;

  constructor(code: ErrorCode, facts: Facts & { readonly detail?: string } = {}, cause?: unknown) {
    const { detail, ...rest } = facts;
    super(
      detail === undefined ? ERRORS[code].says : `${ERRORS[code].says} ${detail}`,
      cause === undefined ? undefined : { cause },
    );
    this.code = code;
    this.facts = rest;
    this.detail = detail ?? null;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }
}

/** The code of an error that is ours, else `INTERNAL`. */
export function codeOf(error: unknown): ErrorCode {
  return error instanceof StrongroomError ? error.code : 'INTERNAL';
}
