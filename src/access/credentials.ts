import { hash, timingSafeEqual } from 'node:crypto';
import type { Secret } from '../base/secret.ts';

/**
 * Comparing secrets that callers present with the digests that we keep. A
 * 256-bit random key needs no slow hash: there is nothing to guess from.
 */

/** SHA-256 of an application key or admin token: what is stored and compared. */
export function digestOf(secret: string | Secret<string>): Buffer {
  return hash('sha256', typeof secret === 'string' ? secret : secret.reveal(), 'buffer');
}

/** Constant-time for digests; false for anything that is not 32 bytes. */
export function sameDigest(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === 32 && b.length === 32 && timingSafeEqual(a, b);
}

export interface KeyDigest {
  readonly keyId: string;
  readonly sha256: Uint8Array;
  /** Milliseconds since 1970; null: until it is replaced. */
  readonly expiresAt: number | null;
}

const NOBODY = Buffer.alloc(32);

/**
 * Which valid key was presented. Always compares twice (an application has at
 * most two keys), whether the application exists, has keys, or is disabled, so that time
 * tells a guesser nothing.
 *
 * @param now - Milliseconds since 1970. A key ends at its expiry, not after it.
 * @returns The key's id, or null.
 */
export function matchingKey(keys: readonly KeyDigest[], presented: Uint8Array, now: number): string | null {
  let found: string | null = null;
  for (let slot = 0; slot < 2; slot++) {
    const key = keys[slot];
    const same = sameDigest(key?.sha256 ?? NOBODY, presented);
    if (same && key !== undefined && (key.expiresAt === null || now < key.expiresAt)) found = key.keyId;
  }
  return found;
}
