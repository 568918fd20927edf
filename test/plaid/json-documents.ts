import fc from 'fast-check';

/**
 * JSON documents in every spelling (white space, escapes, numbers of any length)
 * with handles at the positions of {@link PATHS}, as pieces of text.
 */

export const PATHS = [
  'access_token',
  'access_tokens[]',
  'options.access_tokens[]',
  'loans[].user_token',
  'a.b.c',
  'grid[][]',
];

export interface Piece {
  readonly text: string;
  /** Set on a piece that is a value at a known position. */
  readonly path?: string;
  readonly value?: string | null;
}

const HANDLE = fc.stringMatching(/^handle-sandbox-[a-z2-7]{36}$/);
export const SPACE = fc.stringMatching(/^[ \n\r\t]{0,3}$/);
/** A JSON string in one of its many spellings: each character plain or escaped. */
const spelled = (text: fc.Arbitrary<string>): fc.Arbitrary<{ text: string; value: string }> =>
  fc.tuple(text, fc.infiniteStream(fc.nat({ max: 9 }))).map(([value, dice]) => {
    const short: Record<string, string> = {
      '"': '\\"',
      '\\': '\\\\',
      '\n': '\\n',
      '\t': '\\t',
      '\b': '\\b',
      '\f': '\\f',
      '\r': '\\r',
      '/': '\\/',
    };
    let out = '';
    for (const character of value) {
      const roll = dice.next().value as number;
      const units = [...Array(character.length).keys()].map((i) => character.charCodeAt(i));
      const unicode = () => units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
      const must = character < ' ' || character === '"' || character === '\\';
      if (roll === 0) out += unicode();
      else if (roll === 1 && short[character] !== undefined) out += short[character];
      else out += must ? (short[character] ?? unicode()) : character;
    }
    return { text: `"${out}"`, value };
  });

const UNICODE = fc.string({ unit: 'grapheme', maxLength: 8 });
const NUMBER = fc.oneof(
  fc.stringMatching(/^-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?$/),
  fc.constantFrom('12345678901234567890123', '0.1000', '1E+2', '-0', '1e400'),
);
/** Anything at all that is no position: keys are prefixed, so that none is a known one. */
const OTHER: fc.Arbitrary<Piece[]> = fc.letrec<{ value: Piece[] }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', maxDepth: 4 },
    NUMBER.map((text) => [{ text }]),
    fc.constantFrom('true', 'false', 'null').map((text) => [{ text }]),
    spelled(UNICODE).map(({ text }) => [{ text }]),
    fc.array(tie('value'), { maxLength: 4 }).chain((items) => list('[', ']', items)),
    members(fc.uniqueArray(UNICODE, { maxLength: 15 }), tie('value')),
  ),
})).value;

function list(open: string, close: string, items: readonly Piece[][]): fc.Arbitrary<Piece[]> {
  return fc.array(SPACE, { minLength: 2 * items.length + 1, maxLength: 2 * items.length + 1 }).map((spaces) => {
    const pieces: Piece[] = [{ text: open }, { text: spaces[0] as string }];
    items.forEach((item, i) => {
      if (i > 0) pieces.push({ text: `,${spaces[2 * i]}` });
      pieces.push(...item, { text: spaces[2 * i + 1] as string });
    });
    return [...pieces, { text: close }];
  });
}

function members(names: fc.Arbitrary<string[]>, value: fc.Arbitrary<Piece[]>): fc.Arbitrary<Piece[]> {
  return names
    .chain((keys) => fc.tuple(...keys.map((key) => fc.tuple(spelled(fc.constant(`_${key}`)), SPACE, SPACE, value))))
    .chain((entries) =>
      list(
        '{',
        '}',
        entries.map(([key, before, after, item]) => [{ text: `${key.text}${before}:${after}` }, ...item]),
      ),
    );
}

const member = (key: string, value: fc.Arbitrary<Piece[]>): fc.Arbitrary<Piece[]> =>
  fc
    .tuple(spelled(fc.constant(key)), SPACE, SPACE, value)
    .map(([name, before, after, pieces]) => [{ text: `${name.text}${before}:${after}` }, ...pieces]);
const spot = (path: string): fc.Arbitrary<Piece[]> =>
  fc.oneof<fc.WeightedArbitrary<Piece[]>[]>(
    { weight: 5, arbitrary: spelled(HANDLE).map(({ text, value }) => [{ text, value, path }]) },
    { weight: 1, arbitrary: fc.constant([{ text: 'null', value: null, path }]) },
  );
const spots = (path: string): fc.Arbitrary<Piece[]> =>
  fc.array(spot(path), { maxLength: 5 }).chain((items) => list('[', ']', items));
const object = (...parts: fc.Arbitrary<Piece[]>[]): fc.Arbitrary<Piece[]> =>
  fc
    .tuple(fc.array(fc.boolean(), { minLength: parts.length, maxLength: parts.length }), ...parts)
    .chain(([wanted, ...found]) =>
      fc.shuffledSubarray((found as Piece[][]).filter((_, i) => wanted[i])).chain((chosen) => list('{', '}', chosen)),
    );

export const DOCUMENT: fc.Arbitrary<Piece[]> = object(
  member('access_token', spot('access_token')),
  member('access_tokens', spots('access_tokens[]')),
  member('options', object(member('access_tokens', spots('options.access_tokens[]')), member('access_token', OTHER))),
  member(
    'loans',
    fc
      .array(object(member('user_token', spot('loans[].user_token')), member('loan', OTHER)), { maxLength: 3 })
      .chain((items) => list('[', ']', items)),
  ),
  member('a', object(member('b', object(member('c', spot('a.b.c')))), member('c', OTHER))),
  member(
    'grid',
    fc.array(spots('grid[][]'), { maxLength: 3 }).chain((items) => list('[', ']', items)),
  ),
  member('_first', OTHER),
  member('_second', OTHER),
);
