/**
 * The endpoint table: which of Plaid's calls we know, where tokens and subjects
 * stand in them, and what each call can do. Rows come from
 * `endpoints.generated.ts` (written by scripts/generate-endpoints.ts) and, for a
 * Plaid endpoint newer than this release, from the configuration. A path that is
 * in neither does not exist for us.
 *
 * Nothing here decides who may call what: that is the policy's.
 */
import { StrongroomError } from '../base/errors.ts';
import { GUARDED_NAMES, ROWS } from './endpoints.generated.ts';
import { compileNames, compileShape, type Shape } from './json-shape.ts';

/**
 * `item`: one user's bank connection. `user`: a consumer without naming an item.
 * `money`: moves money, or shows how it moved. `link`: starts and reads Link
 * sessions. `report`: asset reports and their copies. `directory`: the same for
 * everyone. `admin`: the Plaid client itself, its partners and originators.
 * `sandbox`: exists in Plaid's sandbox only.
 */
export const ENDPOINT_CLASSES = ['item', 'user', 'money', 'link', 'report', 'directory', 'admin', 'sandbox'] as const;
export type EndpointClass = (typeof ENDPOINT_CLASSES)[number];

/** `remove` ends or deletes something for good; `rotate` replaces a token. */
export const EFFECTS = ['read', 'change', 'remove', 'rotate'] as const;
export type Effect = (typeof EFFECTS)[number];

/**
 * How far a call reaches. `own`: it must name at least one handle or subject,
 * and every one that it names must be the caller's. `open`: it starts something
 * new or reads what nobody owns, so it may name none; what it does name must
 * still be the caller's. `client`: it reaches across the whole Plaid client, so
 * that only an explicit grant of its path makes sense.
 */
export const REACHES = ['own', 'open', 'client'] as const;
export type Reach = (typeof REACHES)[number];

/**
 * What becomes of a token. `vaulted`: sealed here, applications hold a handle.
 * `released`: made to leave for another company, goes out only by policy and is
 * not stored. `pass`: short-lived, the browser needs the real one.
 */
export const DISPOSITION = {
  access: 'vaulted',
  user: 'vaulted',
  report: 'vaulted',
  employment_report: 'vaulted',
  payment_profile: 'vaulted',
  oauth_access: 'vaulted',
  oauth_refresh: 'vaulted',
  customer_secret: 'vaulted',
  processor: 'released',
  relay: 'released',
  audit_copy: 'released',
  stripe: 'released',
  third_party_user: 'released',
  link: 'pass',
  public: 'pass',
  payment_token: 'pass',
  exchange_auth: 'pass',
} as const;
export type TokenKind = keyof typeof DISPOSITION;
export type Disposition = (typeof DISPOSITION)[TokenKind];
export const TOKEN_KINDS = Object.keys(DISPOSITION) as TokenKind[];

/** A token field of a request. `kinds` has two entries where Plaid takes either; all share one disposition. */
export interface TokenIn {
  readonly path: string;
  readonly kinds: readonly TokenKind[];
  readonly disposition: Disposition;
}

/** A token field of a successful answer. */
export interface TokenOut {
  readonly path: string;
  readonly kind: TokenKind;
  readonly disposition: Disposition;
}

/** A field that names something an application can own, such as a user_id. */
export interface SubjectField {
  readonly path: string;
  readonly kind: string;
  /** The SDK's types demand the field. */
  readonly required: boolean;
}

/** What stands at one position of a request body. At least one of the three is set. */
export interface RequestSlot {
  readonly path: string;
  readonly token: TokenIn | null;
  readonly subject: SubjectField | null;
  /** Owned by the caller once the call succeeded; free until somebody has it, and then theirs alone. */
  readonly claim: SubjectField | null;
}

/** What stands at one position of a successful answer. At least one of the two is set. */
export interface AnswerSlot {
  readonly path: string;
  readonly token: TokenOut | null;
  readonly creates: SubjectField | null;
}

