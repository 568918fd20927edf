/**
 * Looks for the exact secrets of one call in what comes back, in the spellings
 * in which something could echo them: as they are, JSON-escaped, URL-encoded,
 * UTF-16, hexadecimal, and base64 at each of its three offsets. Compressed or
 * encrypted echoes are out of reach.
 */
import type { Secret } from '../base/secret.ts';

export type Spelling = 'plain' | 'escaped' | 'url' | 'utf16' | 'hex' | 'base64';

interface Needle {
  readonly spelling: Spelling;
  /** One character for each byte (latin1). */
  readonly text: string;
}

/** Shorter values would be found everywhere; no secret of Plaid's is that short. */
const SHORTEST_SECRET = 8;

/** The secrets that one call used and that must not come back. */
export interface CallSecrets {
  /** The Plaid client's secret. Hand in the same object while it is the same secret: it is then spelled once. */
  readonly client: Secret<string>;
  /** What was put into the request. */
  readonly tokens: readonly Secret<string>[];
}

// Tokens are opened anew for every call, and remembering them would only burden the collector.
const SPELLED = new WeakMap<Secret<string>, readonly Needle[]>();

function needlesOf({ client, tokens }: CallSecrets): readonly Needle[] {
  let needles = SPELLED.get(client);
  if (needles === undefined) {
    needles = spell(client.reveal());
    SPELLED.set(client, needles);
  }
  for (const token of tokens) needles = needles.concat(spell(token.reveal()));
  return needles;
}

function spell(secret: string): readonly Needle[] {
  if (secret.length < SHORTEST_SECRET) return [];
  // Two bytes of room before it, for the offsets of base64.
  const padded = Buffer.from(`\0\0${secret}`, 'utf8');
  const length = padded.length - 2;
  const plain = padded.toString('latin1', 2);
  const hex = padded.toString('hex', 2);
  // Tokens are: their base64 has no + and no /, and neither URL nor JSON spells them differently.
  const plainest = /^[\w-]*$/.test(secret);
  const needles: Needle[] = [
    { spelling: 'plain', text: plain },
    { spelling: 'hex', text: hex },
    { spelling: 'hex', text: hex.toUpperCase() },
    // Without the last zero byte: the same bytes stand in both byte orders.
    { spelling: 'utf16', text: Buffer.from(secret, 'utf16le').toString('latin1').slice(0, -1) },
  ];
  for (let offset = 0; offset < 3; offset++) {
    // Only the characters that no neighbouring byte takes part in.
    const whole = padded.toString('base64', 2 - offset);
    const core = whole.slice(offset === 0 ? 0 : offset + 1, Math.floor(((offset + length) * 8) / 6));
    needles.push({ spelling: 'base64', text: core });
    if (!plainest) needles.push({ spelling: 'base64', text: core.replaceAll('+', '-').replaceAll('/', '_') });
  }
  if (!plainest) {
    needles.push({ spelling: 'utf16', text: Buffer.from(secret, 'utf16le').swap16().toString('latin1') });
    needles.push({ spelling: 'url', text: encodeURIComponent(secret) });
    const json = Buffer.from(JSON.stringify(secret).slice(1, -1), 'utf8').toString('latin1');
    if (json !== plain) needles.push({ spelling: 'escaped', text: json });
  }
  return needles;
}

const MIDDLES = ['-sandbox-', '-production-'].map((word) => ({
  word,
  needles: spell(word).filter(({ spelling }) => spelling !== 'plain'),
}));

/** Bytes that a scanner of parts has to keep back to see every spelling whole. */
export function longestSpelling(secrets: CallSecrets): number {
  // Six bytes for a character: what a \u escape takes.
  const lengths = needlesOf(secrets).map(({ spelling, text }) => text.length * (spelling === 'plain' ? 6 : 1));
  return Math.max(0, ...lengths);
}

/** The spelling of the first secret that a text (latin1) holds, or null. For short texts. */
export function findKnownInText(text: string, { client, tokens }: CallSecrets): Spelling | null {
  for (const needle of needlesOf({ client, tokens: [] })) if (text.includes(needle.text)) return needle.spelling;
  for (const token of tokens) {
    const secret = token.reveal();
    if (secret.length >= SHORTEST_SECRET && text.includes(secret)) return 'plain';
    // Most tokens have their environment in the middle. Where no spelling of that stands, none of the token does.
    const middle = MIDDLES.find(({ word }) => secret.includes(word));
    if (middle !== undefined && !middle.needles.some((needle) => text.includes(needle.text))) continue;
    for (const needle of spell(secret)) if (text.includes(needle.text)) return needle.spelling;
  }
  return null;
}

/** Bytes of one sample. */
const GRAM = 4;
const BUCKETS = 1 << 14;
/** First gram of a bucket plus one, zero for none. Wiped after every use. */
const BUCKET = new Uint16Array(BUCKETS);

/**
 * {@link findKnownInText} for large bodies: many needles in one pass that looks
 * at a few bytes only. A needle of n bytes covers a whole sample of 4 bytes at
 * one of every n-3 positions, so samples are taken that far apart and looked up
 * among the 4-byte pieces of all needles.
 */
export function findKnown(bytes: Buffer, secrets: CallSecrets): Spelling | null {
  const needles = needlesOf(secrets);
  if (needles.length === 0) return null;
  let shortest = Number.MAX_SAFE_INTEGER;
  let total = 0;
  for (const { text } of needles) {
    shortest = Math.min(shortest, text.length);
    total += text.length - GRAM + 1;
  }
  const gram = new Int32Array(total);
  const owner = new Uint16Array(total);
  const offset = new Uint16Array(total);
  const next = new Uint16Array(total);
  const used = new Uint16Array(total);
  let count = 0;
  for (let n = 0; n < needles.length; n++) {
    const { text } = needles[n] as Needle;
    for (let i = 0; i + GRAM <= text.length; i++) {
      const here = word(text.charCodeAt(i), text.charCodeAt(i + 1), text.charCodeAt(i + 2), text.charCodeAt(i + 3));
      const bucket = bucketOf(here);
      gram[count] = here;
      owner[count] = n;
      offset[count] = i;
      next[count] = BUCKET[bucket] as number;
      used[count] = bucket;
      BUCKET[bucket] = ++count;
    }
  }

  let found: Spelling | null = null;
  const step = shortest - GRAM + 1;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  search: for (let at = 0; at + GRAM <= bytes.length; at += step) {
    const here = view.getInt32(at, true);
    for (let g = BUCKET[bucketOf(here)] as number; g !== 0; g = next[g - 1] as number) {
      if (gram[g - 1] !== here) continue;
      const { text, spelling } = needles[owner[g - 1] as number] as Needle;
      const start = at - (offset[g - 1] as number);
      if (start >= 0 && bytes.toString('latin1', start, start + text.length) === text) {
        found = spelling;
        break search;
      }
    }
  }
  for (let i = 0; i < count; i++) BUCKET[used[i] as number] = 0;
  return found;
}

function word(a: number, b: number, c: number, d: number): number {
  return a | (b << 8) | (c << 16) | (d << 24);
}

function bucketOf(gram: number): number {
  return Math.imul(gram, 0x9e3779b1) >>> 18;
}
