import { isUtf8 } from 'node:buffer';
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto';
import type { Admission } from '../access/admission.ts';
import { type Random, systemRandom } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import type { PlaidEnvironment, RecordId } from '../base/ids.ts';
import { Secret } from '../base/secret.ts';
import { DATA_KEY_BYTES, type DataKey, keyOfBytes } from './data-key.ts';

export type { DataKey } from './data-key.ts';

/**
 * The envelope: one secret sealed under a data key, bound to the row it belongs
 * to. docs/formats/envelope.md describes every byte; test/vectors/ freezes them.
 *
 * A sealed record opens for exactly the deployment, Plaid environment, Plaid
 * client, record, kind and version that it was sealed for. It does not know when
 * a whole row, binding and all, is put back to an older state: the audit log does.
 */

/** What a record is sealed for. Every field is authenticated; none is secret. */
export interface RecordBinding {
  readonly deploymentId: string;
  readonly plaidEnvironment: PlaidEnvironment;
  readonly plaidClientId: string;
  readonly recordId: RecordId;
  /** The class of the secret, e.g. `access`. */
  readonly kind: string;
  /** Counts the secrets that the record has held, from 1. */
  readonly version: number;
}

// Offsets of format version 1, in bytes.
const MAGIC = 0x53524501; // "SRE" and the format version, 1
const SUITE_SYMMETRIC = 1; // AES-256-GCM, HKDF-SHA-512 with commitment
const SUITE_AT = 4; //        2 is kept for HPKE (docs/formats/envelope.md) and refused here
const KEY_ID_AT = 5;
const SALT_AT = 21;
const COMMITMENT_AT = 53;
const NONCE_AT = 85;
const CIPHERTEXT_AT = 97;
const TAG_BYTES = 16;

/** Bytes that an envelope adds to its plaintext. */
export const ENVELOPE_OVERHEAD = CIPHERTEXT_AT + TAG_BYTES;
/** Longest plaintext, in UTF-8 bytes. Tokens take about 60; a bound keeps a hostile row cheap. */
export const PLAINTEXT_LIMIT = 16_384;

const TEXT_LIMIT = 128; // characters of a text in the binding: keeps HKDF's info below OpenSSL's limit of 1,024 bytes
const VERSION_LIMIT = 2 ** 31 - 1; // PostgreSQL's integer

/**
 * Seals a secret under a data key of purpose `record`.
 *
 * Salt and nonce are drawn fresh on every call, so sealing one secret twice gives
 * unlike envelopes.
 *
 * @param plaintext - 1 to {@link PLAINTEXT_LIMIT} bytes of well-formed Unicode. An
 *   empty secret is refused: nothing is better than a credential that is quietly empty.
 * @param random - Only ever given by the generator of the frozen vectors.
 * @returns The envelope: {@link ENVELOPE_OVERHEAD} bytes longer than the plaintext.
 * @throws StrongroomError `INPUT_INVALID` when the plaintext is out of bounds;
 *   RangeError when the binding or the key's purpose is (a defect of the caller).
 */
export function seal(
  dataKey: DataKey,
  binding: RecordBinding,
  plaintext: Secret<string>,
  random: Random = systemRandom,
): Buffer {
  if (dataKey.purpose !== 'record') throw new RangeError(`a ${dataKey.purpose} key seals no record`);
  const text = plaintext.reveal();
  const length = Buffer.byteLength(text, 'utf8');
  if (length === 0 || length > PLAINTEXT_LIMIT || !text.isWellFormed()) {
    throw new StrongroomError('INPUT_INVALID', { detail: `A secret has 1 to ${PLAINTEXT_LIMIT} bytes of Unicode.` });
  }

  const prepared = prepare(dataKey);
  const sealed = Buffer.alloc(ENVELOPE_OVERHEAD + length);
  sealed.writeUInt32BE(MAGIC, 0);
  sealed[SUITE_AT] = SUITE_SYMMETRIC;
  sealed.set(prepared.id, KEY_ID_AT);
  const drawn = random.bytes(44);
  sealed.set(drawn.subarray(0, 32), SALT_AT);
  sealed.set(drawn.subarray(32, 44), NONCE_AT);

  const boundEnd = bind(sealed, binding);
  if (boundEnd < 0) throw new RangeError('the binding of a record is out of bounds');
  const recordKey = derive(prepared.extracted, boundEnd);
  sealed.set(commitment, COMMITMENT_AT);
  const cipher = createCipheriv('aes-256-gcm', recordKey, sealed.subarray(NONCE_AT, CIPHERTEXT_AT));
  cipher.setAAD(work.subarray(0, boundEnd));
  sealed.set(cipher.update(text, 'utf8'), CIPHERTEXT_AT);
  cipher.final(); // GCM is a stream: nothing is left over
  sealed.set(cipher.getAuthTag(), CIPHERTEXT_AT + length);
  return sealed;
}