export interface Endpoint {
  readonly method: 'POST' | 'GET' | 'PUT';
  /** As Plaid documents it; `{name}` stands for one segment. */
  readonly path: string;
  readonly class: EndpointClass;
  readonly effect: Effect;
  readonly reach: Reach;
  /** `safe`: may be sent twice when the connection broke. Everything else is sent once. */
  readonly retry: 'safe' | 'never';
  readonly binary: boolean;
  readonly sandboxOnly: boolean;
  readonly tokensIn: readonly TokenIn[];
  readonly tokensOut: readonly TokenOut[];
  readonly subjects: readonly SubjectField[];
  readonly claims: readonly SubjectField[];
  readonly creates: readonly SubjectField[];
  /** Fields that hold a URL to which Plaid will send webhooks. */
  readonly webhookUrls: readonly string[];
  /** Added by the configuration, not by the SDK's types. */
  readonly declared: boolean;
  readonly requestShape: Shape<RequestSlot>;
  /** Null when a successful answer neither holds tokens nor teaches ownership: it need not be parsed. */
  readonly answerShape: Shape<AnswerSlot> | null;
}

/**
 * One row, as generated or as an operator declares it in the configuration.
 * Maps go from field path to kind; a kind that ends in `?` marks an optional
 * field; two token kinds are written `user|oauth_refresh`.
 */
export interface EndpointRow {
  readonly method?: 'POST' | 'GET' | 'PUT';
  readonly path: string;
  readonly class: EndpointClass;
  readonly effect: Effect;
  readonly reach: Reach;
  /** Default: `safe` for `read`, else `never`. */
  readonly retry?: 'safe' | 'never';
  readonly binary?: boolean;
  readonly tokensIn?: Readonly<Record<string, string>>;
  readonly tokensOut?: Readonly<Record<string, string>>;
  readonly subjects?: Readonly<Record<string, string>>;
  readonly claims?: Readonly<Record<string, string>>;
  readonly creates?: Readonly<Record<string, string>>;
  /** Top-level fields with a guarded name that mean nothing here. */
  readonly plain?: readonly string[];
  readonly webhookUrls?: readonly string[];
}

/**
 * Names that mean a token or a subject somewhere in Plaid's API. At the top of a
 * request whose endpoint is not known to take them they are reported, to be
 * refused: Plaid may honour a field that its published types do not show.
 */
const GUARDED = compileNames(GUARDED_NAMES);

function build(row: EndpointRow, declared: boolean): Endpoint {
  const tokensIn = entries(row.tokensIn).map(({ path, kind }): TokenIn => {
    const kinds = kind.split('|') as TokenKind[];
    return { path, kinds, disposition: DISPOSITION[kinds[0] as TokenKind] };
  });
  const tokensOut = entries(row.tokensOut).map(({ path, kind }): TokenOut => {
    return { path, kind: kind as TokenKind, disposition: DISPOSITION[kind as TokenKind] };
  });
  const subjects = entries(row.subjects);
  const claims = entries(row.claims);
  const creates = entries(row.creates);

  const slots = new Map<string, RequestSlot>();
  const slot = (path: string, part: Partial<RequestSlot>) => {
    const old = slots.get(path) ?? { path, token: null, subject: null, claim: null };
    slots.set(path, { ...old, ...part });
  };
  for (const token of tokensIn) slot(token.path, { token });
  for (const subject of subjects) slot(subject.path, { subject });
  for (const claim of claims) slot(claim.path, { claim });
  const answers = new Map<string, AnswerSlot>();
  for (const token of tokensOut) answers.set(token.path, { path: token.path, token, creates: null });
  for (const field of creates) {
    answers.set(field.path, { path: field.path, token: answers.get(field.path)?.token ?? null, creates: field });
  }

  return {
    method: row.method ?? 'POST',
    path: row.path,
    class: row.class,
    effect: row.effect,
    reach: row.reach,
    retry: row.retry ?? (row.effect === 'read' ? 'safe' : 'never'),
    binary: row.binary ?? false,
    sandboxOnly: row.path.startsWith('/sandbox/'),
    tokensIn,
    tokensOut,
    subjects,
    claims,
    creates,
    webhookUrls: row.webhookUrls ?? [],
    declared,
    requestShape: compileShape([...slots.values()], { guarded: GUARDED, plain: row.plain ?? [] }),
    answerShape: answers.size === 0 ? null : compileShape([...answers.values()]),
  };
}

