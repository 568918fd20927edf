import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertConserved } from '../support/conservation.ts';
import { forTheFile, testServer } from '../support/database.ts';
import { assertRefused } from '../support/refusal.ts';
import { send, strongroom } from '../support/strongroom.ts';
import { type Verdict, wireTo } from '../support/wire.ts';

/**
 * A database that goes away: before, in the middle of and after every step. No
 * access without it, no token lost by it, and no restart after it.
 */

const wire = await wireTo((await testServer()).connection('superuser', 'postgres'));
const { host, port } = wire.connection;
const kit = await strongroom(forTheFile, {
  connection: (role, direct) => (role === 'gateway' ? { ...direct, host, ...(port && { port }) } : direct),
});
const app = await kit.application();
const { handle } = await app.link();

const EXCHANGE = '/item/public_token/exchange';
const ROTATION = '/item/access_token/invalidate';
const REMOVAL = '/item/remove';
const CREATED = { institution_id: 'ins_109508', initial_products: ['transactions'] };
const publicToken = async () => String((await app.post('/sandbox/public_token/create', CREATED)).body.public_token);

/** Until the gateway has found its way back. */
async function recovered(): Promise<void> {
  for (let n = 0; ; n++) {
    const { status, text } = await app.post('/accounts/get', { access_token: handle });
    if (status === 200) return;
    assert.ok(n < 200, `not recovered: ${text}`);
    await sleep(50);
  }
}

test('while the database is away every call is refused, and nothing reaches Plaid', async () => {
  const before = (await kit.reached()).length;
  wire.cut();
  for (const [path, body] of [
    ['/accounts/get', { access_token: handle }],
    ['/categories/get', {}],
    ['/link/token/create', { client_name: 'x' }],
    [EXCHANGE, { public_token: 'public-sandbox-1' }],
    [ROTATION, { access_token: handle }],
    [REMOVAL, { access_token: handle }],
  ] as const) {
    const answer = await app.post(path, body);
    assertRefused(answer, 'DATABASE_UNAVAILABLE', 'AUDIT_UNAVAILABLE');
    assert.equal(answer.headers['retry-after'], '1');
  }
  const stranger = { 'plaid-client-id': '0'.repeat(24), 'plaid-secret': app.key };
  assertRefused(await send(kit.url, '/categories/get', {}, stranger), 'DATABASE_UNAVAILABLE');
  assertRefused(await send(kit.url, '/categories/get', {}), 'CREDENTIALS_REFUSED');
  const ready = await fetch(`${kit.url}/readyz`);
  assert.deepEqual([ready.status, await ready.json()], [503, { ready: false, reasons: ['database'] }]);
  assert.equal((await fetch(`${kit.url}/healthz`)).status, 200);
  assert.equal((await kit.reached()).length, before);

  await wire.mend();
  await recovered();
  await assertConserved(kit);
});

test('a database that ends every session is found again at once', async () => {
  const superuser = await kit.database.open('owner', { ...kit.database.connection('superuser'), poolSize: 1 });
  for (let round = 0; round < 3; round++) {
    const calls = Array.from({ length: 10 }, () => app.post('/accounts/get', { access_token: handle }));
    await superuser.sql.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name like 'strongroom%'`,
      [kit.database.name],
    );
    for (const answer of await Promise.all(calls)) {
      if (answer.status !== 200) assertRefused(answer, 'DATABASE_UNAVAILABLE', 'AUDIT_UNAVAILABLE');
    }
    await recovered();
  }
  await superuser.close();
  await assertConserved(kit);
});

interface Step {
  readonly path: string;
  /** What the call is about: made before anything goes wrong. */
  prepare(): Promise<Record<string, unknown>>;
}

let users = 0;
const STEPS: readonly Step[] = [
  { path: EXCHANGE, prepare: async () => ({ public_token: await publicToken() }) },
  { path: ROTATION, prepare: async () => ({ access_token: (await app.link()).handle }) },
  { path: REMOVAL, prepare: async () => ({ access_token: (await app.link()).handle }) },
  { path: '/user/create', prepare: async () => ({ client_user_id: `user ${++users}` }) },
];

/** More than any of these calls says to the database. */
const MOST_WORDS = 14;

for (const { path, prepare } of STEPS) {
  for (const verdict of ['not_done', 'answer_lost'] satisfies Verdict[]) {
    test(`${path}: whichever word to the database is ${verdict}, nothing is lost and nothing is hung up`, async () => {
      let failed = 0;
      let words = 0;
      for (let word = 1; word <= MOST_WORDS; word++) {
        const body = await prepare();
        const before = (await kit.reached()).filter((reached) => reached === path).length;
        words = 0;
        wire.judge = () => (++words === word ? verdict : 'pass');
        const answer = await app.post(path, body);
        wire.judge = () => 'pass';
        await recovered();
        const asked = (await kit.reached()).filter((reached) => reached === path).length - before;
        assert.ok(asked <= (path === EXCHANGE ? 2 : 1), `word ${word}: Plaid was asked ${asked} times`);
        if (answer.status !== 200) {
          assertRefused(answer, 'DATABASE_UNAVAILABLE', 'AUDIT_UNAVAILABLE', 'EXCHANGE_IN_PROGRESS', 'TOKEN_ROTATING');
          failed++;
        } else if (path === EXCHANGE) {
          const again = await app.post(path, body);
          assert.equal(again.body.access_token, answer.body.access_token);
        }
      }
      assert.ok(failed >= 2, `${failed} of these failures were felt`);
      assert.ok(words < MOST_WORDS, 'the last word of a call was among them');
      const records = await assertConserved(kit);
      // Nothing went wrong on Plaid's side, so nothing may end in doubt.
      assert.deepEqual(
        records.filter(({ state }) => state === 'uncertain'),
        [],
      );
    });
  }
}
