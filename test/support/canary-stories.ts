import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { formatApplicationKey } from '../../src/base/ids.ts';
import type { Canaries } from './canary.ts';
import { type RawAnswer, request, talk } from './raw-http.ts';

/**
 * What applications and strangers say to a gateway in a canary run: good calls,
 * wrong calls, secrets in every place where somebody may put one by mistake, and
 * a Plaid that throws tokens back. Every byte of every answer is kept.
 */

export interface App {
  readonly id: string;
  readonly key: string;
}

export interface Ground {
  readonly canaries: Canaries;
  readonly gatewayUrl: string;
  readonly control: <T>(method: string, path: string, body?: unknown) => Promise<T>;
  /** Where the simulator keeps its tokens in the clear. */
  readonly stateFile: string;
}

/** Tokens that an answer may hold: those that browsers and partners need, and our own names. */
const IN_ANSWERS = ['pass', 'released', 'handle', 'customer'];

const GROUPS: Readonly<Record<string, string>> = {
  ...{ public: 'pass', link: 'pass', payment: 'pass' },
  ...{ processor: 'released', relay: 'released', audit_copy: 'released', stripe: 'released' },
  third_party_user: 'released',
};

/** Answers so far, so that each has a name of its own. */
let said = 0;

export class Desk {
  readonly ground: Ground;

  constructor(ground: Ground) {
    this.ground = ground;
  }

  /** Says exactly these bytes over a connection of their own. */
  async raw(
    what: string,
    bytes: string | Buffer,
    url = this.ground.gatewayUrl,
  ): Promise<{ answer: RawAnswer | null; place: string }> {
    const { canaries } = this.ground;
    const { bytes: heard, answers } = await talk(url, bytes, { closing: false, patienceMs: 5_000 });
    const place = `answer ${++said}, ${what}`;
    canaries.mayHold(place, ...IN_ANSWERS);
    canaries.keep(place, heard);
    return { answer: answers[0] ?? null, place };
  }

  /**
   * A call as an SDK makes it.
   *
   * @param own - Groups of secrets that the caller itself has put into the body.
   *   An answer of Plaid's may quote them to it; one of ours may not.
   */
  async post(app: App, path: string, body: unknown, headers: Record<string, string> = {}, own: readonly string[] = []) {
    const all = { 'PLAID-CLIENT-ID': app.id, 'PLAID-SECRET': app.key, Connection: 'close', ...headers };
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const { answer, place } = await this.raw(path, request(path, all, text));
    assert.ok(answer !== null, `${path} was not answered`);
    let json: Record<string, unknown> = {};
    try {
      json = JSON.parse(answer.text) as Record<string, unknown>;
    } catch {
      // Binary.
    }
    if (json.error_type !== 'STRONGROOM_ERROR') this.ground.canaries.mayHold(place, ...own);
    this.#note(json);
    this.learn();
    return { status: answer.status, body: json, text: answer.text };
  }

  async good(app: App, path: string, body: unknown): Promise<Record<string, unknown>> {
    const answer = await this.post(app, path, body);
    assert.equal(answer.status, 200, `${path}: ${answer.text.slice(0, 300)}`);
    return answer.body;
  }

  /** Every token that the simulator has minted, before it forgets it. */
  learn(): void {
    const { canaries, stateFile } = this.ground;
    const state = JSON.parse(readFileSync(stateFile, 'utf8')) as {
      grants: [string, { kind: string }][];
      clients: [string, { secrets: string[] }][];
      webhookKeys: [string, { privateJwk: { d?: string } }][];
    };
    for (const [token, { kind }] of state.grants) canaries.token(`${GROUPS[kind] ?? 'vaulted'}: ${kind}`, token);
    for (const [, { secrets }] of state.clients)
      for (const secret of secrets) canaries.secret('vaulted: Plaid secret', secret);
    for (const [, { privateJwk }] of state.webhookKeys) {
      if (privateJwk.d !== undefined) canaries.secret('vaulted: webhook key', privateJwk.d);
    }
  }

  /** Handles are no secrets of Plaid's, and still nobody but their holder has a use for them. */
  #note(json: unknown): void {
    if (typeof json === 'string' && json.startsWith('handle-')) this.ground.canaries.token('handle', json);
    else if (typeof json === 'object' && json !== null) for (const value of Object.values(json)) this.#note(value);
  }

  /** Something that nobody else has ever said, known to the search. */
  sent(what: string): string {
    const text = `canary${randomBytes(16).toString('hex')}`;
    this.ground.canaries.secret(`sent: ${what}`, text.slice('canary'.length));
    return text;
  }
}

export interface Linked {
  readonly handle: string;
  readonly itemId: string;
}

export async function link(desk: Desk, app: App, products = ['transactions', 'auth', 'identity']): Promise<Linked> {
  const created = await desk.good(app, '/sandbox/public_token/create', {
    institution_id: 'ins_109508',
    initial_products: products,
  });
  const exchanged = await desk.good(app, '/item/public_token/exchange', { public_token: created.public_token });
  return { handle: String(exchanged.access_token), itemId: String(exchanged.item_id) };
}

