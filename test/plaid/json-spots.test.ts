import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { codeOf } from '../../src/base/errors.ts';
import { compileNames, compileShape } from '../../src/plaid/json-shape.ts';
import { type JsonReading, readJson, splice } from '../../src/plaid/json-spots.ts';

const PATHS = ['access_token', 'access_tokens[]', 'options.access_tokens[]', 'loans[].user_token', 'a.b.c', 'grid[][]'];
const SHAPE = compileShape(
  PATHS.map((path) => ({ path })),
  { guarded: compileNames(['user_id', 'item_ids']), plain: ['item_ids'] },
);
type Reading = JsonReading<{ path: string }>;

function read(text: string | Buffer): Reading {
  return readJson(typeof text === 'string' ? Buffer.from(text) : text, SHAPE);
}

function refusal(text: string | Buffer): string {
  try {
    read(text);
    return 'taken';
  } catch (error) {
    return codeOf(error);
  }
}

// --- Documents as pieces of text, of which some are the values to be found.

interface Piece {
  readonly text: string;
  /** Set on a piece that is a value at a known position. */
  readonly path?: string;
  readonly value?: string | null;
}

const HANDLE = fc.stringMatching(/^handle-sandbox-[a-z2-7]{36}$/);
const SPACE = fc.stringMatching(/^[ \n\r\t]{0,3}$/);
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

const DOCUMENT: fc.Arbitrary<Piece[]> = object(
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

test('whatever the document, exactly the values at known positions change and every other byte stays', () => {
  fc.assert(
    fc.property(DOCUMENT, (pieces) => {
      const body = Buffer.from(pieces.map(({ text }) => text).join(''));
      const reading = read(body);
      const known = pieces.filter(({ path }) => path !== undefined);
      assert.deepEqual(
        reading.spots.map(({ slot, value }) => [slot.path, value]),
        known.map(({ path, value }) => [path, value]),
      );

      let n = 0;
      const replacement = () => JSON.stringify(`access "${n++}" \u{1f511}`);
      const edits = reading.spots.map(({ start, end }) => ({ start, end, text: replacement() }));
      n = 0;
      const expected = pieces.map((piece) => (piece.path === undefined ? piece.text : replacement())).join('');
      const spliced = splice(body, edits.toReversed());
      assert.equal(spliced.toString(), expected);
      assert.doesNotThrow(() => JSON.parse(spliced.toString()));
      // And back again.
      const back = read(spliced).spots.map(({ start, end }, i) => ({ start, end, text: known[i]?.text ?? '' }));
      assert.deepEqual(splice(spliced, back), body);
    }),
    { numRuns: 300 },
  );
});

test('what it takes, JSON.parse takes, and reads the same strings', () => {
  const bytes = fc.array(
    fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      'u',
      '00',
      'access_token',
      '"access_token":',
      'null',
      '1',
      '-',
      '.',
      'e',
      ' ',
      '\t',
      '{}',
      '"a"',
      '\u00e9',
      '\\ud83d',
      '\\ude00',
    ),
    { maxLength: 14 },
  );
  fc.assert(
    fc.property(bytes, fc.boolean(), (parts, whole) => {
      const text = whole ? `{"access_token":"${parts.join('')}"}` : `{"access_token":${parts.join('')}}`;
      const verdict = refusal(text);
      if (verdict !== 'taken') return;
      const parsed = JSON.parse(text) as { access_token?: unknown };
      const [first] = read(text).spots;
      if (typeof parsed.access_token === 'string') assert.equal(first?.value, parsed.access_token);
    }),
    { numRuns: 3000 },
  );
});

test('cutting credentials leaves every other member as it was', () => {
  const names = ['client_id', 'secret', 'client_secret', 'x', 'y', 'z'];
  fc.assert(
    fc.property(fc.shuffledSubarray(names), SPACE, SPACE, (keys, before, after) => {
      const text = `${before}{${keys.map((key) => `${before}"${key}"${after}:${before}"v-${key}"${after}`).join(',')}}`;
      const body = Buffer.from(text);
      const { cuts, credentials } = read(body);
      const left = JSON.parse(splice(body, cuts).toString()) as Record<string, string>;
      const stays = keys.filter((key) => key.length === 1);
      assert.deepEqual(Object.keys(left), stays);
      for (const key of stays) assert.equal(left[key], `v-${key}`);
      assert.deepEqual(
        credentials.map(({ name }) => name),
        keys.filter((key) => key.length > 1),
      );
    }),
  );
  assert.equal(
    splice(Buffer.from('{"secret":{"a":[1,{}]},"n":1.50}'), read('{"secret":{"a":[1,{}]},"n":1.50}').cuts).toString(),
    '{"n":1.50}',
  );
  // Only at the top: elsewhere the name is Plaid's business.
  assert.deepEqual(read('{"user":{"client_id":"a","secret":"b"}}').cuts, []);
  assert.deepEqual(read('{"client\\u005fid":"a"}').credentials, [{ name: 'client_id', value: 'a' }]);
  assert.deepEqual(
    read('{"secret":null,"client_id":7}').credentials.map(({ value }) => value),
    [null, undefined],
  );
});

