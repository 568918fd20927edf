import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { request } from 'undici';
import { deploymentTag, formatHandle } from '../../src/base/ids.ts';
import { forTheFile } from '../support/database.ts';
import { assertRefused, faceOf, type Refused } from '../support/refusal.ts';
import { type App, app as appOf, type Kit, strongroom } from '../support/strongroom.ts';

/**
 * What a known application can send wrong. For every row: the documented answer,
 * the promised entry in the log, nothing sent to Plaid, and the next call works.
 */

const kit: Kit = await strongroom(forTheFile);
const alice = await kit.application('alice');
const bob = await kit.application('bob', { denied: ['/identity/get'] });
const { handle, itemId } = await alice.link(['transactions', 'auth']);
const foreign = (await bob.link()).handle;
const user = await bob.post('/user/create', { client_user_id: 'somebody' });

const TAG = deploymentTag(kit.config.deployment.id);
const unknown = formatHandle('sandbox', randomBytes(16), TAG);
const elsewhere = formatHandle('sandbox', randomBytes(16), deploymentTag('another deployment'));
const production = formatHandle('production', randomBytes(16), TAG);
const mistyped = handle.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a'));
const raw = ['access', 'sandbox', '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0'].join('-');
const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;

interface Bad {
  readonly name: string;
  readonly code: string;
  readonly by?: App;
  readonly method?: string;
  readonly path?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Reason of the `access.denied` entry, where the answer leaves it open. */
  readonly reason?: string;
}

const HANDLES: readonly Bad[] = [
  { name: 'an unknown handle', body: { access_token: unknown }, code: 'HANDLE_UNKNOWN', reason: 'record_unknown' },
  { name: 'a foreign handle', body: { access_token: foreign }, code: 'HANDLE_UNKNOWN', reason: 'record_foreign' },
  { name: 'a mistyped handle', body: { access_token: mistyped }, code: 'HANDLE_MALFORMED', reason: 'handle_malformed' },
  { name: 'half a handle', body: { access_token: handle.slice(0, 30) }, code: 'HANDLE_MALFORMED' },
  { name: 'a handle in capitals', body: { access_token: handle.toUpperCase() }, code: 'HANDLE_MALFORMED' },
  { name: 'a handle with a space', body: { access_token: `${handle} ` }, code: 'HANDLE_MALFORMED' },
  { name: "another deployment's handle", body: { access_token: elsewhere }, code: 'HANDLE_FOREIGN' },
  { name: "another environment's handle", body: { access_token: production }, code: 'HANDLE_FOREIGN' },
  { name: 'a number for a handle', body: { access_token: 7 }, code: 'HANDLE_MALFORMED', reason: 'not_a_string' },
  { name: 'a list for a handle', body: { access_token: [handle] }, code: 'HANDLE_MALFORMED' },
  { name: 'an object for a handle', body: { access_token: { access_token: handle } }, code: 'HANDLE_MALFORMED' },
  { name: 'an empty handle', body: { access_token: '' }, code: 'HANDLE_MALFORMED' },
  { name: 'something else', body: { access_token: 'letmein' }, code: 'HANDLE_MALFORMED' },
  { name: 'a raw token', body: { access_token: raw }, code: 'RAW_TOKEN_REFUSED' },
  { name: 'no handle', body: {}, code: 'SUBJECT_MISSING', reason: 'subject_missing' },
  { name: 'null for a handle', body: { access_token: null }, code: 'SUBJECT_MISSING' },
  { name: 'no body', body: '', code: 'SUBJECT_MISSING' },
  {
    name: 'a handle where none belongs',
    body: { access_token: handle, options: { note: handle } },
    code: 'HANDLE_MALFORMED',
    reason: 'handle_elsewhere',
  },
  {
    name: 'a handle of the wrong kind',
    path: '/asset_report/get',
    body: { asset_report_token: handle },
    code: 'HANDLE_KIND_WRONG',
    reason: 'record_state',
  },
  {
    name: 'a list with one foreign handle',
    path: '/asset_report/create',
    body: { access_tokens: [handle, foreign], days_requested: 10 },
    code: 'HANDLE_UNKNOWN',
  },
  {
    name: 'more handles than one entry can name',
    path: '/asset_report/create',
    body: { access_tokens: Array.from({ length: 129 }, () => handle), days_requested: 10 },
    code: 'BODY_TOO_LARGE',
  },
];

