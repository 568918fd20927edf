import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { entryPrefix, entryText, MAX_REST, NO_PREVIOUS, parseEntry, quote, writeRest } from '../../src/audit/entry.ts';
import { type EntryKind, type FieldType, KINDS, TYPES } from '../../src/audit/kinds.ts';
import { leafHash } from '../../src/audit/tree.ts';
import { StrongroomError } from '../../src/base/errors.ts';

const WRITER = '00000000-0000-4000-8000-000000000001';
const PREFIX = entryPrefix('test-deployment', WRITER);
const AT = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const APPLICATION = '0123456789abcdef01234567';

const hex = (length: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: length, maxLength: length });
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 400 }),
  fc.string({ unit: fc.constantFrom('\r', '\n', '\u001b', '\u202e', '"', '\\', '\ud800', 'x'), maxLength: 300 }),
);

const VALUES: Record<FieldType, fc.Arbitrary<string | number | boolean>> = {
  uuid: fc.uuid(),
  uuids: fc.array(fc.uuid(), { minLength: 1, maxLength: 128 }).map((list) => list.join(' ')),
  application: hex(24),
  hash: hex(64),
  code: fc.stringMatching(/^[A-Z][A-Z0-9_]{0,63}$/),
  word: fc.stringMatching(/^[a-z][a-z0-9_.:-]{0,63}$/),
  address: fc.oneof(
    fc.ipV4(),
    fc.ipV6().map((address) => address.toLowerCase()),
  ),
  text: anyText,
  count: fc.maxSafeNat(),
  flag: fc.boolean(),
};

/** An entry of any kind with any fields that the table allows. */
const anyEntry = fc.constantFrom(...(Object.keys(KINDS) as EntryKind[])).chain((kind) =>
  fc.tuple(
    fc.constant(kind),
    fc.record(
      Object.fromEntries(
        Object.entries(KINDS[kind].fields).map(([name, type]) => {
          const value = VALUES[type.replace('?', '') as FieldType];
          return [name, type.endsWith('?') ? fc.option(value) : value];
        }),
      ),
    ),
    fc.integer({ min: 0, max: Date.UTC(9999, 11, 31) }),
  ),
);

test('whatever the table allows is written, read back, and written the same', () => {
  fc.assert(
    fc.property(anyEntry, fc.maxSafeNat(), hex(64), ([kind, fields, at], n, prev) => {
      const text = entryText(PREFIX, n, prev, writeRest(kind, fields as never, at));
      assert.match(text, /^[ -~]*$/, 'nothing but printable ASCII');
      const read = parseEntry(text);
      assert.ok(read !== null);
      assert.deepEqual(
        [read.deployment, read.writer, read.n, read.prev, read.kind],
        ['test-deployment', WRITER, n, prev, kind],
      );
      assert.equal(read.at, new Date(at).toISOString());
      assert.ok(read.known);
      for (const [name, value] of Object.entries(fields)) {
        const was: unknown = read.fields[name];
        if (value === null) assert.equal(was, undefined);
        else if (typeof value !== 'string' || KINDS[kind].fields[name as never] !== 'text') continue;
        else if (value.length <= TYPES.text.max && !/sandbox-|production-|strongroom-key-/i.test(value))
          assert.equal(was, value);
      }
      assert.equal(writeRest(kind, read.fields as never, at), writeRest(kind, fields as never, at));
    }),
    { numRuns: 500 },
  );
});

test('there is one way to write an entry: no other text reads as the same', () => {
  const text = entryText(
    PREFIX,
    7,
    NO_PREVIOUS,
    writeRest('access.denied', { application: APPLICATION, endpoint: '/é', code: 'ENDPOINT_DENIED' }, AT),
  );
  assert.ok(parseEntry(text) !== null);
  const others = [
    text.replace('{"v"', '{ "v"'),
    text.replace('"n":7', '"n":07'),
    text.replace('"n":7', '"n":7.0'),
    text.replace('"n":7', '"n":7e0'),
    text.replace('\\u00e9', '\\u00E9'),
    text.replace('\\u00e9', 'é'),
    text.replace('/', '\\/'),
    text.replace('"code":"ENDPOINT_DENIED"', '"code":"ENDPOINT_DENIED","code":"ENDPOINT_DENIED"'),
    text.replace('"code":"ENDPOINT_DENIED"', '"code":null'),
    text.replace('.678Z', '.678000Z'),
    text.replace('2026-01-02', '2026-02-30'),
    text.replace('"endpoint":"/\\u00e9","code":"ENDPOINT_DENIED"', '"code":"ENDPOINT_DENIED","endpoint":"/\\u00e9"'),
    text.replace('"v":1', '"v":2'),
    `${text} `,
    text.slice(0, -1),
    `${text.slice(0, -1)},"extra":1}`,
    text.replace('"n":7', '"n":9007199254740993'),
  ];
  for (const other of others) {
    assert.notEqual(other, text);
    assert.equal(parseEntry(other), null, other);
  }
});

test('text from outside cannot forge a line, a colour or a direction of writing', () => {
  const hostile = '\r\n{"v":1}\u001b[2J\u202egnp.exe\u0000\u2028\u2029\u007f"\\';
  const rest = writeRest('access.denied', { endpoint: hostile, code: 'ENDPOINT_UNLISTED' }, AT);
  assert.match(rest, /^[ -~]*$/);
  assert.equal(rest.split('\n').length, 1);
  const read = parseEntry(entryText(PREFIX, 0, NO_PREVIOUS, rest));
  assert.equal(read?.fields.endpoint, hostile);
});

