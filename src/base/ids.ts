import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * The names by which things are called from outside: handles, application ids
 * and application keys. Pure text and arithmetic; docs/formats/identifiers.md
 * describes every byte.
 */

export type PlaidEnvironment = 'sandbox' | 'production';
export type DeploymentEnvironment = 'development' | 'staging' | 'production';

declare const brand: unique symbol;
type Brand<B extends string> = string & { readonly [brand]: B };

/** Our own name of a sealed record: a lower-case UUID. Never Plaid's. */
export type RecordId = Brand<'RecordId'>;
/** 24 lower-case hex characters, like Plaid's client_id, so that clients that check its shape are content. */
export type ApplicationId = Brand<'ApplicationId'>;
/** `handle-<environment>-` and 36 base32 characters. */
export type Handle = Brand<'Handle'>;

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'; // RFC 4648 section 6, lower case, no padding
/** Value of each character code, 255 for a foreign one: every gateway call reads a handle. */
const DIGITS = new Uint8Array(128).fill(255);
for (let value = 0; value < 32; value++) DIGITS[BASE32.charCodeAt(value)] = value;

export function base32(bytes: Uint8Array): string {
  let bits = 0;
  let value = 0;
  let text = '';
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32[(value >>> bits) & 31];
      value &= (1 << bits) - 1;
    }
  }
  return bits > 0 ? text + BASE32[(value << (5 - bits)) & 31] : text;
}

/** Null when a character is foreign, and for every text that {@link base32} does not write. */
export function fromBase32(text: string): Buffer | null {
  const bytes = Buffer.alloc((text.length * 5) >> 3);
  let bits = 0;
  let value = 0;
  let at = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = DIGITS[text.charCodeAt(i)] ?? 255;
    if (digit === 255) return null;
    value = (value << 5) | digit;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = (value >>> bits) & 255;
      value &= (1 << bits) - 1;
    }
  }
  return value === 0 && bits < 5 ? bytes : null;
}

/** Random part of a handle, in bytes (128 bits). */
export const HANDLE_ID_BYTES = 16;

/**
 * The first 20 bits of SHA-256 over the deployment id: tells a handle of another
 * deployment without a look-up. A hint, not a secret and not a proof.
 */
export function deploymentTag(deploymentId: string): number {
  return createHash('sha256').update(deploymentId, 'utf8').digest().readUIntBE(0, 3) >>> 4;
}

/**
 * Writes a handle: 128 bits id, 20 bits deployment tag, 32 bits CRC-32 over the
 * environment's name and those 148 bits; 180 bits are exactly 36 base32 digits.
 * CRC-32 finds typing errors; nothing about a handle's safety rests on it.
 */
export function formatHandle(environment: PlaidEnvironment, id: Uint8Array, tag: number): Handle {
  if (id.length !== HANDLE_ID_BYTES) throw new RangeError('a handle id is 16 bytes');
  // 148 bits fill 18.5 bytes: the checksum starts in the middle of byte 18.
  const bytes = Buffer.alloc(23);
  bytes.set(id, 0);
  bytes.writeUIntBE((tag << 4) >>> 0, 16, 3);
  const sum = checksum(environment, bytes);
  bytes[18] = (bytes[18] as number) | (sum >>> 28);
  bytes.writeUInt32BE((sum << 4) >>> 0, 19);
  return `handle-${environment}-${base32(bytes).slice(0, 36)}` as Handle;
}

export type ParsedHandle =
  | { readonly ok: true; readonly environment: PlaidEnvironment; readonly id: Buffer; readonly tag: number }
  | { readonly ok: false };

const HANDLE = /^handle-(sandbox|production)-([a-z2-7]{36})$/;

/** Whether text begins like a handle, however mistyped the rest. */
export function looksLikeHandle(text: string): boolean {
  return text.startsWith('handle-');
}

export function parseHandle(text: string): ParsedHandle {
  const match = HANDLE.exec(text);
  if (match === null) return { ok: false };
  const environment = match[1] as PlaidEnvironment;
  // 36 digits are 22 whole bytes and 4 bits; a zero digit more makes byte 23 whole.
  const bytes = fromBase32(`${match[2]}a`);
  if (bytes === null) return { ok: false };
  const sum = (((bytes[18] as number) & 15) << 28) | (bytes.readUInt32BE(19) >>> 4);
  const body = Buffer.from(bytes);
  body[18] = (body[18] as number) & 0xf0;
  body.fill(0, 19);
  if (checksum(environment, body) !== sum >>> 0) return { ok: false };
  return { ok: true, environment, id: bytes.subarray(0, HANDLE_ID_BYTES), tag: bytes.readUIntBE(16, 3) >>> 4 };
}

function checksum(environment: PlaidEnvironment, bytes: Buffer): number {
  return crc32(bytes.subarray(0, 19), crc32(environment)) >>> 0;
}

/** Bytes of an application key's secret part (256 bits). */
export const APPLICATION_KEY_BYTES = 32;
const KEY_PREFIX = 'strongroom-key-';
const KEY = /^strongroom-key-([a-z2-7]{58})$/;

/** `strongroom-key-` and 58 base32 digits: 256 random bits, then CRC-32 over them. */
export function formatApplicationKey(random: Uint8Array): string {
  if (random.length !== APPLICATION_KEY_BYTES) throw new RangeError('an application key is 32 bytes');
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(random) >>> 0);
  return KEY_PREFIX + base32(Buffer.concat([random, sum]));
}

/** Whether text is a well-formed application key (says nothing about whether it is valid). */
export function isApplicationKey(text: string): boolean {
  const match = KEY.exec(text);
  if (match === null) return false;
  const bytes = fromBase32(match[1] as string);
  return bytes !== null && bytes.length === 36 && crc32(bytes.subarray(0, 32)) >>> 0 === bytes.readUInt32BE(32);
}

/** Plaid's request ids are 15 letters and digits; SDK users search logs for them. */
export function formatRequestId(random: Uint8Array): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
  let text = '';
  for (let i = 0; i < 15; i++) text += letters[(random[i] as number) % 62];
  return text;
}
