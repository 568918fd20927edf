import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { codeOf } from '../../src/base/errors.ts';
import type { Handle } from '../../src/base/ids.ts';
import { Secret } from '../../src/base/secret.ts';
import { findLeak, findLeakInText, readAnswer, scrub } from '../../src/plaid/answer.ts';
import { createStreamScanner } from '../../src/plaid/answer-stream.ts';
import { type Endpoint, findEndpoint } from '../../src/plaid/endpoints.ts';
import { ACCESS, HANDLE, HARMLESS, LONG_LIVED, token } from './tokens.ts';

const CLIENT_SECRET = ['5d1c', '7e02b9', '4f8a3c6d', '1e0b9a8f7c6d'].join('');
/** A secret of no shape, with characters that URLs, JSON and base64 spell differently. */
const ODD = 'k?y>>~~ÿ"\\/+&=\u{1f511}-9f3a';
const NONE = { client: new Secret('c'.repeat(30)), tokens: [] };
const CALL = { client: new Secret(CLIENT_SECRET), tokens: [new Secret(ACCESS), new Secret(ODD)] };

function endpoint(path: string): Endpoint {
  const found = findEndpoint('POST', path);
  assert.ok(found, path);
  return found;
}

const pad = (length: number) => 'lorem ipsum 2026-11-23 dolor '.repeat(length / 29 + 1).slice(0, length);
/** In a small and a large body, at the front, in the middle and at the end, also over the borders of its parts. */
const bodies = (text: string): Buffer[] => [
  Buffer.from(text),
  Buffer.from(`{"a":"${text}","b":1}`),
  Buffer.from(`{"a":"${pad(40_000)}"${text}"${pad(10_000)}"}`),
  ...[-60, -35, -11, -2, -1, 0, 1].map((shift) => Buffer.from(`${pad(16_384 + shift - 1)}"${text}"${pad(20_000)}`)),
  Buffer.from(`{"a":"${pad(50_000)} ${text}`),
];

test('every long-lived class is found by its shape, wherever it stands', () => {
  for (const [kind, raw] of LONG_LIVED) {
    for (const body of bodies(raw)) assert.equal(findLeak(body, NONE)?.kind, kind, raw);
    assert.equal(findLeakInText(`Bearer ${raw}`, NONE)?.kind, kind, raw);
    const whole = raw.replaceAll(/[\w-]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`);
    assert.deepEqual(findLeakInText(whole, NONE), { kind, spelling: 'escaped' }, whole);
    for (const spelled of [
      raw.replaceAll(/[-_]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`),
      raw.replaceAll('a', '\\u0061'),
      raw.replaceAll(/[a-z0-9]/gi, (c) => `\\u00${c.charCodeAt(0).toString(16).toUpperCase()}`),
    ]) {
      if (spelled === raw) continue;
      for (const body of bodies(spelled)) {
        assert.ok(findLeak(body, NONE), spelled);
      }
    }
  }
});

test('handles, short-lived tokens, ids and words pass', () => {
  for (const text of HARMLESS) {
    for (const body of bodies(text)) assert.equal(findLeak(body, CALL), null, text);
  }
});

/** The spellings in which something could echo a secret. */
function spellings(secret: string): [string, Buffer][] {
  const bytes = Buffer.from(secret);
  const base64 = [0, 1, 2].flatMap((offset) => {
    const around = Buffer.concat([Buffer.alloc(offset, 'x'), bytes, Buffer.from('tail')]);
    return [around.toString('base64'), around.toString('base64url')];
  });
  const utf16 = Buffer.from(secret, 'utf16le');
  return [
    ['plain', bytes],
    ...base64.map((text): [string, Buffer] => ['base64', Buffer.from(text)]),
    ['hex', Buffer.from(bytes.toString('hex'))],
    ['hex', Buffer.from(bytes.toString('hex').toUpperCase())],
    ['url', Buffer.from(encodeURIComponent(secret))],
    ['json', Buffer.from(JSON.stringify(secret))],
    ['utf16', utf16],
    ['utf16', Buffer.from(utf16).swap16()],
  ];
}

