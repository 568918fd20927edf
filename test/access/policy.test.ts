import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AccessCall, compilePolicy, decide, type EndpointFacts, effectOf } from '../../src/access/decide.ts';
import { ENDPOINT_CLASSES, type Policy, parsePolicy, RELEASED_KINDS } from '../../src/access/policy.ts';
import { ANYWHERE, PRESETS, presetPolicy } from '../../src/access/presets.ts';
import { codeOf, type StrongroomError } from '../../src/base/errors.ts';
import type { ApplicationId, RecordId } from '../../src/base/ids.ts';

const ME = 'a'.repeat(24) as ApplicationId;
const OTHER = 'b'.repeat(24) as ApplicationId;
const RECORD = '00000000-0000-4000-8000-000000000001' as RecordId;

const NOTHING: Policy = {
  classes: [],
  endpoints: [],
  denied: [],
  shares: [],
  sourceCidrs: [],
  rate: { perSecond: 1, burst: 1 },
  dayQuota: 0,
  budgets: { distinctItemsPerHour: 0, removalsPerDay: 0, rotationsPerDay: 0 },
  releases: [],
};
const policyWith = (change: Partial<Policy>): Policy =>
  parsePolicy({ ...NOTHING, sourceCidrs: [...ANYWHERE], ...change });
const endpoint = (path: string, change: Partial<EndpointFacts> = {}): EndpointFacts => ({
  path,
  class: 'item',
  listsAll: false,
  releases: [],
  ...change,
});
const callTo = (target: EndpointFacts, change: Partial<AccessCall> = {}): AccessCall => ({
  application: ME,
  endpoint: target,
  source: '192.0.2.1',
  requestId: null,
  records: [],
  subjectOwners: [],
  subjectMissing: false,
  frozen: new Set(),
  ...change,
});
const verdict = (policy: Policy, call: AccessCall) => {
  const decision = decide(compilePolicy(policy), call);
  return decision.ok ? 'ok' : decision.code;
};

test('a policy that grants nothing allows nothing', () => {
  for (const kind of ENDPOINT_CLASSES) {
    assert.equal(verdict(policyWith({}), callTo(endpoint('/x/get', { class: kind }))), 'ENDPOINT_DENIED');
  }
});

test('each class opens its own endpoints and no others', () => {
  for (const granted of ENDPOINT_CLASSES) {
    for (const asked of ENDPOINT_CLASSES) {
      const answer = verdict(policyWith({ classes: [granted] }), callTo(endpoint('/x/get', { class: asked })));
      assert.equal(answer, granted === asked ? 'ok' : 'ENDPOINT_DENIED', `${granted} -> ${asked}`);
    }
  }
});

test('a removal, a rotation or an answer over the whole Plaid client needs its exact path', () => {
  for (const guarded of [
    endpoint('/item/remove'),
    endpoint('/user/items/remove', { class: 'user' }),
    endpoint('/item/access_token/invalidate'),
    endpoint('/transfer/list', { class: 'money', listsAll: true }),
  ]) {
    const { path } = guarded;
    const glob = `${path.slice(0, path.lastIndexOf('/'))}/*`;
    assert.equal(verdict(policyWith({ classes: [...ENDPOINT_CLASSES] }), callTo(guarded)), 'ENDPOINT_DENIED', path);
    assert.equal(verdict(policyWith({ endpoints: [glob] }), callTo(guarded)), 'ENDPOINT_DENIED', path);
    assert.equal(verdict(policyWith({ endpoints: [path] }), callTo(guarded)), 'ok', path);
  }
});

test('money and admin need their class or the exact path: a glob does not reach them', () => {
  for (const kind of ['money', 'admin'] as const) {
    const target = endpoint('/processor/bank_transfer/create', { class: kind });
    assert.equal(verdict(policyWith({ endpoints: ['/processor/*'] }), callTo(target)), 'ENDPOINT_DENIED');
    assert.equal(verdict(policyWith({ endpoints: [target.path] }), callTo(target)), 'ok');
    assert.equal(verdict(policyWith({ classes: [kind] }), callTo(target)), 'ok');
  }
});