test('long text is cut and says by how much; a token in it is withheld', () => {
  const path = `/${'a'.repeat(5000)}`;
  const rest = writeRest('access.denied', { endpoint: path, code: 'ENDPOINT_UNLISTED' }, AT);
  assert.match(rest, /a\.\.\.\(\+4769\)"/);
  const token = ['access', 'sandbox', '8ab976e6-64bc-4b38-98f7-731e7a349970'].join('-');
  for (const text of [
    `/item/${token}`,
    `/x?t=${token.toUpperCase()}`,
    `${token}${token}`,
    ['handle', 'production', 'a'.repeat(36)].join('-'),
    `strongroom-key-${'b'.repeat(58)}`,
  ]) {
    const held = writeRest('access.denied', { endpoint: text, code: 'ENDPOINT_UNLISTED' }, AT);
    assert.match(held, /\[withheld\]/);
    assert.doesNotMatch(held, /8ab976e6|8AB976E6|aaaaaaaa|bbbbbbbb/);
  }
});

test('fields that do not fit their kind are refused by name, never by value', () => {
  const secret = 'the value that must not be told';
  const wrong: [EntryKind, Record<string, unknown>, string][] = [
    ['access.admitted', { endpoint: '/x' }, 'application'],
    ['access.admitted', { application: secret, endpoint: '/x' }, 'application'],
    ['access.admitted', { application: APPLICATION, endpoint: 5 }, 'endpoint'],
    [
      'access.admitted',
      { application: APPLICATION, endpoint: '/x', handle: secret },
      'a field that the table does not know',
    ],
    [
      'access.admitted',
      { application: APPLICATION, endpoint: '/x', records: 'ABCDEF00-0000-4000-8000-000000000001' },
      'records',
    ],
    ['access.admitted', { application: APPLICATION, endpoint: '/x', source: `1.2.3.4\n${secret}` }, 'source'],
    ['schema.migrated', { from: -1, to: 2 }, 'from'],
    ['schema.migrated', { from: 1.5, to: 2 }, 'from'],
    ['schema.migrated', { from: 1, to: Number.MAX_SAFE_INTEGER + 1 }, 'to'],
    ['schema.migrated', { from: 1, to: Number.NaN }, 'to'],
    ['writer.recovered', { first: 1, entries: 1, landed: 'true' }, 'landed'],
    [
      'record.sealed',
      { record: WRITER, version: 1, record_kind: 'access', ciphertext_sha256: secret, data_key: WRITER },
      'ciphertext_sha256',
    ],
    ['no.such.kind' as EntryKind, {}, 'kind'],
    ['__proto__' as EntryKind, {}, 'kind'],
  ];
  for (const [kind, fields, field] of wrong) {
    assert.throws(
      () => writeRest(kind, fields as never, AT),
      (error) => {
        assert.ok(error instanceof StrongroomError);
        assert.equal(error.code, 'INTERNAL');
        assert.equal(error.facts.field, field);
        assert.ok(!JSON.stringify(error.facts).includes(secret) && !error.message.includes(secret));
        return true;
      },
      `${kind} ${field}`,
    );
  }
});

test('no kind can grow past the limit of an entry', () => {
  for (const kind of Object.keys(KINDS) as EntryKind[]) {
    let longest = 64 + kind.length;
    for (const [name, type] of Object.entries(KINDS[kind].fields)) {
      const { max, of } = TYPES[type.replace('?', '') as FieldType];
      // Text: each unit may need six bytes.
      const bytes = type.startsWith('text') ? 6 * max : of === 'string' ? max : 16;
      longest += name.length + bytes + 6;
    }
    assert.ok(longest < MAX_REST, `${kind}: ${longest}`);
  }
});

test('the names of kinds and fields can be written without escapes', () => {
  for (const [kind, { fields }] of Object.entries(KINDS)) {
    assert.match(kind, /^[a-z_]+\.[a-z_]+$/);
    for (const name of Object.keys(fields)) assert.match(name, /^[a-z][a-z0-9_]{0,63}$/);
    for (const taken of ['at', 'kind', 'v', 'deployment', 'prev']) assert.ok(!Object.hasOwn(fields, taken));
  }
});

test('a deployment id or time that would break the format is refused', () => {
  for (const id of ['', 'a"b', 'a b', 'x'.repeat(65), 'é']) assert.throws(() => entryPrefix(id, WRITER), RangeError);
  for (const at of [Number.NaN, Date.UTC(10_000, 0), -62_167_219_200_001]) {
    assert.throws(() => writeRest('writer.stopped', { role: 'worker' }, at), RangeError);
  }
});

test('a JSON parser reads back what quote wrote', () => {
  fc.assert(fc.property(anyText, (text) => assert.equal(JSON.parse(quote(text)), text)));
});

interface Vector {
  readonly what: string;
  readonly deployment: string;
  readonly writer: string;
  readonly n: number;
  readonly prev: string;
  readonly at: string;
  readonly kind: EntryKind;
  readonly fields: Record<string, unknown>;
  readonly entry: string;
  readonly hash: string;
}

test('entries are written as the frozen vectors say', () => {
  const path = new URL('../vectors/audit-entries.json', import.meta.url);
  const { vectors } = JSON.parse(readFileSync(path, 'utf8')) as { vectors: Vector[] };
  assert.ok(vectors.length >= 5);
  for (const { what, deployment, writer, n, prev, at, kind, fields, entry, hash } of vectors) {
    const text = entryText(entryPrefix(deployment, writer), n, prev, writeRest(kind, fields as never, Date.parse(at)));
    assert.equal(text, entry, what);
    assert.equal(leafHash(text), hash, what);
    assert.ok(parseEntry(entry) !== null, what);
  }
});
