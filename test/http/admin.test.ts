import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify';
import { digestOf } from '../../src/access/credentials.ts';
import { presetPolicy } from '../../src/access/presets.ts';
import { type Clock, systemRandom } from '../../src/base/clock.ts';
import { StrongroomError } from '../../src/base/errors.ts';
import { Applications } from '../../src/custody/applications.ts';
import { ADMIN_SERVER, type AdminParts, adminDoor } from '../../src/http/admin.ts';
import { freezeApplication } from '../../src/store/applications.ts';
import type { Database } from '../../src/store/sql.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { Entries } from '../support/entries.ts';

const TOKEN = 'an admin token of some forty characters!'.replaceAll(' ', '-');
const POLICY = presetPolicy('read-only', ['10.0.0.0/8']);

let database: TestDatabase;
let admin: Database;
let gateway: Database;
const opened: FastifyInstance[] = [];

before(async () => {
  database = await testDatabase();
  admin = await database.open('admin');
  gateway = await database.open('gateway');
});
after(async () => {
  for (const app of opened) await app.close();
  await database.close();
});

function handClock(): Clock & { pass(ms: number): void } {
  let at = 0;
  return {
    now: () => at,
    monotonic: () => at,
    pass: (ms) => {
      at += ms;
    },
  };
}

async function setUp(changed: Partial<AdminParts> = {}) {
  const entries = new Entries();
  const clock = handClock();
  const app = Fastify(ADMIN_SERVER);
  opened.push(app);
  const applications = new Applications({
    database: admin,
    audit: entries,
    plaidClients: [{ name: 'main', clientId: 'c'.repeat(24) }],
    random: systemRandom,
  });
  await app.register(
    adminDoor({
      applications,
      audit: entries,
      tokenSha256: digestOf(TOKEN),
      clock,
      health: async () => ({ ready: true, reasons: [] }),
      ...changed,
    }),
  );
  const call = (method: InjectOptions['method'], url: string, body?: unknown, headers: Record<string, string> = {}) =>
    app.inject({
      method: method as 'GET',
      url,
      headers: { host: '127.0.0.1:7101', authorization: `Bearer ${TOKEN}`, ...headers },
      ...(body === undefined ? {} : { payload: body as object }),
    });
  return { app, entries, clock, call };
}

let named = 0;
const addition = (change: object = {}) => ({ name: `application ${named++}`, policy: POLICY, ...change });

function assertRefused(answer: { statusCode: number; json(): unknown }, status: number, code: string) {
  const body = answer.json() as Record<string, unknown>;
  assert.deepEqual([answer.statusCode, body.error_code], [status, code]);
  assert.deepEqual(
    Object.keys(body).sort(),
    ['display_message', 'error_code', 'error_message', 'error_type', 'request_id'].sort(),
  );
  assert.equal(body.error_type, 'STRONGROOM_ERROR');
  assert.equal(body.display_message, null);
  assert.match(String(body.request_id), /^[A-Za-z0-9]{15}$/);
}

