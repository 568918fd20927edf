import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertConserved } from '../support/conservation.ts';
import { forTheFile, testServer } from '../support/database.ts';
import { assertRefused } from '../support/refusal.ts';
import { type Answer, strongroom } from '../support/strongroom.ts';
import { tableFault } from '../support/table-fault.ts';
import { wireTo } from '../support/wire.ts';

/**
 * The database goes away after Plaid has carried a call out and before anybody was
 * told: the new token lives in one process alone, and is not dropped.
 */

const wire = await wireTo((await testServer()).connection('superuser', 'postgres'));
const { host, port } = wire.connection;
/** So short that every key has to be fetched again after Plaid has answered: from the database. */
const CACHE = { seconds: 1, uses: 1_000_000 };
const kit = await strongroom(forTheFile, {
  config: { kms: { cache: CACHE } },
  connection: (role, direct) => (role === 'gateway' ? { ...direct, host, ...(port && { port }) } : direct),
});
const app = await kit.application();
const { handle } = await app.link();
const secrets = await tableFault(forTheFile, kit.database, 'secrets');

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

/** How long the database is away while Plaid answers: less than callers are kept waiting, or more. */
const AWAY: readonly (readonly [name: string, ms: number])[] = [
  ['for a moment', 1_500],
  ['for longer than anybody waits', 9_500],
];

for (const [name, ms] of AWAY) {
  test(`a database that goes away ${name} while Plaid answers: the only copy of a token is kept until it is back`, async () => {
    const bodies = [
      { public_token: await publicToken() },
      { access_token: (await app.link()).handle },
      { access_token: (await app.link()).handle },
    ];
    const paths = [EXCHANGE, ROTATION, REMOVAL];
    for (const endpoint of paths)
      await kit.simulator.control('POST', '/faults', { endpoint, kind: 'hold', point: 'after_commit' });
    const calls = paths.map((path, at) => app.post(path, bodies[at]));
    await held(3);
    // By now Plaid has done all three, and nobody has been told.
    await sleep(1_000 * CACHE.seconds + 100);
    wire.cut();
    await kit.simulator.control('POST', '/release', {});
    await sleep(ms);
    const ready = await fetch(`${kit.url}/readyz`);
    assert.ok(
      ((await ready.json()) as { reasons: string[] }).reasons.includes('unsaved_token'),
      'the operator is told',
    );
    await wire.mend();
    const [exchange, rotation, removal] = (await Promise.all(calls)) as [Answer, Answer, Answer];
    await recovered();
    const records = await assertConserved(kit);
    assert.deepEqual(
      records.filter(({ state }) => state !== 'active' && state !== 'removed'),
      [],
      'nothing is in doubt: Plaid answered',
    );

    if (exchange.status !== 200) assertRefused(exchange, 'EXCHANGE_IN_PROGRESS');
    if (rotation.status !== 200) assertRefused(rotation, 'TOKEN_ROTATING');
    assert.equal(removal.status, 200, removal.text);
    const again = await app.post(EXCHANGE, bodies[0]);
    assert.equal(again.status, 200, again.text);
    assert.equal((await app.post('/accounts/get', { access_token: again.body.access_token })).status, 200);
    assert.equal((await app.post('/accounts/get', bodies[1])).status, 200, 'the rotated token works');
    assertRefused(await app.post('/accounts/get', bodies[2]), 'TOKEN_REMOVED');
    assert.equal((await fetch(`${kit.url}/readyz`)).status, 200);
  });
}

for (const [state, meaning] of [
  ['53100', 'the disk is full'],
  ['25006', 'the server is a standby now'],
  ['42501', 'a right was revoked'],
] as const) {
  test(`${meaning} (${state}) when the token is saved: it is saved when that is mended`, async () => {
    const bodies = [{ public_token: await publicToken() }, { access_token: (await app.link()).handle }];
    const paths = [EXCHANGE, ROTATION];
    for (const endpoint of paths)
      await kit.simulator.control('POST', '/faults', { endpoint, kind: 'hold', point: 'after_commit' });
    const calls = paths.map((path, at) => app.post(path, bodies[at]));
    await held(2);
    await secrets.refuse(state);
    await kit.simulator.control('POST', '/release', {});
    await sleep(500);
    assert.equal((await fetch(`${kit.url}/readyz`)).status, 503);
    await secrets.mend();
    for (const answer of await Promise.all(calls)) assert.equal(answer.status, 200, answer.text);
    assert.equal((await app.post('/accounts/get', bodies[1])).status, 200);
    await assertConserved(kit);
  });
}

async function held(count: number): Promise<void> {
  for (let n = 0; n < 500; n++) {
    const { held: waiting } = await kit.simulator.control<{ held: Record<string, number> }>('GET', '/faults');
    if (Object.values(waiting).reduce((sum, here) => sum + here, 0) === count) return;
    await sleep(10);
  }
  assert.fail('the calls did not reach Plaid');
}