test('a glob covers whole segments only', () => {
  const policy = policyWith({ endpoints: ['/item/*'] });
  assert.equal(verdict(policy, callTo(endpoint('/item/get'))), 'ok');
  assert.equal(verdict(policy, callTo(endpoint('/item/webhook/update'))), 'ok');
  assert.equal(verdict(policy, callTo(endpoint('/items/get'))), 'ENDPOINT_DENIED');
  assert.equal(verdict(policy, callTo(endpoint('/item'))), 'ENDPOINT_DENIED');
});

test('what is denied stays denied, whatever grants it', () => {
  const policy = policyWith({
    classes: ['item'],
    endpoints: ['/item/get', '/item/*'],
    denied: ['/item/get', '/item/webhook/*'],
  });
  assert.equal(verdict(policy, callTo(endpoint('/item/get'))), 'ENDPOINT_DENIED');
  assert.equal(verdict(policy, callTo(endpoint('/item/webhook/update'))), 'ENDPOINT_DENIED');
  assert.equal(verdict(policy, callTo(endpoint('/item/import'))), 'ok');
});

test('each kind of released token needs its own grant', () => {
  for (const asked of RELEASED_KINDS) {
    const target = endpoint('/x/create', { releases: [asked] });
    for (const granted of RELEASED_KINDS) {
      const answer = verdict(policyWith({ classes: ['item'], releases: [granted] }), callTo(target));
      assert.equal(answer, granted === asked ? 'ok' : 'TOKEN_CLASS_DENIED');
    }
    // The release alone is no grant of the endpoint.
    assert.equal(verdict(policyWith({ releases: [asked] }), callTo(target)), 'ENDPOINT_DENIED');
  }
});

test("somebody else's record or subject gets the same answer as one that does not exist, unless it is shared", () => {
  const policy = policyWith({ classes: ['item'] });
  const target = endpoint('/accounts/get');
  const foreign = decide(compilePolicy(policy), callTo(target, { records: [{ id: RECORD, owner: OTHER }] }));
  const unknown = decide(compilePolicy(policy), callTo(target, { records: [null] }));
  assert.ok(!foreign.ok && !unknown.ok);
  assert.equal(foreign.code, unknown.code);
  assert.notEqual(foreign.reason, unknown.reason); // the audit log may know

  assert.equal(verdict(policy, callTo(target, { subjectOwners: [OTHER] })), 'SUBJECT_FOREIGN');
  assert.equal(verdict(policy, callTo(target, { subjectOwners: [null] })), 'SUBJECT_FOREIGN');
  // One good record does not carry a bad one.
  const mixed = [
    { id: RECORD, owner: ME },
    { id: RECORD, owner: OTHER },
  ];
  assert.equal(verdict(policy, callTo(target, { records: mixed })), 'HANDLE_UNKNOWN');
  const sharing = policyWith({ classes: ['item'], shares: [OTHER] });
  assert.equal(verdict(sharing, callTo(target, { records: mixed, subjectOwners: [ME, OTHER] })), 'ok');
});

test('an application that may not call an endpoint learns nothing about the handle it sends', () => {
  const policy = policyWith({});
  const target = endpoint('/accounts/get');
  const answers = [[null], [{ id: RECORD, owner: ME }], [{ id: RECORD, owner: OTHER }]].map((records) =>
    verdict(policy, callTo(target, { records })),
  );
  assert.deepEqual(answers, ['ENDPOINT_DENIED', 'ENDPOINT_DENIED', 'ENDPOINT_DENIED']);
});

test('a call that names no subject where one belongs needs the exact path', () => {
  const target = endpoint('/user/get', { class: 'user' });
  const call = callTo(target, { subjectMissing: true });
  assert.equal(verdict(policyWith({ classes: ['user'] }), call), 'SUBJECT_MISSING');
  assert.equal(verdict(policyWith({ classes: ['user'], endpoints: ['/user/*'] }), call), 'SUBJECT_MISSING');
  assert.equal(verdict(policyWith({ endpoints: ['/user/get'] }), call), 'ok');
});