test('an application lives its whole life over the API', async () => {
  const { call, entries } = await setUp();
  const added = await call('POST', '/applications', addition({ name: 'whole life' }));
  assert.equal(added.statusCode, 201);
  const { application, key } = added.json();
  assert.match(key, /^strongroom-key-[a-z2-7]{58}$/);
  const path = `/applications/${application.application_id}`;

  const listed = await call('GET', '/applications');
  assert.ok(listed.json().applications.some((one: { name: string }) => one.name === 'whole life'));
  assert.ok(!listed.body.includes(key));

  const shown = (await call('GET', path)).json();
  assert.deepEqual(shown.usage, {
    calls_today: 0,
    removals_today: 0,
    rotations_today: 0,
    distinct_items_this_hour: 0,
  });
  assert.equal(shown.application.plaid_client_id, 'c'.repeat(24));

  const changed = await call('PUT', `${path}/policy`, { ...POLICY, classes: ['link'] });
  assert.deepEqual(changed.json().application.policy.classes, ['link']);
  assert.ok(changed.json().application.version > application.version);

  const rotated = await call('POST', `${path}/keys`, { old_key_valid_seconds: 60 });
  assert.equal(rotated.statusCode, 201);
  assert.notEqual(rotated.json().key, key);
  assert.equal(rotated.json().application.keys.length, 2);
  assertRefused(await call('POST', `${path}/keys`, {}), 409, 'KEYS_AT_LIMIT');

  await freezeApplication(gateway.sql, application.application_id, 'item', 'distinct_items_per_hour');
  assert.equal((await call('GET', path)).json().application.freezes[0].class, 'item');
  const unfrozen = await call('POST', `${path}/unfreeze`, { classes: 'all' });
  assert.deepEqual(unfrozen.json().application.freezes, []);

  const disabled = await call('POST', `${path}/disable`);
  assert.notEqual(disabled.json().application.disabled_at, null);
  assertRefused(await call('POST', `${path}/keys`, {}), 409, 'APPLICATION_DISABLED');

  // Each call stands in the log before what it did.
  const kinds = entries.kinds();
  assert.equal(kinds.filter((kind) => kind === 'admin.called').length, 10);
  for (const done of ['created', 'policy_changed', 'key_rotated', 'unfrozen', 'disabled']) {
    assert.equal(kinds[kinds.indexOf(`application.${done}`) - 1], 'admin.called', done);
  }
  assert.ok(entries.of('admin.called').some((fields) => fields.route === `${path}/policy` && fields.method === 'PUT'));
  assert.ok(!JSON.stringify(entries.seen).includes('strongroom-key-'));
});

test('whoever has no token gets one answer, whatever was wrong and wherever it went', async () => {
  const { call, entries } = await setUp();
  const id = 'e'.repeat(24);
  const bodies = new Set<string>();
  for (const [method, path] of [
    ['GET', '/applications'],
    ['POST', '/applications'],
    ['GET', `/applications/${id}`],
    ['PUT', `/applications/${id}/policy`],
    ['GET', '/openapi.json'],
    ['GET', '/no/such/route'],
    ['DELETE', '/applications'],
  ] as const) {
    for (const authorization of [
      '',
      'Bearer',
      'Bearer ',
      `Bearer ${TOKEN}x`,
      `Bearer ${TOKEN.slice(1)}`,
      `Basic ${TOKEN}`,
      TOKEN,
      `Bearer ${'x'.repeat(5_000)}`,
    ]) {
      const answer = await call(method, path, undefined, { authorization });
      assertRefused(answer, 401, 'ADMIN_UNAUTHORIZED');
      bodies.add(JSON.stringify({ ...answer.json(), request_id: null }));
    }
  }
  assert.equal(bodies.size, 1);
  assert.equal(entries.of('admin.called').length, 0);
});

test('refusals are told at once, and then counted', async () => {
  const { call, clock, entries } = await setUp();
  for (let i = 0; i < 50; i++) await call('GET', '/applications', undefined, { authorization: 'Bearer wrong' });
  assert.deepEqual(entries.of('admin.refused'), [
    { route: '/applications', code: 'ADMIN_UNAUTHORIZED', source: '127.0.0.1', count: 1 },
  ]);
  clock.pass(60_000);
  await call('GET', '/applications', undefined, { authorization: 'Bearer wrong' });
  const told = entries.of('admin.refused').map((fields) => fields.count as number);
  assert.equal(
    told.reduce((sum, count) => sum + count, 0),
    51,
  );
});

test('when the listener closes, what was only counted is told', async () => {
  const { app, call, entries } = await setUp();
  for (let i = 0; i < 5; i++) await call('GET', '/applications', undefined, { authorization: 'Bearer wrong' });
  await app.close();
  assert.deepEqual(
    entries.of('admin.refused').map((fields) => fields.count),
    [1, 4],
  );
});

