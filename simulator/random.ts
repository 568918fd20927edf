/**
 * Where tokens, ids and request ids come from. With a seed the same calls in
 * the same order mint the same tokens, also after a restart: the position in
 * the stream is part of the saved state.
 */
import { createHash, randomBytes } from 'node:crypto';

const POOL = 4096; // bytes fetched from the system at once

/** A stream of random bytes whose position can be saved. */
export interface ByteStream {
  bytes(length: number): Buffer;
  /** How many blocks were used; null where the stream cannot be replayed. */
  position(): number | null;
}

/** The system's randomness, fetched in pools: one system call per token would show under load. */
export function systemStream(): ByteStream {
  let pool = Buffer.alloc(0);
  let at = 0;
  return {
    bytes(length) {
      if (length > POOL) return randomBytes(length);
      if (at + length > pool.length) {
        pool = randomBytes(POOL);
        at = 0;
      }
      at += length;
      return pool.subarray(at - length, at);
    },
    position: () => null,
  };
}

/**
 * SHA-256 over seed and counter. Good enough for fake tokens, and no more than
 * that: a seeded simulator's tokens can be predicted by design.
 */
export function seededStream(seed: string, start = 0): ByteStream {
  let block = start;
  let pool = Buffer.alloc(0);
  return {
    bytes(length) {
      while (pool.length < length) {
        const next = createHash('sha256').update(`${seed}\0${block++}`).digest();
        pool = Buffer.concat([pool, next]);
      }
      const taken = pool.subarray(0, length);
      pool = pool.subarray(length);
      return taken;
    },
    // What is left of the last block is given up, so that a restart never repeats a byte.
    position: () => block,
  };
}

const ALPHANUMERIC = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const LOWER = 'abcdefghijklmnopqrstuvwxyz0123456789';
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

function spell(bytes: Uint8Array, alphabet: string): string {
  let text = '';
  for (const byte of bytes) text += alphabet[byte % alphabet.length];
  return text;
}

/** The shapes of Plaid's names, as its documentation, its SDKs and public samples show them. */
export class Mint {
  readonly stream: ByteStream;

  constructor(stream: ByteStream) {
    this.stream = stream;
  }

  /** 37 mixed-case letters and digits: item, account and transaction ids. */
  id(): string {
    return spell(this.stream.bytes(37), ALPHANUMERIC);
  }

  /** 15 letters and digits. */
  requestId(): string {
    return spell(this.stream.bytes(15), ALPHANUMERIC);
  }

  uuid(): string {
    const bytes = Buffer.from(this.stream.bytes(16));
    bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40; // RFC 9562 version 4
    bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80; // and variant
    const hex = bytes.toString('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }

  hex(bytes: number): string {
    return this.stream.bytes(bytes).toString('hex');
  }

  lower(length: number): string {
    return spell(this.stream.bytes(length), LOWER);
  }

  base32(length: number): string {
    return spell(this.stream.bytes(length), BASE32);
  }

  base64url(bytes: number): string {
    return this.stream.bytes(bytes).toString('base64url');
  }

  alphanumeric(length: number): string {
    return spell(this.stream.bytes(length), ALPHANUMERIC);
  }
}

/**
 * A small fast generator for bank data that is derived instead of stored: the
 * same item always shows the same transactions.
 */
export function dice(seed: string): () => number {
  let a = createHash('sha256').update(seed).digest().readUInt32BE(0);
  // mulberry32: 32 bits of state, plenty for choosing a merchant.
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A 37-character id that is always the same for the same name. */
export function derivedId(name: string): string {
  const bytes = createHash('sha512').update(name).digest();
  return spell(bytes.subarray(0, 37), ALPHANUMERIC);
}
