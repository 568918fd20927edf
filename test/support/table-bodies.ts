import { randomBytes, randomUUID } from 'node:crypto';
import { deploymentTag, formatHandle } from '../../src/base/ids.ts';
import { ROWS } from '../../src/plaid/endpoints.generated.ts';
import type { Endpoint, RequestSlot, TokenKind } from '../../src/plaid/endpoints.ts';

/**
 * Requests and answers made from the endpoint table, so that a story can go over
 * every position where a token or a subject stands without knowing any by name.
 */

/** What one position of a request names. */
export interface Position {
  readonly path: string;
  /** A subject kind, or a token kind and ` token`: there are users and user tokens. */
  readonly kind: string;
  readonly what: 'handle' | 'token' | 'subject' | 'claim';
  readonly required: boolean;
}

/** Every position of an endpoint that somebody can own; one that takes two kinds comes twice. */
export function positionsOf(endpoint: Endpoint): Position[] {
  const row = ROWS.find(({ path }) => path === endpoint.path);
  const slots = new Map<string, Partial<RequestSlot>>();
  for (const token of endpoint.tokensIn) slots.set(token.path, { token });
  for (const subject of endpoint.subjects) slots.set(subject.path, { ...slots.get(subject.path), subject });
  const positions: Position[] = [];
  for (const [path, { token, subject }] of slots) {
    const required = subject?.required ?? row?.tokensIn?.[path]?.endsWith('?') === false;
    if (subject) positions.push({ path, kind: subject.kind, what: 'subject', required });
    else if (token) {
      const what = token.disposition === 'vaulted' ? 'handle' : 'token';
      for (const kind of token.kinds)
        if (kind !== 'exchange_auth') positions.push({ path, kind: `${kind} token`, what, required });
    }
  }
  for (const { path, kind, required } of endpoint.claims) positions.push({ path, kind, what: 'claim', required });
  return positions;
}

/** A JSON object with a value (or, behind `[]`, values) at each path. */
export function bodyOf(values: Readonly<Record<string, string | readonly string[]>>): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const [path, value] of Object.entries(values)) {
    let at: Record<string, unknown> = body;
    const parts = path.split('.');
    for (const [depth, part] of parts.entries()) {
      const last = depth === parts.length - 1;
      const name = part.replace(/\[\]$/, '');
      const list = name !== part;
      if (last) {
        at[name] = list ? [value].flat() : [value].flat()[0];
      } else {
        at[name] ??= list ? [{}] : {};
        at = (list ? (at[name] as unknown[])[0] : at[name]) as Record<string, unknown>;
      }
    }
  }
  return body;
}

/** The value at a path of an answer; of the first element where a list stands on the way. */
export function valueAt(answer: unknown, path: string): unknown {
  let at = answer;
  for (const part of path.split('.')) {
    at = (at as Record<string, unknown> | undefined)?.[part.replace(/\[\]$/, '')];
    if (part.endsWith('[]')) at = (at as unknown[] | undefined)?.[0];
  }
  return at;
}

const UUID_TOKENS: Partial<Record<TokenKind, string>> = {
  access: 'access',
  user: 'user',
  report: 'assets',
  employment_report: 'employment-report',
  payment_profile: 'payment-profile',
  processor: 'processor',
  relay: 'credit-relay',
  third_party_user: 'third-party-user',
  link: 'link',
  public: 'public',
  payment_token: 'payment-token',
};

/** A token of Plaid's shape that nobody has ever seen; `kind` with or without ` token`. */
export function inventToken(kind: string): string {
  const bare = kind.replace(/ token$/, '');
  const word = UUID_TOKENS[bare as TokenKind];
  if (word !== undefined) return `${word}-sandbox-${randomUUID()}`;
  const letters = (count: number) =>
    Array.from(randomBytes(count), (byte) => 'abcdefghijklmnopqrstuvwxyz234567'[byte & 31]).join('');
  switch (bare) {
    case 'audit_copy':
      return `a-sandbox-${letters(26)}`;
    case 'stripe':
      return `btok_${letters(24)}`;
    case 'oauth_access':
      return `pda-${randomBytes(33).toString('base64url')}`;
    case 'oauth_refresh':
      return `pdr-${randomBytes(33).toString('base64url')}`;
    default:
      return letters(30);
  }
}

/** An id of Plaid's that nobody has ever seen. */
export function inventSubject(kind: string): string {
  return kind === 'link_token' ? inventToken('link') : `${kind}-${randomBytes(12).toString('hex')}`;
}

/** A well-formed handle of this deployment that stands for nothing. */
export function inventHandle(deploymentId: string): string {
  return formatHandle('sandbox', randomBytes(16), deploymentTag(deploymentId));
}

/** A successful answer with something new at every position that the table knows. */
export function inventAnswer(endpoint: Endpoint): Record<string, unknown> {
  const values: Record<string, string> = { request_id: 'simulated000000' };
  for (const { path, kind } of endpoint.creates) values[path] = inventSubject(kind);
  for (const { path, kind } of endpoint.tokensOut) {
    // Where the token is the subject, as with link tokens, one value is both.
    values[path] = endpoint.creates.some((field) => field.path === path) ? (values[path] as string) : inventToken(kind);
  }
  return bodyOf(values);
}
