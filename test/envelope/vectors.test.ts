import assert from 'node:assert/strict';
import { createHash, createHmac, createSecretKey, hkdfSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { StrongroomError } from '../../src/base/errors.ts';
import type { RecordId } from '../../src/base/ids.ts';
import { Secret } from '../../src/base/secret.ts';
import { keyCheck } from '../../src/envelope/data-key.ts';
import { open } from '../../src/envelope/envelope.ts';
import { fileKms } from '../../src/envelope/kms-file.ts';
import { fingerprint, type IndexPurpose, indexMac, recordHandleId } from '../../src/envelope/macs.ts';
import { boundBytes, derived, openByTheBook, type PlainBinding, rawGcm } from './independent.ts';
import { admissionFor } from './support.ts';

const root = join(import.meta.dirname, '../..');
const vectorFile = (name: string) => readFileSync(join(root, 'test/vectors', name), 'utf8');

interface Vector {
  readonly name: string;
  readonly data_key_id: string;
  readonly data_key: string;
  readonly binding: PlainBinding;
  readonly sealed: string;
  readonly expect: 'success' | 'seal_broken';
  readonly plaintext?: string;
}
const { vectors } = JSON.parse(vectorFile('envelope-v1.json')) as { vectors: Vector[] };
const keys = JSON.parse(vectorFile('envelope-keys.json'));
const bytes = (hex: string) => Buffer.from(hex, 'hex');

test('the vectors of a released format are frozen', () => {
  const frozen = {
    'envelope-v1.json': '2ebbe3ecf8d0d5fe174d422f9499e01d5ceef75b16183e8805124a05d89b2677',
    'envelope-keys.json': '4c32416f9c5c5933f35c2114db4b1e60a2abfb69bc6597aaec09d1b5ce6526b3',
  };
  for (const [name, digest] of Object.entries(frozen)) {
    assert.equal(createHash('sha256').update(vectorFile(name)).digest('hex'), digest, name);
  }
});

for (const vector of vectors) {
  test(`vector: ${vector.name}: ${vector.expect}`, async () => {
    const { binding } = vector;
    const recordId = binding.record_id as RecordId;
    const attempt = async () =>
      open(
        { id: vector.data_key_id, purpose: 'record', key: createSecretKey(bytes(vector.data_key)) },
        {
          deploymentId: binding.deployment_id,
          plaidEnvironment: binding.plaid_environment as 'sandbox',
          plaidClientId: binding.plaid_client_id,
          recordId,
          kind: binding.kind,
          version: binding.version,
        },
        bytes(vector.sealed),
        await admissionFor(recordId),
      );
    if (vector.expect === 'success') {
      assert.equal(Buffer.from((await attempt()).reveal()).toString('hex'), vector.plaintext);
    } else {
      await assert.rejects(
        attempt(),
        (error: unknown) => error instanceof StrongroomError && error.code === 'SEAL_BROKEN',
      );
    }
    // And the second implementation agrees.
    const independent = openByTheBook(bytes(vector.data_key), vector.data_key_id, binding, bytes(vector.sealed));
    if (vector.expect === 'success') assert.equal((independent as Buffer).toString('hex'), vector.plaintext);
    else assert.equal(typeof independent, 'string', 'the second implementation opened it');
  });
}

test('plain AES-256-GCM opens the two-key ciphertext under both keys; the envelope refuses the second by its commitment', () => {
  const pair = vectors.filter(({ name }) => name.startsWith('two-key ciphertext'));
  const [mine, theirs] = pair as [Vector, Vector];
  const sealed = bytes(mine.sealed);
  assert.equal(mine.sealed, theirs.sealed);
  assert.notEqual(mine.data_key, theirs.data_key);
  const bound = boundBytes(sealed, mine.binding);
  const [one, two] = [mine, theirs].map(({ data_key }) => rawGcm(derived(bytes(data_key), bound).key, sealed, bound));
  assert.ok(one && two, 'this is no two-key ciphertext');
  assert.notDeepEqual(one, two);
  assert.equal(openByTheBook(bytes(theirs.data_key), theirs.data_key_id, theirs.binding, sealed), 'commitment');
});

test('every step of opening has a vector that fails there', () => {
  const steps = vectors.map((v) => openByTheBook(bytes(v.data_key), v.data_key_id, v.binding, bytes(v.sealed)));
  const failures = new Set(steps.filter((step) => typeof step === 'string'));
  assert.deepEqual([...failures].sort(), ['binding', 'commitment', 'data key id', 'length', 'prefix', 'tag', 'utf-8']);
});

test('the annotated example in the documentation is right, byte by byte', () => {
  const page = readFileSync(join(root, 'docs/formats/envelope.md'), 'utf8');
  const example = page.slice(page.indexOf('## Annotated example'), page.indexOf('## Keys'));
  const [envelope, bound] = example.split('Its bound bytes:').map((part) => {
    let at = 0;
    const cells = [...part.matchAll(/^\| (\d+) \| (\d+) \| `([0-9a-f]+)` \|/gm)].map(([, offset, length, value]) => {
      assert.deepEqual(
        [Number(offset), Number(length)],
        [at, (value as string).length / 2],
        `the row at offset ${offset}`,
      );
      at += Number(length);
      return bytes(value as string);
    });
    return Buffer.concat(cells);
  }) as [Buffer, Buffer];
  const quoted = (what: string) => new RegExp(`${what} \`([^\`]+)\``).exec(example)?.[1] as string;

  const vector = vectors[0] as Vector;
  assert.equal(envelope.toString('hex'), vector.sealed);
  assert.deepEqual(bound, boundBytes(envelope, vector.binding));
  const derivedBytes = hkdfSync('sha512', bytes(quoted('Data key')), 'strongroom/envelope/v1', bound, 64);
  assert.equal(Buffer.from(derivedBytes).toString('hex'), quoted('- key') + quoted('- commitment'));
  const plaintext = openByTheBook(bytes(quoted('Data key')), quoted('\nid'), vector.binding, envelope);
  assert.equal(plaintext.toString(), quoted('- plaintext'));
});

test('vectors of the file KEK: its name, and a wrapping that must unwrap for ever', async () => {
  const { kek, key_id, context, data_key, wrapped } = keys.file_kek;
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-vectors-'));
  try {
    writeFileSync(join(folder, 'kek'), bytes(kek), { mode: 0o600 });
    const kms = await fileKms(join(folder, 'kek'));
    assert.equal(kms.keyId, key_id);
    const key = await kms.unwrap(bytes(wrapped), context, new AbortController().signal);
    assert.equal(key.export().toString('hex'), data_key);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('vectors of the key-check value and the keyed digests, also computed by the book', () => {
  const byTheBook = (key: string, ...texts: string[]) => {
    const hmac = createHmac('sha256', bytes(key));
    for (const text of texts) {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(text));
      hmac.update(length).update(text);
    }
    return hmac.digest('hex');
  };
  const { id, purpose, key, check } = keys.key_check;
  assert.equal(keyCheck({ id, purpose, key: createSecretKey(bytes(key)) }).toString('hex'), check);
  assert.equal(byTheBook(key, 'strongroom/key-check/v1', purpose, id), check);

  const digestKey = createSecretKey(bytes(keys.digests.key));
  for (const { function: name, texts, digest } of keys.digests.of as {
    function: string;
    texts: string[];
    digest: string;
  }[]) {
    const [first = '', ...rest] = texts;
    const [ours, book] =
      name === 'fingerprint'
        ? [fingerprint(digestKey, new Secret(first)), ['strongroom/fingerprint/v1', first]]
        : name === 'recordHandleId'
          ? [recordHandleId(digestKey, first as RecordId), ['strongroom/index/v1', 'handle', first]]
          : [indexMac(digestKey, first as IndexPurpose, ...rest), ['strongroom/index/v1', ...texts]];
    assert.equal(ours.toString('hex'), digest, `${name} ${texts}`);
    assert.equal(byTheBook(keys.digests.key, ...book).slice(0, digest.length), digest, `${name} ${texts}`);
  }
});
