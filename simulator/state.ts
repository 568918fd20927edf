/**
 * What the simulated Plaid knows: plain records in maps, so that a snapshot is
 * one JSON document. Bank data that can be derived from an item (its
 * transactions, its owners) is not kept.
 */

/** One set of API keys. Items and tokens belong to the client that made them. */
export interface Client {
  readonly id: string;
  /** All valid at once, as in Plaid's dashboard while a secret is being changed. */
  secrets: string[];
}

export interface Account {
  readonly id: string;
  readonly name: string;
  readonly officialName: string | null;
  readonly mask: string;
  readonly type: string;
  readonly subtype: string;
  readonly current: number;
  readonly available: number | null;
  readonly limit: number | null;
  verificationStatus: string | null;
}

/** An entry after the derived transactions: what /transactions/sync reports as a change. */
export type LedgerChange =
  | { readonly kind: 'added'; readonly transaction: Readonly<Record<string, unknown>> }
  | { readonly kind: 'modified'; readonly transaction: Readonly<Record<string, unknown>> }
  | { readonly kind: 'removed'; readonly transactionId: string; readonly accountId: string };

export interface Item {
  readonly id: string;
  readonly clientId: string;
  readonly institutionId: string;
  readonly createdAt: number;
  readonly username: string;
  /** `pending`: linked, but no public token was exchanged yet. */
  state: 'pending' | 'live' | 'removed';
  /** The one live token. Kept after a removal, so that its use is told ITEM_NOT_FOUND. */
  accessToken: string | null;
  /** How often the token was replaced. */
  rotations: number;
  error: Record<string, unknown> | null;
  webhook: string | null;
  consented: string[];
  billed: string[];
  /** When the login breaks by itself; moved by update mode. Null: never. */
  loginEndsAt: number | null;
  consentEndsAt: number | null;
  authMethod: string | null;
  userId: string | null;
  accounts: Account[];
  changes: LedgerChange[];
  /** A derived ledger of that many transactions, from this moment backwards. */
  readonly derived: number;
  syncedOnce: boolean;
  refreshedAt: number;
  lastWebhook: { sent_at: string; code_sent: string } | null;
}

/** Everything a token can stand for. The token is the key of the map. */
export type Grant = { readonly clientId: string; readonly createdAt: number } & (
  | { readonly kind: 'access'; readonly itemId: string }
  | { readonly kind: 'public'; readonly itemId: string; readonly expiresAt: number; used: boolean }
  | { readonly kind: 'link'; readonly link: LinkToken }
  | { readonly kind: 'user'; readonly userId: string }
  | { readonly kind: 'third_party_user'; readonly userId: string; readonly expiresAt: number }
  | {
      readonly kind: 'processor';
      readonly itemId: string;
      readonly accountId: string;
      readonly processor: string;
      webhook: string | null;
    }
  | { readonly kind: 'stripe'; readonly itemId: string; readonly accountId: string }
  | { readonly kind: 'report'; readonly report: Report }
  | { readonly kind: 'audit_copy'; readonly reports: readonly Report[] }
  | { readonly kind: 'relay'; readonly reports: readonly Report[]; readonly secondaryClientId: string }
  | { readonly kind: 'employment_report'; readonly itemId: string }
  | { readonly kind: 'payment_profile'; status: 'PENDING' | 'READY' | 'REMOVED'; updatedAt: number }
  | { readonly kind: 'payment'; readonly paymentId: string; readonly expiresAt: number }
  | {
      readonly kind: 'oauth_access';
      readonly subject: string | null;
      readonly scope: string;
      readonly expiresAt: number;
      revoked: boolean;
    }
  | { readonly kind: 'oauth_refresh'; readonly subject: string | null; readonly scope: string; revoked: boolean }
);
export type GrantKind = Grant['kind'];
export type GrantOf<K extends GrantKind> = Extract<Grant, { kind: K }>;

export interface LinkToken {
  readonly expiresAt: number;
  readonly clientName: string | null;
  readonly countryCodes: string[];
  readonly language: string | null;
  readonly products: string[];
  readonly consented: string[];
  readonly webhook: string | null;
  readonly redirectUri: string | null;
  readonly institutionId: string | null;
  /** Set in update mode. */
  readonly itemId: string | null;
  readonly userId: string | null;
  readonly hosted: string | null;
  readonly layer: boolean;
  sessions: { id: string; startedAt: number; finishedAt: number; publicToken: string; itemId: string }[];
}