test('an empty list of sources means nobody, and 0.0.0.0/0 means IPv4 only', () => {
  const target = endpoint('/item/get');
  const from = (sourceCidrs: string[], source: string) =>
    verdict(policyWith({ classes: ['item'], sourceCidrs }), callTo(target, { source }));
  assert.equal(from([], '127.0.0.1'), 'SOURCE_DENIED');
  assert.equal(from(['10.0.0.0/8'], '10.255.0.1'), 'ok');
  assert.equal(from(['10.0.0.0/8'], '::ffff:10.255.0.1'), 'ok');
  assert.equal(from(['10.0.0.0/8'], '11.0.0.1'), 'SOURCE_DENIED');
  assert.equal(from(['0.0.0.0/0'], '2001:db8::1'), 'SOURCE_DENIED');
  assert.equal(from(['::/0'], '192.0.2.1'), 'SOURCE_DENIED');
  assert.equal(from(['2001:db8::/32'], '2001:0DB8:0::1'), 'ok');
  assert.equal(from([...ANYWHERE], 'unknown'), 'SOURCE_DENIED');
});

test('a freeze stops its class or effect and nothing else', () => {
  const policy = policyWith({
    classes: ['item', 'user'],
    endpoints: ['/item/remove', '/item/access_token/invalidate'],
  });
  const answers = (frozen: string[]) =>
    ['/item/get', '/item/remove', '/item/access_token/invalidate'].map((path) =>
      verdict(policy, callTo(endpoint(path), { frozen: new Set(frozen) })),
    );
  const stopped = 'BUDGET_EXCEEDED';
  assert.deepEqual(answers([]), ['ok', 'ok', 'ok']);
  assert.deepEqual(answers(['item']), [stopped, stopped, stopped]);
  assert.deepEqual(answers(['removal']), ['ok', stopped, 'ok']);
  assert.deepEqual(answers(['rotation']), ['ok', 'ok', stopped]);
  assert.deepEqual(answers(['user', 'money']), ['ok', 'ok', 'ok']);
});

test('an endpoint that ends something is known by what the table says or by its last segment', () => {
  const effect = (path: string, effect: EndpointFacts['effect'] = 'change') =>
    effectOf({ path, effect: effect ?? 'change' });
  for (const path of [
    '/item/remove',
    '/oauth/revoke',
    '/item/products/terminate',
    '/item/application/unlink',
    '/a/delete',
  ]) {
    assert.equal(effect(path), 'removal', path);
  }
  assert.equal(effect('/item/access_token/invalidate'), 'rotation');
  assert.equal(effect('/new/erase', 'remove'), 'removal');
  assert.equal(effect('/new/renew', 'rotate'), 'rotation');
  for (const path of ['/item/get', '/remove/get', '/item/removed']) assert.equal(effect(path), null, path);
});

// Laws

