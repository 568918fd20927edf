import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { formatApplicationKey, formatHandle } from '../../src/base/ids.ts';
import { findToken } from '../../src/plaid/token-shapes.ts';
import { isSecretKey, PATTERNS } from '../../src/redaction/patterns.ts';
import { redactLine, redactText } from '../../src/redaction/text.ts';
import { redactValue } from '../../src/redaction/walk.ts';
import { ACCESS, CORPUS, KEY, token } from './corpus.ts';

/** Every way in which somebody may print the copy. */
function printed(value: unknown): string {
  return `${JSON.stringify(value)}\n${inspect(value, { depth: 99, showHidden: true, maxStringLength: 1e6 })}`;
}

for (const { name, value, secrets = [ACCESS, ACCESS.slice(15)] } of CORPUS) {
  test(`nothing is left of ${name}`, () => {
    const out = printed(redactValue(value));
    for (const secret of secrets) assert.ok(!out.includes(secret), `${secret} in ${out.slice(0, 500)}`);
  });
}

test('the corpus is large, and each secret is really in its value', () => {
  assert.ok(CORPUS.length >= 150, String(CORPUS.length));
  const texts = CORPUS.filter(({ value }) => typeof value === 'string');
  for (const { name, value, secrets = [ACCESS] } of texts) {
    const whole = value as string;
    // Escaped forms hold the secret only for whoever unescapes.
    if (/percent|escape|entities|UTF-16|JSON inside/.test(name)) continue;
    assert.ok(
      secrets.some((secret) => whole.includes(secret)),
      name,
    );
  }
});

test('hostile objects are survived: traps and getters are not run', () => {
  let ran = 0;
  const trap = (): never => {
    ran++;
    throw new Error('trap');
  };
  const proxy = new Proxy(
    {},
    { get: trap, ownKeys: trap, getPrototypeOf: trap, has: trap, getOwnPropertyDescriptor: trap },
  );
  const value = {
    proxy,
    get x(): never {
      return trap();
    },
    toJSON: trap,
    [Symbol.toPrimitive]: trap,
    ok: 1,
  };
  const safe = redactValue(value) as Record<string, unknown>;
  assert.equal(ran, 0);
  assert.equal(safe.ok, 1);
  assert.equal(safe.x, '[getter]');
  assert.equal(safe.proxy, '[proxy]');
  const { proxy: revoked, revoke } = Proxy.revocable({}, {});
  revoke();
  assert.equal(redactValue(revoked), '[proxy]');
  const broken = new Error('x');
  Object.defineProperty(broken, 'stack', { get: trap });
  assert.doesNotThrow(() => redactValue(broken));
});

test('what is given is not changed, not even when it is frozen', () => {
  const given = { headers: { authorization: 'x'.repeat(9), list: [ACCESS] }, when: new Date(0) };
  const before = structuredClone(given);
  redactValue(given);
  assert.deepEqual(given, before);
  redactValue(Object.freeze({ inner: Object.freeze([ACCESS]) }));
});

test('what is no secret stays as it is', () => {
  const handle = formatHandle('sandbox', Buffer.alloc(16, 7), 1);
  for (const text of [
    handle,
    `use ${handle} here`,
    'The application id or key is missing, wrong or disabled.',
    '/item/public_token/exchange',
    '/item/access_token/invalidate',
    '0123456789abcdef01234567',
    'data-sandbox-directory',
    'error SECRET_UNREADABLE at /var/lib/strongroom/secrets/plaid-secret.txt',
    'https://sandbox.plaid.com/accounts/get',
    '7c1e9f42-8b3d-4a6e-9d10-5f2b8c4e7a93',
    'a sandbox, a production',
    '{"count":3,"ok":true,"tokens":null}',
  ]) {
    assert.equal(redactText(text), text);
  }
  const plain = {
    request_id: 'abc',
    status: 200,
    ok: true,
    none: null,
    when: '2026-01-01',
    key_id: 'k1',
    list: [1, 'two'],
  };
  assert.deepEqual({ ...(redactValue(plain) as object) }, plain);
  assert.deepEqual({ ...(redactValue({ secret: null, token: false }) as object) }, { secret: null, token: false });
});

test('the mark names the class, so that an operator knows what leaked', () => {
  assert.equal(redactText(`x ${ACCESS} y`), 'x [redacted access] y');
  assert.equal(redactText(KEY), '[redacted application_key]');
  assert.equal(redactText(token('link')), '[redacted link]');
});

