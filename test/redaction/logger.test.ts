import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { StrongroomError } from '../../src/base/errors.ts';
import { Secret } from '../../src/base/secret.ts';
import { SAFE_FIELDS } from '../../src/redaction/fields.ts';
import { createLog, type Log, type LogOptions, openLog } from '../../src/redaction/logger.ts';
import { ACCESS, CORPUS, PLAID_SECRET } from './corpus.ts';

interface Written {
  readonly log: Log;
  readonly text: () => string;
  readonly records: () => Record<string, unknown>[];
}

function written(options: LogOptions = { level: 'trace' }): Written {
  let text = '';
  const write = (line: string): void => {
    text += line;
  };
  const log = createLog({ write }, options);
  const records = (): Record<string, unknown>[] =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { log, text: () => text, records };
}

function only({ records }: Written): Record<string, unknown> {
  const all = records();
  assert.equal(all.length, 1);
  return all[0] as Record<string, unknown>;
}

for (const { name, value, secrets = [ACCESS, ACCESS.slice(15)] } of CORPUS) {
  test(`no way of logging lets ${name} out`, () => {
    const out = written();
    const { log } = out;
    log.info(value as object);
    log.info(
      { err: value, reason: value, request_id: value, body: value, endpoint: String(isText(value) ? value : '') },
      'x',
    );
    log.warn('text %s and object %o and json %j', value as string, value as object, value as object);
    log.error({ reason: 'x' }, 'interpolated %s', value);
    log.child({ request_id: value, reason: value, whatever: value }).info({ reason: value }, 'child');
    log.child({ err: value }).child({ body: value }, { level: 'trace' }).trace('grandchild');
    if (isText(value)) log.info(value);
    for (const secret of secrets) assert.ok(!out.text().includes(secret), `${secret} in ${out.text().slice(0, 800)}`);
    for (const record of out.records()) {
      assert.ok(!String(record.msg).includes('withheld'), 'the nets before the gate were enough');
    }
  });
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

test('listed fields stay, others are dropped and counted', () => {
  const out = written();
  out.log.info(
    { request_id: 'r', status: 200, ms: 1.5, body: { a: 1 }, headers: {}, query: 'x', user: 'Ann' },
    'request',
  );
  const record = only(out);
  assert.deepEqual(
    [record.request_id, record.status, record.ms, record.dropped, record.msg],
    ['r', 200, 1.5, 4, 'request'],
  );
  for (const field of ['body', 'headers', 'query', 'user']) assert.ok(!(field in record), field);
});

test('what a child carries stands in each of its records, once', () => {
  const out = written();
  out.log.child({ request_id: 'r', body: 'x' }).info({ body: 'y' }, 'z');
  assert.deepEqual([only(out).request_id, only(out).dropped], ['r', 1]);
  assert.equal(out.text().match(/"dropped"/g)?.length, 1);
  assert.ok(!('body' in only(out)));
});

test('a listed field that holds more than a scalar is dropped', () => {
  const out = written();
  out.log.info({ reason: { deep: 1 }, count: [1], code: () => 1 } as object, 'x');
  const record = only(out);
  assert.equal(record.dropped, 3);
});

test('a long value is cut', () => {
  const out = written();
  out.log.info({ reason: 'x'.repeat(2_000) });
  assert.equal(String(only(out).reason).slice(510), 'xx[1488 more]');
});

test('an error is told by type, code, message, stack, facts and causes, and by nothing else', () => {
  const out = written();
  const cause = Object.assign(new Error('refused'), {
    code: 'ECONNREFUSED',
    syscall: 'connect',
    config: { a: 1 },
    query: 'q',
  });
  out.log.error({ err: new StrongroomError('DATABASE_UNAVAILABLE', { sqlstate: '08006' }, cause) }, 'x');
  const err = only(out).err as Record<string, unknown>;
  assert.deepEqual(Object.keys(err), ['type', 'message', 'code', 'facts', 'stack', 'cause']);
  assert.deepEqual([err.type, err.code, err.facts], ['StrongroomError', 'DATABASE_UNAVAILABLE', { sqlstate: '08006' }]);
  assert.deepEqual(Object.keys(err.cause as object), ['type', 'message', 'code', 'syscall', 'stack']);
});

test('an error alone becomes a record with its message', () => {
  const out = written();
  out.log.error(new Error(`boom ${ACCESS}`));
  const record = only(out);
  assert.equal(record.msg, 'boom [redacted access]');
  assert.equal((record.err as { type: string }).type, 'Error');
});

test('a Secret is never told', () => {
  const out = written();
  const hidden: unknown = new Secret(ACCESS);
  out.log.info({ reason: hidden } as object, '%s %o', hidden as string, { inner: new Secret(PLAID_SECRET) });
  assert.ok(!out.text().includes(ACCESS) && !out.text().includes(PLAID_SECRET));
});

const FORGERIES: readonly [name: string, text: string][] = [
  ['a line end', 'ok\n{"level":"info","msg":"forged"}'],
  ['a carriage return', 'ok\rforged'],
  ['CRLF', 'ok\r\nforged'],
  ['erase line', 'ok\u001b[2K\u001b[1Aforged'],
  ['a one-byte CSI', 'ok\u009b2Kforged'],
  ['a terminal title', '\u001b]0;title\u0007'],
  ['backspaces', 'ok\b\b'],
  ['delete', 'ok\u007f'],
  ['right to left', 'user\u202egnp.exe'],
  ['isolates', 'a\u2066b\u2069'],
  ['marks', 'a\u200e\u200f\u061cb'],
  ['zero width', 'a\u200bb\u200cc\u200dd\ufeffe'],
  ['line separators', 'a\u2028b\u2029c'],
  ['NUL', 'a\0b'],
  ['half a surrogate', 'a\ud800b'],
];

for (const [name, text] of FORGERIES) {
  test(`${name} in a field or sentence stays inside its record, visible`, () => {
    const out = written();
    out.log.warn({ reason: text, application: text, err: new Error(text) }, text);
    const record = only(out);
    assert.equal(out.text().split('\n').length, 2, 'one line');
    for (const character of out.text().trimEnd()) {
      assert.ok(/^[ -~]$/.test(character), `U+${character.codePointAt(0)?.toString(16)}`);
    }
    if (!text.includes('\0')) assert.equal(record.reason, text, 'and nothing of it is lost');
  });
}

test('a record that cannot be made safe is replaced, not written', () => {
  const out = written();
  // Around the logger: a stream hook would see this line too.
  const raw = out.log as unknown as Record<symbol, { streamWrite(line: string): string }>;
  const hooks = Object.getOwnPropertySymbols(raw)
    .map((symbol) => raw[symbol])
    .find((value) => typeof value?.streamWrite === 'function');
  const gate = hooks?.streamWrite as (line: string) => string;
  const hidden = `{"msg":"${[...ACCESS].map((c) => `\\u00${c.charCodeAt(0).toString(16)}`).join('')}"}\n`;
  for (const line of [hidden, `{"msg":"${'x'.repeat(300_000)}"}\n`, null as unknown as string]) {
    const replaced = gate(line);
    assert.match((JSON.parse(replaced) as { msg: string }).msg, /withheld/);
    assert.ok(replaced.endsWith('\n'));
  }
});

test('the level decides what is written, and children keep it', () => {
  const out = written({ level: 'warn' });
  out.log.info('no');
  out.log.child({ role: 'gateway' }).info('no');
  out.log.child({ role: 'gateway' }).warn('yes');
  const record = only(out);
  assert.deepEqual([record.level, record.role, record.msg], ['warn', 'gateway', 'yes']);
});

test('every listed field has its sentence', () => {
  for (const [field, sentence] of Object.entries(SAFE_FIELDS)) assert.match(sentence, /\.$/, field);
});

test('a log file is made for its owner alone, appended to, and never followed through a link', () => {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-log-'));
  try {
    const path = join(folder, 'log.jsonl');
    for (const word of ['one', 'two']) {
      const sink = openLog({ destination: path, bufferBytes: 4096 });
      sink.log.info(word);
      sink.flush();
    }
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(readFileSync(path, 'utf8').match(/one|two/g), ['one', 'two']);
    symlinkSync(path, join(folder, 'link'));
    for (const bad of [join(folder, 'link'), join(folder, 'no', 'such')]) {
      assert.throws(() => openLog({ destination: bad }), { code: 'CONFIG_INVALID' });
    }
    assert.ok(!existsSync(join(folder, 'no')));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

for (const way of ['thrown', 'rejected', 'text', 'object', 'proxy']) {
  test(`a process that dies (${way}) says so in one record, without the tokens it held, and exits 3`, () => {
    const program = fileURLToPath(new URL('./crashing.ts', import.meta.url));
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, way], { encoding: 'utf8' });
    assert.equal(status, 3, stderr);
    assert.equal(stderr, '');
    const records = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      records.map(({ level }) => level),
      ['info', 'warn', 'fatal'],
    );
    for (const secret of [ACCESS, ACCESS.slice(15), PLAID_SECRET]) assert.ok(!stdout.includes(secret), stdout);
    if (way === 'thrown') assert.match(JSON.stringify(records[2]), /failed with \[redacted access\]/);
  });
}
