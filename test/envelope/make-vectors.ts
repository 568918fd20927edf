/**
 * Wrote test/vectors/envelope-v1.json and envelope-keys.json, once. Vectors of a released format
 * are frozen: this refuses to write over them, and test/envelope/vectors.test.ts
 * pins their digests. A new format version gets new files.
 *
 *   bin/node24 test/envelope/make-vectors.ts [FOLDER]
 */

import { createHash, createSecretKey } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RecordId } from '../../src/base/ids.ts';
import { Secret } from '../../src/base/secret.ts';
import { keyCheck } from '../../src/envelope/data-key.ts';
import { seal } from '../../src/envelope/envelope.ts';
import { fileKms } from '../../src/envelope/kms-file.ts';
import { fingerprint, indexMac, recordHandleId } from '../../src/envelope/macs.ts';
import { boundBytes, craft, derived, type PlainBinding } from './independent.ts';
import { salamander } from './salamander.ts';
import { fixedRandom } from './support.ts';

const random = fixedRandom('strongroom envelope v1 vectors');
const dataKey = random.bytes(32);
const otherKey = random.bytes(32);
const id = random.uuid();
const otherId = random.uuid();

const binding: PlainBinding = {
  deployment_id: '0d5b2c52-8d8a-4c58-9d2f-3a1f64a8b0aa',
  plaid_environment: 'sandbox',
  plaid_client_id: '5f0c0b0a0f0e0d0c0b0a0908',
  record_id: '7b0c9f7e-5a3e-4b7b-9a54-0d8a0d6f1c11',
  kind: 'access',
  version: 3,
};
const TOKEN = 'token-for-the-vectors-7a1d2c4e-9b60-4c55-8a3f-2f6e1d0c9b8a-1';

interface Vector {
  readonly name: string;
  readonly data_key_id: string;
  readonly data_key: string;
  readonly binding: PlainBinding;
  readonly sealed: string;
  readonly expect: 'success' | 'seal_broken';
  readonly plaintext?: string;
}
const vectors: Vector[] = [];

function good(name: string, sealed: Buffer, plaintext: string, bound = binding): void {
  const hex = Buffer.from(plaintext).toString('hex');
  vectors.push({
    name,
    data_key_id: id,
    data_key: dataKey.toString('hex'),
    binding: bound,
    sealed: sealed.toString('hex'),
    expect: 'success',
    plaintext: hex,
  });
}
function bad(name: string, sealed: Buffer, change: Partial<PlainBinding> = {}, key = dataKey, keyId = id): void {
  vectors.push({
    name,
    data_key_id: keyId,
    data_key: key.toString('hex'),
    binding: { ...binding, ...change },
    sealed: sealed.toString('hex'),
    expect: 'seal_broken',
  });
}

function sealedByUs(text: string, bound = binding): Buffer {
  const ours = {
    deploymentId: bound.deployment_id,
    plaidEnvironment: bound.plaid_environment as 'sandbox',
    plaidClientId: bound.plaid_client_id,
    recordId: bound.record_id as RecordId,
    kind: bound.kind,
    version: bound.version,
  };
  return seal({ id, purpose: 'record', key: createSecretKey(dataKey) }, ours, new Secret(text), random);
}
function crafted(
  plaintext: Buffer,
  parts: { prefix?: string; tagBytes?: number; id?: string; dataKey?: Buffer } = {},
): Buffer {
  return craft({ dataKey, id, salt: random.bytes(32), nonce: random.bytes(12), ...parts }, binding, plaintext);
}

const usual = sealedByUs(TOKEN);
good('a token of usual length', usual, TOKEN);
for (const [name, text] of [
  ['one byte', 'x'],
  ['text of two to four bytes a character, with a zero byte and a line end', 'å€𝄞\0\n'],
  ['a text that begins with a byte order mark', '\ufeffx'],
  ['longer than one block of the hash and many of the cipher', 'long-'.repeat(200)],
] as const) {
  good(name, sealedByUs(text), text);
}
const widest = {
  deployment_id: 'd'.repeat(128),
  plaid_environment: 'production',
  plaid_client_id: '!'.repeat(128),
  record_id: '~'.repeat(128),
  kind: 'k'.repeat(128),
  version: 2 ** 31 - 1,
};
good('a binding at its upper bounds', sealedByUs('x', widest), 'x', widest);
const narrowest = {
  deployment_id: 'd',
  plaid_environment: 'e',
  plaid_client_id: 'c',
  record_id: 'r',
  kind: 'k',
  version: 1,
};
good('a binding at its lower bounds', sealedByUs('x', narrowest), 'x', narrowest);
good('written by the independent implementation', crafted(Buffer.from(TOKEN)), TOKEN);

