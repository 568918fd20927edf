import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { openCheckpoint, parseVerifier } from '../../src/audit/checkpoint.ts';
import type { AuditReport } from '../../src/audit/verify.ts';
import { DEPLOYMENT, MemoryLog, OTHER_SIGNER, SIGNER, verify } from './memory-log.ts';

const KEY = parseVerifier(SIGNER.vkey) as NonNullable<ReturnType<typeof parseVerifier>>;
const APPLICATION = '0123456789abcdef01234567';

const LINE_TYPES = ['checkpoint', 'export', 'index', 'key', 'run'];

/** Two writers, three checkpoints, 12 entries, two partitions. */
let log: MemoryLog;
let lines: string[];

async function smallLog(): Promise<MemoryLog> {
  const memory = new MemoryLog();
  const gateway = await memory.startWriter();
  const worker = await memory.startWriter({ role: 'worker' });
  for (const path of ['/accounts/get', '/transactions/sync', '/item/get']) {
    await gateway.append('access.admitted', { application: APPLICATION, endpoint: path, source: '10.0.0.7' });
  }
  await memory.sequence();
  await worker.append('schema.migrated', { from: 7, to: 8 });
  await gateway.append('access.denied', {
    application: APPLICATION,
    endpoint: '/x\r\n\u202e"',
    code: 'ENDPOINT_DENIED',
  });
  await gateway.append('access.outcome', { admitted: 1, status: 200 });
  await memory.sequence();
  await gateway.append('access.admitted', { application: APPLICATION, endpoint: '/item/remove' });
  await gateway.close();
  await worker.append('audit.exported', { size: 8 });
  await worker.close();
  await memory.sequence();
  return memory;
}

/** Every kind of line that an export can have, as short as can be: two keys, two partitions. */
async function tinyLog(): Promise<string[]> {
  const memory = new MemoryLog();
  const writer = await memory.startWriter();
  await writer.append('access.denied', { endpoint: '/x\r\n\u202e"', code: 'ENDPOINT_DENIED' });
  await memory.sequence();
  await writer.close();
  await memory.sequence(OTHER_SIGNER);
  return memory.lines({ partitionEntries: 2 });
}

before(async () => {
  log = await smallLog();
  lines = await log.lines({ partitionEntries: 5 });
});

const entryLines = (all: readonly string[]) => all.flatMap((line, i) => (line.startsWith('{"index":') ? [i] : []));
const codes = (report: AuditReport) => report.findings.map(({ code }) => code);

/** Replaces the text of line `at` (counted from 0). */
function replaced(at: number, change: (line: string) => string): string[] {
  const line = lines[at] as string;
  const changed = change(line);
  assert.notEqual(changed, line, 'the test changes nothing');
  return lines.toSpliced(at, 1, changed);
}

test('a whole log is sound, with and without a given key', async () => {
  for (const options of [{}, { verifiers: [KEY] }]) {
    const report = await verify(lines, options);
    assert.deepEqual(report.findings, []);
    assert.ok(report.sound);
    assert.equal(report.size, 12);
    assert.equal(report.entries, 12);
    assert.equal(report.writers, 2);
    assert.equal(report.writersUnstopped, 0);
    assert.equal(report.partitions, 2);
    assert.equal(report.checkpoints, 3);
    assert.equal(report.root, log.steps.at(-1)?.checkpoint.root.toString('base64'));
  }
});

test('every byte of an export counts: any flip of it is a finding', async () => {
  const tiny = await tinyLog();
  assert.deepEqual([...new Set(tiny.map((line) => line.split('"')[1]))].sort(), LINE_TYPES);
  const bytes = Buffer.from(tiny.map((line) => `${line}\n`).join(''));
  assert.ok((await verify(bytes)).sound);
  for (let at = 0; at < bytes.length; at++) {
    const original = bytes[at] as number;
    for (const flip of [0x01, 0x20, 0x80]) {
      bytes[at] = original ^ flip;
      const report = await verify(bytes);
      assert.ok(!report.sound, `byte ${at} of ${JSON.stringify(lineAt(bytes, at))} changed by ${flip} went unnoticed`);
      assert.ok((report.findings[0]?.says.length ?? 0) > 0);
    }
    bytes[at] = original;
  }
});