/**
 * Opens a sealed record. Needs the proof that the use was admitted and recorded.
 *
 * @param dataKey - The key that {@link dataKeyIdOf} names, from the keyring.
 * @throws StrongroomError `SEAL_BROKEN` for every failure alike: truncated, longer,
 *   unknown version or suite, another key, altered bytes, another binding. Which
 *   one it was is not told, not even to the log, as it would tell an attacker too.
 */
export function open(
  dataKey: DataKey,
  binding: RecordBinding,
  sealed: Uint8Array,
  _admission: Admission,
): Secret<string> {
  const plaintext = decrypt(dataKey, binding, sealed);
  try {
    if (isUtf8(plaintext)) return new Secret(plaintext.toString('utf8'));
  } finally {
    plaintext.fill(0);
  }
  throw broken(binding);
}

/**
 * Whether a ciphertext was sealed under this key for this place. Needs no admission:
 * it tells nothing of what is inside.
 */
export function isSealedFor(dataKey: DataKey, binding: RecordBinding, sealed: Uint8Array): boolean {
  try {
    decrypt(dataKey, binding, sealed).fill(0);
    return true;
  } catch (error) {
    if (error instanceof StrongroomError && error.code === 'SEAL_BROKEN') return false;
    throw error;
  }
}

/** The caller empties what it gets. Throws SEAL_BROKEN. */
function decrypt(dataKey: DataKey, binding: RecordBinding, sealed: Uint8Array): Buffer {
  if (dataKey.purpose !== 'record' || !isFramed(sealed)) throw broken(binding);
  const prepared = prepare(dataKey);
  for (let i = 0; i < 16; i++) if (sealed[KEY_ID_AT + i] !== prepared.id[i]) throw broken(binding);

  const boundEnd = bind(sealed, binding);
  if (boundEnd < 0) throw broken(binding);
  const recordKey = derive(prepared.extracted, boundEnd);
  // First the commitment, in constant time: bytes that were made to decrypt
  // under two keys are turned away before anything is decrypted.
  if (!timingSafeEqual(commitment, sealed.subarray(COMMITMENT_AT, NONCE_AT))) throw broken(binding);

  let plaintext: Buffer | undefined;
  try {
    const decipher = createDecipheriv('aes-256-gcm', recordKey, sealed.subarray(NONCE_AT, CIPHERTEXT_AT));
    decipher.setAAD(work.subarray(0, boundEnd));
    const tagAt = sealed.length - TAG_BYTES;
    decipher.setAuthTag(sealed.subarray(tagAt));
    plaintext = decipher.update(sealed.subarray(CIPHERTEXT_AT, tagAt));
    decipher.final(); // throws when the tag does not fit; until then `plaintext` is not to be looked at
    return plaintext;
  } catch {
    plaintext?.fill(0);
    throw broken(binding);
  }
}

/**
 * Names the data key that a sealed record needs, as a lower-case UUID.
 * Nothing is authenticated yet: use it to fetch the key and for nothing else.
 *
 * @throws StrongroomError `SEAL_BROKEN` when this is no envelope of ours.
 */