/** A consumer is linked and read, in every class of token that there is. */
export async function goodCalls(desk: Desk, app: App, { handle }: Linked): Promise<void> {
  const { canaries } = desk.ground;
  const consumer = (what: string) => {
    const text = randomBytes(12).toString('hex');
    canaries.secret(`customer: ${what}`, text);
    return text;
  };
  const user = {
    client_user_id: consumer('client_user_id'),
    legal_name: `Canary ${consumer('name')}`,
    email_address: `${consumer('email')}@example.com`,
  };
  const common = { client_name: 'Canary', language: 'en', country_codes: ['US'], user };
  await desk.good(app, '/link/token/create', { ...common, products: ['transactions'] });
  await desk.good(app, '/link/token/create', { ...common, access_token: handle });

  const { accounts } = await desk.good(app, '/accounts/get', { access_token: handle });
  const account_id = (accounts as { account_id: string }[])[0]?.account_id;
  for (const path of ['/accounts/balance/get', '/auth/get', '/identity/get', '/item/get']) {
    await desk.good(app, path, { access_token: handle });
  }
  for (let cursor = ''; ; ) {
    const page = await desk.good(app, '/transactions/sync', { access_token: handle, cursor, count: 100 });
    cursor = String(page.next_cursor);
    if (page.has_more !== true) break;
  }
  await desk.good(app, '/processor/token/create', { access_token: handle, account_id, processor: 'dwolla' });
  const report = await desk.good(app, '/asset_report/create', { access_tokens: [handle], days_requested: 10 });
  const asset_report_token = report.asset_report_token;
  await desk.good(app, '/asset_report/get', { asset_report_token });
  await desk.post(app, '/asset_report/pdf/get', { asset_report_token });
  await desk.good(app, '/asset_report/audit_copy/create', { asset_report_token, auditor_id: 'fannie_mae' });
  const made = await desk.good(app, '/user/create', { client_user_id: user.client_user_id });
  await desk.good(app, '/user/get', { user_id: made.user_id });
}

/** Rotation, a second link, a removal: old tokens die and must leave no trace. */
export async function changes(desk: Desk, app: App, linked: Linked): Promise<void> {
  for (let n = 0; n < 2; n++) await desk.good(app, '/item/access_token/invalidate', { access_token: linked.handle });
  const other = await link(desk, app);
  await desk.good(app, '/item/remove', { access_token: other.handle });
  const gone = await desk.post(app, '/accounts/get', { access_token: other.handle });
  assert.equal(gone.body.error_code, 'TOKEN_REMOVED');
}

/**
 * Real and invented secrets where no secret belongs.
 *
 * @param real - Secrets of the installation, with their groups.
 */
export async function misplaced(
  desk: Desk,
  app: App,
  { handle, itemId }: Linked,
  real: Readonly<Record<string, string>>,
): Promise<void> {
  const { canaries } = desk.ground;
  const raw = `access-sandbox-${randomUUID()}`;
  const key = formatApplicationKey(randomBytes(32));
  canaries.token('sent: raw token', raw);
  canaries.token('sent: wrong key', key);
  const path = '/accounts/get';
  const places = [
    'Authorization',
    'Cookie',
    'User-Agent',
    'X-Request-Id',
    'Plaid-Version',
    'X-Forwarded-For',
    'Accept',
  ];

  const invented = [raw, key, desk.sent('text')].map((secret) => ['sent', secret] as const);
  for (const [group, secret] of [...invented, ...Object.entries(real)]) {
    const read = { access_token: handle };
    await desk.post({ id: app.id, key: secret }, path, read);
    await desk.post({ id: secret, key: app.key }, path, read);
    await desk.post(app, path, { client_id: secret, secret, ...read }, { 'PLAID-CLIENT-ID': '' });
    await desk.post(app, path, { access_token: secret });
    await desk.post(app, path, { access_token: `${handle}${secret}` });
    await desk.post(app, path, { ...read, [secret]: 1 }, {}, [group]);
    await desk.post(app, path, { ...read, options: { account_ids: [secret] } }, {}, [group]);
    await desk.post(app, '/transactions/sync', { ...read, cursor: secret }, {}, [group]);
    await desk.post(app, `${path}?access_token=${encodeURIComponent(secret)}`, read);
    await desk.post(app, `/${encodeURIComponent(secret)}`, read);
    await desk.post(app, path, read, Object.fromEntries(places.map((name) => [name, secret])));
    await desk.post(app, path, read, { 'Content-Type': `application/json; x=${secret}` });
    await desk.post(app, path, read, { 'Content-Type': `text/${secret.slice(0, 60)}` });
  }
  await desk.post(app, path, { access_token: `${handle.slice(0, -1)}${handle.endsWith('a') ? 'b' : 'a'}` });
  await desk.post(app, path, { access_token: itemId });
}

