import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import type { Simulator } from '../../simulator/start.ts';
import { start } from './kit.ts';

/** fetch does not let a caller choose the Host header. */
function ask(simulator: Simulator, headers: Record<string, string>, path = '/health'): Promise<number> {
  const { hostname, port } = new URL(simulator.controlUrl);
  return new Promise((resolve, reject) => {
    request({ hostname, port, path, headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode as number);
    })
      .on('error', reject)
      .end();
  });
}

test('the control API answers only to its token and only under a loopback name', async (t) => {
  const { simulator } = await start(t);
  const { port } = new URL(simulator.controlUrl);
  const authorization = `Bearer ${simulator.controlToken}`;
  assert.equal(await ask(simulator, { authorization }), 200);
  assert.equal(await ask(simulator, { authorization, host: `localhost:${port}` }), 200);
  assert.equal(await ask(simulator, {}), 401);
  assert.equal(await ask(simulator, { authorization: 'Bearer x' }), 401);
  assert.equal(await ask(simulator, { authorization: `Basic ${simulator.controlToken}` }), 401);
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    `127.0.0.1.evil.example:${port}`,
    `localhost:${Number(port) + 1}`,
    'localhost',
  ]) {
    assert.equal(await ask(simulator, { authorization, host }), 403, host);
  }
  assert.equal(await ask(simulator, { authorization }, '/nowhere'), 404);
});

test("the control API is not on Plaid's port, nor Plaid on the control port", async (t) => {
  const { simulator } = await start(t);
  const authorization = `Bearer ${simulator.controlToken}`;
  assert.equal((await fetch(`${simulator.url}/truth`, { headers: { authorization } })).status, 404);
  assert.equal(
    (await fetch(`${simulator.controlUrl}/item/get`, { method: 'POST', headers: { authorization }, body: '{}' }))
      .status,
    404,
  );
});

test('what the control API does not understand is refused by name, and changes nothing', async (t) => {
  const { simulator } = await start(t);
  const fault = { endpoint: '/item/get', kind: 'not_done' };
  for (const [path, body, says] of [
    ['/faults', { ...fault, kind: 'flood' }, /kind must be one of/],
    ['/faults', { ...fault, endpoint: 'item/get' }, /endpoint must be a path/],
    ['/faults', { ...fault, tims: 2 }, /tims is not known here/],
    ['/faults', { ...fault, times: 0 }, /times must be a positive integer/],
    ['/faults', { ...fault, times: '2' }, /times must be a number/],
    ['/faults', { ...fault, point: 'after_commit' }, /strikes at before_commit or before_read/],
    ['/faults', { ...fault, kind: 'answer_cut' }, /answer_cut needs bytes/],
    ['/faults', { ...fault, kind: 'status', error_code: 'NOPE' }, /error_code is not/],
    ['/faults', { ...fault, kind: 'body' }, /body needs a body/],
    ['/settings', { speed: 1 }, /speed is not a setting/],
    ['/settings', { rateLimits: 'yes' }, /rateLimits is not a setting, or has the wrong type/],
    ['/settings', { webhooks: 'moon' }, /webhooks takes one of none, loopback, any/],
    ['/clock', {}, /give offset_ms, advance_ms or now/],
    ['/clock', { now: 'tomorrow' }, /ISO 8601/],
    ['/items/x/complete-update-mode', undefined, /there is no such item/],
    ['/link/complete', { link_token: 'x' }, /INVALID_LINK_TOKEN/],
    ['/release', { how: 'gently' }, /how takes continue or destroy/],
  ] as const) {
    await assert.rejects(simulator.control('POST', path, body), says);
  }
  const { faults, settings } = await simulator.control<{ faults: number; settings: Record<string, unknown> }>(
    'GET',
    '/state',
  );
  assert.equal(faults, 0);
  assert.equal(settings.rateLimits, false);
});

test('the clock can be set, moved on, and set back', async (t) => {
  const { simulator } = await start(t);
  const { now } = await simulator.control<{ now: string }>('POST', '/clock', { now: '2031-05-06T07:08:09Z' });
  assert.match(now, /^2031-05-06T07:08:0/);
  await simulator.control('POST', '/clock', { advance_ms: 86_400_000 });
  assert.match((await simulator.control<{ now: string }>('GET', '/clock')).now, /^2031-05-07T07:08/);
  await simulator.control('POST', '/clock', { offset_ms: 0 });
  assert.ok(Math.abs(Date.parse((await simulator.control<{ now: string }>('GET', '/clock')).now) - Date.now()) < 5000);
});
