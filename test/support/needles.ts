/**
 * Finds secrets in bytes, also in disguise: raw, hex, base64 at each of its three
 * offsets, percent-encoded, UTF-16 both ways and `\u`-escaped; and also pieces of
 * them, since a cut token is a leak too. One pass over the bytes, however many
 * secrets there are.
 *
 * Knows nothing of the product: its patterns come from the secrets themselves.
 */

export interface Hit {
  /** The name under which the secret was added. */
  readonly name: string;
  readonly encoding: string;
  /** Where in the bytes. */
  readonly at: number;
}

/** A piece of so many characters of a text gives it away (at least 64 bits for what we look for). */
const PIECE_OF_TEXT = 16;
/** The same for bytes. */
const PIECE_OF_BYTES = 12;
/** So many bytes lead to a pattern; the rest is then compared. */
const ANCHOR = 8;
const BUCKET_BITS = 18;
/** Bits of the filter in front of the buckets: small enough to stay in the processor's cache. */
const FILTER_BITS = 20;

/** One secret in one encoding. */
interface Pattern {
  readonly name: string;
  readonly encoding: string;
  readonly bytes: Buffer;
  /** A stretch of so many bytes is a find. */
  readonly piece: number;
}

export class Needles {
  readonly #filter = new Uint32Array(1 << (FILTER_BITS - 5));
  readonly #buckets = new Int32Array(1 << BUCKET_BITS).fill(-1);
  // Anchors, side by side: the next one of the bucket, hash, pattern, place in the pattern.
  readonly #next: number[] = [];
  readonly #hashes: number[] = [];
  readonly #patterns: Pattern[] = [];
  readonly #places: number[] = [];
  readonly #known = new Set<string>();
  #longest = 0;

  /** How many secrets it knows. */
  get count(): number {
    return this.#known.size;
  }

  /** How many bytes two neighbouring stretches of a stream must share, so that nothing hides on the seam. */
  get longest(): number {
    return this.#longest;
  }

  /**
   * Adds a secret, in every encoding. Adding it again changes nothing.
   *
   * @param secret - The part that nobody can guess, without a prefix that many
   *   share. What a hexadecimal, base64 or UUID text stands for is added too.
   */
  add(name: string, secret: string | Buffer): void {
    const key = Buffer.from(secret as string).toString('latin1');
    if (this.#known.has(key)) return;
    this.#known.add(key);
    const [encodings, piece] =
      typeof secret === 'string' ? [textEncodings(secret), PIECE_OF_TEXT] : [byteEncodings(secret), PIECE_OF_BYTES];
    for (const [encoding, bytes] of encodings) {
      const size = Math.min(bytes.length, Math.ceil((bytes.length / secret.length) * piece));
      if (size < ANCHOR) throw new RangeError(`${name} is too short to look for`);
      this.#anchor({ name, encoding, bytes, piece: size });
    }
    const meaning = typeof secret === 'string' ? meant(secret) : null;
    if (meaning !== null) this.add(`${name} (as bytes)`, meaning);
  }

  /** Anchors so close together that every piece holds one. */
  #anchor(pattern: Pattern): void {
    const { bytes, piece } = pattern;
    this.#longest = Math.max(this.#longest, piece);
    const stride = piece - ANCHOR + 1;
    for (let place = 0; place + ANCHOR <= bytes.length; place += stride) {
      const hash = hashOf(bytes.readInt32BE(place), bytes.readInt32BE(place + 4));
      const bit = hash >>> (32 - FILTER_BITS);
      this.#filter[bit >>> 5] = (this.#filter[bit >>> 5] as number) | (1 << (bit & 31));
      const bucket = hash >>> (32 - BUCKET_BITS);
      this.#next.push(this.#buckets[bucket] as number);
      this.#buckets[bucket] = this.#patterns.length;
      this.#hashes.push(hash);
      this.#patterns.push(pattern);
      this.#places.push(place);
    }
  }

