/**
 * One call of an endpoint: the checked body, the caller, and the look-ups that
 * most endpoints begin with. Endpoints are plain synchronous functions of it.
 */
import { PlaidFailure } from './errors.ts';
import type { RateLimits } from './limits.ts';
import type { Account, GrantKind, GrantOf, Item, User } from './state.ts';
import type { World } from './world.ts';

export type Json = Readonly<Record<string, unknown>>;

/** A 200 answer is the object alone; `request_id` is added by the server. */
export type Answer = Json | Reply;

/** For the few answers that are not a 200 with JSON. */
export class Reply {
  readonly status: number;
  readonly body: Json | Buffer;
  readonly type: string;

  constructor(status: number, body: Json | Buffer, type = 'application/json') {
    this.status = status;
    this.body = body;
    this.type = type;
  }
}

export type Endpoint = (call: Call) => Answer;

/** Reads fields whose types were checked before (simulator/fields.ts). */
export class Body {
  readonly raw: Json;

  constructor(raw: Json) {
    this.raw = raw;
  }

  has(name: string): boolean {
    return this.raw[name] !== undefined && this.raw[name] !== null;
  }

  text(name: string): string {
    return this.maybeText(name) ?? '';
  }

  maybeText(name: string): string | null {
    const value = this.raw[name];
    return typeof value === 'string' ? value : null;
  }

  number(name: string, otherwise: number): number {
    const value = this.raw[name];
    return typeof value === 'number' ? value : otherwise;
  }

  flag(name: string): boolean {
    return this.raw[name] === true;
  }

  texts(name: string): string[] {
    const value = this.raw[name];
    return Array.isArray(value) ? value.filter((entry) => typeof entry === 'string') : [];
  }

  objects(name: string): Body[] {
    const value = this.raw[name];
    return Array.isArray(value) ? value.map((entry) => new Body(entry as Json)) : [];
  }

  /** A nested object; an empty one when it is not there. */
  child(name: string): Body {
    const value = this.raw[name];
    return new Body(typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {});
  }
}

export class Call {
  readonly path: string;
  readonly world: World;
  readonly clientId: string;
  readonly body: Body;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly #limits: RateLimits;

  constructor(parts: {
    path: string;
    world: World;
    clientId: string;
    body: Json;
    headers: Call['headers'];
    limits: RateLimits;
  }) {
    this.path = parts.path;
    this.world = parts.world;
    this.clientId = parts.clientId;
    this.body = new Body(parts.body);
    this.headers = parts.headers;
    this.#limits = parts.limits;
  }

  get now(): number {
    return this.world.now();
  }

  /** Counts the call against the limits of its endpoint; throws the endpoint's own 429. */
  spend(itemId: string | null): void {
    if (this.world.settings.rateLimits) this.#limits.spend(this.path, this.clientId, itemId, this.world);
  }

  token<K extends GrantKind>(kind: K, token: string): GrantOf<K> {
    return this.world.find(kind, token, this.clientId);
  }

  /** The item of `access_token`, in whatever state but removed. */
  item(token = this.body.text('access_token')): Item {
    const item = this.world.itemByToken(token, this.clientId);
    this.spend(item.id);
    return item;
  }

  /** The item of `access_token`, fit to give data of the product. */
  itemWith(product: string | null, token = this.body.text('access_token')): Item {
    const item = this.world.itemByToken(token, this.clientId);
    this.ready(item, product);
    this.spend(item.id);
    return item;
  }

  /** Item state, then product: the order that docs/simulator.md states. */
  ready(item: Item, product: string | null): void {
    if (item.error !== null) throw storedFailure(item.error);
    if (product === null) return;
    if (!item.consented.includes(product)) {
      throw new PlaidFailure(
        'ADDITIONAL_CONSENT_REQUIRED',
        `client does not have user consent to access the ${product} product`,
      );
    }
    // As in Plaid, the first call for a consented product adds it to the bill.
    if (!item.billed.includes(product)) item.billed.push(product);
  }

  account(item: Item, id = this.body.text('account_id')): Account {
    const account = item.accounts.find((candidate) => candidate.id === id);
    if (account === undefined) throw new PlaidFailure('INVALID_ACCOUNT_ID');
    return account;
  }

  /** The accounts named in `options.account_ids`, else all. */
  accounts(item: Item): Account[] {
    const wanted = this.body.child('options').texts('account_ids');
    return wanted.length === 0 ? item.accounts : wanted.map((id) => this.account(item, id));
  }

  /** The user named by `user_token` or `user_id`. */
  user(): User {
    const token = this.body.maybeText('user_token');
    const id = token === null ? this.body.maybeText('user_id') : this.token('user', token).userId;
    if (id === null) throw new PlaidFailure('MISSING_FIELDS', 'the following required fields are missing: user_id');
    const user = this.world.state.users.get(id);
    if (user === undefined || user.clientId !== this.clientId) {
      throw new PlaidFailure(token === null ? 'INVALID_USER_ID' : 'INVALID_USER_TOKEN');
    }
    return user;
  }

  /** The user when the call names one. */
  maybeUser(): User | null {
    return this.body.has('user_token') || this.body.has('user_id') ? this.user() : null;
  }
}

/** The error that an item is in, as the answer of a data endpoint. */
export function storedFailure(error: Readonly<Record<string, unknown>>): PlaidFailure {
  return new PlaidFailure(error.error_code as PlaidFailure['code'], error.error_message as string, {
    type: error.error_type as string,
  });
}

export function invalidField(message: string): PlaidFailure {
  return new PlaidFailure('INVALID_FIELD', message);
}

/** A webhook or redirect URL: absolute http or https. */
export function checkUrl(name: string, url: string | null): string | null {
  if (url === null || url === '') return null;
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw invalidField(`${name} must be a valid URL`);
  return url;
}