function entries(map: Readonly<Record<string, string>> | undefined): SubjectField[] {
  return Object.entries(map ?? {}).map(([path, kind]) => {
    const optional = kind.endsWith('?');
    return { path, kind: optional ? kind.slice(0, -1) : kind, required: !optional };
  });
}

/** Endpoints by method and path. Built once; declared endpoints make a table of their own beside the generated one. */
export class EndpointTable {
  readonly endpoints: readonly Endpoint[];
  readonly #exact = new Map<string, Endpoint>();
  readonly #templated: { readonly endpoint: Endpoint; readonly segments: readonly string[] }[] = [];

  constructor(endpoints: readonly Endpoint[]) {
    this.endpoints = endpoints;
    for (const endpoint of endpoints) {
      if (endpoint.path.includes('{')) this.#templated.push({ endpoint, segments: endpoint.path.split('/') });
      else this.#exact.set(`${endpoint.method} ${endpoint.path}`, endpoint);
    }
  }

  /**
   * The endpoint of a request line, or null. The path is compared as it came:
   * nothing is decoded or normalised, so `//`, `%2f`, `..`, `;`, `?` and a
   * trailing slash are simply not found.
   */
  find(method: string, path: string): Endpoint | null {
    const exact = this.#exact.get(`${method} ${path}`);
    if (exact !== undefined) return exact;
    if (this.#templated.length === 0 || !TEMPLATED.test(path)) return null;
    const segments = path.split('/');
    const found = this.#templated.find(
      ({ endpoint, segments: template }) =>
        endpoint.method === method &&
        template.length === segments.length &&
        template.every((part, i) => part.startsWith('{') || part === segments[i]),
    );
    return found?.endpoint ?? null;
  }

  /**
   * A table with more endpoints. @throws StrongroomError `CONFIG_INVALID` when one
   * stands in the table already: a declaration must not weaken a known row.
   */
  with(declared: readonly Endpoint[]): EndpointTable {
    const seen = new Set(this.endpoints.map(({ method, path }) => `${method} ${shapeOf(path)}`));
    for (const { method, path } of declared) {
      if (seen.has(`${method} ${shapeOf(path)}`)) {
        throw new StrongroomError('CONFIG_INVALID', { detail: `endpoints: ${method} ${path} is known already.` });
      }
      seen.add(`${method} ${shapeOf(path)}`);
    }
    return new EndpointTable([...this.endpoints, ...declared]);
  }
}

/** Every segment is plain: letters, digits, `_`, `-`, and inside a segment `.` (but no segment of dots alone). */
const TEMPLATED = /^(?:\/(?!\.+(?:\/|$))[A-Za-z0-9_.-]{1,128}){1,16}$/;

function shapeOf(path: string): string {
  return path.replace(/\{[^}]*\}/g, '{}');
}

export const ENDPOINTS = new EndpointTable(ROWS.map((row) => build(row, false)));

/** {@link EndpointTable.find} in the generated table alone. */
export function findEndpoint(method: string, path: string): Endpoint | null {
  return ENDPOINTS.find(method, path);
}

