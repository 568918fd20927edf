import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Policy } from '../../src/access/policy.ts';
import { presetPolicy } from '../../src/access/presets.ts';
import { forTheFile } from '../support/database.ts';
import { gatewayProcess } from '../support/gateway-process.ts';
import { assertRefused } from '../support/refusal.ts';
import { type Answer, type App, strongroom } from '../support/strongroom.ts';

/**
 * What an application may use up: calls a second, calls a day, items an hour,
 * removals and rotations a day; and how many may be under way at all.
 */

const kit = await strongroom(forTheFile);
const EVERYWHERE = ['127.0.0.0/8'];
const DEMO = presetPolicy('demo', EVERYWHERE);

const counted = async (what: Promise<Answer>[]) => {
  const statuses = (await Promise.all(what)).map(({ status }) => status);
  return { served: statuses.filter((status) => status === 200).length, statuses };
};
const accounts = (app: App, handle: string) => app.post('/accounts/get', { access_token: handle });
const categories = (app: App) => app.post('/categories/get', {});
const setPolicy = (app: App, policy: Partial<Policy>) =>
  kit.admin('PUT', `/applications/${app.id}/policy`, { ...DEMO, ...policy });
const unfreeze = (app: App) => kit.admin('POST', `/applications/${app.id}/unfreeze`, { classes: 'all' });
const freezesOf = async (app: App) => {
  const { application } = await kit.admin<{ application: { freezes: { class: string; reason: string }[] } }>(
    'GET',
    `/applications/${app.id}`,
  );
  return application.freezes.map(({ class: name, reason }) => `${name} for ${reason}`);
};
const entriesOf = async (kind: string, app: App) =>
  (await kit.entries(kind)).filter((entry) => entry.application === app.id);

test('past its rate an application is told to slow down, and its neighbour is not', async () => {
  const fast = await kit.application('fast', { rate: { perSecond: 2, burst: 5 } });
  const neighbour = await kit.application('neighbour');
  const before = (await kit.reached()).length;
  const answers = await Promise.all(Array.from({ length: 40 }, () => categories(fast)));
  const refused = answers.filter(({ status }) => status !== 200);
  assert.ok(refused.length >= 30, `${refused.length} of 40 refused`);
  for (const answer of refused) {
    assertRefused(answer, 'RATE_EXCEEDED');
    assert.equal(answer.headers['retry-after'], '1');
  }
  assert.equal((await kit.reached()).length - before, 40 - refused.length, 'what was refused did not reach Plaid');
  assert.equal((await entriesOf('access.denied', fast)).length, 0, 'nor can it fill the log');
  assert.equal((await categories(neighbour)).status, 200);
  for (let n = 0; (await categories(fast)).status !== 200; n++) {
    assert.ok(n < 100, 'it is served again');
    await sleep(100);
  }
});

test('the quota of a day is exact under load, refused calls do not count, and a raised one holds at once', async () => {
  const app = await kit.application('quota', { dayQuota: 20 });
  for (let n = 0; n < 5; n++) assertRefused(await app.post('/transfer/list', {}), 'ENDPOINT_DENIED');
  const { served } = await counted(Array.from({ length: 60 }, () => categories(app)));
  assert.equal(served, 20);
  const answer = await categories(app);
  const { requestId } = assertRefused(answer, 'QUOTA_EXCEEDED');
  const denied = await entriesOf('access.denied', app);
  assert.ok(denied.some((entry) => entry.request === requestId && entry.reason === 'day_quota'));
  await setPolicy(app, { dayQuota: 23 });
  assert.equal((await counted(Array.from({ length: 10 }, () => categories(app)))).served, 3);
});

test('past its budget of items an application is frozen, on every replica, until somebody lifts it', async (t) => {
  const app = await kit.application('budget', {
    budgets: { distinctItemsPerHour: 3, removalsPerDay: 10, rotationsPerDay: 10 },
  });
  const replica = (await gatewayProcess(t, kit)).app(app);
  const handles: string[] = [];
  for (let n = 0; n < 5; n++) handles.push((await app.link()).handle);
  for (const handle of handles.slice(0, 3)) assert.equal((await accounts(app, handle)).status, 200);
  assert.equal((await accounts(replica, handles[0] as string)).status, 200, 'the same item again, anywhere');

  const before = (await kit.reached()).length;
  const burst = await Promise.all(Array.from({ length: 20 }, () => accounts(app, handles[3] as string)));
  for (const answer of burst) assertRefused(answer, 'BUDGET_EXCEEDED');
  assertRefused(await accounts(replica, handles[0] as string), 'BUDGET_EXCEEDED');
  assertRefused(await accounts(app, handles[0] as string), 'BUDGET_EXCEEDED');
  assert.equal((await kit.reached()).length, before);
  assert.deepEqual(await freezesOf(app), ['item for distinct_items_per_hour']);
  const [entry, second] = await entriesOf('budget.exceeded', app);
  assert.deepEqual([entry?.budget, entry?.class, entry?.limit], ['distinct_items_per_hour', 'item', 3]);
  assert.equal(second, undefined, 'told once');

  assert.equal((await categories(app)).status, 200, 'other classes go on');

  // Lifting it does not raise the budget: what was known may be used, more may not.
  await unfreeze(app);
  assert.equal((await accounts(replica, handles[0] as string)).status, 200);
  assertRefused(await accounts(app, handles[4] as string), 'BUDGET_EXCEEDED');
  assertRefused(await accounts(replica, handles[0] as string), 'BUDGET_EXCEEDED');
  await setPolicy(app, { budgets: { distinctItemsPerHour: 9, removalsPerDay: 10, rotationsPerDay: 10 } });
  assertRefused(await accounts(app, handles[0] as string), 'BUDGET_EXCEEDED');
  await unfreeze(app);
  for (const handle of handles) assert.equal((await accounts(app, handle)).status, 200);
});