function lineAt(bytes: Buffer, at: number): string {
  return (
    bytes
      .subarray(bytes.lastIndexOf(0x0a, at - 1) + 1)
      .toString('latin1')
      .split('\n')[0] ?? ''
  );
}

test('every byte that is missing or one too many is a finding', async () => {
  const bytes = Buffer.from((await tinyLog()).map((line) => `${line}\n`).join(''));
  for (let at = 0; at < bytes.length; at++) {
    const without = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
    assert.ok(!(await verify(without)).sound, `byte ${at} missing`);
    const twice = Buffer.concat([bytes.subarray(0, at + 1), bytes.subarray(at)]);
    assert.ok(!(await verify(twice)).sound, `byte ${at} doubled`);
  }
});

test('an altered entry is named by its index, wherever it stands', async () => {
  for (const at of entryLines(lines)) {
    const index = Number(/^\{"index":(\d+)/.exec(lines[at] as string)?.[1]);
    // The time is free text to the chain: only hashes can tell.
    const report = await verify(replaced(at, (line) => line.replace(/"at":"2026-01-0./, '"at":"2026-01-09')));
    const [first] = report.findings;
    assert.ok(
      first !== undefined && first.index !== null && first.index <= index && (first.last ?? 0) >= index,
      `${index}`,
    );
    // Entries behind which their writer wrote on are named alone.
    const isLast = /"kind":"writer\.stopped"/.test(lines[at] as string);
    if (!isLast) assert.ok(['altered'].includes(first.code), `${index}: ${first.code}`);
  }
});

test('a deleted entry is named', async () => {
  for (const at of entryLines(lines)) {
    const index = Number(/^\{"index":(\d+)/.exec(lines[at] as string)?.[1]);
    const report = await verify(lines.toSpliced(at, 1));
    assert.equal(report.findings[0]?.code, 'missing');
    assert.equal(report.findings[0]?.index, index);
    assert.equal(report.findings[0]?.last, index);
  }
});

test('two entries that changed places are named', async () => {
  const [, second, third] = entryLines(lines) as [number, number, number];
  const swapped = lines.toSpliced(second, 1, lines[third] as string).toSpliced(third, 1, lines[second] as string);
  const report = await verify(swapped);
  assert.equal(report.findings[0]?.code, 'reordered');
  assert.equal(report.findings[0]?.index, 1);
});

test('an entry that stands twice is named', async () => {
  for (const at of entryLines(lines)) {
    const report = await verify(lines.toSpliced(at, 0, lines[at] as string));
    assert.ok(codes(report).includes('duplicated'), String(at));
  }
});

test('an inserted entry is named, also when all indexes after it are moved', async () => {
  const at = entryLines(lines)[2] as number;
  const forged = (lines[at] as string).replace('/transactions/sync', '/transfer/create');
  const shifted = lines.map((line, i) =>
    i < at ? line : line.replace(/^\{"index":(\d+)/, (_, index) => `{"index":${Number(index) + 1}`),
  );
  const report = await verify(shifted.toSpliced(at, 0, forged));
  assert.ok(!report.sound);
  assert.equal(report.findings[0]?.line, at + 2);
});

test('a log rewritten from an entry on, hashes and all, does not fit what was signed', async () => {
  const rewritten = new MemoryLog();
  const gateway = await rewritten.startWriter();
  await rewritten.startWriter({ role: 'worker' });
  await gateway.append('access.admitted', { application: APPLICATION, endpoint: '/identity/get' });
  await rewritten.sequence(OTHER_SIGNER);
  const forged = await rewritten.lines();
  assert.ok(!(await verify(forged, { verifiers: [KEY] })).sound, 'signed with another key');
  const resigned = forged.map((line) => line.replaceAll(OTHER_SIGNER.vkey, SIGNER.vkey));
  assert.ok(codes(await verify(resigned)).includes('signature'));
});

test('without a given key a log that was signed anew passes, and says where its key is from', async () => {
  const forged = new MemoryLog();
  await forged.startWriter();
  await forged.sequence(OTHER_SIGNER);
  const report = await verify(await forged.lines());
  assert.ok(report.sound);
  assert.equal(report.keysGiven, false);
  assert.deepEqual(report.keys, [OTHER_SIGNER.vkey]);
  assert.deepEqual(codes(await verify(await forged.lines(), { verifiers: [KEY] })).slice(0, 1), ['key']);
});

test('a cut end shows by itself inside a step, and against an older head anywhere', async () => {
  const checkpoints = lines.flatMap((line, i) => (line.startsWith('{"checkpoint":') ? [i] : []));
  const heads = log.steps.map(({ checkpoint }) => {
    const opened = openCheckpoint(checkpoint.note, [KEY]);
    assert.ok(opened.ok);
    return opened.checkpoint;
  });
  for (let end = 1; end < lines.length; end++) {
    const cut = lines.slice(0, end);
    const atCheckpoint =
      checkpoints.includes(end - 1) || ((lines[end - 1] as string).startsWith('{"export":') && end > 1);
    const alone = await verify(cut, { verifiers: [KEY] });
    if (!atCheckpoint && end > 1) assert.ok(!alone.sound, `cut before line ${end + 1}`);
    const report = await verify(cut, { verifiers: [KEY], heads: heads.slice(-1) });
    assert.ok(codes(report).includes('cut'), `cut before line ${end + 1} against the newest head`);
  }
  const whole = await verify(lines, { verifiers: [KEY], heads });
  assert.ok(whole.sound);
  assert.equal(whole.headsCompared, 3);
});

test('a head of another history is told apart from a cut end', async () => {
  const other = await smallLog();
  const worker = await other.startWriter({ role: 'worker' });
  await worker.append('schema.migrated', { from: 1, to: 2 });
  await other.sequence();
  const fork = new MemoryLog();
  const writer = await fork.startWriter();
  for (let i = 0; i < 4; i++) await writer.append('schema.migrated', { from: i, to: i + 1 });
  await fork.sequence();
  const heads = [{ ...newestHead(fork), size: 5 }];
  assert.deepEqual(codes(await verify(lines, { verifiers: [KEY], heads })), ['head']);
  assert.deepEqual(
    codes(await verify(lines, { verifiers: [KEY], heads: [{ ...heads[0]!, origin: 'strongroom/x/audit' }] })),
    ['head'],
  );
});

function newestHead(of: MemoryLog) {
  const opened = openCheckpoint(of.steps.at(-1)?.checkpoint.note ?? '', [KEY]);
  assert.ok(opened.ok);
  return opened.checkpoint;
}

test('a whole partition that is missing is named, and what follows is still proven', async () => {
  const second = lines.findLastIndex((line) => line.startsWith('{"export":'));
  const later = lines.slice(second);
  const report = await verify(later, { verifiers: [KEY] });
  assert.deepEqual(report.findings, [], 'archived partitions may be gone');
  assert.ok(report.first > 0);
  const firstEntry = entryLines(later)[0] as number;
  const altered = later.toSpliced(
    firstEntry,
    1,
    (later[firstEntry] as string).replace('"at":"2026-01-0', '"at":"2026-02-0'),
  );
  assert.ok(!(await verify(altered)).sound);
});

test('after a hole, proving begins again with the next partition', async () => {
  const report = await verify(lines.toSpliced(entryLines(lines)[1] as number, 1), { verifiers: [KEY] });
  assert.ok(report.checkpointsUnproven > 0);
  assert.equal(report.root, log.steps.at(-1)?.checkpoint.root.toString('base64'));
});

test('the end of a writer that a later writer had seen cannot be cut', async () => {
  const memory = new MemoryLog();
  const first = await memory.startWriter();
  await first.append('schema.migrated', { from: 1, to: 2 });
  await first.append('schema.migrated', { from: 2, to: 3 });
  const second = await memory.startWriter();
  await second.append('schema.migrated', { from: 3, to: 4 });
  memory.groups.get(1)?.splice(1);
  await memory.sequence();
  const report = await verify(await memory.lines());
  assert.deepEqual(codes(report), ['missing']);
  assert.equal(report.findings[0]?.writer, first.writer);
  assert.equal(report.findings[0]?.n, 1);
});

test('entries of a later version are checked for place and chain, and counted', async () => {
  const memory = new MemoryLog();
  const writer = await memory.startWriter();
  await writer.append('schema.migrated', { from: 1, to: 2 });
  await writer.append('schema.migrated', { from: 2, to: 3 });
  // As a newer program would have written it: same bytes but for the kind.
  const group = memory.groups.get(1)?.[1];
  const { makeGroup } = await import('../../src/audit/group.ts');
  const { entryPrefix } = await import('../../src/audit/entry.ts');
  const head = { next: 1, hash: memory.groups.get(1)?.[0]?.hashes.toString('hex') ?? '' };
  const rest = group?.entries.replace('schema.migrated', 'schema.invented') ?? '';
  const newer = makeGroup(entryPrefix(DEPLOYMENT, writer.writer), head, [rest]);
  memory.groups.get(1)?.splice(1, 2, newer);
  await memory.sequence();
  const report = await verify(await memory.lines());
  assert.ok(report.sound);
  assert.equal(report.unknownKinds, 1);
});

test('hostile exports are answered with findings, never with an exception', async () => {
  const hostile = [
    '',
    '\n',
    '{}',
    '{"export":1}',
    'null',
    '[]',
    '{"index":0,"entry":{}}',
    '\u001b[31m',
    '{"run":{"first":0,"writer":"\u001b","n":0,"count":1}}',
  ];
  for (const text of hostile) assert.ok(!(await verify(Buffer.from(text))).sound, JSON.stringify(text));
  assert.ok(!(await verify(Buffer.alloc(300_000, 'a'))).sound, 'a line without end');
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.constantFrom(...lines), fc.string(), fc.json()), { maxLength: 12 }),
      async (some) => {
        const report = await verify(Buffer.from(some.map((line) => `${line}\n`).join('')));
        if (report.sound) assert.ok(some.length > 0 && some.every((line) => lines.includes(line)));
        // What is printed about a hostile export holds nothing that moves a cursor.
        assert.match(JSON.stringify(report), /^[ -~]*$/);
      },
    ),
    { numRuns: 300 },
  );
});

test('any cut, swap, drop or repeat of lines is a finding', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(), fc.constantFrom('drop', 'swap', 'repeat', 'move'), async (a, b, what) => {
      const [i, j] = [a % lines.length, b % lines.length];
      const [one, two] = [lines[i] as string, lines[j] as string];
      const changed =
        what === 'drop'
          ? lines.toSpliced(i, 1)
          : what === 'repeat'
            ? lines.toSpliced(j, 0, one)
            : what === 'swap'
              ? lines.toSpliced(i, 1, two).toSpliced(j, 1, one)
              : lines.toSpliced(i, 1).toSpliced(j, 0, one);
      if (changed.join() === lines.join()) return;
      // A checkpoint less in the middle, or other partitions, make the same log in other words.
      if (what === 'drop' && /^\{"(?:checkpoint|export)":/.test(one) && i > 0 && i + 1 !== lines.length) return;
      assert.ok(!(await verify(changed)).sound, `${what} ${i} ${j}`);
    }),
    { numRuns: 1000 },
  );
});
