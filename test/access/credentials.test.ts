import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, matchingKey, sameDigest } from '../../src/access/credentials.ts';
import { Secret } from '../../src/base/secret.ts';

const key = (text: string, expiresAt: number | null = null) => ({ keyId: text, sha256: digestOf(text), expiresAt });

test('either of two valid keys opens, and neither after its end', () => {
  const keys = [key('old', 1_000), key('new')];
  assert.equal(matchingKey(keys, digestOf('old'), 999), 'old');
  assert.equal(matchingKey(keys, digestOf('old'), 1_000), null);
  assert.equal(matchingKey(keys, digestOf('new'), 1_000), 'new');
  assert.equal(matchingKey(keys, digestOf(new Secret('new')), 0), 'new');
});

test('nobody has no key: neither guesses nor the all-zero digest match', () => {
  assert.equal(matchingKey([], Buffer.alloc(32), 0), null);
  assert.equal(matchingKey([key('a')], Buffer.alloc(32), 0), null);
  assert.equal(matchingKey([key('a')], digestOf('b'), 0), null);
});

test('digests of a wrong length are refused, not compared', () => {
  assert.equal(sameDigest(Buffer.alloc(0), Buffer.alloc(0)), false);
  assert.equal(sameDigest(digestOf('a').subarray(0, 16), digestOf('a').subarray(0, 16)), false);
  assert.equal(matchingKey([key('a')], digestOf('a').subarray(0, 31), 0), null);
});