const PATH = /^(?:\/(?:[a-z0-9_]+|\{[A-Za-z]+\}))+$/;
const FIELD = /^[A-Za-z0-9_]+(?:\[\])*(?:\.[A-Za-z0-9_]+(?:\[\])*)*$/;
const SUBJECT_KIND = /^[a-z][a-z0-9_]{0,39}$/;
const KEYS = new Set(
  'method path class effect reach retry binary tokensIn tokensOut subjects claims creates plain webhookUrls'.split(' '),
);

/**
 * An endpoint from the configuration, for a Plaid endpoint that this release
 * does not know. The declaration carries the whole responsibility: a token field
 * that it forgets is not replaced, and the gateway then refuses the call or the
 * answer by the token's shape.
 *
 * @throws StrongroomError `CONFIG_INVALID`; the detail names the field and what it takes.
 */
export function declareEndpoint(declaration: unknown): Endpoint {
  const row = declaration as EndpointRow;
  check(typeof row === 'object' && row !== null && !Array.isArray(row), 'an endpoint is a map of fields');
  for (const key of Object.keys(row)) check(KEYS.has(key), `${key} is no field of an endpoint`);
  check(typeof row.path === 'string' && PATH.test(row.path), 'path is a Plaid path such as /transactions/sync');
  const at = (text: string) => `${row.path}: ${text}`;
  check(row.method === undefined || ['POST', 'GET', 'PUT'].includes(row.method), at('method is POST, GET or PUT'));
  check(ENDPOINT_CLASSES.includes(row.class), at(`class is one of ${ENDPOINT_CLASSES.join(', ')}`));
  check(EFFECTS.includes(row.effect), at(`effect is one of ${EFFECTS.join(', ')}`));
  check(REACHES.includes(row.reach), at(`reach is one of ${REACHES.join(', ')}`));
  check(row.retry === undefined || ['safe', 'never'].includes(row.retry), at('retry is safe or never'));
  check(row.retry !== 'safe' || row.effect === 'read', at('retry is safe only where effect is read'));
  check(row.binary === undefined || typeof row.binary === 'boolean', at('binary is true or false'));
  for (const list of ['plain', 'webhookUrls'] as const) {
    const value = row[list];
    check(
      value === undefined || (Array.isArray(value) && value.every(isField)),
      at(`${list} is a list of field paths`),
    );
  }
  const kindOf = {
    tokensIn: (kind: string) => tokenKinds(kind.replace(/\?$/, '').split('|')),
    tokensOut: (kind: string) => tokenKinds([kind]),
    subjects: isSubjectKind,
    claims: isSubjectKind,
    creates: isSubjectKind,
  };
  for (const [name, fits] of Object.entries(kindOf) as [keyof typeof kindOf, (kind: string) => boolean][]) {
    const map: unknown = row[name];
    if (map === undefined) continue;
    check(typeof map === 'object' && map !== null && !Array.isArray(map), at(`${name} maps field paths to kinds`));
    for (const [path, kind] of Object.entries(map as object)) {
      check(isField(path), at(`${name}: ${path} is no field path (write options.access_tokens[])`));
      const known = name.startsWith('tokens') ? `one of ${TOKEN_KINDS.join(', ')}` : 'a subject kind such as user';
      check(typeof kind === 'string' && fits(kind), at(`${name}.${path} is ${known}`));
    }
  }
  return build(row, true);
}

function isField(path: unknown): boolean {
  return typeof path === 'string' && FIELD.test(path) && path.length <= 200 && path.split('.').length <= 16;
}

function isSubjectKind(kind: string): boolean {
  return SUBJECT_KIND.test(kind.replace(/\?$/, ''));
}

function tokenKinds(kinds: readonly string[]): boolean {
  const dispositions = kinds.map((kind) => (Object.hasOwn(DISPOSITION, kind) ? DISPOSITION[kind as TokenKind] : null));
  return dispositions.every((disposition) => disposition !== null && disposition === dispositions[0]);
}

function check(fits: boolean, detail: string): asserts fits {
  if (!fits) throw new StrongroomError('CONFIG_INVALID', { detail: `endpoints: ${detail}.` });
}