test('the secrets of the call are found in every spelling, in small and in large answers', () => {
  for (const secret of [ACCESS, CLIENT_SECRET, ODD, token('access', 'production'), 'short-9c']) {
    const call = { client: new Secret(CLIENT_SECRET), tokens: [new Secret(secret)] };
    for (const [spelling, bytes] of spellings(secret)) {
      for (const around of [0, 1, 2, 3, 50, 17_000, 40_000]) {
        const body = Buffer.concat([Buffer.from(pad(around)), bytes, Buffer.from(pad(around))]);
        assert.ok(findLeak(body, call), `${spelling} after ${around}`);
      }
    }
  }
  const escaped = [...CLIENT_SECRET].map((c) => `\\u00${c.charCodeAt(0).toString(16)}`).join('');
  assert.deepEqual(findLeak(Buffer.from(`{"a":"${escaped}"}`), CALL), { kind: 'known_secret', spelling: 'escaped' });
});

test('a large answer is searched at every place, not at most of them', () => {
  for (const secret of [CLIENT_SECRET, ACCESS]) {
    const call = { client: new Secret(secret), tokens: [] };
    for (let shift = 0; shift < 130; shift++) {
      const body = Buffer.from(`${pad(17_000 + shift)}${secret}`);
      assert.equal(findLeak(body, call)?.kind, 'known_secret', `after ${body.length}`);
    }
  }
});

test('large answers without a secret are never mistaken for one', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 17_000, maxLength: 20_000 }), (bytes) => {
      assert.equal(
        findLeak(Buffer.from(bytes), { ...CALL, tokens: [new Secret(CLIENT_SECRET.slice(0, 29))] })?.kind,
        undefined,
      );
    }),
    { numRuns: 40 },
  );
  // All but one character of a secret is no secret.
  for (const [, bytes] of spellings(CLIENT_SECRET)) {
    const wrong = Buffer.from(bytes);
    wrong[Math.floor(wrong.length / 2)] = 0x21;
    assert.equal(
      findLeak(Buffer.concat([Buffer.from(pad(30_000)), wrong]), { client: new Secret(CLIENT_SECRET), tokens: [] }),
      null,
    );
  }
});

test('an answer gives its tokens and new subjects by position, and only those are licensed', () => {
  const exchange = endpoint('/item/public_token/exchange');
  const body = Buffer.from(`{"access_token":"${ACCESS}","item_id":"i-1","request_id":"r"}`);
  const spots = readAnswer(body, exchange);
  assert.deepEqual(
    spots.map(({ slot, value }) => [slot.token?.kind ?? null, slot.creates?.kind ?? null, value]),
    [
      ['access', null, ACCESS],
      [null, 'item', 'i-1'],
    ],
  );
  const tokens = spots.filter(({ slot }) => slot.token !== null);
  assert.equal(findLeak(body, NONE, tokens), null);
  assert.equal(findLeak(body, NONE)?.kind, 'access');
  const twice = Buffer.from(`{"access_token":"${ACCESS}","debug":"${ACCESS}"}`);
  assert.equal(findLeak(twice, NONE, readAnswer(twice, exchange))?.kind, 'access');
});

test('a position for a short-lived or released token is no way out for another kind', () => {
  const check = (path: string, body: string) => {
    const bytes = Buffer.from(body);
    return findLeak(bytes, CALL, readAnswer(bytes, endpoint(path)))?.kind;
  };
  assert.equal(check('/link/token/create', `{"link_token":"${token('link')}"}`), undefined);
  assert.equal(check('/link/token/create', `{"link_token":"${token('access', 'production')}"}`), 'access');
  assert.equal(check('/processor/token/create', `{"processor_token":"${token('processor')}"}`), undefined);
  assert.equal(check('/processor/token/create', `{"processor_token":"${token('access', 'production')}"}`), 'access');
  assert.equal(check('/processor/token/create', `{"processor_token":"${CLIENT_SECRET}"}`), 'known_secret');
  assert.equal(
    check('/processor/token/create', `{"processor_token":"${ACCESS.replaceAll('-', '\\u002d')}"}`),
    'known_secret',
  );
  assert.equal(check('/processor/token/create', '{"processor_token":"of a new shape"}'), undefined);
});

