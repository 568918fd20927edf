import assert from 'node:assert/strict';
import { createSecretKey, randomUUID } from 'node:crypto';
import { before, test } from 'node:test';
import { inspect } from 'node:util';
import fc from 'fast-check';
import type { Admission } from '../../src/access/admission.ts';
import { StrongroomError } from '../../src/base/errors.ts';
import type { RecordId } from '../../src/base/ids.ts';
import { Secret } from '../../src/base/secret.ts';
import {
  type DataKey,
  dataKeyIdOf,
  ENVELOPE_OVERHEAD,
  open,
  PLAINTEXT_LIMIT,
  type RecordBinding,
  seal,
} from '../../src/envelope/envelope.ts';
import { craft, openByTheBook } from './independent.ts';
import { admissionFor, fixedRandom, someBinding, someKey, TOKEN } from './support.ts';

const KEY = someKey();
const BINDING = someBinding();
const PLAIN_BINDING = {
  deployment_id: BINDING.deploymentId,
  plaid_environment: BINDING.plaidEnvironment,
  plaid_client_id: BINDING.plaidClientId,
  record_id: BINDING.recordId,
  kind: BINDING.kind,
  version: BINDING.version,
};
let admission: Admission;
before(async () => {
  admission = await admissionFor(BINDING.recordId);
});

const sealed = (binding = BINDING, key = KEY, text = TOKEN) => seal(key, binding, new Secret(text));

/** One answer for every way of being broken: code, sentence and facts tell nothing apart. */
function assertBroken(bytes: Uint8Array, binding: RecordBinding = BINDING, key: DataKey = KEY, what = ''): void {
  assert.throws(
    () => open(key, binding, bytes, admission),
    (error: unknown) => {
      assert.ok(error instanceof StrongroomError, what);
      assert.equal(error.code, 'SEAL_BROKEN', what);
      assert.equal(error.cause, undefined, what);
      assert.deepEqual(
        error.facts,
        { record: binding.recordId, kind: binding.kind, version: binding.version },
        `${what}: the facts tell why`,
      );
      return true;
    },
    what,
  );
}

test('what is sealed opens, byte for byte, for any text and any binding', () => {
  const visible = fc.string({
    unit: fc.integer({ min: 0x21, max: 0x7e }).map((c) => String.fromCharCode(c)),
    minLength: 1,
    maxLength: 128,
  });
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 300 }),
      fc.tuple(visible, fc.constantFrom('sandbox' as const, 'production' as const), visible, fc.uuid(), visible),
      fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      (text, [deploymentId, plaidEnvironment, plaidClientId, recordId, kind], version) => {
        const binding = {
          deploymentId,
          plaidEnvironment,
          plaidClientId,
          recordId: recordId as RecordId,
          kind,
          version,
        };
        const bytes = seal(KEY, binding, new Secret(text));
        assert.equal(open(KEY, binding, bytes, admission).reveal(), text);
        assert.equal(bytes.length, Buffer.byteLength(text) + ENVELOPE_OVERHEAD);
        assert.equal(dataKeyIdOf(bytes), KEY.id);
      },
    ),
  );
});

test('the shortest and the longest secret fit, one byte more or none does not', () => {
  for (const text of ['x', 'x'.repeat(PLAINTEXT_LIMIT), 'é'.repeat(PLAINTEXT_LIMIT / 2)]) {
    assert.equal(open(KEY, BINDING, sealed(BINDING, KEY, text), admission).reveal(), text);
  }
  for (const text of [
    '',
    'x'.repeat(PLAINTEXT_LIMIT + 1),
    'é'.repeat(PLAINTEXT_LIMIT / 2 + 1),
    'lone \ud800 surrogate',
  ]) {
    assert.throws(() => seal(KEY, BINDING, new Secret(text)), { code: 'INPUT_INVALID' });
  }
});

test('an envelope of one byte too many is refused even when everything in it is authentic', () => {
  const parts = { dataKey: KEY.key.export(), id: KEY.id, salt: Buffer.alloc(32, 1), nonce: Buffer.alloc(12, 2) };
  const longest = craft(parts, PLAIN_BINDING, Buffer.alloc(PLAINTEXT_LIMIT, 'x'));
  assert.equal(open(KEY, BINDING, longest, admission).reveal().length, PLAINTEXT_LIMIT);
  assertBroken(craft(parts, PLAIN_BINDING, Buffer.alloc(PLAINTEXT_LIMIT + 1, 'x')));
});

test('a change of any bit of any byte is refused', () => {
  const bytes = sealed();
  for (let at = 0; at < bytes.length; at++) {
    for (let bit = 1; bit < 256; bit <<= 1) {
      const altered = Buffer.from(bytes);
      altered[at] = (altered[at] as number) ^ bit;
      assertBroken(altered, BINDING, KEY, `bit ${bit} of byte ${at}`);
    }
  }
});

test('every shorter and every longer envelope is refused', () => {
  const bytes = sealed();
  for (let length = 0; length < bytes.length; length++)
    assertBroken(bytes.subarray(0, length), BINDING, KEY, `${length}`);
  for (const more of [Buffer.of(0), Buffer.alloc(16), bytes]) assertBroken(Buffer.concat([bytes, more]));
  assertBroken(Buffer.concat([Buffer.of(0), bytes]));
  assertBroken(Buffer.alloc(PLAINTEXT_LIMIT + ENVELOPE_OVERHEAD + 1));
});

test('a record opens for its own deployment, environment, client, record, kind and version only', () => {
  const bytes = sealed();
  const others: Partial<RecordBinding>[] = [
    { deploymentId: randomUUID() },
    { plaidEnvironment: 'production' },
    { plaidClientId: '5f0c0b0a0f0e0d0c0b0a0909' },
    { recordId: randomUUID() as RecordId },
    { kind: 'user' },
    { version: 2 },
    { version: 4 },
  ];
  for (const other of others) assertBroken(bytes, someBinding(other), KEY, JSON.stringify(other));
  assert.equal(open(KEY, BINDING, bytes, admission).reveal(), TOKEN);
});

