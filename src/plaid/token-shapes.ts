/**
 * What Plaid's long-lived tokens look like. Own patterns after the formats seen
 * in the wild: they do not insist on hexadecimal digits nor on a UUID, and take
 * environments that are retired. Link, public and payment tokens are not here:
 * they are short-lived and meant for the browser.
 *
 * A shape is a net, not a proof: a token that Plaid changes tomorrow slips
 * through, which is why the exact secrets of a call are looked for as well.
 */
import type { TokenKind } from './endpoints.ts';

const ENVIRONMENT = '(?:sandbox|development|production|prod)';
/**
 * Where a match ends at the latest; no token is as long. Without an end a text of
 * some megabytes makes the engine run out of its stack.
 */
const MOST = 512;
/** 20 characters, or 8 with a digit: an identifier, and not a hyphenated word. */
const TAIL = `(?:(?=[A-Za-z-]{0,40}[0-9])[0-9A-Za-z][0-9A-Za-z-]{7,${MOST}}|[0-9A-Za-z][0-9A-Za-z-]{19,${MOST}})`;

/** The first word of a token and what it is. Longer words stand before their own endings. */
const WORDS: readonly (readonly [string, TokenKind])[] = [
  ['third-party-user', 'third_party_user'],
  ['payment-profile', 'payment_profile'],
  ['credit-relay', 'relay'],
  ['asset-report', 'report'],
  ['assets', 'report'],
  ['processor', 'processor'],
  ['access', 'access'],
  ['user', 'user'],
];

const LONG_LIVED = [
  `(${WORDS.map(([word]) => word).join('|')})-${ENVIRONMENT}-${TAIL}`,
  // An audit copy begins with a lone "a": only where no word runs into it.
  `(?<![0-9A-Za-z])([aA])-${ENVIRONMENT}-[0-9A-Za-z]{20,${MOST}}`,
  `(?<![0-9A-Za-z_-])(pd[ar])-[0-9A-Za-z_-]{20,${MOST}}`,
  `(?<![0-9A-Za-z])(btok)_[0-9A-Za-z]{10,${MOST}}`,
].join('|');
// A handle in any spelling, however mistyped its end.
const HANDLE = `([hH][aA][nN][dD][lL][eE])-(?:sandbox|production)-[0-9A-Za-z]{8,${MOST}}`;

/** No long-lived shape is complete without one of these; testing for them alone is much faster. */
export const HINT = /-(?:sandbox|prod|development)|pd[ar]-|btok_/;

const TOKEN = new RegExp(LONG_LIVED, 'g');
const ANYTHING_OURS = new RegExp(`${LONG_LIVED}|${HANDLE}`, 'g');

/**
 * The longest stretch that a shape needs before it matches, look-behind
 * included: what a scanner of parts has to keep back.
 */
export const LONGEST_SHAPE = 'x'.length + 'third-party-user-development-'.length + 20;

/** A long-lived token, or a handle, somewhere in a text. */
export interface Sight {
  readonly what: TokenKind | 'handle';
  /** Characters from the start of the text. */
  readonly start: number;
  readonly end: number;
}

/**
 * The kind of the first long-lived token in a text, or null.
 *
 * @param from - Where a token may begin; what stands before only tells whether a word runs into it.
 */
export function findToken(text: string, from = 0): TokenKind | null {
  if (!HINT.test(text)) return null;
  TOKEN.lastIndex = from;
  const match = TOKEN.exec(text);
  return match === null ? null : kindOf(match);
}

/** The first long-lived token or handle at or after `from`, or null. */
export function nextTokenOrHandle(text: string, from: number): Sight | null {
  ANYTHING_OURS.lastIndex = from;
  const match = ANYTHING_OURS.exec(text);
  if (match === null) return null;
  const what = match[5] === undefined ? kindOf(match) : 'handle';
  return { what, start: match.index, end: match.index + match[0].length };
}

function kindOf(match: RegExpExecArray): TokenKind {
  const [, word, auditCopy, oauth] = match;
  if (word !== undefined) return WORDS.find(([known]) => known === word)?.[1] ?? 'access';
  if (auditCopy !== undefined) return 'audit_copy';
  if (oauth !== undefined) return oauth === 'pda' ? 'oauth_access' : 'oauth_refresh';
  return 'stripe';
}

/**
 * The escapes of characters that a token can be made of, and only those: text
 * such as `AT\u0026T` or `100%25` needs no second look. JSON's, also in JSON in
 * JSON, and those of URLs, also of URLs in URLs; bounded, since a run of either
 * would otherwise be read again from each of its places.
 */
const TELLING_ESCAPE = /(?:\\{1,8}u00|%(?:25){0,8})(?:2[dD]|3[0-9dD]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA])/;
const TELLING_ESCAPES = new RegExp(TELLING_ESCAPE, 'g');

export function hasTellingEscape(text: string): boolean {
  return TELLING_ESCAPE.test(text);
}

/** The text with such escapes replaced by their characters. No parser: good enough to look for shapes. */
export function unescapeTelling(text: string): string {
  return text.replace(TELLING_ESCAPES, (spelled) => String.fromCharCode(Number.parseInt(spelled.slice(-2), 16)));
}
