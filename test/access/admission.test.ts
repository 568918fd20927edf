import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Admission, admit, covers, type Recorder } from '../../src/access/admission.ts';
import { type AccessCall, compilePolicy, decide } from '../../src/access/decide.ts';
import { presetPolicy } from '../../src/access/presets.ts';
import { codeOf, StrongroomError } from '../../src/base/errors.ts';
import type { ApplicationId, RecordId } from '../../src/base/ids.ts';

const ME = 'a'.repeat(24) as ApplicationId;
const FIRST = '00000000-0000-4000-8000-000000000001' as RecordId;
const SECOND = '00000000-0000-4000-8000-000000000002' as RecordId;
const ENTRY = { writer: 'w', counter: 7 };
const POLICY = compilePolicy(presetPolicy('demo', ['192.0.2.0/24']));

const recorder = (
  append: (kind: string, fields: Readonly<Record<string, unknown>>) => Promise<typeof ENTRY>,
): Recorder => ({ append: (kind: string, fields: object) => append(kind, { ...fields }) });

function callFor(change: Partial<AccessCall> = {}): AccessCall {
  return {
    application: ME,
    endpoint: { path: '/accounts/get', class: 'item', listsAll: false, releases: [] },
    source: '192.0.2.1',
    requestId: 'request1',
    records: [{ id: FIRST, owner: ME }],
    subjectOwners: [],
    subjectMissing: false,
    frozen: new Set(),
    ...change,
  };
}

test('an admitted call has its entry first, and covers its own records only', async () => {
  const call = callFor();
  const recorded: unknown[] = [];
  let durable = false;
  const admission = await admit(
    call,
    decide(POLICY, call),
    recorder(async (kind, fields) => {
      recorded.push([kind, fields]);
      await new Promise((done) => setImmediate(done));
      durable = true;
      return ENTRY;
    }),
  );
  assert.ok(durable, 'admitted before the entry was durable');
  assert.deepEqual(recorded, [
    [
      'access.admitted',
      {
        application: ME,
        endpoint: '/accounts/get',
        source: '192.0.2.1',
        records: FIRST,
        request: 'request1',
        class: 'item',
      },
    ],
  ]);
  assert.deepEqual([admission.application, admission.endpoint, admission.entry], [ME, '/accounts/get', ENTRY]);
  assert.equal(covers(admission, FIRST), true);
  assert.equal(covers(admission, SECOND), false);
});

test('a denial is recorded, with its true reason, before the caller hears its code', async () => {
  const call = callFor({ records: [{ id: FIRST, owner: 'b'.repeat(24) }] });
  const recorded: [string, Record<string, unknown>][] = [];
  await assert.rejects(
    admit(
      call,
      decide(POLICY, call),
      recorder(async (kind, fields) => {
        recorded.push([kind, fields]);
        return ENTRY;
      }),
    ),
    (error) => {
      assert.equal(recorded.length, 1);
      assert.ok(error instanceof StrongroomError);
      assert.equal(error.code, 'HANDLE_UNKNOWN');
      assert.ok(!JSON.stringify([error.message, error.facts]).includes('foreign'));
      return true;
    },
  );
  assert.equal(recorded[0]?.[0], 'access.denied');
  assert.equal(recorded[0]?.[1].reason, 'record_foreign');
});

test('a limit that said no is a denial like any other', async () => {
  const call = callFor();
  const kinds: string[] = [];
  const refused = admit(
    call,
    { ok: false, code: 'RATE_EXCEEDED', reason: 'rate' },
    recorder(async (kind) => {
      kinds.push(kind);
      return ENTRY;
    }),
  );
  await assert.rejects(refused, (error) => codeOf(error) === 'RATE_EXCEEDED');
  assert.deepEqual(kinds, ['access.denied']);
});

for (const [broken, code] of [
  [new Error('disk full'), 'AUDIT_UNAVAILABLE'],
  [new StrongroomError('DATABASE_UNAVAILABLE'), 'AUDIT_UNAVAILABLE'],
  [new StrongroomError('AUDIT_UNAVAILABLE'), 'AUDIT_UNAVAILABLE'],
  [new StrongroomError('OVERLOADED'), 'OVERLOADED'],
] as const) {
  test(`without a durable entry nobody is admitted nor told the decision (${broken.message})`, async () => {
    for (const call of [callFor(), callFor({ source: '198.51.100.1' })]) {
      await assert.rejects(
        admit(
          call,
          decide(POLICY, call),
          recorder(async () => {
            throw broken;
          }),
        ),
        (error) => codeOf(error) === code,
      );
    }
  });
}

test('an admission cannot be made, copied, or talked into covering more', async () => {
  const call = callFor();
  const admission = await admit(
    call,
    decide(POLICY, call),
    recorder(async () => ENTRY),
  );
  const lookalikes = [
    {},
    { ...admission },
    structuredClone({ ...admission }),
    Object.create(admission),
    Object.create(Object.getPrototypeOf(admission)),
    new Proxy(admission, {}),
    JSON.parse(JSON.stringify(admission)),
    null,
    undefined,
    'admission',
  ];
  for (const fake of lookalikes) assert.equal(covers(fake as Admission, FIRST), false);

  const Made = admission.constructor as new (...parts: unknown[]) => unknown;
  for (const mint of [undefined, null, Symbol('mint'), admission]) {
    assert.throws(() => new Made(mint, call, [FIRST, SECOND], ENTRY), TypeError);
  }
  assert.throws(() => Object.assign(admission, { records: [SECOND] }), TypeError);
  // Nor does a later change of the call.
  (call.records as unknown[]).push({ id: SECOND, owner: ME });
  assert.equal(covers(admission, SECOND), false);
});

test('a yes that the policy did not give is not taken', async () => {
  let recorded = 0;
  const forged = admit(
    callFor(),
    { ok: true },
    recorder(async () => {
      recorded++;
      return ENTRY;
    }),
  );
  await assert.rejects(forged, (error) => codeOf(error) === 'INTERNAL');
  assert.equal(recorded, 0);
});

test('a caller without an address is recorded without one', async () => {
  const call = callFor({ source: 'unknown' });
  let source: unknown = 'not asked';
  const refused = admit(
    call,
    decide(POLICY, call),
    recorder(async (_, fields) => {
      source = fields.source;
      return ENTRY;
    }),
  );
  await assert.rejects(refused, (error) => codeOf(error) === 'SOURCE_DENIED');
  assert.equal(source, null);
});
