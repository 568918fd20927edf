import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import {
  base32,
  deploymentTag,
  formatApplicationKey,
  formatHandle,
  formatRequestId,
  fromBase32,
  isApplicationKey,
  looksLikeHandle,
  type PlaidEnvironment,
  parseHandle,
} from '../../src/base/ids.ts';

const root = join(import.meta.dirname, '../..');
const vectors = JSON.parse(readFileSync(join(root, 'test/vectors/identifiers.json'), 'utf8'));
const page = readFileSync(join(root, 'docs/formats/identifiers.md'), 'utf8');

const DIGITS = 'abcdefghijklmnopqrstuvwxyz234567';
/** What a finger, a font or an attacker may put in a digit's place. */
const CHARACTERS = [...DIGITS, ...DIGITS.toUpperCase(), '0', '1', '8', '9', '-', '_', '=', ' ', '\n', '\0', 'é', ''];

const anyId = fc.uint8Array({ minLength: 16, maxLength: 16 });
const anyTag = fc.integer({ min: 0, max: 2 ** 20 - 1 });
const anyEnvironment = fc.constantFrom<PlaidEnvironment>('sandbox', 'production');
const anyKey = fc.uint8Array({ minLength: 32, maxLength: 32 });

test('a handle reads back as what it was made from, for any id, tag and environment', () => {
  fc.assert(
    fc.property(anyEnvironment, anyId, anyTag, (environment, id, tag) => {
      const handle = formatHandle(environment, id, tag);
      assert.match(handle, /^handle-(sandbox|production)-[a-z2-7]{36}$/);
      assert.deepEqual(parseHandle(handle), { ok: true, environment, id: Buffer.from(id), tag });
      assert.ok(looksLikeHandle(handle));
    }),
  );
});

test('every change of one character of a handle is refused', () => {
  fc.assert(
    fc.property(anyEnvironment, anyId, anyTag, (environment, id, tag) => {
      const handle = formatHandle(environment, id, tag);
      for (let at = 0; at < handle.length; at++) {
        for (const other of CHARACTERS) {
          if (other === handle[at]) continue;
          const mistyped = handle.slice(0, at) + other + handle.slice(at + 1);
          assert.ok(!parseHandle(mistyped).ok, `${JSON.stringify(other)} at ${at}: ${mistyped}`);
        }
      }
    }),
    { numRuns: 20 },
  );
});

test('two neighbours exchanged, a digit lost, doubled or added: refused', () => {
  fc.assert(
    fc.property(anyEnvironment, anyId, anyTag, fc.constantFrom(...DIGITS), (environment, id, tag, digit) => {
      const handle = formatHandle(environment, id, tag);
      for (let at = 0; at < handle.length; at++) {
        const [a, b] = [handle[at] as string, handle[at + 1] ?? ''];
        if (b !== '' && a !== b) assert.ok(!parseHandle(handle.slice(0, at) + b + a + handle.slice(at + 2)).ok);
        assert.ok(!parseHandle(handle.slice(0, at) + a + handle.slice(at)).ok);
        assert.ok(!parseHandle(handle.slice(0, at) + digit + handle.slice(at)).ok);
      }
    }),
  );
});

test('a handle of one environment is none of the other', () => {
  fc.assert(
    fc.property(anyId, anyTag, (id, tag) => {
      const digits = formatHandle('sandbox', id, tag).slice('handle-sandbox-'.length);
      assert.ok(!parseHandle(`handle-production-${digits}`).ok);
    }),
  );
});

test('a handle of another deployment is well formed and told apart by its tag', () => {
  const [mine, theirs] = ['deployment-a', 'deployment-b'].map(deploymentTag) as [number, number];
  assert.notEqual(mine, theirs);
  const parsed = parseHandle(formatHandle('sandbox', new Uint8Array(16), theirs));
  assert.ok(parsed.ok && parsed.tag === theirs && parsed.tag !== mine);
  fc.assert(
    fc.property(fc.string(), (deployment) => {
      const digest = createHash('sha256').update(deployment, 'utf8').digest('hex');
      assert.equal(deploymentTag(deployment).toString(16).padStart(5, '0'), digest.slice(0, 5));
    }),
  );
});

test('one handle has one spelling: what parses is written the same again', () => {
  const digits = fc.string({ unit: fc.constantFrom(...DIGITS), minLength: 36, maxLength: 36 });
  // Random digits do not parse; with the right checksum put in they do.
  fc.assert(
    fc.property(anyEnvironment, digits, (environment, text) => {
      const bytes = fromBase32(`${text}a`) as Buffer;
      const handle = formatHandle(environment, bytes.subarray(0, 16), bytes.readUIntBE(16, 3) >>> 4);
      assert.equal(parseHandle(`handle-${environment}-${text}`).ok, handle.endsWith(text));
      const parsed = parseHandle(handle);
      assert.ok(parsed.ok);
      assert.equal(formatHandle(parsed.environment, parsed.id, parsed.tag), handle);
    }),
  );
});

test('no text whatever makes the parsers throw', () => {
  const texts = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 80 }),
    fc.string({ unit: fc.constantFrom(...CHARACTERS), maxLength: 80 }).map((rest) => `handle-sandbox-${rest}`),
    fc.string({ unit: fc.constantFrom(...CHARACTERS), maxLength: 80 }).map((rest) => `strongroom-key-${rest}`),
  );
  fc.assert(
    fc.property(texts, (text) => {
      assert.equal(typeof parseHandle(text).ok, 'boolean');
      assert.equal(typeof isApplicationKey(text), 'boolean');
      assert.equal(looksLikeHandle(text), text.startsWith('handle-'));
    }),
    { numRuns: 2_000 },
  );
  assert.ok(!parseHandle(`handle-sandbox-${'a'.repeat(1_000_000)}`).ok);
});

