import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import type { Simulator } from '../../simulator/start.ts';
import { deploymentTag, formatHandle } from '../../src/base/ids.ts';
import { ROWS } from '../../src/plaid/endpoints.generated.ts';
import { ENDPOINTS, type Endpoint, type RequestSlot, type TokenKind } from '../../src/plaid/endpoints.ts';
import type { App } from './strongroom.ts';

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

/** What an application has come to own: one value for each kind. */
export type Belongings = ReadonlyMap<string, string>;

/** Answers the next call of an endpoint with this body, in place of what the simulator would say. */
export function plant(simulator: Simulator, { path }: Endpoint, body: unknown): Promise<unknown> {
  return simulator.control('POST', '/faults', { endpoint: path, kind: 'body', body });
}

/**
 * Lets an application come to own one value of every kind, in the only way there
 * is: by the answers to its own calls (or, for names that it chooses itself, by a
 * call that succeeds). What needs others comes when those are there.
 *
 * @returns also the true token behind each kind that is vaulted.
 */
export async function gather(
  simulator: Simulator,
  app: App,
): Promise<{ readonly owned: Belongings; readonly tokens: Belongings }> {
  const owned = new Map<string, string>();
  const tokens = new Map<string, string>();
  const keep = (map: Map<string, string>, kind: string, value: string) => map.set(kind, map.get(kind) ?? value);
  for (let before = -1; before < owned.size; ) {
    before = owned.size;
    for (const endpoint of ENDPOINTS.endpoints) {
      if (taughtBy(endpoint).every((kind) => owned.has(kind))) continue;
      const request = requestFor(endpoint, owned);
      if (request === null) continue;
      const planted = inventAnswer(endpoint);
      await plant(simulator, endpoint, planted);
      const answer = await app.post(endpoint.path, request);
      assert.equal(answer.status, 200, `${endpoint.path}: ${answer.text}`);
      for (const { path, kind } of endpoint.creates) keep(owned, kind, String(valueAt(planted, path)));
      for (const { path, kind } of endpoint.claims) keep(owned, kind, String(valueAt(request, path)));
      for (const { path, kind } of endpoint.tokensOut) {
        keep(tokens, `${kind} token`, String(valueAt(planted, path)));
        keep(owned, `${kind} token`, String(valueAt(answer.body, path)));
      }
    }
  }
  return { owned, tokens };
}

function taughtBy({ creates, tokensOut, claims }: Endpoint): string[] {
  return [...creates, ...claims].map(({ kind }) => kind).concat(tokensOut.map(({ kind }) => `${kind} token`));
}

/**
 * The smallest request of an endpoint with what its caller owns, and new names
 * where it chooses them; null while it lacks something.
 *
 * @param position - One position that is to hold `values`, whoever owns them.
 */
export function requestFor(
  endpoint: Endpoint,
  mine: Belongings,
  position: Position | null = null,
  values: readonly string[] = [],
): Record<string, unknown> | null {
  const positions = positionsOf(endpoint);
  const placed: Record<string, readonly string[]> = {};
  for (const { path, kind, what, required } of positions) {
    if (!required) continue;
    const value =
      mine.get(kind) ?? (kind === 'public token' ? inventToken(kind) : what === 'claim' ? inventSubject(kind) : null);
    if (value === null) {
      if (path !== position?.path) return null;
    } else placed[path] = [value];
  }
  if (position !== null) placed[position.path] = values;
  const named = positions.some(({ path, what }) => what !== 'claim' && path in placed);
  if (endpoint.reach === 'own' && !named) {
    // All its fields are optional, and still it has to name something.
    const one = positions.find(({ kind, what }) => what !== 'claim' && mine.has(kind));
    if (one === undefined) return null;
    placed[one.path] = [mine.get(one.kind) as string];
  }
  // Names that the caller may choose are chosen, so that they become its own.
  if (position === null) {
    for (const { path, kind, what } of positions)
      if (what === 'claim' && !(path in placed)) placed[path] = [mine.get(kind) ?? inventSubject(kind)];
  }
  return bodyOf(placed);
}
