import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { Canaries } from '../support/canary.ts';
import { canaryGround } from '../support/canary-ground.ts';
import { changes, goodCalls, hostilePlaid, link, malformed, misplaced } from '../support/canary-stories.ts';
import { Needles } from '../support/needles.ts';

/**
 * Whole stories with secrets that nobody else has, then a search through every
 * byte that came out of them. The whole run is test/suites/canary.ts.
 */

describe('the search', () => {
  const uuid = randomUUID();
  const forms: Record<string, (text: string) => Buffer> = {
    raw: (text) => Buffer.from(text),
    hex: (text) => Buffer.from(Buffer.from(text).toString('hex')),
    'upper-case hex': (text) => Buffer.from(Buffer.from(text).toString('hex').toUpperCase()),
    'utf-16': (text) => Buffer.from(text, 'utf16le'),
    'utf-16 the other way': (text) => Buffer.from(text, 'utf16le').swap16(),
    'percent-encoding': (text) => Buffer.from([...Buffer.from(text)].map((byte) => `%${byte.toString(16)}`).join('')),
    escapes: (text) =>
      Buffer.from([...text].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')),
    'the bytes it stands for': (text) => Buffer.from(text.slice(-36).replaceAll('-', ''), 'hex'),
  };

  for (const [name, form] of Object.entries(forms)) {
    test(`finds a token as ${name}, wherever it stands`, () => {
      const needles = new Needles();
      needles.add('token', uuid);
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 100 }), fc.uint8Array({ maxLength: 100 }), (before, after) => {
          const bytes = Buffer.concat([before, form(`access-sandbox-${uuid}`), after]);
          assert.notDeepEqual(needles.find(bytes), []);
          assert.deepEqual(needles.find(Buffer.concat([before, after])), []);
        }),
        { numRuns: 50 },
      );
    });
  }

  test('finds a token inside base64 at every offset, and inside more of it', () => {
    const needles = new Needles();
    needles.add('token', uuid);
    for (let offset = 0; offset < 12; offset++) {
      const bytes = Buffer.concat([randomBytes(offset), Buffer.from(uuid), randomBytes(offset)]);
      for (const alphabet of ['base64', 'base64url'] as const) {
        assert.notDeepEqual(needles.find(Buffer.from(bytes.toString(alphabet))), [], `${alphabet} at ${offset}`);
      }
    }
  });

  test('finds a cut token, and does not take its neighbours for one', () => {
    const needles = new Needles();
    needles.add('token', uuid);
    assert.notDeepEqual(needles.find(Buffer.from(`{"t":"access-sandbox-${uuid.slice(0, 16)}...`)), []);
    assert.notDeepEqual(needles.find(Buffer.from(`...${uuid.slice(-16)}`)), []);
    assert.deepEqual(needles.find(Buffer.from(`access-sandbox-${randomUUID()}`)), []);
    assert.deepEqual(needles.find(Buffer.from('access-sandbox-'.repeat(1000))), []);
  });

  test('finds what lies on the seam of two stretches of a large file', () => {
    const canaries = new Canaries();
    canaries.token('vaulted: access', `access-sandbox-${uuid}`);
    const bytes = Buffer.alloc(8 * 1024 * 1024 + 100);
    bytes.write(uuid, 8 * 1024 * 1024 - 18);
    canaries.look('file', bytes);
    assert.notDeepEqual(canaries.report().findings, []);
  });

  test('allows a place its own secret and no other, and misses it where it must be', () => {
    const canaries = new Canaries();
    const other = randomUUID();
    canaries.token('vaulted: access', `access-sandbox-${uuid}`);
    canaries.token('pass: link', `link-sandbox-${other}`);
    canaries.holds('state', 'vaulted');
    canaries.mayHold('answer', 'pass');
    canaries.keep('state', other);
    canaries.keep('answer', uuid + other);
    const { findings, missing } = canaries.report();
    assert.deepEqual(findings, ['state: pass: link (raw, at 0)', 'answer: vaulted: access (raw, at 0)']);
    assert.deepEqual(missing, ['state: vaulted']);
  });
});

test('nothing that is secret leaves: not into an answer, a log, a file, a table or a command line', async () => {
  const ground = await canaryGround(null);
  after(() => ground.close());
  const { desk, running } = await ground.start();
  const app = await ground.application('canary');
  const linked = await link(desk, app);
  await goodCalls(desk, app, linked);
  await changes(desk, app, linked);
  await malformed(desk, app, linked);
  await misplaced(desk, app, linked, ground.secrets());
  await hostilePlaid(desk, app, linked);
  await ground.cli(['items', 'list', '--json', '@admin']);
  assert.equal(running.program.over(), false, 'it is still up');

  // What is no secret and stands in many places shows that the search gets there.
  const probe = new Canaries();
  probe.secret('application', app.id);
  probe.secret('item', linked.itemId);
  const [row] = await ground.installation.query<{ sealed: Buffer }>(
    `select sealed from strongroom.secrets where item_id = '${linked.itemId}'`,
  );
  probe.secret('ciphertext', row?.sealed ?? assert.fail('no such item'));

  const report = await ground.finish(probe);
  assert.deepEqual(report.findings, []);
  assert.deepEqual(report.missing, []);
  assert.ok(report.secrets > 100 && report.bytes > 20_000_000, JSON.stringify(report));

  const met = probe.report().findings.join('\n');
  for (const place of [
    /^database strongroom\.secrets: item \(raw/m,
    /^database strongroom\.secrets: ciphertext \(raw/m,
    /^database strongroom\.secrets: ciphertext \(hex/m,
    /^database strongroom\.audit_groups: application/m,
    /^home\/postgres\/base\/\d+\/\d+: ciphertext/m,
    /^home\/postgres\/pg_wal\/\w+: ciphertext/m,
    /^home\/strongroom\.log: application/m,
    /^home\/simulator\.json: item/m,
  ]) {
    assert.match(met, place);
  }
});