const BUDGETS = [
  ['/item/remove', 'removal', 'removals_per_day', { removalsPerDay: 2, rotationsPerDay: 9 }],
  ['/item/access_token/invalidate', 'rotation', 'rotations_per_day', { removalsPerDay: 9, rotationsPerDay: 2 }],
] as const;

for (const [path, freeze, budget, budgets] of BUDGETS) {
  test(`past ${budget} the application is frozen for every ${freeze}, and reads on`, async () => {
    const app = await kit.application(undefined, { budgets: { distinctItemsPerHour: 100, ...budgets } });
    const handles: string[] = [];
    for (let n = 0; n < 6; n++) handles.push((await app.link()).handle);
    const before = (await kit.reached()).filter((reached) => reached === path).length;
    const answers = await Promise.all(handles.slice(0, 5).map((handle) => app.post(path, { access_token: handle })));
    assert.equal(answers.filter(({ status }) => status === 200).length, 2, 'exact, also when all ask at once');
    for (const answer of answers) if (answer.status !== 200) assertRefused(answer, 'BUDGET_EXCEEDED');
    assert.equal((await kit.reached()).filter((reached) => reached === path).length - before, 2);
    assert.deepEqual(await freezesOf(app), [`${freeze} for ${budget}`]);
    assert.equal((await entriesOf('budget.exceeded', app)).length, 1);
    assert.equal((await accounts(app, handles[5] as string)).status, 200);
  });
}

test('a call that removes a list of items counts as that many removals', async () => {
  const app = await kit.application('lists', {
    budgets: { distinctItemsPerHour: 100, removalsPerDay: 3, rotationsPerDay: 0 },
  });
  const user = await app.post('/user/create', { client_user_id: 'one' });
  assert.equal(user.status, 200, user.text);
  const items: string[] = [];
  for (let n = 0; n < 4; n++) items.push((await app.link()).itemId);
  const before = (await kit.reached()).length;
  const answer = await app.post('/user/items/remove', { user_id: user.body.user_id, item_ids: items });
  assertRefused(answer, 'BUDGET_EXCEEDED');
  assert.equal((await kit.reached()).length, before);
});

test('an application may call from its own addresses only', async () => {
  const app = await kit.application('elsewhere', { sourceCidrs: ['10.0.0.0/8', '::1/128'] });
  const { requestId } = assertRefused(
    await app.post('/categories/get', {}, { 'x-forwarded-for': '10.1.2.3' }),
    'SOURCE_DENIED',
  );
  const [entry] = await entriesOf('access.denied', app);
  assert.deepEqual([entry?.request, entry?.source, entry?.reason], [requestId, '127.0.0.1', 'source']);
});

test('an empty list means nobody', async () => {
  const nothing = { classes: [], endpoints: [], releases: [] };
  const app = await kit.application('nothing', nothing);
  for (const path of ['/categories/get', '/accounts/get', '/link/token/create'])
    assertRefused(await app.post(path, {}), 'ENDPOINT_DENIED');
  const nowhere = await kit.application('nowhere', { sourceCidrs: [] });
  assertRefused(await categories(nowhere), 'SOURCE_DENIED');
});

test('more calls than limits.queue are told so at once, and those under way end well', async (t) => {
  const small = await strongroom(t, { config: { limits: { queue: 4 } } });
  const app = await small.application();
  await small.simulator.control('POST', '/faults', { endpoint: '/categories/get', kind: 'hold', times: 4 });
  const held = Array.from({ length: 4 }, () => categories(app));
  for (let n = 0; (await small.reached()).length < 4; n++) {
    assert.ok(n < 500);
    await sleep(10);
  }
  for (let n = 0; n < 3; n++) {
    const answer = await categories(app);
    assertRefused(answer, 'OVERLOADED');
    assert.equal(answer.headers['retry-after'], '1');
  }
  const health = await fetch(`${small.url}/healthz`);
  assert.equal(health.status, 200, 'a balancer still sees a process that is alive');
  await small.simulator.control('POST', '/release', {});
  for (const answer of await Promise.all(held)) assert.equal(answer.status, 200);
  assert.equal((await categories(app)).status, 200);
  assert.equal((await small.reached()).length, 5);
});
