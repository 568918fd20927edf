import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RecordId } from '../../src/base/ids.ts';
import { Secret } from '../../src/base/secret.ts';
import { type DataKey, keyCheck, newKey, passesKeyCheck } from '../../src/envelope/data-key.ts';
import { lengthPrefixed } from '../../src/envelope/encoding.ts';
import { fingerprint, indexMac, recordHandleId } from '../../src/envelope/macs.ts';
import { fixedRandom, someKey, TOKEN } from './support.ts';

const { key } = someKey('index');

test('two lists of texts have the same bytes only when they are the same list', () => {
  const list = fc.array(fc.string({ unit: fc.constantFrom('a', '\0', '\x01', 'é'), maxLength: 4 }), { maxLength: 4 });
  fc.assert(
    fc.property(list, list, (one, two) => {
      assert.equal(lengthPrefixed(...one).equals(lengthPrefixed(...two)), JSON.stringify(one) === JSON.stringify(two));
    }),
    { numRuns: 1_000 },
  );
  // Joined without borders, all of these would be one.
  const lists = [['ab', 'c'], ['a', 'bc'], ['abc'], ['', 'abc'], ['abc', '']];
  assert.equal(new Set(lists.map((texts) => lengthPrefixed(...texts).toString('hex'))).size, lists.length);
});

test('a digest depends on the key, the purpose, every part and the borders between them', () => {
  const all = [
    indexMac(key, 'subject', 'transfer_id', 'x'),
    indexMac(key, 'public_token', 'transfer_id', 'x'),
    indexMac(key, 'subject', 'transfer_i', 'dx'),
    indexMac(key, 'subject', 'transfer_idx'),
    indexMac(key, 'subject', 'transfer_id', 'x', ''),
    indexMac(key, 'subject', 'transfer_id', 'X'),
    indexMac(someKey('index').key, 'subject', 'transfer_id', 'x'),
    fingerprint(key, new Secret('x')),
    keyCheck({ id: 'x', purpose: 'index', key }),
  ];
  assert.equal(new Set(all.map((digest) => digest.toString('hex'))).size, all.length);
  for (const digest of all) assert.equal(digest.length, 32);
  assert.deepEqual(indexMac(key, 'subject', 'transfer_id', 'x'), all[0]);
});

test('a record has one handle id, of 16 bytes, and another under another key', () => {
  const record = '7b0c9f7e-5a3e-4b7b-9a54-0d8a0d6f1c11' as RecordId;
  assert.equal(recordHandleId(key, record).length, 16);
  assert.deepEqual(recordHandleId(key, record), recordHandleId(key, record));
  assert.notDeepEqual(recordHandleId(key, record), recordHandleId(someKey('index').key, record));
  assert.notDeepEqual(recordHandleId(key, record), recordHandleId(key, record.replace('7', '8') as RecordId));
});

test('texts that would be encoded alike are refused and not digested', () => {
  for (const text of ['\ud800', 'a\udfff', '\udc00\ud800']) {
    assert.throws(() => indexMac(key, 'subject', 'user_id', text), { code: 'INPUT_INVALID' });
    assert.throws(() => fingerprint(key, new Secret(text)), { code: 'INPUT_INVALID' });
    assert.throws(() => lengthPrefixed(text), RangeError);
  }
});

test('a fingerprint holds no piece of its token', () => {
  const digest = fingerprint(key, new Secret(TOKEN));
  for (let at = 0; at + 4 <= TOKEN.length; at++) assert.equal(digest.indexOf(TOKEN.slice(at, at + 4)), -1);
});

test('a key-check value fits its own key, id and purpose only', () => {
  const dataKey = someKey();
  const check = keyCheck(dataKey);
  assert.ok(passesKeyCheck(dataKey, check));
  const others: DataKey[] = [someKey(), { ...dataKey, purpose: 'index' }, { ...dataKey, id: someKey().id }];
  for (const other of others) assert.ok(!passesKeyCheck(other, check));
  for (let at = 0; at < check.length; at++) {
    const altered = Buffer.from(check);
    altered[at] = (altered[at] as number) ^ 0x80;
    assert.ok(!passesKeyCheck(dataKey, altered));
  }
  for (const length of [0, 16, 31, 33])
    assert.ok(!passesKeyCheck(dataKey, Buffer.concat([check, check]).subarray(0, length)));
});

test('the bytes that a key is made from are zeroed', () => {
  const random = fixedRandom('zeroed');
  const given: Buffer[] = [];
  const made = newKey({
    ...random,
    bytes: (length) => {
      const bytes = random.bytes(length);
      given.push(bytes);
      return bytes;
    },
  });
  assert.deepEqual(made.export(), fixedRandom('zeroed').bytes(32));
  assert.deepEqual(given, [Buffer.alloc(32)]);
});