  /** The first find of each secret and encoding. */
  find(bytes: Buffer): Hit[] {
    const hits = new Map<Pattern, Hit>();
    const filter = this.#filter;
    const { length } = bytes;
    let [high, low] = [0, 0];
    for (let end = 0; end < length; end++) {
      high = (high << 8) | (low >>> 24);
      low = (low << 8) | (bytes[end] as number);
      const hash = hashOf(high, low);
      const bit = hash >>> (32 - FILTER_BITS);
      if (((filter[bit >>> 5] as number) & (1 << (bit & 31))) === 0 || end < ANCHOR - 1) continue;
      let at = this.#buckets[hash >>> (32 - BUCKET_BITS)] as number;
      for (; at >= 0; at = this.#next[at] as number) {
        if (this.#hashes[at] !== hash) continue;
        const pattern = this.#patterns[at] as Pattern;
        if (hits.has(pattern)) continue;
        const start = matchStart(bytes, end - ANCHOR + 1, pattern, this.#places[at] as number);
        if (start >= 0) hits.set(pattern, { name: pattern.name, encoding: pattern.encoding, at: start });
      }
    }
    return [...hits.values()];
  }
}

/** Where a long enough stretch of the pattern begins that covers the anchor, or -1. */
function matchStart(bytes: Buffer, at: number, { bytes: wanted, piece }: Pattern, place: number): number {
  let before = 0;
  while (before < place && before < at && bytes[at - before - 1] === wanted[place - before - 1]) before++;
  let after = 0;
  while (place + after < wanted.length && at + after < bytes.length && bytes[at + after] === wanted[place + after])
    after++;
  return after >= ANCHOR && before + after >= piece ? at - before : -1;
}

/** Unsigned: it is compared with what was stored. */
function hashOf(high: number, low: number): number {
  return (Math.imul(high, 0x9e3779b1) ^ Math.imul(low, 0x85ebca6b)) >>> 0;
}

function* textEncodings(text: string): Iterable<[string, Buffer]> {
  const bytes = Buffer.from(text, 'utf8');
  yield* byteEncodings(bytes);
  const percent = [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
  yield ['url', Buffer.from(percent)];
  yield ['url, upper case', Buffer.from(percent.toUpperCase())];
  const utf16 = Buffer.from(text, 'utf16le');
  yield ['utf-16le', utf16];
  yield ['utf-16be', Buffer.from(utf16).swap16()];
  const units = [...text].map((unit) => unit.charCodeAt(0).toString(16).padStart(4, '0'));
  yield ['\\u', Buffer.from(units.map((unit) => `\\u${unit}`).join(''))];
  yield ['\\u, upper case', Buffer.from(units.map((unit) => `\\u${unit.toUpperCase()}`).join(''))];
  // Where a text has characters that are escaped, and the others are not.
  const partly: [string, string][] = [
    ['url, where needed', encodeURIComponent(text)],
    ['json', JSON.stringify(text).slice(1, -1)],
  ];
  for (const [name, written] of partly) if (written !== text) yield [name, Buffer.from(written)];
}

function* byteEncodings(bytes: Buffer): Iterable<[string, Buffer]> {
  yield ['raw', bytes];
  const hex = bytes.toString('hex');
  yield ['hex', Buffer.from(hex)];
  if (hex !== hex.toUpperCase()) yield ['hex, upper case', Buffer.from(hex.toUpperCase())];
  for (const offset of [0, 1, 2]) {
    // Only digits that no neighbouring byte has a part in.
    const shifted = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64');
    const first = Math.ceil((offset * 8) / 6);
    const text = shifted.slice(first, Math.floor(((offset + bytes.length) * 8) / 6));
    yield [`base64 at ${offset}`, Buffer.from(text)];
    const forUrls = text.replaceAll('+', '-').replaceAll('/', '_');
    if (forUrls !== text) yield [`base64url at ${offset}`, Buffer.from(forUrls)];
  }
}

/** The bytes that a text is a way of writing, or null. */
function meant(text: string): Buffer | null {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)) return Buffer.from(text.replaceAll('-', ''), 'hex');
  if (/^([0-9a-f]{2}){12,}$/.test(text)) return Buffer.from(text, 'hex');
  if (/^[A-Za-z0-9_-]{32,}$/.test(text) && /[A-Z]/.test(text)) return Buffer.from(text, 'base64url');
  return null;
}
