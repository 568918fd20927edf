import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type App, type Kit, refusedWith, strongroom } from '../support/strongroom.ts';

/**
 * Plaid ends the old token in the moment that makes the new one, and we know the
 * new one a moment later. A call that was on its way in between has done nothing
 * wrong, and must not hear of it.
 */

async function held(kit: Kit, endpoint: string, point: string): Promise<{ id: string; reached(): Promise<void> }> {
  const { id } = await kit.simulator.control<{ id: string }>('POST', '/faults', { endpoint, kind: 'hold', point });
  const reached = async () => {
    for (const deadline = performance.now() + 20_000; ; await sleep(5)) {
      const { held } = await kit.simulator.control<{ held: Record<string, number> }>('GET', '/faults');
      if ((held[id] ?? 0) > 0) return;
      assert.ok(performance.now() < deadline, `no call arrived at ${endpoint}`);
    }
  };
  return { id, reached };
}

/** A read that reaches Plaid with the old token, while a rotation is between Plaid's commit and ours. */
async function meet(kit: Kit, app: App, handle: string) {
  const slowRead = await held(kit, '/accounts/get', 'before_read');
  const reading = app.post('/accounts/get', { access_token: handle });
  await slowRead.reached();
  const slowRotation = await held(kit, '/item/access_token/invalidate', 'after_commit');
  const rotating = app.post('/item/access_token/invalidate', { access_token: handle });
  await slowRotation.reached();
  await kit.simulator.control('POST', '/release', { id: slowRead.id });
  // Plaid has refused the old token by now; the new one is not ours yet.
  for (;;) {
    const { calls } = await kit.simulator.control<{ calls: { endpoint: string; status: number | null }[] }>(
      'GET',
      '/truth',
    );
    if (calls.some((call) => call.endpoint === '/accounts/get' && call.status === 400)) break;
    await sleep(5);
  }
  return { reading, rotating, rotation: slowRotation.id };
}

test('a call that meets a rotation half-way is answered with the new token', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  const { handle, itemId } = await app.link();
  const { reading, rotating, rotation } = await meet(kit, app, handle);
  await kit.simulator.control('POST', '/release', { id: rotation });

  const read = await reading;
  assert.equal(read.status, 200, read.text);
  assert.equal((read.body.item as { item_id: string }).item_id, itemId);
  assert.equal((await rotating).status, 200);
  assert.deepEqual(await kit.entries('health.changed'), [], 'nobody was told that the item is broken');
});

test('a call that meets a rotation whose answer is lost hears that the token is uncertain', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  const { handle } = await app.link();
  const { reading, rotating, rotation } = await meet(kit, app, handle);
  await kit.simulator.control('POST', '/release', { id: rotation, how: 'destroy' });

  refusedWith(await reading, 'TOKEN_UNCERTAIN');
  refusedWith(await rotating, 'ROTATION_UNCERTAIN');
});

test('a call that is overtaken by one rotation after another is answered with the newest token', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  const { handle } = await app.link();
  const first = await held(kit, '/accounts/get', 'before_read');
  const reading = app.post('/accounts/get', { access_token: handle });
  let waiting = first;
  for (let rotations = 0; rotations < 3; rotations++) {
    await waiting.reached();
    assert.equal((await app.post('/item/access_token/invalidate', { access_token: handle })).status, 200);
    const next = rotations < 2 ? await held(kit, '/accounts/get', 'before_read') : waiting;
    await kit.simulator.control('POST', '/release', { id: waiting.id });
    waiting = next;
  }
  const read = await reading;
  assert.equal(read.status, 200, read.text);
  assert.deepEqual(await kit.entries('health.changed'), []);
});
