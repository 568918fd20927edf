import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Kit, strongroom } from '../support/strongroom.ts';

/** How Strongroom stops: what is under way is finished, and nothing else is waited for. */

function origins(kit: Kit): string[] {
  return kit.log.flatMap((line) => /"origin":"(http[^"]+)"/.exec(line)?.[1] ?? []);
}

test('a stop does not wait for connections on which nothing was ever asked', async (t) => {
  const kit = await strongroom(t);
  const listeners = origins(kit);
  assert.equal(listeners.length, 2, 'gateway and admin API');
  const sockets = listeners.map((origin) => connect(Number(new URL(origin).port), '127.0.0.1').on('error', () => {}));
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  // A request that is not whole is not under way either.
  sockets[0]?.write('POST /accounts/get HTTP/1.1\r\nHost: a\r\n');
  const gone = Promise.all(sockets.map((socket) => once(socket, 'close')));

  const begun = performance.now();
  await kit.stop();
  assert.ok(performance.now() - begun < 10_000, `${performance.now() - begun} ms`);
  await gone;
});

test('a stop waits for a call that is at Plaid, and its caller gets the answer', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  const { handle } = await app.link();
  const { id } = await kit.simulator.control<{ id: string }>('POST', '/faults', {
    ...{ endpoint: '/item/access_token/invalidate', kind: 'hold', point: 'after_commit' },
  });
  const rotating = app.post('/item/access_token/invalidate', { access_token: handle });
  for (;;) {
    const { held } = await kit.simulator.control<{ held: Record<string, number> }>('GET', '/faults');
    if (held[id] === 1) break;
    await sleep(5);
  }
  const stopped = kit.stop();
  // Nobody is taken on any more, while the one call is still out.
  while (await connects(kit.url)) await sleep(5);
  await kit.simulator.control('POST', '/release', { id });
  assert.equal((await rotating).status, 200);
  await stopped;
  assert.equal((await kit.entries('rotation.settled')).length, 1);
});

async function connects(origin: string): Promise<boolean> {
  const socket = connect(Number(new URL(origin).port), '127.0.0.1');
  const connected = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  return connected;
}