test('ids and keys of another length are refused when written', () => {
  for (const length of [0, 15, 17, 32])
    assert.throws(() => formatHandle('sandbox', new Uint8Array(length), 0), RangeError);
  for (const length of [0, 16, 31, 33]) assert.throws(() => formatApplicationKey(new Uint8Array(length)), RangeError);
});

test('an application key is recognised, and no change of one character is', () => {
  fc.assert(
    fc.property(anyKey, (random) => {
      const key = formatApplicationKey(random);
      assert.match(key, /^strongroom-key-[a-z2-7]{58}$/);
      assert.ok(isApplicationKey(key));
      for (let at = 0; at < key.length; at++) {
        for (const other of CHARACTERS) {
          if (other === key[at]) continue;
          assert.ok(
            !isApplicationKey(key.slice(0, at) + other + key.slice(at + 1)),
            `${JSON.stringify(other)} at ${at}`,
          );
        }
      }
    }),
    { numRuns: 10 },
  );
});

test('base32 reads back any bytes, and no two texts are the same bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      assert.deepEqual(fromBase32(base32(bytes)), Buffer.from(bytes));
    }),
  );
  const text = fc
    .string({ unit: fc.constantFrom(...DIGITS), maxLength: 64 })
    // Whole bytes never encode to 1, 3 or 6 digits beyond a multiple of 8.
    .filter(({ length }) => ![1, 3, 6].includes(length % 8));
  fc.assert(
    fc.property(text, (digits) => {
      const bytes = fromBase32(digits);
      if (bytes !== null) assert.equal(base32(bytes), digits);
    }),
    { numRuns: 1_000 },
  );
  // Left-over bits that are not zero would be a second spelling.
  assert.equal(fromBase32('mz'), null);
  assert.deepEqual(fromBase32('my'), Buffer.from('f'));
  for (const foreign of ['MY', 'm1', 'm8', 'm=', 'm ', 'mé']) assert.equal(fromBase32(foreign), null, foreign);
});

test('a request id has 15 letters and digits, for any randomness', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 15, maxLength: 15 }), (random) => {
      assert.match(formatRequestId(random), /^[A-Za-z0-9]{15}$/);
    }),
  );
});

test('the vectors are frozen', () => {
  const text = readFileSync(join(root, 'test/vectors/identifiers.json'));
  const digest = createHash('sha256').update(text).digest('hex');
  assert.equal(digest, 'b012ec07363cb138057cbdf2ea3957a555a161b91206632694b38fee37df75c9');
});

test('vectors: handles, made by a program that shares nothing with this one', () => {
  for (const { name, environment, id, deployment_id, deployment_tag, handle } of vectors.handles) {
    const tag = deploymentTag(deployment_id);
    assert.equal(tag.toString(16).padStart(5, '0'), deployment_tag, name);
    assert.equal(formatHandle(environment, Buffer.from(id, 'hex'), tag), handle, name);
    assert.deepEqual(parseHandle(handle), { ok: true, environment, id: Buffer.from(id, 'hex'), tag }, name);
  }
  for (const { name, text } of vectors.refused_handles) assert.ok(!parseHandle(text).ok, name);
});

test('vectors: application keys and base32', () => {
  for (const { name, random, key } of vectors.application_keys) {
    assert.equal(formatApplicationKey(Buffer.from(random, 'hex')), key, name);
    assert.ok(isApplicationKey(key), name);
  }
  for (const { name, text } of vectors.refused_application_keys) assert.ok(!isApplicationKey(text), name);
  for (const { bytes, text } of vectors.base32) {
    assert.equal(base32(Buffer.from(bytes, 'hex')), text);
    assert.deepEqual(fromBase32(text), Buffer.from(bytes, 'hex'));
  }
});

test('the annotated examples in the documentation are right, bit by bit', () => {
  const quoted = (what: string) => new RegExp(`^- ${what}: \`([^\`]+)\``, 'm').exec(page)?.[1] as string;
  const bitsOf = (digits: string) => [...digits].map((d) => DIGITS.indexOf(d).toString(2).padStart(5, '0')).join('');
  const toHex = (bits: string) =>
    (bits.match(/.{4}/g) ?? []).map((four) => Number.parseInt(four, 2).toString(16)).join('');

  const handle = bitsOf(quoted('handle').slice('handle-sandbox-'.length));
  assert.equal(toHex(handle.slice(0, 128)), quoted('id'));
  assert.equal(toHex(handle.slice(128, 148)), quoted('deployment tag'));
  assert.equal(toHex(handle.slice(148)), quoted('checksum of the handle'));
  assert.equal(handle.length, 180);
  const covered = Buffer.from(quoted('bytes under the checksum'), 'hex');
  assert.equal(covered.toString('latin1', 0, 7), 'sandbox');
  assert.equal(covered.toString('hex', 7), `${quoted('id')}${quoted('deployment tag')}0`);
  assert.equal(crc32(covered).toString(16).padStart(8, '0'), quoted('checksum of the handle'));

  const key = bitsOf(quoted('application key').slice('strongroom-key-'.length));
  assert.equal(toHex(key.slice(0, 256)), quoted('random part'));
  assert.equal(toHex(key.slice(256, 288)), quoted('checksum of the key'));
  assert.equal(key.slice(288), '00');
  assert.equal(
    crc32(Buffer.from(quoted('random part'), 'hex'))
      .toString(16)
      .padStart(8, '0'),
    quoted('checksum of the key'),
  );
});
