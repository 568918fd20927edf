import { createHmac, type KeyObject } from 'node:crypto';
import { StrongroomError } from '../base/errors.ts';
import { HANDLE_ID_BYTES, type RecordId } from '../base/ids.ts';
import type { Secret } from '../base/secret.ts';
import { lengthPrefixed } from './encoding.ts';

/**
 * Keyed digests: HMAC-SHA-256 over a label, a purpose and the parts, each with
 * its length before it. Whoever has the database but not the key can neither
 * compute one nor test a guess.
 *
 * Equal inputs give equal digests. That is their use, and what they reveal.
 */

/** What an index digest stands for. Digests of different purposes never meet. */
export type IndexPurpose = 'handle' | 'subject' | 'public_token' | 'client_user_id';

/**
 * A token's fingerprint: answers "whose token is this leaked string?" without
 * opening anything.
 *
 * @param key - A data key of purpose `fingerprint`.
 * @returns 32 bytes.
 * @throws StrongroomError `INPUT_INVALID` when the token is not well-formed Unicode.
 */
export function fingerprint(key: KeyObject, token: Secret<string>): Buffer {
  return mac(key, 'strongroom/fingerprint/v1', token.reveal());
}

/**
 * The digest under which a row is found.
 *
 * @param key - A data key of purpose `index`.
 * @param parts - Their borders count: `('a', 'bc')` and `('ab', 'c')` differ.
 * @returns 32 bytes.
 * @throws StrongroomError `INPUT_INVALID` when a part is not well-formed Unicode
 *   (lone surrogates would all be encoded alike, so that two ids shared a digest).
 */
export function indexMac(key: KeyObject, purpose: IndexPurpose, ...parts: string[]): Buffer {
  return mac(key, 'strongroom/index/v1', purpose, ...parts);
}

/**
 * The 128-bit id inside a record's handle. Derived, so that one record always has
 * the same handle and the database holds none.
 *
 * @param key - A data key of purpose `index`.
 */
export function recordHandleId(key: KeyObject, recordId: RecordId): Buffer {
  return indexMac(key, 'handle', recordId).subarray(0, HANDLE_ID_BYTES);
}

function mac(key: KeyObject, ...texts: string[]): Buffer {
  if (!texts.every((text) => text.isWellFormed())) {
    throw new StrongroomError('INPUT_INVALID', { detail: 'An id or token is not well-formed Unicode.' });
  }
  return createHmac('sha256', key)
    .update(lengthPrefixed(...texts))
    .digest();
}