const PATHS = [
  '/item/get',
  '/item/remove',
  '/item/access_token/invalidate',
  '/user/get',
  '/transfer/list',
  '/a/b/c',
  '/a/b',
];
const GLOBS = [...PATHS, '/item/*', '/user/*', '/a/*', '/a/b/*', '/transfer/*'];
const CIDRS = ['10.0.0.0/8', '10.1.0.0/16', '192.0.2.1', '::/0', '2001:db8::/32', '0.0.0.0/0'];
const SOURCES = ['10.1.2.3', '192.0.2.1', '2001:db8::5', '::ffff:10.9.9.9', '172.16.0.1', 'unknown'];
const policies: fc.Arbitrary<Policy> = fc.record({
  classes: fc.subarray([...ENDPOINT_CLASSES]),
  endpoints: fc.subarray(GLOBS),
  denied: fc.subarray(GLOBS, { maxLength: 2 }),
  shares: fc.subarray([OTHER, 'c'.repeat(24)]),
  sourceCidrs: fc.subarray(CIDRS),
  rate: fc.constant({ perSecond: 1, burst: 1 }),
  dayQuota: fc.constant(1),
  budgets: fc.constant({ distinctItemsPerHour: 1, removalsPerDay: 1, rotationsPerDay: 1 }),
  releases: fc.subarray([...RELEASED_KINDS]),
});
const calls: fc.Arbitrary<AccessCall> = fc.record({
  application: fc.constant(ME),
  endpoint: fc.record({
    path: fc.constantFrom(...PATHS),
    class: fc.constantFrom(...ENDPOINT_CLASSES),
    listsAll: fc.boolean(),
    releases: fc.subarray([...RELEASED_KINDS], { maxLength: 1 }),
  }),
  source: fc.constantFrom(...SOURCES),
  requestId: fc.constant(null),
  records: fc.array(fc.constantFrom(null, { id: RECORD, owner: ME }, { id: RECORD, owner: OTHER }), { maxLength: 2 }),
  subjectOwners: fc.array(fc.constantFrom(null, ME, OTHER), { maxLength: 2 }),
  subjectMissing: fc.boolean(),
  frozen: fc
    .subarray<string>([...ENDPOINT_CLASSES, 'removal', 'rotation'], { maxLength: 3 })
    .map((all) => new Set(all)),
});
const GRANTS = ['classes', 'endpoints', 'shares', 'sourceCidrs', 'releases'] as const;

test('law: taking a grant away, or adding a denial or a freeze, never allows more', () => {
  let allowed = 0;
  fc.assert(
    fc.property(
      policies,
      calls,
      fc.constantFrom(...GRANTS),
      fc.nat(),
      fc.constantFrom(...GLOBS),
      (policy, call, grant, at, glob) => {
        const before = decide(compilePolicy(policy), call).ok;
        if (before) allowed++;
        const list = [...policy[grant]] as string[];
        list.splice(at % Math.max(1, list.length), 1);
        const smaller = { ...policy, [grant]: list } as Policy;
        const denied = { ...policy, denied: [...policy.denied, glob] };
        assert.ok(before || !decide(compilePolicy(smaller), call).ok);
        assert.ok(before || !decide(compilePolicy(denied), call).ok);
        const frozen = new Set([...call.frozen, call.endpoint.class]);
        assert.ok(!decide(compilePolicy(policy), { ...call, frozen }).ok);
      },
    ),
    { numRuns: 3_000 },
  );
  assert.ok(allowed > 10, `only ${allowed} calls were allowed at all: the law was hardly tried`);
});

test('law: a policy survives its own JSON', () => {
  fc.assert(
    fc.property(policies, calls, (policy, call) => {
      const again = parsePolicy(JSON.parse(JSON.stringify(parsePolicy(policy))));
      assert.deepEqual(decide(compilePolicy(again), call), decide(compilePolicy(policy), call));
    }),
    { numRuns: 300 },
  );
});

// Hostile documents

function refusal(document: unknown): string {
  try {
    parsePolicy(document);
  } catch (error) {
    assert.equal(codeOf(error), 'INPUT_INVALID');
    return (error as StrongroomError).detail ?? '';
  }
  return assert.fail('was taken');
}