// Another binding.
for (const [field, value] of Object.entries({
  deployment_id: '0d5b2c52-8d8a-4c58-9d2f-3a1f64a8b0ab',
  plaid_environment: 'production',
  plaid_client_id: '5f0c0b0a0f0e0d0c0b0a0909',
  record_id: '7b0c9f7e-5a3e-4b7b-9a54-0d8a0d6f1c12',
  kind: 'user',
  version: 4,
})) {
  bad(`another ${field}`, usual, { [field]: value });
}
bad('an older version in a newer row', sealedByUs(TOKEN, { ...binding, version: 2 }));
bad('deployment and client exchanged', usual, {
  deployment_id: binding.plaid_client_id,
  plaid_client_id: binding.deployment_id,
});
bad('record id and kind exchanged', usual, { record_id: binding.kind, kind: binding.record_id });
bad('the border between environment and client moved', usual, {
  plaid_environment: 'sandbo',
  plaid_client_id: `x${binding.plaid_client_id}`,
});
bad(
  'version 0, below the bounds',
  craft(
    { dataKey, id, salt: random.bytes(32), nonce: random.bytes(12) },
    { ...binding, version: 0 },
    Buffer.from(TOKEN),
  ),
  { version: 0 },
);
bad(
  'version 2147483648, above the bounds',
  craft(
    { dataKey, id, salt: random.bytes(32), nonce: random.bytes(12) },
    { ...binding, version: 2 ** 31 },
    Buffer.from(TOKEN),
  ),
  { version: 2 ** 31 },
);

for (const [name, change] of [
  ['a kind of 129 characters, above the bounds', { kind: 'k'.repeat(129) }],
  ['an empty client id, below the bounds', { plaid_client_id: '' }],
  ['a space in a text, outside the bounds', { kind: 'access token' }],
] as const) {
  const parts = { dataKey, id, salt: random.bytes(32), nonce: random.bytes(12) };
  bad(`${name}, rightly authenticated`, craft(parts, { ...binding, ...change }, Buffer.from(TOKEN)), change);
}

// Another key.
bad('another data key under the same id', usual, {}, otherKey);
bad('the same data key under another id', usual, {}, dataKey, otherId);
bad(
  'another data key id in the header',
  Buffer.concat([usual.subarray(0, 5), Buffer.from(otherId.replaceAll('-', ''), 'hex'), usual.subarray(21)]),
  {},
  dataKey,
  otherId,
);

// Not canonical, not ours, not whole.
bad('empty', Buffer.alloc(0));
for (const length of [4, 5, 21, 53, 85, 97, 112, 113, usual.length - 16, usual.length - 1])
  bad(`cut to ${length} bytes`, usual.subarray(0, length));
bad('one zero byte more', Buffer.concat([usual, Buffer.alloc(1)]));
bad('twice in a row', Buffer.concat([usual, usual]));
bad('one byte before', Buffer.concat([Buffer.alloc(1), usual]));
bad('no plaintext at all, rightly authenticated', crafted(Buffer.alloc(0)));
bad('a plaintext that is not UTF-8, rightly authenticated', crafted(Buffer.from('c0af', 'hex')));
bad('a surrogate as if it were a character, rightly authenticated', crafted(Buffer.from('eda080', 'hex')));
bad('a tag of 12 bytes, rightly authenticated', crafted(Buffer.from(TOKEN), { tagBytes: 12 }));
for (const [name, prefix] of [
  ['another magic', '5352440101'],
  ['magic in lower case', '7372650101'],
  ['format version 0', '5352450001'],
  ['format version 2', '5352450201'],
  ['suite 0', '5352450100'],
  ['suite 2, reserved for HPKE', '5352450102'],
  ['suite 255', '53524501ff'],
] as const) {
  bad(`${name}, rightly authenticated`, crafted(Buffer.from(TOKEN), { prefix }));
}

// Parts of two good envelopes of one record.
const second = sealedByUs(TOKEN);
const graft = (from: number, to: number) =>
  Buffer.concat([usual.subarray(0, from), second.subarray(from, to), usual.subarray(to)]);
const end = usual.length;
bad('the salt of another envelope', graft(21, 53));
bad('the commitment of another envelope', graft(53, 85));
bad('salt and commitment of another envelope', graft(21, 85));
bad('the nonce of another envelope', graft(85, 97));
bad('the ciphertext of another envelope', graft(97, end - 16));
bad('the tag of another envelope', graft(end - 16, end));
bad('ciphertext and tag of another envelope', graft(97, end));
bad('a commitment of zeros', Buffer.concat([usual.subarray(0, 53), Buffer.alloc(32), usual.subarray(85)]));
bad('one bit of the ciphertext', Buffer.from(usual.map((byte, at) => (at === 97 ? byte ^ 1 : byte))));