test('rows swapped between two records, and an old ciphertext in a newer row, do not open', () => {
  const mine = someBinding();
  const theirs = someBinding({ recordId: randomUUID() as RecordId });
  assertBroken(sealed(theirs), mine);
  assertBroken(sealed(mine), theirs);
  assertBroken(sealed(someBinding({ version: 1 })), someBinding({ version: 2 }));
});

test('no two bindings are confused, wherever the borders of their fields lie', () => {
  // One run of characters, cut into the five texts at two sets of places.
  const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 11 }), { minLength: 4, maxLength: 4 });
  const cut = (run: string, places: number[]): RecordBinding => {
    const at = [0, ...places.toSorted((a, b) => a - b), run.length];
    const [deploymentId, plaidEnvironment, plaidClientId, recordId, kind] = at.map((from, i) =>
      run.slice(from, at[i + 1]),
    );
    return { deploymentId, plaidEnvironment, plaidClientId, recordId, kind, version: 1 } as RecordBinding;
  };
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', '!'), minLength: 12, maxLength: 12 }),
      cuts,
      cuts,
      (run, one, two) => {
        const bytes = seal(KEY, cut(run, one), new Secret(TOKEN));
        assert.equal(open(KEY, cut(run, one), bytes, admission).reveal(), TOKEN);
        if (JSON.stringify(cut(run, one)) !== JSON.stringify(cut(run, two))) assertBroken(bytes, cut(run, two));
      },
    ),
  );
});

test('another key, the same key under another id, and a key of another purpose open nothing', () => {
  const bytes = sealed();
  assertBroken(bytes, BINDING, someKey());
  assertBroken(bytes, BINDING, { ...someKey(), id: KEY.id });
  assertBroken(bytes, BINDING, { ...KEY, id: randomUUID() });
  assertBroken(bytes, BINDING, { ...KEY, purpose: 'index' });
  assert.throws(() => seal({ ...KEY, purpose: 'fingerprint' }, BINDING, new Secret(TOKEN)), RangeError);
  assert.throws(() => seal({ ...KEY, id: KEY.id.toUpperCase() }, BINDING, new Secret(TOKEN)), RangeError);
  assert.throws(() => seal({ ...KEY, key: createSecretKey(Buffer.alloc(16)) }, BINDING, new Secret(TOKEN)), RangeError);
});

test('a binding out of bounds seals nothing and opens nothing', () => {
  const bytes = sealed();
  const wrong: Partial<RecordBinding>[] = [
    { version: 0 },
    { version: -1 },
    { version: 1.5 },
    { version: Number.NaN },
    { version: 2 ** 31 },
    { kind: '' },
    { kind: 'with space' },
    { kind: 'é' },
    { deploymentId: 'x'.repeat(129) },
    { deploymentId: undefined as unknown as string },
    { plaidClientId: 'a\0b' },
    { plaidClientId: null as unknown as string },
  ];
  for (const change of wrong) {
    const binding = someBinding(change);
    assert.throws(() => seal(KEY, binding, new Secret(TOKEN)), RangeError, JSON.stringify(change));
    assertBroken(bytes, binding, KEY, JSON.stringify(change));
  }
});

test('one secret sealed twice gives envelopes that share nothing but the header', () => {
  const one = sealed();
  const two = sealed();
  assert.deepEqual(one.subarray(0, 21), two.subarray(0, 21));
  for (let at = 21; at + 8 <= one.length; at++) assert.equal(two.indexOf(one.subarray(at, at + 8)), -1);
});

test('no eight bytes of the secret stand in the envelope, and none of it in an error', () => {
  const bytes = sealed();
  for (let at = 0; at + 8 <= TOKEN.length; at++) assert.equal(bytes.indexOf(TOKEN.slice(at, at + 8)), -1);
  bytes[100] = (bytes[100] as number) ^ 1;
  try {
    open(KEY, BINDING, bytes, admission);
    assert.fail('opened');
  } catch (error) {
    assert.doesNotMatch(inspect(error, { depth: 9, showHidden: true }), /token-for-tests/);
  }
});

test('salt and nonce come from the given randomness, 44 bytes a sealing', () => {
  const random = fixedRandom('seal');
  const expected = fixedRandom('seal').bytes(44);
  const bytes = seal(KEY, BINDING, new Secret(TOKEN), random);
  assert.deepEqual(Buffer.concat([bytes.subarray(21, 53), bytes.subarray(85, 97)]), expected);
});

test('an independent reading of the format opens what we seal', () => {
  assert.deepEqual(openByTheBook(KEY.key.export(), KEY.id, PLAIN_BINDING, sealed()), Buffer.from(TOKEN));
});

test('a view into a larger buffer opens like a copy, and is left as it was', () => {
  const bytes = sealed();
  const larger = new Uint8Array(bytes.length + 9).fill(7);
  larger.set(bytes, 5);
  const view = larger.subarray(5, 5 + bytes.length);
  assert.equal(dataKeyIdOf(view), KEY.id);
  assert.equal(open(KEY, BINDING, view, admission).reveal(), TOKEN);
  assert.deepEqual(Buffer.from(view), bytes);
});

test('the data key id of something that is no envelope is refused', () => {
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.alloc(200),
    sealed().subarray(0, 113),
    Buffer.from('SRE\x01\x02'.padEnd(200)),
  ]) {
    assert.throws(() => dataKeyIdOf(bytes), { code: 'SEAL_BROKEN' });
  }
});
