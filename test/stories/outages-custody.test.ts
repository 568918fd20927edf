import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertConserved } from '../support/conservation.ts';
import { forTheFile } from '../support/database.ts';
import { assertRefused } from '../support/refusal.ts';
import { type Answer, strongroom } from '../support/strongroom.ts';
import { FAULTS, type Fault, TOKENS, UPSTREAM_MS } from './outages-faults.ts';

/**
 * Rotation and removal cannot be asked again. However Plaid's side of them fails,
 * no dead token is shown as active afterwards, and no live one is given up.
 */

const kit = await strongroom(forTheFile, { config: { limits: { upstreamMs: UPSTREAM_MS } } });
const app = await kit.application();
const ENDED = { endedOutside: new Set<string>() };

const plant = (endpoint: string, { fault }: Fault, times = 1) =>
  kit.simulator.control('POST', '/faults', { endpoint, times, ...fault });
const clear = () => kit.simulator.control('DELETE', '/faults');
const reachedFor = async (path: string) => (await kit.reached()).filter((reached) => reached === path).length;

const CODES = {
  '/item/access_token/invalidate': 'ROTATION_UNCERTAIN',
  '/item/remove': 'REMOVAL_UNCERTAIN',
} as const;

for (const [path, code] of Object.entries(CODES)) {
  for (const fault of FAULTS) {
    test(`${path}, ${fault.name}: the truth or "uncertain", and asked once`, async () => {
      const { handle, itemId } = await app.link();
      await plant(path, fault);
      const before = await reachedFor(path);
      const answer = await app.post(path, { access_token: handle });
      await clear();
      assert.equal((await reachedFor(path)) - before, 1, 'asked once');

      const mine = (await assertConserved(kit, { settled: false })).find((record) => record.itemId === itemId);
      const use = await app.post('/accounts/get', { access_token: handle });
      if (fault.told !== true) {
        assertRefused(answer, code);
        assert.equal(mine?.state, 'uncertain');
        assertRefused(use, 'TOKEN_UNCERTAIN');
      } else if (!fault.done) {
        assert.ok(answer.status >= 400 && answer.body.error_type !== 'STRONGROOM_ERROR', answer.text);
        assert.deepEqual([mine?.state, mine?.version], ['active', 1]);
        assert.equal(use.status, 200);
      } else {
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual([mine?.state, mine?.version], path === '/item/remove' ? ['removed', 1] : ['active', 2]);
        if (path === '/item/remove') assertRefused(use, 'TOKEN_REMOVED');
        else assert.equal(use.status, 200);
      }
    });
  }
}

for (const fault of FAULTS) {
  test(`/item/remove again after "${fault.name}": the removal is settled`, async () => {
    const { handle, itemId } = await app.link();
    await plant('/item/remove', fault);
    await app.post('/item/remove', { access_token: handle });
    await clear();
    await app.post('/item/remove', { access_token: handle });
    const mine = (await assertConserved(kit, { settled: false })).find((record) => record.itemId === itemId);
    assert.equal(mine?.state, 'removed');
  });
}

for (const [what, token] of TOKENS) {
  test(`a rotation that is answered with ${what} for a token is uncertain at once`, async () => {
    const { handle, itemId } = await app.link();
    const path = '/item/access_token/invalidate';
    await kit.simulator.control('POST', '/faults', {
      endpoint: path,
      kind: 'body',
      point: 'after_commit',
      body: { new_access_token: token, request_id: 'abcdefghijklmno' },
    });
    const answer: Answer = await app.post(path, { access_token: handle });
    assertRefused(answer, 'ROTATION_UNCERTAIN');
    const mine = (await assertConserved(kit, { settled: false })).find((record) => record.itemId === itemId);
    assert.equal(mine?.state, 'uncertain');
  });
}

test('two rotations, a removal and reads of one item at once: one truth', async () => {
  for (let round = 0; round < 5; round++) {
    const { handle } = await app.link();
    const calls = [
      app.post('/item/access_token/invalidate', { access_token: handle }),
      app.post('/accounts/get', { access_token: handle }),
      app.post('/item/access_token/invalidate', { access_token: handle }),
      ...(round % 2 === 0 ? [app.post('/item/remove', { access_token: handle })] : []),
      app.post('/accounts/get', { access_token: handle }),
    ];
    for (const { status, text } of await Promise.all(calls)) assert.ok(status < 500 || status === 503, text);
    await assertConserved(kit);
  }
});

test('a token that was ended outside is found out by its next use, and not shown as active', async () => {
  const { handle, itemId } = await app.link();
  await kit.simulator.control('POST', `/items/${itemId}/revoke`, {});
  const answer = await app.post('/item/access_token/invalidate', { access_token: handle });
  assert.ok(answer.status >= 400, answer.text);
  ENDED.endedOutside.add(itemId);
  await assertConserved(kit, ENDED);
});

test('after all of this nothing is open, and the audit log has an end for every beginning', async () => {
  await assertConserved(kit, ENDED);
});
