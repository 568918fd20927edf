import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertConserved } from '../support/conservation.ts';
import { forTheFile } from '../support/database.ts';
import { assertRefused } from '../support/refusal.ts';
import { strongroom } from '../support/strongroom.ts';
import { FAULTS, type Fault, TOKENS, UPSTREAM_MS } from './outages-faults.ts';

/**
 * An exchange makes a token that nobody else has. However Plaid's side of it fails,
 * the application gets one handle, or is told that there may be an orphan.
 */

const kit = await strongroom(forTheFile, { config: { limits: { upstreamMs: UPSTREAM_MS } } });
const app = await kit.application();

const plant = (endpoint: string, { fault }: Fault, times: number) =>
  kit.simulator.control('POST', '/faults', { endpoint, times, ...fault });
const clear = () => kit.simulator.control('DELETE', '/faults');
const reachedFor = async (path: string) => (await kit.reached()).filter((reached) => reached === path).length;

const EXCHANGE = '/item/public_token/exchange';

async function publicToken(): Promise<string> {
  const { body } = await app.post('/sandbox/public_token/create', {
    institution_id: 'ins_109508',
    initial_products: ['transactions'],
  });
  return String(body.public_token);
}

for (const times of [1, 2]) {
  for (const fault of FAULTS) {
    test(`an exchange, ${fault.name}, ${times === 1 ? 'once' : 'twice'}: one handle, or a possible orphan`, async () => {
      const token = await publicToken();
      await plant(EXCHANGE, fault, times);
      const before = await reachedFor(EXCHANGE);
      const first = await app.post(EXCHANGE, { public_token: token });
      await clear();
      const asked = (await reachedFor(EXCHANGE)) - before;
      assert.ok(asked >= 1 && asked <= 2, `asked ${asked} times`);
      await assertConserved(kit, { settled: false });

      const again = await app.post(EXCHANGE, { public_token: token });
      if (first.status === 200) {
        assert.equal(again.body.access_token, first.body.access_token);
        assert.equal((await reachedFor(EXCHANGE)) - before, asked, 'a second time it is known');
        assert.equal((await app.post('/accounts/get', { access_token: again.body.access_token })).status, 200);
      } else if (fault.told === true && !fault.done) {
        assert.notEqual(first.body.error_type, 'STRONGROOM_ERROR', first.text);
        assert.equal(again.status, 200, 'a refusal uses nothing up');
      } else {
        assertRefused(first, 'EXCHANGE_UNCERTAIN');
        assertRefused(again, 'EXCHANGE_UNCERTAIN');
        assert.ok((await unsettled()).includes('exchange'), 'the operator sees it');
      }
      await assertConserved(kit, { settled: false });
    });
  }
}

async function unsettled(): Promise<string[]> {
  const { operations } = await kit.admin<{ operations: { kind: string }[] }>('GET', '/operations');
  return operations.map(({ kind }) => kind);
}

for (const [what, token] of TOKENS) {
  test(`an exchange that is answered with ${what} for a token is a possible orphan`, async () => {
    const fault = {
      kind: 'body',
      point: 'after_commit',
      body: { access_token: token, item_id: 'one', request_id: 'a' },
    };
    await kit.simulator.control('POST', '/faults', { endpoint: EXCHANGE, times: 2, ...fault });
    assertRefused(await app.post(EXCHANGE, { public_token: await publicToken() }), 'EXCHANGE_UNCERTAIN');
    await clear();
    await assertConserved(kit, { settled: false });
  });
}

test('after all of this the audit log has an end for every beginning', async () => {
  await assertConserved(kit);
});
