/**
 * What may leave in an answer. Plaid's answers are hostile input too: a token
 * that stands anywhere but at a position of the endpoint table, in a field, an
 * error text or a header, is a leak, and the caller withholds the answer.
 *
 * Two nets: the shapes of long-lived tokens, and the exact secrets of this call
 * in several spellings. Handles, link tokens and public tokens pass.
 */
import { codeOf, StrongroomError } from '../base/errors.ts';
import type { Handle } from '../base/ids.ts';
import type { Secret } from '../base/secret.ts';
import type { AnswerSlot, Endpoint, TokenKind } from './endpoints.ts';
import { readJson, type Spot } from './json-spots.ts';
import { type CallSecrets, findKnown, findKnownInText, type Spelling } from './known-secrets.ts';
import { findToken, hasTellingEscape, LONGEST_SHAPE, unescapeTelling } from './token-shapes.ts';

/** What was found, without the secret. */
export interface Leak {
  /** The kind that the shape tells, or `known_secret` for a secret of this very call. */
  readonly kind: TokenKind | 'known_secret';
  readonly spelling: Spelling;
}

/** A stretch of the body that is about to be replaced or released; an {@link AnswerSpot} is one. */
export interface Range {
  readonly start: number;
  readonly end: number;
  readonly slot?: AnswerSlot;
  readonly value?: string | null | undefined;
}

/** Tokens and new subjects of a successful answer, in the order of the text. */
export type AnswerSpot = Spot<AnswerSlot>;

/**
 * Finds the tokens and new subjects of a successful answer at the positions of
 * the endpoint table. Empty without reading when the table has none.
 *
 * @throws StrongroomError `UPSTREAM_BROKEN` when the answer is no JSON object that {@link readJson} takes.
 */
export function readAnswer(body: Buffer, endpoint: Endpoint): readonly AnswerSpot[] {
  if (endpoint.answerShape === null) return [];
  try {
    return readJson(body, endpoint.answerShape, { keys: 500_000, spots: 50_000 }).spots;
  } catch (error) {
    throw new StrongroomError('UPSTREAM_BROKEN', { reason: codeOf(error), endpoint: endpoint.path });
  }
}

/**
 * Looks for what must not leave. A 200 KB answer costs about a ninth of parsing
 * and serialising it.
 *
 * @param allowed - Tokens at their positions. A vaulted one is not looked at,
 *   since a handle takes its place. A released one must be of its own kind and no
 *   secret of this call. One that passes gets no licence: it is not long-lived.
 */
export function findLeak(body: Buffer, secrets: CallSecrets, allowed: readonly Range[] = []): Leak | null {
  for (const { slot, value } of allowed) {
    const leak =
      slot?.token?.disposition === 'released' && typeof value === 'string' ? wrongRelease(slot, value, secrets) : null;
    if (leak !== null) return leak;
  }
  const licensed = allowed.filter(({ slot }) => slot?.token?.disposition !== 'pass');
  return findLeakFrom(licensed.length === 0 ? body : blank(body, licensed), secrets, 0);
}

/** {@link findLeak} for a part of an answer: a token begins at `from` or later. */
export function findLeakFrom(bytes: Buffer, secrets: CallSecrets, from: number): Leak | null {
  if (bytes.length <= PART) return findInText(bytes.toString('latin1'), secrets, from);
  const leak = findPlain(bytes, secrets, from);
  if (leak !== null || !(bytes.includes('\\u00', 0, 'latin1') || bytes.includes(PERCENT))) return leak;
  if (!parts(bytes, ESCAPE).some(hasTellingEscape)) return null;
  return escaped(findPlain(Buffer.from(unescapeTelling(bytes.toString('latin1')), 'latin1'), secrets, from));
}

function wrongRelease(slot: AnswerSlot, value: string, secrets: CallSecrets): Leak | null {
  const leak = findLeakInText(Buffer.from(value, 'utf8').toString('latin1'), secrets);
  return leak?.kind === slot.token?.kind ? null : leak;
}

/** {@link findLeak} for a header value or another short text, one character a byte. */
export function findLeakInText(text: string, secrets: CallSecrets): Leak | null {
  return findInText(text, secrets, 0);
}

function findInText(text: string, secrets: CallSecrets, from: number): Leak | null {
  const leak = findPlainInText(text, secrets, from);
  if (leak !== null || !(text.includes('\\u00') || text.includes('%')) || !hasTellingEscape(text)) return leak;
  return escaped(findPlainInText(unescapeTelling(text), secrets, from));
}

function findPlain(bytes: Buffer, secrets: CallSecrets, from: number): Leak | null {
  return verdict(findKnown(bytes, secrets), () => findShape(bytes, from));
}

function findPlainInText(text: string, secrets: CallSecrets, from: number): Leak | null {
  return verdict(findKnownInText(text, secrets), () => findToken(text, from));
}

function verdict(known: Spelling | null, shape: () => TokenKind | null): Leak | null {
  if (known !== null) return { kind: 'known_secret', spelling: known };
  const kind = shape();
  return kind === null ? null : { kind, spelling: 'plain' };
}

function escaped(leak: Leak | null): Leak | null {
  return leak === null ? null : { ...leak, spelling: 'escaped' };
}

/** Large enough to make a string of, small enough to stay in the processor's cache: whole bodies take twice as long. */
const PART = 16 * 1024;
/** Bytes of `\u0041`, the longest escape that is looked for. */
const ESCAPE = 6;
const PERCENT = 0x25;

function findShape(bytes: Buffer, from: number): TokenKind | null {
  let begin = from;
  for (const text of parts(bytes, LONGEST_SHAPE)) {
    const kind = findToken(text, begin);
    if (kind !== null) return kind;
    // What begins at the first byte of a later part was seen whole at the end of the part before.
    begin = 1;
  }
  return null;
}

/** The body in strings that overlap by what is looked for, and begin one byte early for what stands before it. */
function* parts(bytes: Buffer, overlap: number): Generator<string, void> {
  for (let start = 0; start < bytes.length; start += PART) {
    yield bytes.toString('latin1', Math.max(0, start - 1), start + PART + overlap);
  }
}

function blank(body: Buffer, ranges: readonly Range[]): Buffer {
  const copy = Buffer.from(body);
  for (const { start, end } of ranges) copy.fill(0x20, start, end);
  return copy;
}

/**
 * Puts handles in place of secrets that Plaid echoes, in error texts above all.
 * Only the plain spelling: what is left of others is a leak to {@link findLeak}.
 */
export function scrub(
  body: Buffer,
  known: readonly { readonly secret: Secret<string>; readonly handle: Handle }[],
): Buffer {
  let clean = body;
  for (const { secret, handle } of known) {
    const needle = Buffer.from(secret.reveal(), 'utf8');
    if (needle.length === 0) continue;
    const parts: Buffer[] = [];
    let from = 0;
    for (let at = clean.indexOf(needle); at >= 0; at = clean.indexOf(needle, from)) {
      parts.push(clean.subarray(from, at), Buffer.from(handle));
      from = at + needle.length;
    }
    if (from > 0) clean = Buffer.concat([...parts, clean.subarray(from)]);
  }
  return clean;
}