/** Texts on which parsers disagree, or that only some accept. `ok`: taken here. */
const CORPUS: readonly [verdict: string, ...texts: (string | Buffer)[]][] = [
  [
    'ok',
    '{}',
    ' \t\r\n{} \n',
    '{"a":1}',
    '{"a":[]}',
    '{"a":{}}',
    '{"":""}',
    '{"a":"\u007f"}',
    '{"a":"\u2028\u2029"}',
    '{"a":"\ufeff"}',
  ],
  [
    'ok',
    '{"a":0}',
    '{"a":-0}',
    '{"a":1e5}',
    '{"a":1E-5}',
    '{"a":0.0}',
    '{"a":-1.5e+10}',
    '{"a":123456789012345678901234567890}',
    '{"a":1e999}',
  ],
  [
    'ok',
    '{"a":"\\u0000"}',
    '{"a":"\\/"}',
    '{"a":"\\ud83d\\ude00"}',
    '{"a":"\\uD83D\\uDE00"}',
    '{"__proto__":1}',
    '{"q":1,"Q":2}',
    '{"a":[null,true,false]}',
  ],
  [
    'BODY_MALFORMED',
    '',
    ' ',
    'null',
    'true',
    '1',
    '"a"',
    '[]',
    '[{}]',
    '{}{}',
    '{},',
    '{}x',
    '{"a":1}}',
    '{"a":1}\u0000',
    '{',
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,',
    '}',
    '{"a":1,}',
    '{,}',
    '{"a":1,,"b":2}',
    '{"a" 1}',
    '{"a"::1}',
    '{a:1}',
    "{'a':1}",
    '{"a":\'b\'}',
    '{1:2}',
    '{"a":b}',
    '{null:1}',
  ],
  [
    'BODY_MALFORMED',
    '{"a":[1,]}',
    '{"a":[,1]}',
    '{"a":[1 2]}',
    '{"a":[1}',
    '{"a":{]}',
    '{"a":[}]}',
    '{"a":"b}',
    '{"a":"b\n"}',
    '{"a":"\t"}',
    '{"a":"\u0000"}',
    '{"a":"\\x41"}',
    '{"a":"\\"}',
    '{"a":"\\u12"}',
    '{"a":"\\u12g4"}',
    '{"a":"\\U0041"}',
    '{"a":"\\\n"}',
    '{"a":"\\a"}',
  ],
  [
    'BODY_MALFORMED',
    '{"a":01}',
    '{"a":-01}',
    '{"a":+1}',
    '{"a":1.}',
    '{"a":.5}',
    '{"a":1e}',
    '{"a":1e+}',
    '{"a":-}',
    '{"a":--1}',
    '{"a":0x10}',
    '{"a":1_000}',
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":-Infinity}',
    '{"a":1f}',
    '{"a":1.2.3}',
    '{"a":True}',
    '{"a":nul}',
    '{"a":nulll}',
    '{"a":tru}',
    '{"a":undefined}',
  ],
  [
    'BODY_MALFORMED',
    '/* c */{}',
    '{"a":1}// c',
    '{"a":/**/1}',
    '#c\n{}',
    '{"a":1;"b":2}',
    '\u00a0{}',
    '\u2003{}',
    '\v{}',
    '\f{}',
    '{"a":\u00a01}',
    '\ufeff{}',
    ")]}'\n{}",
    '{"a":`b`}',
    '{"a":"b"+"c"}',
    '{"a"=1}',
  ],
  [
    'BODY_MALFORMED',
    '{"a":"\\ud800"}',
    '{"a":"\\udc00"}',
    '{"a":"\\ud800\\ud800"}',
    '{"a":"\\ud800x"}',
    '{"a":"\\ud800\\u0041"}',
    '{"\\udfff":1}',
  ],
  [
    'BODY_MALFORMED',
    Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
    Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d]),
    Buffer.from([0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x3a, 0x31, 0x7d]),
    Buffer.from([0x7b, 0x22, 0xe2, 0x82, 0x22, 0x3a, 0x31, 0x7d]),
    Buffer.from([0x7b, 0x22, 0xf5, 0x80, 0x80, 0x80, 0x22, 0x3a, 0x31, 0x7d]),
    Buffer.from('{"a":1}', 'utf16le'),
  ],
  [
    'BODY_DUPLICATE_KEY',
    '{"a":1,"a":1}',
    '{"a":1,"b":2,"a":3}',
    '{"x":{"a":1,"a":2}}',
    '{"x":[{"a":1,"a":2}]}',
    '{"access_token":"a","access_token":"b"}',
    '{"access_token":"a","access\\u005ftoken":"b"}',
    '{"access\\u005ftoken":"a","access_token":"b"}',
    '{"\\u0061":1,"\\u0061":2}',
    '{"a":1,"\\u0061":2}',
    '{"\u00e9":1,"\\u00e9":2}',
    '{"\u{1f600}":1,"\\ud83d\\ude00":2}',
    '{"/":1,"\\/":2}',
    '{"":1,"":2}',
    '{"__proto__":1,"__proto__":2}',
    '{"client_id":"a","client_id":"b"}',
  ],
  // A parser that ignores case would see the known key.
  [
    'BODY_MALFORMED',
    '{"Access_Token":"a"}',
    '{"ACCESS_TOKEN":"a"}',
    '{"access_Token":"a"}',
    '{"acce\u017fs_token":"a"}',
    '{"acce\\u017f\\u017f_token":"a"}',
    '{"access_to\u212aen":"a"}',
    '{"options":{"Access_tokens":[]}}',
    '{"Client_Id":"a"}',
    '{"SECRET":"a"}',
    '{"User_id":"a"}',
    '{"\\u0041ccess_token":"a"}',
  ],
];

