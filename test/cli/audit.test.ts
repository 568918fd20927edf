import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { fileDestination } from '../../src/audit/heads.ts';
import { codeOf } from '../../src/base/errors.ts';
import { type AuditConnector, auditExport, auditTail } from '../../src/cli/audit.ts';
import { auditVerify } from '../../src/cli/audit-verify.ts';
import type { Command, Outcome } from '../../src/cli/command.ts';
import { MemoryLog, OTHER_SIGNER, SIGNER } from '../audit/memory-log.ts';

let log: MemoryLog;
let folder: string;

before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'strongroom-audit-cli-'));
  log = new MemoryLog();
  await grow(3);
});
after(() => rmSync(folder, { recursive: true }));

async function grow(steps: number): Promise<void> {
  const writer = await log.startWriter();
  for (let from = 0; from < steps; from++) {
    await writer.append('access.denied', { endpoint: '/x\u001b[31m\n', code: 'ENDPOINT_DENIED' });
    await log.sequence();
  }
}

let closed = 0;
const connector: AuditConnector = {
  options: { place: { type: 'string' } },
  help: '  --place NAME    where the log is\n',
  async open() {
    return {
      lines: (options) => linesOf(() => log.lines(options)),
      follow: ({ from }) =>
        linesOf(async () => (await log.lines()).filter((line) => line.startsWith('{"index":')).slice(from ?? 0)),
      close: async () => void closed++,
    };
  },
};

async function* linesOf(lines: () => Promise<string[]>): AsyncIterable<string> {
  yield* await lines();
}

async function run(
  command: Command,
  argv: string[],
  stdin = '',
): Promise<{ outcome: Outcome | string; out: string; err: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  let [out, err] = ['', ''];
  stdout.on('data', (chunk) => (out += chunk));
  stderr.on('data', (chunk) => (err += chunk));
  const outcome = await command.run(argv, { stdin: Readable.from([Buffer.from(stdin)]), stdout, stderr }).catch(codeOf);
  return { outcome, out, err };
}

const inFolder = (name: string) => path.join(folder, name);
const verified = (...argv: string[]) => run(auditVerify, argv);

test('an export to standard output verifies from standard input', async () => {
  const { outcome, out } = await run(auditExport(connector), ['--place', 'here']);
  assert.equal(outcome, 'ok');
  const checked = await run(auditVerify, ['-', '--key', SIGNER.vkey], out);
  assert.equal(checked.outcome, 'ok');
  assert.match(checked.out, /^sound {2}4 entries \(0 to 4\) of 1 writers {2}strongroom\/test-deployment\/audit\n/);
  assert.equal(closed, 1);
});

test('an export to a folder is gone on with, and its files are private and whole', async () => {
  const place = inFolder('gone-on');
  const first = await run(auditExport(connector), ['--out', place, '--partition', '2', '--json']);
  assert.equal(first.outcome, 'ok');
  assert.deepEqual(JSON.parse(first.out).size, 4);
  const before = readdirSync(place);
  await grow(3);
  const second = await run(auditExport(connector), ['--out', place, '--partition', '2']);
  assert.match(second.out, /the log has 8 entries/);
  const files = readdirSync(place).sort();
  assert.ok(files.length > before.length && files.every((name) => /^audit-\d{16}\.jsonl$/.test(name)));
  for (const name of files) assert.equal(statSync(path.join(place, name)).mode & 0o777, 0o600);
  assert.equal(
    files.map((name) => readFileSync(path.join(place, name), 'latin1')).join(''),
    `${(await log.lines({ partitionEntries: 2 })).join('\n')}\n`,
  );
  const checked = await verified(place, '--json', '--key', SIGNER.vkey);
  assert.equal(checked.outcome, 'ok');
  const report = JSON.parse(checked.out);
  assert.deepEqual([report.sound, report.size, report.keysGiven], [true, 8, true]);
});

test('a finding has its exit code, names the entry and the line, and prints nothing that moves a cursor', async () => {
  const file = inFolder('altered.jsonl');
  const lines = await log.lines();
  writeFileSync(file, `${lines.join('\n')}\n`.replace('ENDPOINT_DENIED', 'ENDPOINT_ALLOWED'));
  const { outcome, out } = await verified(file);
  assert.equal(outcome, 'finding');
  assert.match(out, /BROKEN/);
  assert.match(out, /altered {4}Entry 1 .*altered\.jsonl:\d+\]/);
  assert.match(out, /^[ -~\n]*$/);
  assert.equal(JSON.parse((await verified(file, '--json')).out).findings[0].code, 'altered');
});