test('a document that does not fit is refused, naming the place and what belongs there', () => {
  assert.match(refusal({ ...NOTHING, classes: ['itme'] }), /policy\/classes\/0: must be one of item, user, money/);
  assert.match(refusal({ ...NOTHING, clases: [] }), /policy: unknown field "clases"/);
  assert.match(
    refusal({ ...NOTHING, budgets: { ...NOTHING.budgets, perMinute: 1 } }),
    /policy\/budgets: unknown field/,
  );
  assert.match(refusal({ ...NOTHING, dayQuota: '5' }), /policy\/dayQuota/);
  assert.match(refusal({ ...NOTHING, dayQuota: -1 }), /policy\/dayQuota/);
  assert.match(refusal({ ...NOTHING, dayQuota: 1.5 }), /policy\/dayQuota/);
  assert.match(
    refusal({ ...NOTHING, sourceCidrs: ['10.1.2.3/8'] }),
    /policy\/sourceCidrs\/0: must be an address or a CIDR/,
  );
  const { rate: _, ...rateless } = NOTHING;
  assert.match(refusal(rateless), /rate/);
  for (const path of [
    '/*',
    '*',
    '/item*',
    '/item/**',
    'item/get',
    '/item//get',
    '/item/%2e%2e',
    '/item/*/get',
    '/item/get\n',
    '/ite\u202em',
  ]) {
    assert.match(refusal({ ...NOTHING, endpoints: [path] }), /policy\/endpoints\/0/, JSON.stringify(path));
  }
  for (const id of ['A'.repeat(24), 'a'.repeat(23), `${'a'.repeat(24)}\n`, '*']) {
    assert.match(refusal({ ...NOTHING, shares: [id] }), /policy\/shares\/0/);
  }
  for (const wrong of [null, undefined, 7, 'policy', [], [NOTHING], () => NOTHING]) refusal(wrong);
});

test('control characters of a document do not come back in the message', () => {
  const message = refusal({ ...NOTHING, 'x\u001b[2K\r\n\u202e': 1 });
  assert.match(message, /^[\x20-\x7e]*$/);
});

test('prototype pollution opens nothing', () => {
  const pollution: Record<string, unknown> = {
    allow: true,
    ok: true,
    classes: ['money', 'item'],
    endpoints: ['/item/get'],
    sourceCidrs: [...ANYWHERE],
    releases: ['processor'],
    shares: [OTHER],
    has: () => true,
    covers: () => true,
  };
  const call = callTo(endpoint('/item/get'), { records: [{ id: RECORD, owner: OTHER }] });
  const policy = policyWith({});
  const compiled = compilePolicy(policy);
  const { classes: _, ...classless } = { ...NOTHING, sourceCidrs: [...ANYWHERE] };
  // Named plainly: the point is to touch the real Object.prototype.
  const everything = Object.prototype as unknown as Record<string, unknown>;
  try {
    for (const [name, value] of Object.entries(pollution)) {
      Object.defineProperty(everything, name, { value, configurable: true, writable: true, enumerable: false });
    }
    assert.equal(decide(compiled, call).ok, false);
    assert.equal(decide(compilePolicy(policy), call).ok, false);
    refusal(classless);
  } finally {
    for (const name of Object.keys(pollution)) delete everything[name];
  }
  refusal(JSON.parse(`{"__proto__": {"classes": ["item"]}, ${JSON.stringify(NOTHING).slice(1)}`));
  refusal(JSON.parse(`{"constructor": {"prototype": {"allow": true}}, ${JSON.stringify(NOTHING).slice(1)}`));
  // Inherited fields are no fields.
  refusal(Object.create(NOTHING));
});

test('a parsed policy cannot be changed afterwards, nor through the document it came from', () => {
  const document = { ...NOTHING, classes: ['item'] as string[] };
  const policy = parsePolicy(document);
  document.classes.push('money');
  assert.deepEqual([...policy.classes], ['item']);
  assert.throws(() => (policy.classes as string[]).push('money'), TypeError);
  assert.throws(() => Object.assign(policy, { dayQuota: 9 }), TypeError);
});

test('no preset moves money, administers, or removes anything but the demo', () => {
  for (const name of PRESETS) {
    const policy = parsePolicy(presetPolicy(name, [...ANYWHERE]));
    for (const kind of ['money', 'admin'] as const) {
      assert.equal(verdict(policy, callTo(endpoint('/x/get', { class: kind }))), 'ENDPOINT_DENIED', name);
    }
    const removal = verdict(policy, callTo(endpoint('/item/remove')));
    assert.equal(removal, name === 'demo' ? 'ok' : 'ENDPOINT_DENIED', name);
    assert.equal(verdict(policy, callTo(endpoint('/accounts/get'))), 'ok', name);
    assert.equal(
      verdict(parsePolicy(presetPolicy(name, [])), callTo(endpoint('/accounts/get'))),
      'SOURCE_DENIED',
      name,
    );
  }
});
