import { ENCODED_MARKS, NAMED_VALUE, PATTERNS } from './patterns.ts';

/**
 * Takes secrets out of text. Linear in the length of the text; see patterns.ts.
 *
 * Two doors: {@link redactText} for a text as it is, {@link redactLine} for a
 * finished JSON line, which stays well-formed JSON.
 */

/** One pass over the text: each pattern is a group, the index of the group says which. */
const SHAPES = new RegExp(PATTERNS.map(({ source }) => `(${source})`).join('|'), 'gi');
const GROUP_NAMES = PATTERNS.map(({ name }) => name);

/** Something stands here that could be an escaped character. */
const ESCAPE =
  /\\{1,8}u00([0-9a-f]{2})|\\{1,8}x([0-9a-f]{2})|%(?:25)*([0-9a-f]{2})|&#(?:0*(\d{2,3})|x0*([0-9a-f]{2}));|\0/gi;

/** The characters that begin one. */
const ESCAPES = /[\\%&\0]/;

/**
 * What every shape and every encoding has somewhere. Most texts have none of it
 * and need no second look; a pattern without its hint fails the corpus.
 */
const HINT = new RegExp(
  [
    ...[
      '-(?:sandbox|prod|development)',
      'pd[ar]-',
      'btok_',
      'strongroom-',
      'eyJ',
      'bearer\\s',
      'basic\\s',
      '-----BEGIN',
      '://',
    ],
    ...ENCODED_MARKS.map(({ mark: tell }) => tell.source),
  ].join('|'),
  'i',
);
/** Too short and too plain to hold a secret: ids, paths, words. */
const PLAIN = /^[\w ./]{0,24}$/;

/** The mark that stands in place of a secret. */
export function mark(name?: string): string {
  return name === undefined ? '[redacted]' : `[redacted ${name}]`;
}

/** Longer texts are cut, after redaction, so that the cut never leaves half a token unseen. */
const MOST_TEXT = 16 * 1024;

/**
 * A text without secrets: by shape, by the name before a value, and hidden in
 * base64, hexadecimal, percent signs or `\u00..` escapes. A text in which only
 * the escaped form shows a secret comes back unescaped and redacted.
 *
 * @returns At most 16 Ki characters of the text and a note of how many were cut.
 */
export function redactText(text: string): string {
  if (PLAIN.test(text) && !text.includes('btok_')) return text;
  const whole = text.length <= MOST_TEXT ? text : text.slice(0, MOST_TEXT + 1024);
  const redacted = unhidden(whole);
  if (text.length <= MOST_TEXT) return redacted;
  return `${redacted.slice(0, MOST_TEXT)}[${text.length - MOST_TEXT} more]`;
}

function unhidden(text: string): string {
  const redacted = byShape(text);
  if (!ESCAPES.test(redacted)) return redacted;
  const plain = unescaped(redacted);
  if (plain === redacted) return redacted;
  const again = byShape(plain);
  return again === plain ? redacted : again;
}

function byShape(text: string): string {
  return byName(HINT.test(text) ? byEncoding(text.replace(SHAPES, replaceShape)) : text);
}

function replaceShape(...match: unknown[]): string {
  const group = match.findIndex((part, index) => index > 0 && part !== undefined);
  return mark(GROUP_NAMES[group - 1]);
}

function byName(text: string): string {
  return text.replace(
    NAMED_VALUE,
    (whole, name: string, separator: string, scheme: string | undefined, value: string) => {
      // In JSON a bare value after `"name":` is a number or a word; the mark needs quotes of its own there.
      const bare = /^"\s*:\s*$/.test(separator);
      if (bare && /^(?:true|false|null)$/.test(value)) return whole;
      return `${name}${separator}${scheme ?? ''}${bare ? `"${mark()}"` : mark()}`;
    },
  );
}

/** Replaces the whole run of base64 or hexadecimal digits around a tell-tale part. */
function byEncoding(text: string): string {
  let out = text;
  for (const { alphabet, mark: tell } of ENCODED_MARKS) {
    tell.lastIndex = 0;
    if (!tell.test(out)) continue;
    tell.lastIndex = 0;
    const parts: string[] = [];
    let done = 0;
    for (const match of out.matchAll(tell)) {
      // A second mark inside a run that is replaced already.
      if (match.index < done) continue;
      let from = match.index;
      while (from > done && alphabet.test(out[from - 1] as string)) from--;
      let to = match.index + match[0].length;
      while (to < out.length && alphabet.test(out[to] as string)) to++;
      parts.push(out.slice(done, from), mark('encoded'));
      done = to;
    }
    out = parts.join('') + out.slice(done);
  }
  return out;
}

/** Three rounds: a value in a URL in a JSON string in a log line. */
function unescaped(text: string): string {
  let out = text;
  for (let round = 0; round < 3; round++) {
    const next = out.replace(
      ESCAPE,
      (_whole, u?: string, x?: string, percent?: string, decimal?: string, hex?: string) => {
        const code = decimal === undefined ? Number.parseInt(u ?? x ?? percent ?? hex ?? '0', 16) : Number(decimal);
        // Without NULs, UTF-16 reads like ASCII.
        return code === 0 ? '' : String.fromCharCode(code);
      },
    );
    if (next === out) return out;
    out = next;
  }
  return out;
}

/** Characters that JSON leaves as they are and terminals obey: C1 controls, direction marks, invisible ones, halves of a pair. */
const UNSEEN =
  /[\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Far longer than any record that the logger makes. */
const MOST_LINE = 256 * 1024;

/**
 * The gate that every finished log line passes. What it gets is JSON and what it
 * gives is JSON. Direction marks and other unseen characters become escapes, so
 * that a name cannot rearrange a line on a terminal.
 *
 * @returns Null when the line cannot be made safe (too long, or a secret shows
 *   only after unescaping); the caller then writes a record that says so.
 */
export function redactLine(line: string): string | null {
  if (line.length > MOST_LINE) return null;
  const redacted = byShape(line);
  // Unescaping would break the JSON. Texts were unescaped one by one before they
  // came here, so this finds only what went around the logger.
  const plain = ESCAPES.test(redacted) ? unescaped(redacted) : redacted;
  if (plain !== redacted && byShape(plain) !== plain) return null;
  return redacted.replace(UNSEEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