test('a name that somebody pointed at this machine does not get in, not even with the token', async () => {
  const { call } = await setUp();
  for (const host of [
    'evil.example',
    'evil.example:7101',
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    '127.0.0.1@evil',
    '0.0.0.0',
    '10.0.0.1',
  ]) {
    assertRefused(await call('GET', '/applications', undefined, { host }), 401, 'ADMIN_UNAUTHORIZED');
    assertRefused(await call('GET', '/healthz', undefined, { host }), 401, 'ADMIN_UNAUTHORIZED');
  }
  for (const host of ['localhost', 'LOCALHOST:1', '127.0.0.1', '[::1]:7101']) {
    assert.equal((await call('GET', '/applications', undefined, { host })).statusCode, 200, host);
  }
});

test('nothing is done or told when the call cannot be recorded', async () => {
  const { call, entries } = await setUp();
  const before = (await call('GET', '/applications')).json().applications.length;
  entries.failure = new StrongroomError('AUDIT_UNAVAILABLE');
  assertRefused(await call('POST', '/applications', addition()), 503, 'AUDIT_UNAVAILABLE');
  assertRefused(await call('GET', '/applications'), 503, 'AUDIT_UNAVAILABLE');
  entries.failure = null;
  assert.equal((await call('GET', '/applications')).json().applications.length, before);
});

test('input that does not fit is refused as it came: nothing coerced, dropped or filled in', async () => {
  const { call } = await setUp();
  const id = (await call('POST', '/applications', addition())).json().application.application_id;
  const wrong: [InjectOptions['method'], string, unknown, RegExp][] = [
    ['POST', '/applications', addition({ name: 7 }), /body\/name/],
    ['POST', '/applications', addition({ extra: 1 }), /unknown field "extra"/],
    ['POST', '/applications', { policy: POLICY }, /name/],
    ['POST', '/applications', addition({ policy: { ...POLICY, dayQuota: '7' } }), /dayQuota/],
    ['POST', '/applications', addition({ policy: { ...POLICY, allow: true } }), /unknown field "allow"/],
    ['POST', '/applications', addition({ policy: { ...POLICY, sourceCidrs: ['10.1.1.1/8'] } }), /sourceCidrs\/0/],
    ['POST', '/applications', addition({ name: 'a\u001b[2K' }), /name/],
    ['POST', '/applications', addition({ plaid_client: 'nobody' }), /plaid_client/],
    ['PUT', `/applications/${id}/policy`, {}, /body/],
    ['POST', `/applications/${id}/keys`, { old_key_valid_seconds: -1 }, /old_key_valid_seconds/],
    ['POST', `/applications/${id}/keys`, { old_key_valid_seconds: 99_999_999 }, /old_key_valid_seconds/],
    ['POST', `/applications/${id}/keys`, { replaces: 'both' }, /replaces/],
    ['POST', `/applications/${id}/unfreeze`, { classes: [] }, /classes/],
    ['POST', `/applications/${id}/unfreeze`, { classes: ['everything'] }, /classes/],
    ['GET', '/applications/short', undefined, /params\/id/],
    ['GET', `/applications/${id.toUpperCase()}%00`, undefined, /params\/id/],
    ['POST', '/applications', [], /body/],
  ];
  for (const [method, path, body, names] of wrong) {
    const answer = await call(method, path, body);
    assertRefused(answer, 400, 'INPUT_INVALID');
    assert.match(answer.json().error_message, names);
    assert.match(answer.json().error_message, /^[\x20-\x7e]*$/);
  }
});

test('hostile bodies have their codes, and the server stays up', async () => {
  const { call } = await setUp();
  const json = { 'content-type': 'application/json' };
  assertRefused(await call('POST', '/applications', '{"name":', json), 400, 'BODY_MALFORMED');
  assertRefused(await call('POST', '/applications', '', json), 400, 'BODY_MALFORMED');
  assertRefused(await call('POST', '/applications', '{"__proto__":{"x":1}}', json), 400, 'BODY_MALFORMED');
  assertRefused(
    await call('POST', '/applications', '<a/>', { 'content-type': 'text/xml' }),
    415,
    'CONTENT_TYPE_REFUSED',
  );
  assertRefused(await call('POST', '/applications', `"${'x'.repeat(300_000)}"`, json), 413, 'BODY_TOO_LARGE');
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  assertRefused(await call('POST', '/applications', `{"name":"x","policy":${deep}}`, json), 400, 'INPUT_INVALID');
  assertRefused(await call('GET', '/no/such/route'), 404, 'ROUTE_UNKNOWN');
  assertRefused(await call('DELETE', '/applications'), 404, 'ROUTE_UNKNOWN');
  assertRefused(await call('GET', `/applications/${'e'.repeat(24)}`), 404, 'APPLICATION_UNKNOWN');
  assert.equal((await call('GET', '/healthz')).statusCode, 200);
});

