import { redactText } from './text.ts';
import { describeError } from './walk.ts';

/**
 * The fields that a log record may have. A field that is not listed is dropped
 * and counted, so that a body, a header or a query cannot ride along in an object
 * that somebody logs whole. docs/logging.md is checked against this table.
 *
 * No field for: request and answer bodies, header values, query values, tokens,
 * handles, names of people, account data.
 */
export const SAFE_FIELDS = {
  // The request
  request_id: 'Our id of the request; also in the answer.',
  endpoint: 'Path of the Plaid endpoint or admin route, from the table, never as sent.',
  method: 'HTTP method.',
  application: 'Application id (not secret).',
  source: 'IP address of the calling server.',
  status: 'HTTP status that was answered.',
  code: 'Error code, ours or of the operating system.',
  ms: 'Duration in milliseconds.',
  upstream_status: 'HTTP status of Plaid.',
  upstream_ms: "Time until Plaid's answer, in milliseconds.",
  plaid_request_id: "Plaid's request id, for their support.",
  plaid_code: "Plaid's error code.",
  // What it was about
  record: 'Record id: ours, says nothing without the database.',
  record_kind: 'Kind of the record.',
  state: 'Custody state or health.',
  token_class: 'Class of a token that was found or released.',
  // The process
  pid: 'Process id.',
  version: 'Version of Strongroom.',
  node: 'Version of Node.',
  roles: 'Roles that run here.',
  role: 'One role.',
  deployment: 'Deployment id.',
  environment: 'Deployment environment.',
  plaid_environment: 'Plaid environment.',
  listener: 'Which listener.',
  host: 'Address listened on or connected to.',
  port: 'Port listened on or connected to.',
  origin: 'Scheme, host and port of a server.',
  signal: 'Signal received.',
  file: 'Path of a file of ours.',
  setting: 'Path of a setting.',
  // Parts
  component: 'Which part speaks.',
  operation: 'What it was doing.',
  attempt: 'Number of the attempt, from 1.',
  count: 'How many.',
  bytes: 'How many bytes.',
  reason: 'Why, in one word or sentence of ours.',
  sqlstate: 'Error class of PostgreSQL.',
  migration: 'Name of a migration.',
  key_id: 'Name of a key, never the key.',
  writer: 'Id of an audit writer.',
  counter: "Position in a writer's chain.",
  tree_size: 'Entries in the audit tree.',
  warning: 'Name of a warning of Node.',
  msg: 'The sentence.',
  // Made here
  err: 'An error: type, code, message, stack, facts and causes, and nothing else of it.',
  dropped: 'How many fields were left out because they are not listed here.',
} as const satisfies Record<string, string>;

export type SafeField = keyof typeof SAFE_FIELDS;

const MOST_CHARACTERS = 512;

/**
 * Keeps the listed fields that hold a scalar, redacted and at most 512
 * characters long, and the description of an error under `err`.
 */
export function safeFields(fields: object): Record<string, unknown> {
  const safe: Record<string, unknown> = {};
  let dropped = 0;
  for (const key of Object.keys(fields)) {
    if (!Object.hasOwn(SAFE_FIELDS, key)) {
      dropped++;
      continue;
    }
    const value = (fields as Record<string, unknown>)[key];
    if (value === undefined) continue;
    if (key === 'err') safe.err = describeError(value);
    else if (typeof value === 'string') safe[key] = short(redactText(value));
    else if (value === null || typeof value === 'number' || typeof value === 'boolean') safe[key] = value;
    else dropped++;
  }
  if (dropped > 0) safe.dropped = dropped;
  return safe;
}

function short(text: string): string {
  return text.length <= MOST_CHARACTERS
    ? text
    : `${text.slice(0, MOST_CHARACTERS)}[${text.length - MOST_CHARACTERS} more]`;
}