test('it takes a part of what JSON.parse takes, and nothing else', () => {
  let cases = 0;
  for (const [verdict, ...texts] of CORPUS) {
    for (const text of texts) {
      cases++;
      assert.equal(refusal(text), verdict === 'ok' ? 'taken' : verdict, JSON.stringify(text.toString()));
      if (verdict === 'ok') assert.doesNotThrow(() => JSON.parse(text.toString()));
    }
  }
  assert.ok(cases >= 60);
});

test('many keys are compared as strictly as few', () => {
  const keys = Array.from({ length: 40 }, (_, i) => `"k${i}":${i}`);
  for (const again of ['"k0":1', '"k7":1', '"k39":1', '"\\u006b12":1', '"k1\\u0033":1']) {
    assert.equal(refusal(`{${[...keys, again].join(',')}}`), 'BODY_DUPLICATE_KEY', again);
  }
  assert.equal(refusal(`{${keys.join(',')}}`), 'taken');
  // The same names in different objects are different keys.
  assert.equal(refusal(`{"x":[${Array.from({ length: 50 }, () => `{${keys.join(',')}}`).join(',')}]}`), 'taken');
});

test('64 levels are taken, 65 are not, and 100 000 cost nothing more', () => {
  const nested = (levels: number) => `{"a":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`;
  assert.equal(refusal(nested(64)), 'taken');
  assert.equal(refusal(nested(65)), 'BODY_TOO_DEEP');
  assert.equal(refusal(`{"a":${'['.repeat(100_000)}`), 'BODY_TOO_DEEP');
  assert.equal(refusal(`{"a":${'{"a":'.repeat(100_000)}`), 'BODY_TOO_DEEP');
  assert.throws(
    () => readJson(Buffer.from(nested(9)), SHAPE, { depth: 8 }),
    (error) => codeOf(error) === 'BODY_TOO_DEEP',
  );
});

test('a large body is read in one go, and too many keys or positions are refused', () => {
  const large = `{"list":[${'"0123456789 0123456789 0123456789",'.repeat(560_000)}1],"access_token":"x"}`;
  assert.ok(large.length > 19_000_000);
  assert.deepEqual(
    read(large).spots.map(({ value }) => value),
    ['x'],
  );
  const keys = (count: number) => `{${Array.from({ length: count }, (_, i) => `"${i}":0`).join(',')}}`;
  assert.equal(refusal(keys(100_000)), 'taken');
  assert.equal(refusal(keys(1_000_000)), 'BODY_TOO_LARGE');
  assert.equal(refusal(`{"access_tokens":[${'"",'.repeat(1_000_000)}""]}`), 'BODY_TOO_LARGE');
});

test('a value that is no string at a known position is found as such', () => {
  const { spots } = read('{"access_token":{"a":"b"},"access_tokens":["x",7,null,["y"],true],"a":{"b":{"c":-1.5}}}');
  assert.deepEqual(
    spots.map(({ slot, value }) => [slot.path, value]),
    [
      ['access_token', undefined],
      ['access_tokens[]', 'x'],
      ['access_tokens[]', undefined],
      ['access_tokens[]', null],
      ['access_tokens[]', undefined],
      ['access_tokens[]', undefined],
      ['a.b.c', undefined],
    ],
  );
  // A scalar where an array belongs, and the other way round, is no position at all.
  assert.deepEqual(read('{"access_tokens":"x","loans":{"user_token":"y"},"options":["access_tokens"]}').spots, []);
});

test('a guarded name at the top is reported, spelled plainly or escaped, and nowhere else', () => {
  assert.deepEqual(read('{"user_id":"u","item_ids":[],"x":{"user_id":"u"}}').unexpected, ['user_id']);
  assert.deepEqual(read('{"user\\u005fid":1}').unexpected, ['user_id']);
});

test('an error names the byte and shows nothing of the body', () => {
  const secret = ['access', 'sandbox', '11111111-2222-3333-4444-555555555555'].join('-');
  for (const body of [
    `{"access_token":"${secret}"`,
    `{"a":"${secret}","a":1}`,
    `{"${secret}":1,"${secret}":2}`,
    `{"a":"${secret}\\q"}`,
  ]) {
    assert.throws(
      () => read(body),
      (error: Error) => !JSON.stringify({ ...error, message: error.message, stack: error.stack }).includes('1111'),
    );
  }
});