// Bytes that plain AES-256-GCM opens under two keys.
function twoKeys(): { one: Buffer; two: Buffer; text: string } {
  for (let attempt = 0; ; attempt++) {
    const header = Buffer.concat([
      Buffer.from('5352450101', 'hex'),
      Buffer.from(id.replaceAll('-', ''), 'hex'),
      random.bytes(32),
    ]);
    const bound = boundBytes(header, binding);
    const [one, two] = [derived(dataKey, bound), derived(otherKey, bound)];
    const nonce = random.bytes(12);
    for (let tail = 0; tail < 2_000; tail++) {
      const made = salamander(
        [one.key, two.key],
        nonce,
        bound,
        Buffer.from('pays to Alice ->'),
        Buffer.from(`tail ${tail}`.padEnd(16)),
      );
      const text = made.underOne.toString('utf8');
      // The first key must find well-formed text, so that only the commitment tells the two apart.
      if (!Buffer.from(text).equals(made.underOne)) continue;
      const rest = Buffer.concat([nonce, made.ciphertext, made.tag]);
      return {
        one: Buffer.concat([header, one.commitment, rest]),
        two: Buffer.concat([header, two.commitment, rest]),
        text,
      };
    }
    console.error(`attempt ${attempt}: no well-formed text yet`);
  }
}
const pair = twoKeys();
good('two-key ciphertext with the commitment of the first key, opened with the first', pair.one, pair.text);
bad('two-key ciphertext with the commitment of the first key, opened with the second', pair.one, {}, otherKey);
bad('two-key ciphertext with the commitment of the second key, opened with the first', pair.two);

write('envelope-v1.json', {
  format: 'docs/formats/envelope.md, version 1',
  encoding: 'data_key, sealed and plaintext are hex; the texts of a binding are ASCII',
  expect: 'success: opens to `plaintext`. seal_broken: refused, with the same answer as every other refusal.',
  vectors,
});

// Keys: the file KEK, the key-check value and the keyed digests.
const folder = mkdtempSync(join(tmpdir(), 'strongroom-vectors-'));
const kek = random.bytes(32);
writeFileSync(join(folder, 'kek'), kek, { mode: 0o600 });
const kms = await fileKms(join(folder, 'kek'), random);
const context = {
  deployment: binding.deployment_id,
  environment: 'development',
  purpose: 'record',
  dataKey: id,
} as const;
const wrapped = await kms.wrap(createSecretKey(dataKey), context, new AbortController().signal);
rmSync(folder, { recursive: true });
const key = createSecretKey(otherKey);
const digests = [
  { function: 'fingerprint', texts: [TOKEN], digest: fingerprint(key, new Secret(TOKEN)).toString('hex') },
  ...(
    [
      ['handle', binding.record_id],
      ['subject', 'user_id', 'å€𝄞'],
      ['public_token', '5f0c0b0a0f0e0d0c0b0a0908', ''],
      ['client_user_id', 'a', 'bc'],
      ['client_user_id', 'ab', 'c'],
    ] as const
  ).map(([purpose, ...parts]) => ({
    function: 'indexMac',
    texts: [purpose, ...parts],
    digest: indexMac(key, purpose, ...parts).toString('hex'),
  })),
  {
    function: 'recordHandleId',
    texts: [binding.record_id],
    digest: recordHandleId(key, binding.record_id as RecordId).toString('hex'),
  },
];
write('envelope-keys.json', {
  format: 'docs/formats/envelope.md, "Keys"',
  encoding: 'bytes are hex',
  file_kek: {
    kek: kek.toString('hex'),
    key_id: kms.keyId,
    context,
    data_key: dataKey.toString('hex'),
    wrapped: Buffer.from(wrapped).toString('hex'),
  },
  key_check: {
    id,
    purpose: 'record',
    key: dataKey.toString('hex'),
    check: keyCheck({ id, purpose: 'record', key: createSecretKey(dataKey) }).toString('hex'),
  },
  digests: { key: otherKey.toString('hex'), of: digests },
});

function write(name: string, value: object): void {
  const text = `${JSON.stringify(value, null, 1)}\n`;
  writeFileSync(join(process.argv[2] ?? join(import.meta.dirname, '../vectors'), name), text, { flag: 'wx' });
  console.log(name, createHash('sha256').update(text).digest('hex'));
}