test('a taken name is told as such', async () => {
  const { call } = await setUp();
  const body = addition();
  assert.equal((await call('POST', '/applications', body)).statusCode, 201);
  assertRefused(await call('POST', '/applications', body), 409, 'APPLICATION_EXISTS');
});

test('health needs no token and says why it is not ready', async () => {
  const { call } = await setUp({ health: async () => ({ ready: false, reasons: ['database'] }) });
  const alive = await call('GET', '/healthz', undefined, { authorization: '' });
  assert.deepEqual([alive.statusCode, alive.json()], [200, { alive: true }]);
  const ready = await call('GET', '/readyz', undefined, { authorization: '' });
  assert.deepEqual([ready.statusCode, ready.json()], [503, { ready: false, reasons: ['database'] }]);
});

test('an unexpected error tells the caller nothing and the log everything', async () => {
  const told: StrongroomError[] = [];
  const { call } = await setUp({
    onError: (error) => told.push(error),
    routes: [
      {
        method: 'GET',
        path: '/broken',
        summary: 'Breaks.',
        answer: 'application/json',
        handle: async () => {
          throw new Error('holds the password hunter2');
        },
      },
    ],
  });
  const answer = await call('GET', '/broken');
  assertRefused(answer, 500, 'INTERNAL');
  assert.ok(!answer.body.includes('hunter2'));
  assert.equal((told[0]?.cause as Error | undefined)?.message, 'holds the password hunter2');
});

test('answers are not cached and not guessed at', async () => {
  const { call } = await setUp();
  for (const path of ['/applications', '/healthz', '/no/such/route']) {
    const { headers } = await call('GET', path);
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['x-content-type-options'], 'nosniff');
  }
});

test('the OpenAPI document names every route, its input and its refusals', async () => {
  const { call } = await setUp();
  const document = (await call('GET', '/openapi.json')).json();
  assert.equal(document.openapi, '3.1.0');
  assert.deepEqual(Object.keys(document.paths).sort(), [
    '/applications',
    '/applications/{id}',
    '/applications/{id}/disable',
    '/applications/{id}/keys',
    '/applications/{id}/policy',
    '/applications/{id}/unfreeze',
    '/healthz',
    '/openapi.json',
    '/readyz',
  ]);
  const add = document.paths['/applications'].post;
  assert.equal(add.requestBody.content['application/json'].schema.additionalProperties, false);
  assert.match(add.responses[409].description, /APPLICATION_EXISTS/);
  assert.match(add.responses[401].description, /ADMIN_UNAUTHORIZED/);
  assert.equal(add.responses[201].content['application/json'].schema.properties.key.type, 'string');
  const [id] = document.paths['/applications/{id}/keys'].post.parameters;
  assert.deepEqual([id.name, id.in, id.required], ['id', 'path', true]);
  assert.deepEqual(document.paths['/healthz'].get.security, []);
});

test('the right token is compared in constant time: every token is hashed, and digests are compared whole', async () => {
  // The comparison itself is Node's; what can go wrong is a shortcut before it.
  const { call } = await setUp({ tokenSha256: digestOf('').subarray(0, 31) });
  assertRefused(await call('GET', '/applications', undefined, { authorization: '' }), 401, 'ADMIN_UNAUTHORIZED');
  assertRefused(await call('GET', '/applications'), 401, 'ADMIN_UNAUTHORIZED');
  const emptyToken = await setUp({ tokenSha256: digestOf('') });
  assertRefused(
    await emptyToken.call('GET', '/applications', undefined, { authorization: '' }),
    401,
    'ADMIN_UNAUTHORIZED',
  );
});