export interface Report {
  readonly id: string;
  readonly clientReportId: string | null;
  readonly daysRequested: number;
  readonly createdAt: number;
  readonly readyAt: number;
  readonly user: Readonly<Record<string, unknown>>;
  /** What was seen when the report was made: it outlives the items. */
  readonly items: readonly Readonly<Record<string, unknown>>[];
}

export interface User {
  readonly id: string;
  readonly clientId: string;
  readonly clientUserId: string;
  readonly createdAt: number;
  updatedAt: number;
  identity: unknown;
}

export interface Delivery {
  readonly linkToken: string;
  readonly clientId: string;
  readonly createdAt: number;
  completedAt: number | null;
  itemIds: string[];
}

/** An answer that a repeated call with the same key gets again. */
export interface Repeatable {
  readonly clientId: string;
  readonly at: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** An end customer of a reseller. */
export interface Customer {
  readonly clientId: string;
  readonly ownerId: string;
  readonly companyName: string;
  status: 'PENDING_ENABLEMENT' | 'ACTIVE';
}

/** A signing key of webhooks. The private half never leaves the simulator and its state file. */
export interface WebhookKey {
  readonly kid: string;
  readonly createdAt: number;
  expiredAt: number | null;
  readonly privateJwk: Readonly<Record<string, unknown>>;
  readonly x: string;
  readonly y: string;
}

export interface WebhookEvent {
  readonly id: string;
  readonly clientId: string;
  readonly itemId: string | null;
  readonly url: string;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
  status: 'PENDING' | 'DELIVERED' | 'FAILED';
  attempts: number;
  lastStatus: number | null;
  lastAttemptAt: number | null;
}

/** What a test or the command line may change while the simulator runs. */
export interface Settings {
  /** A public token made with /item/public_token/create outlives an invalidation of the access token. */
  escrowSurvives: boolean;
  /** What exchanging a public token of an item that already has a token gives. */
  secondExchange: 'same' | 'replace';
  /** Sign each delivery attempt anew, or repeat the first signature. Plaid's way is not documented. */
  resignRetries: boolean;
  rateLimits: boolean;
  /** How long products need after linking. */
  readyAfterMs: number;
  /** Sandbox items lose their login after this many days; 0 = never. */
  loginDays: number;
  /** /user/create returns a user_token besides the user_id. */
  userTokens: boolean;
  /** Where webhooks may go. */
  webhooks: 'none' | 'loopback' | 'any';
}

export const DEFAULT_SETTINGS: Settings = {
  escrowSurvives: false,
  secondExchange: 'same',
  resignRetries: true,
  rateLimits: false,
  readyAfterMs: 0,
  loginDays: 30,
  userTokens: true,
  webhooks: 'loopback',
};

export interface State {
  readonly clients: Map<string, Client>;
  readonly items: Map<string, Item>;
  readonly grants: Map<string, Grant>;
  readonly users: Map<string, User>;
  readonly deliveries: Map<string, Delivery>;
  readonly authorizations: Map<string, Repeatable>;
  readonly transfers: Map<string, Repeatable>;
  readonly idempotency: Map<string, Repeatable>;
  readonly customers: Map<string, Customer>;
  readonly webhookKeys: Map<string, WebhookKey>;
  readonly webhookEvents: Map<string, WebhookEvent>;
}

const COLLECTIONS = [
  'clients',
  'items',
  'grants',
  'users',
  'deliveries',
  'authorizations',
  'transfers',
  'idempotency',
  'customers',
  'webhookKeys',
  'webhookEvents',
] as const satisfies (keyof State)[];

export function emptyState(): State {
  return Object.fromEntries(COLLECTIONS.map((name) => [name, new Map()])) as unknown as State;
}

/** One JSON-ready value; {@link restoreState} reads it back. */
export function snapshot(state: State): Record<string, unknown> {
  return Object.fromEntries(COLLECTIONS.map((name) => [name, [...state[name]]]));
}

export function restoreState(saved: Readonly<Record<string, unknown>>): State {
  const state = emptyState();
  for (const name of COLLECTIONS) {
    const entries = saved[name];
    if (!Array.isArray(entries)) continue; // written by an older version, before there was such a collection
    for (const [key, value] of entries) (state[name] as Map<string, unknown>).set(key, value);
  }
  return state;
}
