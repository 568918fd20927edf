/**
 * The state with its clock, its randomness and the few operations that several
 * endpoint families share: minting, exchanging, replacing and removing tokens.
 *
 * Every operation is synchronous. An endpoint that runs to its end without
 * awaiting is therefore atomic: of 200 exchanges of one public token, one wins.
 */
import type { PlaidEnvironment } from '../src/base/ids.ts';
import { type PlaidCode, PlaidFailure, storedError } from './errors.ts';
import type { Mint } from './random.ts';
import type { Client, Grant, GrantKind, GrantOf, Item, Settings, State } from './state.ts';

const MINUTE = 60_000; // ms
export const PUBLIC_TOKEN_LIFE = 30 * MINUTE;
const DAY = 24 * 60 * MINUTE;

/** A webhook that an endpoint wants sent. The delivery engine takes it from there. */
export interface Outgoing {
  readonly url: string;
  readonly clientId: string;
  readonly itemId: string | null;
  readonly payload: Readonly<Record<string, unknown>>;
  /** Not before this moment of the simulated clock. */
  readonly at?: number;
}

interface TokenRule {
  readonly code: PlaidCode;
  /** How error messages name the token. */
  readonly noun: string;
  readonly format: RegExp;
  readonly expected: string;
}

const ENVIRONMENTS = '(sandbox|development|production)';
const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const uuidToken = (word: string, noun: string, code: PlaidCode): TokenRule => ({
  code,
  noun,
  format: new RegExp(`^${word}-${ENVIRONMENTS}-${UUID}$`),
  expected: `${word}-<environment>-<identifier>`,
});

const RULES: Record<GrantKind, TokenRule> = {
  access: uuidToken('access', 'access token', 'INVALID_ACCESS_TOKEN'),
  public: uuidToken('public', 'public token', 'INVALID_PUBLIC_TOKEN'),
  link: uuidToken('link', 'link token', 'INVALID_LINK_TOKEN'),
  user: uuidToken('user', 'user token', 'INVALID_USER_TOKEN'),
  third_party_user: uuidToken('third-party-user', 'third party user token', 'INVALID_THIRD_PARTY_USER_TOKEN'),
  processor: uuidToken('processor', 'processor token', 'INVALID_PROCESSOR_TOKEN'),
  report: uuidToken('assets', 'asset report token', 'INVALID_ASSET_REPORT_TOKEN'),
  employment_report: uuidToken('employment-report', 'report token', 'INVALID_ASSET_REPORT_TOKEN'),
  payment_profile: uuidToken('payment-profile', 'payment profile token', 'INVALID_PAYMENT_PROFILE_TOKEN'),
  payment: uuidToken('payment-token', 'payment token', 'INVALID_FIELD'),
  relay: { ...uuidToken('credit-relay', 'relay token', 'INVALID_RELAY_TOKEN') },
  audit_copy: {
    code: 'INVALID_AUDIT_COPY_TOKEN',
    noun: 'audit copy token',
    format: /^a-(sandbox|production)-[a-z2-7]{26}$/,
    expected: 'a-<environment>-<identifier>',
  },
  stripe: {
    code: 'INVALID_FIELD',
    noun: 'bank account token',
    format: /^btok_[A-Za-z0-9]{24}$/,
    expected: 'btok_<identifier>',
  },
  oauth_access: { code: 'INVALID_OAUTH_TOKEN', noun: 'token', format: /^pda-[\w-]+$/, expected: 'pda-<identifier>' },
  oauth_refresh: { code: 'INVALID_OAUTH_TOKEN', noun: 'token', format: /^pdr-[\w-]+$/, expected: 'pdr-<identifier>' },
};

export class World {
  readonly environment: PlaidEnvironment;
  readonly state: State;
  readonly settings: Settings;
  readonly mint: Mint;
  /** Base of hosted_link_url; known once the listener is open. */
  baseUrl = '';
  /** Hands a webhook to the delivery engine. */
  emit: (webhook: Outgoing) => void = () => {};
  readonly #clock: () => number;
  /** Moved by the control API, in milliseconds. */
  clockOffset = 0;

  constructor(parts: {
    environment: PlaidEnvironment;
    state: State;
    settings: Settings;
    mint: Mint;
    clock: () => number;
  }) {
    this.environment = parts.environment;
    this.state = parts.state;
    this.settings = parts.settings;
    this.mint = parts.mint;
    this.#clock = parts.clock;
  }

  /** Milliseconds since 1970 on the simulated clock. */
  now(): number {
    return this.#clock() + this.clockOffset;
  }

  addClient(id = this.mint.hex(12), secret = this.mint.lower(30)): Client {
    const client: Client = { id, secrets: [secret] };
    this.state.clients.set(id, client);
    return client;
  }

  /** Mints a token of the kind, in Plaid's shape, and remembers what it stands for. */
  grant<G extends Grant>(grant: G): string {
    const token = this.#spell(grant.kind);
    this.state.grants.set(token, grant);
    return token;
  }