const BODIES: readonly Bad[] = [
  { name: 'half a body', body: `{"access_token":"${handle}"`, code: 'BODY_MALFORMED', reason: 'body' },
  { name: 'a list', body: [{ access_token: handle }], code: 'BODY_MALFORMED' },
  { name: 'two documents', body: `{"access_token":"${handle}"}{}`, code: 'BODY_MALFORMED' },
  { name: 'a trailing comma', body: `{"access_token":"${handle}",}`, code: 'BODY_MALFORMED' },
  { name: 'single quotes', body: `{'access_token':'${handle}'}`, code: 'BODY_MALFORMED' },
  { name: 'a comment', body: `{"access_token":"${handle}"/**/}`, code: 'BODY_MALFORMED' },
  { name: 'a byte order mark', body: `\ufeff{"access_token":"${handle}"}`, code: 'BODY_MALFORMED' },
  {
    name: 'UTF-16',
    body: Buffer.from(JSON.stringify({ access_token: handle }), 'utf16le'),
    code: 'BODY_MALFORMED',
  },
  {
    name: 'broken UTF-8',
    body: Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]),
    code: 'BODY_MALFORMED',
  },
  { name: 'a lone surrogate', body: '{"a":"\\ud800"}', code: 'BODY_MALFORMED' },
  { name: 'NaN', body: `{"access_token":"${handle}","n":NaN}`, code: 'BODY_MALFORMED' },
  { name: 'a key in other case', body: `{"ACCESS_TOKEN":"${handle}"}`, code: 'BODY_MALFORMED' },
  {
    name: 'the same key twice',
    body: `{"access_token":"${handle}","access_token":"${foreign}"}`,
    code: 'BODY_DUPLICATE_KEY',
  },
  {
    name: 'the same key twice, once escaped',
    body: `{"access_token":"${handle}","access\\u005ftoken":"${foreign}"}`,
    code: 'BODY_DUPLICATE_KEY',
  },
  {
    name: 'the same key twice in the depth',
    body: `{"access_token":"${handle}","options":{"a":{"b":1,"\\u0062":2}}}`,
    code: 'BODY_DUPLICATE_KEY',
  },
  { name: '65 levels', body: deep(65), code: 'BODY_TOO_DEEP' },
  { name: '65 lists', body: `{"a":${'['.repeat(64)}${']'.repeat(64)}}`, code: 'BODY_TOO_DEEP' },
];

const TYPES: readonly Bad[] = [
  { name: 'text/plain', headers: { 'content-type': 'text/plain' }, code: 'CONTENT_TYPE_REFUSED' },
  {
    name: 'a form',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: 'access_token=x',
    code: 'CONTENT_TYPE_REFUSED',
  },
  { name: 'multipart', headers: { 'content-type': 'multipart/form-data; boundary=x' }, code: 'CONTENT_TYPE_REFUSED' },
  { name: 'no type', headers: { 'content-type': '' }, code: 'CONTENT_TYPE_REFUSED' },
  { name: 'almost JSON', headers: { 'content-type': 'application/jsonp' }, code: 'CONTENT_TYPE_REFUSED' },
  {
    name: 'gzip',
    headers: { 'content-encoding': 'gzip' },
    body: gzipSync(JSON.stringify({ access_token: handle })),
    code: 'CONTENT_TYPE_REFUSED',
  },
  { name: 'deflate said only', headers: { 'content-encoding': 'deflate' }, code: 'CONTENT_TYPE_REFUSED' },
];

const ENDPOINTS: readonly Bad[] = [
  { name: 'an unknown path', path: '/made/up', code: 'ENDPOINT_UNLISTED', reason: 'endpoint_unlisted' },
  { name: 'a trailing slash', path: '/accounts/get/', code: 'ENDPOINT_UNLISTED' },
  { name: 'a query', path: '/accounts/get?a=1', code: 'ENDPOINT_UNLISTED' },
  { name: 'GET', method: 'GET', code: 'ENDPOINT_UNLISTED' },
  { name: 'PUT', method: 'PUT', code: 'ENDPOINT_UNLISTED' },
  { name: 'DELETE', method: 'DELETE', code: 'ENDPOINT_UNLISTED' },
  { name: 'PATCH', method: 'PATCH', code: 'ENDPOINT_UNLISTED' },
  { name: 'OPTIONS', method: 'OPTIONS', code: 'ENDPOINT_UNLISTED' },
  { name: 'a class without a grant', path: '/transfer/list', body: {}, code: 'ENDPOINT_DENIED', reason: 'endpoint' },
  { name: 'an endpoint denied by name', by: bob, path: '/identity/get', code: 'ENDPOINT_DENIED' },
  {
    name: 'an endpoint over all of the Plaid client',
    path: '/beacon/duplicate/get',
    body: { beacon_duplicate_id: 'x' },
    code: 'ENDPOINT_DENIED',
  },
  {
    name: "somebody else's user",
    path: '/user/get',
    body: { user_id: user.body.user_id },
    code: 'SUBJECT_FOREIGN',
    reason: 'subject_foreign',
  },
  {
    name: 'a user that does not exist',
    path: '/user/get',
    body: { user_id: 'usr_nobody' },
    code: 'SUBJECT_FOREIGN',
    reason: 'subject_unknown',
  },
  {
    name: 'a field that means a subject elsewhere',
    body: { access_token: handle, user_id: 'usr_nobody' },
    code: 'SUBJECT_FOREIGN',
    reason: 'unexpected_field',
  },
  {
    name: 'a header that Plaid would not take',
    headers: { 'plaid-version': 'latest' },
    code: 'REQUEST_MALFORMED',
  },
];

