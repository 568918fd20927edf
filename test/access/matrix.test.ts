import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allowsEndpoint, compilePolicy, effectOf } from '../../src/access/decide.ts';
import { ENDPOINT_CLASSES, type Policy, parsePolicy, RELEASED_KINDS } from '../../src/access/policy.ts';
import { PRESETS, presetPolicy } from '../../src/access/presets.ts';
import { DISPOSITION, ENDPOINTS, type Endpoint, ENDPOINT_CLASSES as TABLE_CLASSES } from '../../src/plaid/endpoints.ts';

/** Every endpoint of the table against every way to grant it. */

const TABLE = ENDPOINTS.endpoints;
const NOTHING = presetPolicy('read-only', []);
const granting = (change: Partial<Policy>) =>
  compilePolicy(parsePolicy({ ...NOTHING, classes: [], endpoints: [], ...change }));
const factsOf = (endpoint: Endpoint) => ({
  path: endpoint.path,
  class: endpoint.class,
  listsAll: endpoint.reach === 'client',
  releases: [],
  effect: endpoint.effect,
});

test('the policy and the endpoint table speak of the same classes and kinds', () => {
  assert.deepEqual([...ENDPOINT_CLASSES], [...TABLE_CLASSES]);
  const released = Object.entries(DISPOSITION).filter(([, disposition]) => disposition === 'released');
  assert.deepEqual(released.map(([kind]) => kind).sort(), [...RELEASED_KINDS].sort());
});

test('the last segment of a path tells every removal and rotation of the table', () => {
  // By path, since one of Plaid's paths removes with PUT and tells with GET.
  for (const [path, rows] of Map.groupBy(TABLE, (endpoint) => endpoint.path)) {
    const does = (effect: Endpoint['effect']) => rows.some((endpoint) => endpoint.effect === effect);
    assert.equal(effectOf({ path }), does('remove') ? 'removal' : does('rotate') ? 'rotation' : null, path);
  }
});

test('each endpoint opens to its class, its glob or its path, as far as it is guarded', () => {
  assert.ok(TABLE.length > 340);
  const byClass = new Map(ENDPOINT_CLASSES.map((name) => [name, granting({ classes: [name] })]));
  const nothing = granting({});
  const seen = { exactOnly: 0, named: 0, ordinary: 0 };
  for (const endpoint of TABLE) {
    const { path, effect, reach } = endpoint;
    const facts = factsOf(endpoint);
    const exactOnly = effect === 'remove' || effect === 'rotate' || reach === 'client';
    const named = !exactOnly && (endpoint.class === 'money' || endpoint.class === 'admin');
    seen[exactOnly ? 'exactOnly' : named ? 'named' : 'ordinary']++;

    assert.equal(allowsEndpoint(nothing, facts), false, path);
    for (const [name, policy] of byClass) {
      assert.equal(allowsEndpoint(policy, facts), name === endpoint.class && !exactOnly, `${name}: ${path}`);
    }
    assert.equal(allowsEndpoint(granting({ endpoints: [path] }), facts), true, path);
    assert.equal(allowsEndpoint(granting({ endpoints: [path], denied: [path] }), facts), false, path);
    const segments = path.split('/');
    for (let depth = 2; depth < segments.length; depth++) {
      const glob = `${segments.slice(0, depth).join('/')}/*`;
      assert.equal(allowsEndpoint(granting({ endpoints: [glob] }), facts), !exactOnly && !named, `${glob}: ${path}`);
      const denied = granting({ classes: [endpoint.class], endpoints: [path], denied: [glob] });
      assert.equal(allowsEndpoint(denied, facts), false, `not ${glob}: ${path}`);
    }
  }
  assert.ok(seen.exactOnly > 50 && seen.named > 50 && seen.ordinary > 150, JSON.stringify(seen));
});

test('an endpoint grants nothing to its neighbours', () => {
  for (const granted of ['/item/get', '/item/remove', '/transfer/create', '/user/get']) {
    const policy = granting({ endpoints: [granted] });
    const opened = TABLE.filter((endpoint) => allowsEndpoint(policy, factsOf(endpoint))).map(({ path }) => path);
    assert.deepEqual(opened, [granted]);
  }
});

test("every path of a preset is in the table, and none of them reaches beyond what is the caller's own", () => {
  for (const name of PRESETS) {
    const policy = compilePolicy(parsePolicy(presetPolicy(name, [])));
    for (const path of policy.policy.endpoints)
      assert.ok(
        TABLE.some((endpoint) => endpoint.path === path),
        path,
      );
    for (const endpoint of TABLE) {
      if (!allowsEndpoint(policy, factsOf(endpoint))) continue;
      assert.notEqual(endpoint.reach, 'client', endpoint.path);
      assert.ok(endpoint.class !== 'money' && endpoint.class !== 'admin', endpoint.path);
      if (name === 'read-only') assert.ok(endpoint.effect === 'read', `${endpoint.path} is no reading`);
    }
  }
});