export function dataKeyIdOf(sealed: Uint8Array): string {
  if (!isFramed(sealed)) throw new StrongroomError('SEAL_BROKEN');
  const hex = Buffer.from(sealed.buffer, sealed.byteOffset + KEY_ID_AT, 16).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function isFramed(sealed: Uint8Array): boolean {
  return (
    sealed.length > ENVELOPE_OVERHEAD &&
    sealed.length <= ENVELOPE_OVERHEAD + PLAINTEXT_LIMIT &&
    sealed[0] === MAGIC >>> 24 &&
    sealed[1] === ((MAGIC >>> 16) & 255) &&
    sealed[2] === ((MAGIC >>> 8) & 255) &&
    sealed[3] === (MAGIC & 255) &&
    sealed[SUITE_AT] === SUITE_SYMMETRIC
  );
}

// One buffer for every call, since seal and open never wait in between: the bound
// bytes (nothing secret), then one byte for the block counter of HKDF-Expand.
const work = Buffer.alloc(COMMITMENT_AT + 5 * (4 + TEXT_LIMIT) + 4 + 1);
const commitment = Buffer.alloc(32);

/**
 * Puts the bound bytes together: the header up to the commitment, then the binding
 * in its one encoding, every text with its length (4 bytes) before it and the
 * version in 4 bytes. Returns where they end, -1 when a field is out of bounds.
 */
function bind(sealed: Uint8Array, binding: RecordBinding): number {
  work.set(sealed.subarray(0, COMMITMENT_AT), 0);
  let at = COMMITMENT_AT;
  at = bindText(at, binding.deploymentId);
  at = bindText(at, binding.plaidEnvironment);
  at = bindText(at, binding.plaidClientId);
  at = bindText(at, binding.recordId);
  at = bindText(at, binding.kind);
  const { version } = binding;
  if (at < 0 || !Number.isInteger(version) || version < 1 || version > VERSION_LIMIT) return -1;
  return work.writeUInt32BE(version, at);
}

/** Visible ASCII only: one byte a character and no two spellings of one text. -1 goes in as -1 comes out. */
function bindText(at: number, text: string): number {
  if (at < 0 || typeof text !== 'string' || text.length === 0 || text.length > TEXT_LIMIT) return -1;
  // Check and copy in one go: a regular expression and a write take twice as long.
  work.writeUInt32BE(text.length, at);
  at += 4;
  for (let i = 0; i < text.length; i++) {
    const character = text.charCodeAt(i);
    if (character < 0x21 || character > 0x7e) return -1;
    work[at++] = character;
  }
  return at;
}

/**
 * HKDF-Expand (RFC 5869 section 2.3) to 64 bytes, which is one block of
 * HMAC-SHA-512; info = the bound bytes. Returns the first half as the record key
 * and leaves the second in `commitment`.
 */
function derive(extracted: KeyObject, boundEnd: number): KeyObject {
  work[boundEnd] = 1; // the block counter
  const block = createHmac('sha512', extracted)
    .update(work.subarray(0, boundEnd + 1))
    .digest();
  commitment.set(block.subarray(32));
  const recordKey = createSecretKey(block.subarray(0, 32));
  block.fill(0);
  return recordKey;
}

interface Prepared {
  readonly id: Buffer;
  readonly extracted: KeyObject;
}

/** Held as long as the data key itself is, and no longer. */
const preparedKeys = new WeakMap<DataKey, Prepared>();
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const EXTRACT_SALT = createSecretKey('strongroom/envelope/v1', 'utf8');

/** HKDF-Extract (RFC 5869 section 2.2), once per data key. */
function prepare(dataKey: DataKey): Prepared {
  const known = preparedKeys.get(dataKey);
  if (known !== undefined) return known;
  if (!UUID.test(dataKey.id)) throw new RangeError('a data key has a lower-case UUID');
  const raw = dataKey.key.export();
  const extracted = keyOfBytes(createHmac('sha512', EXTRACT_SALT).update(raw).digest());
  const size = raw.length;
  raw.fill(0);
  if (size !== DATA_KEY_BYTES) throw new RangeError('a data key has 32 bytes');
  const prepared = { id: Buffer.from(dataKey.id.replaceAll('-', ''), 'hex'), extracted };
  preparedKeys.set(dataKey, prepared);
  return prepared;
}

function broken(binding: RecordBinding): StrongroomError {
  return new StrongroomError('SEAL_BROKEN', {
    record: binding.recordId,
    kind: binding.kind,
    version: binding.version,
  });
}