test('our own application keys are recognised', () => {
  assert.equal(redactText(formatApplicationKey(Buffer.alloc(32, 9))), '[redacted application_key]');
});

test('every pattern names its class once', () => {
  assert.equal(new Set(PATTERNS.map(({ name }) => name)).size, PATTERNS.length);
});

test('names of fields that are no secrets are not taken for one', () => {
  for (const key of [
    'request_id',
    'item_id',
    'client_id',
    'key_id',
    'data_key_id',
    'idempotency_key',
    'public_key',
    'token_class',
    'token_count',
    'author',
  ]) {
    assert.equal(isSecretKey(key), false, key);
  }
});

test('what the gateway takes for a token in an answer, the log takes for one too', () => {
  let both = 0;
  for (const { value } of CORPUS) {
    if (typeof value !== 'string' || findToken(value) === null) continue;
    both++;
    assert.equal(findToken(redactText(value)), null, redactText(value));
  }
  assert.ok(both > 30);
});

/** Any JSON value, with tokens strewn into texts, names and lists. */
const strewn = fc.letrec((tie) => ({
  text: fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.tuple(fc.string({ maxLength: 20 }), fc.string({ maxLength: 20 })).map(([a, b]) => a + ACCESS + b),
    fc.string({ maxLength: 20 }).map((a) => Buffer.from(a + ACCESS).toString('base64')),
    fc.string({ maxLength: 9 }).map((a) => JSON.stringify({ a, access_token: ACCESS })),
    fc.constantFrom(
      'secret: ',
      '"token":',
      '\\u002d',
      '%2D',
      '-----BEGIN PRIVATE KEY-----\\n',
      'Bearer abcdefghi',
      '"',
      '\\',
    ),
  ),
  value: fc.oneof(
    { depthSize: 'small' },
    tie('text'),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(tie('text') as fc.Arbitrary<string>, tie('value'), { maxKeys: 5 }),
  ),
})).value;

test('law: no token survives, in any nesting', () => {
  fc.assert(
    fc.property(strewn, (value) => {
      const out = JSON.stringify(redactValue(value)) ?? '';
      assert.ok(!out.includes(ACCESS.slice(15)), out);
    }),
    { numRuns: 500 },
  );
});

test('law: the gate makes JSON from JSON, or nothing; and no token passes', () => {
  fc.assert(
    fc.property(strewn, (value) => {
      const line = redactLine(JSON.stringify({ value }));
      if (line === null) return;
      assert.doesNotThrow(() => JSON.parse(line), line);
      assert.ok(!line.includes(ACCESS.slice(15)), line);
    }),
    { numRuns: 1_000 },
  );
});

test('law: redacting twice is redacting once', () => {
  fc.assert(
    fc.property(strewn, (value) => {
      const once = redactValue(value);
      assert.equal(JSON.stringify(redactValue(once)), JSON.stringify(once));
    }),
    { numRuns: 300 },
  );
});

test('what is walked once passes the gate: records are not withheld for nothing', () => {
  for (const { name, value } of CORPUS) {
    assert.notEqual(redactLine(JSON.stringify({ value: redactValue(value) })), null, name);
  }
});

/** Repetitions that make a careless regular expression try every pair of positions. */
const REPEATED = [
  ...[
    'eyJ',
    'access-sandbox-',
    'pda-',
    'a-sandbox-',
    'secret=',
    'secret',
    '://',
    'a:',
    '\\',
    '\\u00',
    '%25',
    '%2',
    '&#0',
  ],
  ...[
    '-----BEGIN PRIVATE KEY-----',
    '-----BEGIN ',
    'bearer ',
    'basic',
    'LXNhbmRib3gt',
    '2d73616e64626f782d',
    'A',
    '"',
    ' ',
    '\\n',
  ],
];

test('time grows in step with the length, also for texts made to prevent it', () => {
  for (const part of REPEATED) {
    const text = part.repeat(Math.floor(250_000 / part.length));
    const began = performance.now();
    redactLine(text);
    // A quadratic pattern takes minutes here; the bound leaves room for a busy machine.
    assert.ok(performance.now() - began < 2_000, `${JSON.stringify(part)} took ${performance.now() - began} ms`);
  }
});