let reached = (await kit.reached()).length;
const refused: { bad: Bad; requestId: string }[] = [];

for (const bad of [...HANDLES, ...BODIES, ...TYPES, ...ENDPOINTS]) {
  test(`${bad.name}: ${bad.code}, nothing reaches Plaid, the next call works`, async () => {
    const { requestId } = assertRefused(await send(bad.by ?? alice, bad), bad.code);
    refused.push({ bad, requestId });
    const calls = await kit.reached();
    assert.deepEqual(calls.slice(reached), []);
    assert.equal((await alice.post('/accounts/get', { access_token: handle })).status, 200);
    reached = calls.length + 1;
  });
}

test('each of these refusals stands in the audit log, and in the log under the same request id', async () => {
  const denied = new Map((await kit.entries('access.denied')).map((entry) => [entry.request, entry]));
  const log = kit.log.join('');
  for (const { bad, requestId } of refused) {
    assert.ok(log.includes(requestId), `no line for ${bad.name}`);
    // Not yet known who calls; carried out up to the sending; or an alarm of its own.
    if (['CONTENT_TYPE_REFUSED', 'REQUEST_MALFORMED', 'RAW_TOKEN_REFUSED'].includes(bad.code)) continue;
    const entry = denied.get(requestId);
    assert.deepEqual([entry?.code, entry?.application], [bad.code, (bad.by ?? alice).id], bad.name);
    if (bad.reason !== undefined) assert.equal(entry?.reason, bad.reason, bad.name);
  }
  const raws = refused.filter(({ bad }) => bad.code === 'RAW_TOKEN_REFUSED');
  assert.equal((await kit.entries('raw_token.refused')).length, raws.length);
});

async function send(by: App, { method = 'POST', path = '/accounts/get', body, headers = {} }: Bad): Promise<Refused> {
  const whole = body === undefined ? { access_token: by === alice ? handle : foreign } : body;
  const all: Record<string, string> = {
    'content-type': 'application/json',
    'plaid-client-id': by.id,
    'plaid-secret': by.key,
    ...headers,
  };
  if (all['content-type'] === '') delete all['content-type'];
  const bodiless = method === 'GET' || method === 'OPTIONS';
  const answer = await request(kit.url + path, {
    method: method as 'POST',
    headers: all,
    ...(bodiless ? {} : { body: typeof whole === 'string' || Buffer.isBuffer(whole) ? whole : JSON.stringify(whole) }),
  });
  return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
}

test('a foreign handle and one that does not exist cannot be told apart, on any endpoint', async () => {
  for (const [path, field] of [
    ['/accounts/get', 'access_token'],
    ['/item/remove', 'access_token'],
    ['/item/access_token/invalidate', 'access_token'],
    ['/processor/token/create', 'access_token'],
    ['/link/token/create', 'access_token'],
  ] as const) {
    const faces = [];
    for (const value of [foreign, unknown]) {
      const answer = await alice.post(path, { [field]: value, account_id: 'x', processor: 'dwolla' });
      assertRefused(answer, 'HANDLE_UNKNOWN');
      faces.push(faceOf(answer));
    }
    assert.deepEqual(faces[0], faces[1], path);
  }
});

test('a foreign subject and one that does not exist cannot be told apart', async () => {
  const answers = [];
  for (const id of [user.body.user_id, 'usr_doesnotexist00'])
    answers.push(await alice.post('/user/get', { user_id: id }));
  assert.deepEqual(faceOf(answers[0] as Refused), faceOf(answers[1] as Refused));
});

test('nothing of what was sent stands in the log', () => {
  const log = kit.log.join('');
  for (const secret of [raw, handle, foreign, mistyped, alice.key, bob.key, 'letmein', itemId])
    assert.equal(log.includes(secret), false, secret.slice(0, 10));
});

test('credentials in headers do not travel on, and neither do those of the body', async () => {
  const twin = appOf(() => kit.url, alice.id, alice.key);
  const answer = await twin.post('/accounts/get', {
    secret: alice.key,
    access_token: handle,
    client_id: alice.id,
  });
  assert.equal(answer.status, 200, 'the simulator refuses fields that it does not know');
});