  #spell(kind: GrantKind): string {
    const { environment, mint } = this;
    switch (kind) {
      case 'audit_copy':
        return `a-${environment}-${mint.base32(26)}`;
      case 'stripe':
        return `btok_${mint.alphanumeric(24)}`;
      case 'oauth_access':
        return `pda-${mint.base64url(33)}`;
      case 'oauth_refresh':
        return `pdr-${mint.base64url(33)}`;
      default:
        return `${RULES[kind].expected.slice(0, RULES[kind].expected.indexOf('-<'))}-${environment}-${mint.uuid()}`;
    }
  }

  /**
   * What a token stands for: format first, then environment, then look-up.
   * A token of another client is told apart from an unknown one by nothing.
   */
  find<K extends GrantKind>(kind: K, token: string, clientId: string): GrantOf<K> {
    const rule = RULES[kind];
    const match = rule.format.exec(token);
    if (match === null)
      throw new PlaidFailure(
        rule.code,
        `provided ${rule.noun} is in an invalid format. expected format: ${rule.expected}`,
      );
    if (match[1] !== undefined && match[1] !== this.environment) {
      throw new PlaidFailure(
        rule.code,
        `provided ${rule.noun} is for the wrong Plaid environment. expected "${this.environment}", got "${match[1]}"`,
      );
    }
    const grant = this.state.grants.get(token);
    if (grant === undefined || grant.kind !== kind || grant.clientId !== clientId) throw new PlaidFailure(rule.code);
    if ('expiresAt' in grant && grant.expiresAt <= this.now()) throw new PlaidFailure(rule.code);
    return grant as GrantOf<K>;
  }

  /** The item behind a live access token. Removed items answer ITEM_NOT_FOUND. */
  itemByToken(token: string, clientId: string): Item {
    const grant = this.find('access', token, clientId);
    const item = this.state.items.get(grant.itemId);
    if (item === undefined) throw new PlaidFailure('INVALID_ACCESS_TOKEN');
    if (item.state === 'removed') throw new PlaidFailure('ITEM_NOT_FOUND');
    this.#expireLogin(item);
    return item;
  }

  publicToken(item: Item): string {
    const now = this.now();
    return this.grant({
      kind: 'public',
      clientId: item.clientId,
      itemId: item.id,
      createdAt: now,
      expiresAt: now + PUBLIC_TOKEN_LIFE,
      used: false,
    });
  }

  /** Uses up a public token and returns its item with a live access token. */
  exchange(publicToken: string, clientId: string): Item & { accessToken: string } {
    const grant = this.find('public', publicToken, clientId);
    const item = this.state.items.get(grant.itemId);
    if (grant.used || item === undefined || item.state === 'removed') throw new PlaidFailure('INVALID_PUBLIC_TOKEN');
    grant.used = true;
    if (item.accessToken === null || this.settings.secondExchange === 'replace') this.#newToken(item);
    item.state = 'live';
    return item as Item & { accessToken: string };
  }

  /** The token of an item that came about without a public token (import, Layer, migration). */
  issueToken(item: Item): string {
    item.state = 'live';
    return item.accessToken ?? this.#newToken(item);
  }

  /** Swaps the access token. The old one is dead in the same instant. */
  invalidate(item: Item): string {
    const token = this.#newToken(item);
    item.rotations++;
    if (!this.settings.escrowSurvives) this.#dropGrants((grant) => grant.kind === 'public' && grant.itemId === item.id);
    return token;
  }

  #newToken(item: Item): string {
    if (item.accessToken !== null) this.state.grants.delete(item.accessToken);
    item.accessToken = this.grant({ kind: 'access', clientId: item.clientId, itemId: item.id, createdAt: this.now() });
    return item.accessToken;
  }

  /** Ends the item: access, processor and bank account tokens die, reports and audit copies stay. */
  remove(item: Item): void {
    item.state = 'removed';
    item.error = null;
    this.#dropGrants(
      (grant) =>
        'itemId' in grant && grant.itemId === item.id && grant.kind !== 'access' && grant.kind !== 'employment_report',
    );
  }

  #dropGrants(dies: (grant: Grant) => boolean): void {
    for (const [token, grant] of this.state.grants) if (dies(grant)) this.state.grants.delete(token);
  }

  /** Breaks an item's login, as the bank would, and tells the application. */
  breakLogin(item: Item, code: PlaidCode = 'ITEM_LOGIN_REQUIRED', reason: string | null = null, type?: string): void {
    item.error = storedError(code, reason, type);
    this.itemWebhook(item, 'ITEM', 'ERROR', { error: item.error });
  }

  /** The user has gone through Link's update mode: same token, error gone, consent starts anew. */
  completeUpdateMode(item: Item): void {
    item.error = null;
    item.loginEndsAt = this.loginEnd();
    if (item.consentEndsAt !== null) item.consentEndsAt = this.now() + 180 * DAY;
  }

  loginEnd(): number | null {
    const { loginDays } = this.settings;
    return this.environment === 'sandbox' && loginDays > 0 ? this.now() + loginDays * DAY : null;
  }

  #expireLogin(item: Item): void {
    if (item.consentEndsAt !== null && item.consentEndsAt <= this.now() && item.error === null) {
      this.breakLogin(item, 'ITEM_LOGIN_REQUIRED', 'OAUTH_CONSENT_EXPIRED');
    }
    if (item.loginEndsAt === null || item.loginEndsAt > this.now()) return;
    item.loginEndsAt = null;
    if (item.error === null) this.breakLogin(item);
  }

  /** After the clock was moved: everything that time alone brings about. */
  settleTime(): void {
    for (const item of this.state.items.values()) if (item.state === 'live') this.#expireLogin(item);
  }

  /** Sends a webhook about an item to the URL of the item, if it has one. */
  itemWebhook(item: Item, type: string, code: string, more: Record<string, unknown> = {}, at?: number): boolean {
    if (item.webhook === null) return false;
    item.lastWebhook = { sent_at: isoTime(at ?? this.now()), code_sent: code };
    this.emit({
      url: item.webhook,
      clientId: item.clientId,
      itemId: item.id,
      payload: {
        environment: this.environment,
        item_id: item.id,
        webhook_code: code,
        webhook_type: type,
        ...(item.userId === null ? {} : { user_id: item.userId }),
        ...more,
      },
      ...(at === undefined ? {} : { at }),
    });
    return true;
  }
}

/** Plaid's timestamps carry seconds and a Z. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
}

export function isoDate(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