/** Bodies and requests that nobody can read, each with something that must not be repeated. */
export async function malformed(desk: Desk, app: App, { handle }: Linked): Promise<void> {
  const path = '/accounts/get';
  const secret = () => `access-sandbox-${desk.sent('malformed body')}`;
  const bodies = [
    `{"access_token":"${secret()}`,
    `{"access_token":"${secret()}","access_token":"${secret()}"}`,
    `{"access_token":${secret()}}`,
    `[${JSON.stringify(secret())}]`,
    `"${secret()}"`,
    `${'{"a":'.repeat(80)}"${secret()}"${'}'.repeat(80)}`,
    `{"access_token":"${handle}","a":"\\ud800${secret()}"}`,
    `{"access_token":"${handle}"} ${secret()}`,
    `access_token=${secret()}&secret=${secret()}`,
    `\0{"access_token":"${secret()}"}`,
    `{"access\\u005ftoken":"${secret()}","x":1e999}`,
  ];
  for (const body of bodies) await desk.post(app, path, body);
  const credentials = `PLAID-CLIENT-ID: ${app.id}\r\nPLAID-SECRET: ${app.key}\r\n`;
  const gzip = gzipSync(JSON.stringify({ access_token: secret() }));
  await desk.raw(
    'compressed',
    Buffer.concat([
      Buffer.from(`POST ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n`),
      Buffer.from(`Content-Encoding: gzip\r\n${credentials}Content-Length: ${gzip.length}\r\n\r\n`),
      gzip,
    ]),
  );
  await desk.raw('no HTTP', `${secret()} ${secret()}\r\n\r\n`);
  await desk.raw('a header that is none', `POST ${path} HTTP/1.1\r\nHost: a\r\n${secret()}\r\n\r\n`);
  await desk.raw('a bad length', `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${secret()}\r\n\r\n{}`);
  await desk.raw('headers too long', `POST ${path} HTTP/1.1\r\nHost: a\r\nX-A: ${secret().repeat(500)}\r\n\r\n`);
  await desk.raw('a method', `${desk.sent('method').toUpperCase()} ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
}

/** Plaid throws tokens back, in every place and form, and breaks off. */
export async function hostilePlaid(desk: Desk, app: App, { handle, itemId }: Linked): Promise<void> {
  const { control } = desk.ground;
  const path = '/accounts/get';
  const own = '{{request.access_token}}';
  const error = (text: string) => ({
    error_type: 'API_ERROR',
    error_code: 'INTERNAL_SERVER_ERROR',
    error_message: text,
    display_message: text,
    request_id: 'abcdefghijklmno',
  });
  const forms = [own, `{{item.${itemId}}}`, `{{request.access_token|base64}}`, `{{request.access_token|hex}}`];
  const faults: Record<string, unknown>[] = [
    ...forms.map((form) => ({ kind: 'body', status: 500, body: error(`token ${form} is not known`) })),
    ...forms.map((form) => ({ kind: 'body', body: { accounts: [], note: form } })),
    { kind: 'body', body: `{"accounts":[],"note":"{{request.access_token|unicode}}"}` },
    { kind: 'body', status: 502, body: `<html>${own}</html>`, headers: { 'content-type': 'text/html' } },
    { kind: 'body', body: { note: own }, gzip: true },
    { kind: 'body', body: { note: own }, chunk_bytes: 7 },
    { kind: 'body', body: { note: 'x' }, headers: { 'x-token': own, 'set-cookie': own, 'plaid-request-id': own } },
    { kind: 'body', body: `not JSON, ${own}` },
    { kind: 'status', status: 429 },
    { kind: 'status', error_code: 'ITEM_LOGIN_REQUIRED' },
    { kind: 'not_done' },
    { kind: 'answer_lost' },
    { kind: 'answer_cut', bytes: 30 },
  ];
  for (const fault of faults) {
    await control('POST', '/faults', { endpoint: path, ...fault });
    await desk.post(app, path, { access_token: handle });
  }
  // The steps whose answer holds a token that must be kept: with a copy where none belongs, and without answer.
  const copies = { request_id: 'abcdefghijklmno', note: '{{answer}}' };
  for (const fault of [
    { kind: 'answer_lost' },
    { kind: 'answer_cut', bytes: 40 },
    { kind: 'status', status: 500, point: 'after_commit' },
  ]) {
    await control('POST', '/faults', { endpoint: '/item/public_token/exchange', ...fault, times: 2 });
    const created = await desk.good(app, '/sandbox/public_token/create', {
      institution_id: 'ins_109508',
      initial_products: ['transactions'],
    });
    const answer = await desk.post(app, '/item/public_token/exchange', { public_token: created.public_token });
    assert.equal(answer.body.error_code, 'EXCHANGE_UNCERTAIN', answer.text);
    await control('DELETE', '/faults');
  }
  for (const fault of [
    { kind: 'answer_lost' },
    { kind: 'body', point: 'after_commit', body: { ...copies, new_access_token: '{{answer.new_access_token}}' } },
  ]) {
    const { handle: another } = await link(desk, app);
    await control('POST', '/faults', { endpoint: '/item/access_token/invalidate', ...fault });
    await desk.post(app, '/item/access_token/invalidate', { access_token: another });
  }
  await control('DELETE', '/faults');
}