test('an answer that is no clean JSON object is broken where tokens are due, and is not read where none are', () => {
  const exchange = endpoint('/item/public_token/exchange');
  for (const body of [
    '',
    '[]',
    '{"access_token":"a"',
    '{"access_token":"a","access_token":"b"}',
    '<html>',
    '{"Access_Token":"a"}',
    `{"a":${'['.repeat(70)}${']'.repeat(70)}}`,
  ]) {
    assert.throws(
      () => readAnswer(Buffer.from(body), exchange),
      (error) => codeOf(error) === 'UPSTREAM_BROKEN',
      body,
    );
  }
  assert.deepEqual(readAnswer(Buffer.from('<html>'), endpoint('/accounts/get')), []);
});

test('an echoed token becomes its handle again; what is left of it in other spellings is a leak', () => {
  const known = [{ secret: new Secret(ACCESS), handle: HANDLE as Handle }];
  const echo = Buffer.from(`{"error_message":"could not find ${ACCESS}, ${ACCESS}","x":1.0}`);
  const clean = scrub(echo, known);
  assert.equal(clean.toString(), `{"error_message":"could not find ${HANDLE}, ${HANDLE}","x":1.0}`);
  assert.equal(findLeak(clean, CALL), null);
  const untouched = Buffer.from('{"a":1}');
  assert.equal(scrub(untouched, known), untouched);
  const encoded = scrub(Buffer.from(`{"m":"${Buffer.from(ACCESS).toString('base64')}"}`), known);
  assert.equal(findLeak(encoded, CALL)?.spelling, 'base64');
});

// --- Streams

/** Everything that left, and whether the scanner stopped. */
function stream(chunks: readonly Buffer[], call = CALL): { out: Buffer; stopped: boolean } {
  const scanner = createStreamScanner(call);
  const out: Buffer[] = [];
  try {
    for (const chunk of chunks) out.push(scanner.push(chunk));
    out.push(scanner.end());
    return { out: Buffer.concat(out), stopped: false };
  } catch (error) {
    assert.equal(codeOf(error), 'UPSTREAM_LEAK');
    return { out: Buffer.concat(out), stopped: true };
  }
}

const split = (whole: Buffer, cuts: readonly number[]): Buffer[] => {
  const at = [0, ...cuts.map((cut) => cut % (whole.length + 1)), whole.length].sort((a, b) => a - b);
  return at.slice(1).map((end, i) => whole.subarray(at[i], end));
};

test('however an answer is split, a stream lets out all of it or stops before the first byte of a token', () => {
  const secrets = [
    ...LONG_LIVED.map(([, raw]) => raw),
    CLIENT_SECRET,
    ODD,
    Buffer.from(ACCESS).toString('base64'),
    Buffer.from(ACCESS).toString('hex'),
    ACCESS.replaceAll(/./g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`),
  ];
  const text = fc.oneof(fc.constantFrom(...HARMLESS), fc.nat({ max: 900 }).map(pad), fc.string());
  const cuts = fc.array(fc.nat({ max: 5_000 }), { maxLength: 40 });
  fc.assert(
    fc.property(text, text, cuts, (before, after, where) => {
      const whole = Buffer.from(`${before} ${after}`);
      const { out, stopped } = stream(split(whole, where));
      assert.equal(stopped, false);
      assert.deepEqual(out, whole);
    }),
  );
  fc.assert(
    fc.property(text, fc.constantFrom(...secrets), text, cuts, (before, secret, after, where) => {
      const start = Buffer.byteLength(`${before}"`);
      const whole = Buffer.from(`${before}"${secret}"${after}`);
      const { out, stopped } = stream(split(whole, where));
      assert.equal(stopped, true, secret);
      assert.ok(out.length <= start);
      assert.deepEqual(out, whole.subarray(0, out.length));
    }),
    { numRuns: 400 },
  );
});

test('one byte at a time, a stream and a buffer come to the same verdict', () => {
  for (const text of [
    ...HARMLESS,
    ...LONG_LIVED.map(([, raw]) => raw),
    `x${token('a', 'prod', 'A'.repeat(26))}`,
    `-${LONG_LIVED.at(-3)?.[1]}`,
  ]) {
    const whole = Buffer.from(`${pad(700)}${text}${' '.repeat(700)}`);
    const bytes = split(whole, [...whole.keys()]);
    assert.equal(stream(bytes, NONE).stopped, findLeak(whole, NONE) !== null, text);
  }
});

test('a stream keeps back little, and lets the rest go at once', () => {
  const scanner = createStreamScanner(CALL);
  assert.ok(scanner.push(Buffer.alloc(64 * 1024, 'x')).length > 63 * 1024);
});
