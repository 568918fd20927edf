import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkpointText, createSigner, logOrigin, openCheckpoint, parseVerifier } from '../../src/audit/checkpoint.ts';
import { OTHER_SIGNER, SIGNER } from './memory-log.ts';

const root = Buffer.alloc(32, 7);
const KEY = parseVerifier(SIGNER.vkey) ?? assert.fail('the key cannot be read');
const OTHER_KEY = parseVerifier(OTHER_SIGNER.vkey) ?? assert.fail('the key cannot be read');
const note = SIGNER.sign(checkpointText({ origin: SIGNER.name, size: 42, root }));

test('a checkpoint is read back as it was signed', () => {
  const opened = openCheckpoint(note, [KEY]);
  assert.deepEqual(opened, { ok: true, checkpoint: { origin: SIGNER.name, size: 42, root }, vkey: SIGNER.vkey });
});

test('the example key and note that the Go implementation publishes verify', () => {
  // golang.org/x/mod/sumdb/note, documentation. The text is no checkpoint; the signature is what counts.
  const key = parseVerifier('PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW');
  assert.ok(key !== null);
  const text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
  const encoded = 'x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=';
  const signature = Buffer.from(encoded, 'base64');
  assert.equal(signature.subarray(0, 4).toString('hex'), key.keyId);
  assert.ok(key.verify(text, signature.subarray(4)));
  assert.ok(!key.verify(`${text}.`, signature.subarray(4)));
});

test('any character changed spoils a note', () => {
  for (let at = 0; at < note.length; at++) {
    const changed = note.slice(0, at) + String.fromCharCode(note.charCodeAt(at) ^ 1) + note.slice(at + 1);
    assert.ok(!openCheckpoint(changed, [KEY]).ok, `character ${at}`);
    assert.ok(!openCheckpoint(note.slice(0, at) + note.slice(at + 1), [KEY]).ok, `character ${at} missing`);
  }
});

test('signatures of witnesses are left alone, a spoiled one of a known key is not', () => {
  const cosigned = `${note}${OTHER_SIGNER.sign('x\n').split('\n').at(-2)}\n`;
  assert.ok(openCheckpoint(cosigned, [KEY]).ok);
  assert.deepEqual(openCheckpoint(cosigned, [KEY, OTHER_KEY]), { ok: false, reason: 'bad_signature' });
  assert.deepEqual(openCheckpoint(note, [OTHER_KEY]), { ok: false, reason: 'unknown_key' });
  assert.deepEqual(openCheckpoint(note, []), { ok: false, reason: 'unknown_key' });
});

test('other shapes of a checkpoint are refused, signed or not', () => {
  const encoded = root.toString('base64');
  for (const text of [
    `${SIGNER.name}\n042\n${encoded}\n`,
    `${SIGNER.name}\n-1\n${encoded}\n`,
    `${SIGNER.name}\n9007199254740993\n${encoded}\n`,
    `${SIGNER.name}\n42\n${encoded.slice(0, -2)}9=\n`,
    `${SIGNER.name}\n42\n${encoded}\nextension\n`,
    `${SIGNER.name}\n42\n`,
    `\n42\n${encoded}\n`,
  ]) {
    assert.deepEqual(
      openCheckpoint(SIGNER.sign(text), [KEY]),
      { ok: false, reason: 'malformed' },
      JSON.stringify(text),
    );
  }
});

test('nothing that is given as a note or a key throws', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('\n\n', `${note}\n\n`, '\u2014 a b\n')),
      (text) => {
        assert.ok(!openCheckpoint(text, [KEY]).ok);
        assert.equal(parseVerifier(text), null);
      },
    ),
  );
  assert.ok(!openCheckpoint(note + '\u2014 a AAAAAAAA\n'.repeat(5000), [KEY]).ok, 'too long');
});

test('a key whose id does not fit is no key', () => {
  for (let at = 0; at < SIGNER.vkey.length; at++) {
    const changed =
      SIGNER.vkey.slice(0, at) + String.fromCharCode(SIGNER.vkey.charCodeAt(at) ^ 1) + SIGNER.vkey.slice(at + 1);
    assert.equal(parseVerifier(changed), null, `character ${at}`);
  }
});

test('only an Ed25519 private key and a name without spaces can sign', () => {
  const ed = generateKeyPairSync('ed25519');
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  assert.throws(() => createSigner('log', ed.publicKey), RangeError);
  assert.throws(() => createSigner('log', ec.privateKey), RangeError);
  for (const name of ['', 'a b', 'a+b', 'a\nb', 'é'])
    assert.throws(() => createSigner(name, ed.privateKey), RangeError);
  assert.equal(logOrigin('prod-eu'), 'strongroom/prod-eu/audit');
});

test('checkpoints are written as the frozen vectors say', () => {
  const path = new URL('../vectors/audit-checkpoints.json', import.meta.url);
  const { vkey, vectors } = JSON.parse(readFileSync(path, 'utf8')) as {
    vkey: string;
    vectors: { size: number; root: string; note: string }[];
  };
  assert.equal(SIGNER.vkey, vkey);
  for (const { size, root: encoded, note: expected } of vectors) {
    assert.equal(
      SIGNER.sign(checkpointText({ origin: SIGNER.name, size, root: Buffer.from(encoded, 'hex') })),
      expected,
    );
  }
});
