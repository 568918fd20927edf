import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { codeOf } from '../../src/base/errors.ts';
import { compileNames, compileShape } from '../../src/plaid/json-shape.ts';
import { type JsonReading, readJson, splice } from '../../src/plaid/json-spots.ts';
import { CORPUS } from './json-corpus.ts';
import { DOCUMENT, PATHS, SPACE } from './json-documents.ts';

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
