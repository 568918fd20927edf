import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { Random } from '../base/clock.ts';
import { lengthPrefixed } from './encoding.ts';

/**
 * Data keys: what they are for, how they are born and how one is told from
 * another. Keeping them (wrapped) is src/store/keys.ts, holding them (unwrapped,
 * for a while) is keyring.ts.
 */

/**
 * What a data key may do; each does one thing only. `record` seals records,
 * `index` makes the MACs by which rows are found (handles, subjects, public
 * tokens), `fingerprint` makes token fingerprints.
 */
export type KeyPurpose = 'record' | 'index' | 'fingerprint';

export const KEY_PURPOSES: readonly KeyPurpose[] = ['record', 'index', 'fingerprint'];

/** An unwrapped data key. Its bytes stay inside the KeyObject, outside the JavaScript heap. */
export interface DataKey {
  /** A lower-case UUID; stands in the header of every record sealed under the key. */
  readonly id: string;
  readonly purpose: KeyPurpose;
  /** 256 bits. */
  readonly key: KeyObject;
}

/** Bytes of a data key. */
export const DATA_KEY_BYTES = 32;

/** Bytes of a key-check value. */
export const KEY_CHECK_BYTES = 32;

/** Makes a key of 256 random bits. */
export function newKey(random: Random): KeyObject {
  return keyOfBytes(random.bytes(DATA_KEY_BYTES));
}

/** Takes raw key bytes into a KeyObject and zeroes them: from here on the heap does not hold the key. */
export function keyOfBytes(raw: Uint8Array): KeyObject {
  try {
    return createSecretKey(raw);
  } finally {
    raw.fill(0);
  }
}

/**
 * The key-check value stored beside a wrapped key. It tells at start, before any
 * record is touched, that the key service gave back another key. One-way and under
 * its own label, so it says nothing about the key or about its other MACs.
 */
export function keyCheck({ id, purpose, key }: DataKey): Buffer {
  return createHmac('sha256', key)
    .update(lengthPrefixed('strongroom/key-check/v1', purpose, id))
    .digest();
}

/** Compares in constant time. False also when `check` has another length. */
export function passesKeyCheck(dataKey: DataKey, check: Uint8Array): boolean {
  return check.length === KEY_CHECK_BYTES && timingSafeEqual(keyCheck(dataKey), check);
}