test('a cut log is found against a head that was kept elsewhere, with and without the key', async () => {
  const heads = inFolder('heads.log');
  const newest = log.steps.at(-1)?.checkpoint ?? assert.fail();
  await fileDestination(heads).send(newest, 0, new AbortController().signal);
  const file = inFolder('cut.jsonl');
  const lines = await log.lines();
  writeFileSync(file, `${lines.join('\n')}\n`);
  assert.equal((await verified(file, '--head', heads)).outcome, 'ok');
  const last = lines.findLastIndex((line, i) => line.startsWith('{"checkpoint":') && i < lines.length - 1);
  writeFileSync(file, `${lines.slice(0, last + 1).join('\n')}\n`);
  assert.equal((await verified(file)).outcome, 'ok', 'by itself it looks whole');
  for (const key of [[], ['--key', SIGNER.vkey]]) {
    const { outcome, out } = await verified(file, '--head', heads, ...key);
    assert.equal(outcome, 'finding');
    assert.match(out, /cut +The end is missing/);
  }
});

test('a key from a file works; another key is a finding', async () => {
  const file = inFolder('whole.jsonl');
  writeFileSync(file, `${(await log.lines()).join('\n')}\n`);
  writeFileSync(inFolder('key'), `${SIGNER.vkey}\n`);
  assert.equal((await verified(file, '--key', inFolder('key'))).outcome, 'ok');
  assert.equal((await verified(file, '--key', OTHER_SIGNER.vkey)).outcome, 'finding');
  const without = await verified(file);
  assert.match(without.out, /the key was taken from the export itself/);
});

test('what cannot be understood or read is told apart from a finding', async () => {
  const file = inFolder('whole.jsonl');
  const heads = inFolder('empty-heads');
  writeFileSync(heads, '');
  mkdirSync(inFolder('empty'));
  const cases: [string, string[]][] = [
    ['USAGE', []],
    ['USAGE', ['-', '--head', heads]],
    ['INPUT_INVALID', [inFolder('absent')]],
    ['INPUT_INVALID', [inFolder('empty')]],
    ['INPUT_INVALID', [file, '--key', 'nonsense']],
    ['INPUT_INVALID', [file, '--head', inFolder('absent')]],
    ['INPUT_INVALID', [file, '--head', heads]],
  ];
  for (const [code, argv] of cases) assert.equal((await verified(...argv)).outcome, code, argv.join(' '));
  for (const argv of [
    ['--partition', '0'],
    ['--partition', 'x'],
  ]) {
    assert.equal((await run(auditExport(connector), argv)).outcome, 'USAGE');
  }
  for (const argv of [['--last', '1', '--from', '2'], ['--last=-1'], ['--from', '1.5']]) {
    assert.equal((await run(auditTail(connector), argv)).outcome, 'USAGE');
  }
});

test('an export into a folder with something else of that name is refused', async () => {
  const place = inFolder('foreign');
  mkdirSync(place);
  writeFileSync(path.join(place, 'audit-0000000000000000.jsonl'), 'mine\n');
  assert.equal((await run(auditExport(connector), ['--out', place])).outcome, 'INPUT_INVALID');
  assert.equal(readFileSync(path.join(place, 'audit-0000000000000000.jsonl'), 'utf8'), 'mine\n');
});

test('tail shows entries for people, and as the export has them', async () => {
  const shown = await run(auditTail(connector), ['--last', '2']);
  assert.equal(shown.out.split('\n').length, 3);
  assert.match(shown.out, /access\.denied .*"endpoint":"\/x\\u001b\[31m\\u000a"/);
  assert.match(shown.out, /^[ -~\n]*$/);
  const raw = await run(auditTail(connector), ['--from', '0', '--json']);
  assert.equal(JSON.parse(raw.out.split('\n')[0] ?? '').index, 0);
});

test('a long check counts on a terminal, and is silent elsewhere', async () => {
  const long = new MemoryLog();
  const writer = await long.startWriter({ maxWaiting: 20_000 });
  await Promise.all(
    Array.from({ length: 10_500 }, (_, from) => writer.append('schema.migrated', { from, to: from + 1 })),
  );
  await long.sequence();
  const file = inFolder('long.jsonl');
  writeFileSync(file, `${(await long.lines()).join('\n')}\n`);
  const stderr = Object.assign(new PassThrough(), { isTTY: true });
  const io = { stdin: Readable.from([]), stdout: new PassThrough().resume(), stderr };
  assert.equal(await auditVerify.run([file], io), 'ok');
  assert.match(String(stderr.read()), /^\r\d+ entries\r/);
  assert.equal((await verified(file)).err, '');
});
