import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, before, test } from 'node:test';
import Fastify from 'fastify';
import { digestOf } from '../../src/access/credentials.ts';
import { presetPolicy } from '../../src/access/presets.ts';
import { systemClock, systemRandom } from '../../src/base/clock.ts';
import { codeOf, type ErrorCode, type StrongroomError } from '../../src/base/errors.ts';
import { isApplicationKey } from '../../src/base/ids.ts';
import { APPS } from '../../src/cli/apps.ts';
import { Applications } from '../../src/custody/applications.ts';
import { ADMIN_SERVER, adminDoor } from '../../src/http/admin.ts';
import { freezeApplication } from '../../src/store/applications.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { Entries } from '../support/entries.ts';

const TOKEN = 'an-admin-token-of-some-forty-characters!';
const POLICY = presetPolicy('read-only', ['10.0.0.0/8']);
const entries = new Entries();
const folder = mkdtempSync(join(tmpdir(), 'strongroom-apps-'));
const tokenFile = join(folder, 'token');

let database: TestDatabase;
let url: string;
const servers: { close(): Promise<unknown> }[] = [];

async function listen(where: { port: number; host: string } | { path: string }): Promise<string> {
  const app = Fastify(ADMIN_SERVER);
  servers.push(app);
  const applications = new Applications({
    database: await database.open('admin'),
    audit: entries,
    plaidClients: [{ name: 'main', clientId: 'c'.repeat(24) }],
    random: systemRandom,
  });
  const health = async () => ({ ready: true, reasons: [] });
  await app.register(
    adminDoor({ applications, audit: entries, tokenSha256: digestOf(TOKEN), clock: systemClock, health }),
  );
  return await app.listen(where);
}

before(async () => {
  database = await testDatabase();
  url = await listen({ port: 0, host: '127.0.0.1' });
  chmodSync(folder, 0o700);
  writeFileSync(tokenFile, `${TOKEN}\n`, { mode: 0o600 });
});
after(async () => {
  for (const server of servers) await server.close();
  await database.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Ran {
  readonly outcome: string;
  readonly out: string;
  readonly err: string;
}

async function run(name: string, argv: string[], input: string | null = '', terminal = false): Promise<Ran> {
  const command = APPS.find((candidate) => candidate.name === `apps ${name}`);
  assert.ok(command, name);
  const stdin = Object.assign(new PassThrough(), terminal ? { isTTY: true } : {});
  if (input !== null) stdin.end(input);
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const outcome = await command.run(argv, { stdin, stdout, stderr });
  const text = (stream: PassThrough) => String(stream.read() ?? '');
  return { outcome, out: text(stdout), err: text(stderr) };
}

const here = () => ['--admin-url', url, '--token-file', tokenFile];
const json = async (name: string, argv: string[], input = '') =>
  JSON.parse((await run(name, [...argv, ...here(), '--json'], input)).out);
const refusedWith = (code: ErrorCode, says?: RegExp) => (error: unknown) => {
  assert.equal(codeOf(error), code);
  if (says !== undefined) assert.match((error as StrongroomError).message, says);
  return true;
};

test('apps add prints the key alone to standard output, once', async () => {
  const added = await run('add', ['shop', '--preset', 'link-and-read', '--source', '10.0.0.0/8', ...here()]);
  assert.equal(added.outcome, 'ok');
  const key = added.out.trim();
  assert.ok(isApplicationKey(key));
  assert.match(added.err, /shop\n {2}PLAID-CLIENT-ID {2}[0-9a-f]{24}\n/);
  assert.ok(!added.err.includes(key));
  const listed = await run('list', here());
  assert.match(listed.out, /^ID +NAME +STATE +KEYS +SINCE\n/);
  assert.match(listed.out, /[0-9a-f]{24} +shop +active +1 +\d{4}-\d\d-\d\d\n/);
  assert.ok(!listed.out.includes(key));
});

test('a policy comes from a preset with sources, or whole from a file or standard input', async () => {
  const anywhere = await json('add', ['anywhere', '--preset', 'read-only', '--source', 'any']);
  assert.deepEqual(anywhere.application.policy.sourceCidrs, ['0.0.0.0/0', '::/0']);
  const piped = await json('add', ['piped', '--policy', '-'], JSON.stringify({ ...POLICY, classes: ['user'] }));
  assert.deepEqual(piped.application.policy.classes, ['user']);
  const file = join(folder, 'policy.json');
  writeFileSync(file, JSON.stringify({ ...POLICY, classes: ['link'] }));
  const read = await json('add', ['read', '--policy', file, '--plaid-client', 'main']);
  assert.deepEqual(read.application.policy.classes, ['link']);
});

test('what is not said is not guessed', async () => {
  for (const [argv, says] of [
    [['x'], /--preset/],
    [['x', '--preset', 'everything'], /--preset read-only\|link-and-read\|demo/],
    [['x', '--preset', 'read-only'], /--source/],
    [['x', '--preset', 'read-only', '--policy', '-'], /--policy is whole/],
    [['x', '--policy', join(folder, 'missing.json')], /cannot be read/],
    [['x', 'y', '--policy', '-'], /one NAME/],
    [[], /one NAME/],
  ] as const) {
    await assert.rejects(run('add', [...argv, ...here()], '{}'), refusedWith('USAGE', says));
  }
  await assert.rejects(run('add', ['x', '--policy', '-', ...here()], 'not json'), refusedWith('USAGE', /not JSON/));
  await assert.rejects(run('add', ['x', '--token', 'secret']), /Unknown option '--token'/);
});

test("the server's refusal arrives with its code and what to do", async () => {
  await json('add', ['taken', '--preset', 'demo', '--source', 'any']);
  const again = ['taken', '--preset', 'demo', '--source', 'any', ...here()];
  await assert.rejects(run('add', again), refusedWith('APPLICATION_EXISTS'));
  const broken = ['x', '--preset', 'demo', '--source', '10.1.2.3/8', ...here()];
  await assert.rejects(run('add', broken), refusedWith('INPUT_INVALID', /sourceCidrs\/0/));
  await assert.rejects(run('policy', ['nobody', ...here()]), refusedWith('APPLICATION_UNKNOWN'));
});

test('apps policy shows, replaces and lifts freezes, by name or id', async () => {
  const { application } = await json('add', ['policed', '--preset', 'read-only', '--source', 'any']);
  const shown = await run('policy', ['policed', ...here()]);
  assert.deepEqual(JSON.parse(shown.out), application.policy);
  const changed = await json('policy', [application.application_id, '--set', '-'], JSON.stringify(POLICY));
  assert.deepEqual(changed.application.policy.sourceCidrs, ['10.0.0.0/8']);

  const gateway = await database.open('gateway');
  for (const frozen of ['item', 'removal']) {
    await freezeApplication(gateway.sql, application.application_id, frozen, 'removals_per_day');
  }
  assert.match((await run('list', here())).out, /policed +frozen: item, removal/);
  assert.match((await run('policy', ['policed', ...here()])).err, /frozen for item since .*: removals_per_day\n/);
  const one = await json('policy', ['policed', '--unfreeze', 'item']);
  assert.deepEqual(
    one.application.freezes.map((freeze: { class: string }) => freeze.class),
    ['removal'],
  );
  const none = await json('policy', ['policed', '--unfreeze', 'all']);
  assert.deepEqual(none.application.freezes, []);
});

test('apps rotate-key keeps the old key for as long as it is told', async () => {
  await json('add', ['rotated', '--preset', 'read-only', '--source', 'any']);
  const rotated = await run('rotate-key', ['rotated', '--old-valid', '30m', ...here()]);
  assert.ok(isApplicationKey(rotated.out.trim()));
  const end = /valid until (.*)\.\n/.exec(rotated.err)?.[1] ?? '';
  const minutes = (Date.parse(end) - Date.now()) / 60_000;
  assert.ok(minutes > 25 && minutes < 35, end);
  await assert.rejects(run('rotate-key', ['rotated', ...here()]), refusedWith('KEYS_AT_LIMIT'));
  const last = await json('rotate-key', ['rotated', '--old-valid', '0', '--replace', 'newer']);
  assert.equal(last.application.keys.length, 1);
  for (const time of ['1', '-5m', '1.5h', '5w', 'soon', '']) {
    await assert.rejects(run('rotate-key', ['rotated', `--old-valid=${time}`, ...here()]), refusedWith('USAGE'), time);
  }
});

test('apps disable asks, and asks nobody where there is nobody', async () => {
  await json('add', ['ended', '--preset', 'read-only', '--source', 'any']);
  await assert.rejects(run('disable', ['ended', ...here()]), refusedWith('USAGE', /--yes/));
  const unsure = await run('disable', ['ended', ...here()], 'no\n', true);
  assert.deepEqual([unsure.outcome, unsure.out], ['usage', '']);
  assert.match(unsure.err, /Disable ended for good\? Type its name/);
  const sure = await run('disable', ['ended', ...here()], 'ended\n', true);
  assert.match(sure.out, /^disabled ended \([0-9a-f]{24}\)\n$/);
  assert.match((await run('list', here())).out, /ended +disabled/);
  const again = await json('disable', ['ended', '--yes']);
  assert.notEqual(again.application.disabled_at, null);
});

test('URL and token are found in dev.json of the home, and nowhere else by accident', async () => {
  const home = mkdtempSync(join(folder, 'home-'));
  const before = process.env.STRONGROOM_HOME;
  process.env.STRONGROOM_HOME = home;
  try {
    await assert.rejects(run('list', []), refusedWith('NOT_RUNNING', /strongroom dev/));
    writeFileSync(join(home, 'dev.json'), '{"admin": {"url":', { mode: 0o600 });
    await assert.rejects(run('list', []), refusedWith('NOT_RUNNING'));
    writeFileSync(join(home, 'dev.json'), JSON.stringify({ admin: { url, token: TOKEN } }), { mode: 0o600 });
    assert.equal((await run('list', [])).outcome, 'ok');
    writeFileSync(join(home, 'dev.json'), JSON.stringify({ admin: { url: 'http://127.0.0.1:1', token: TOKEN } }));
    await assert.rejects(run('list', []), refusedWith('NOT_RUNNING'));
  } finally {
    if (before === undefined) delete process.env.STRONGROOM_HOME;
    else process.env.STRONGROOM_HOME = before;
  }
});

test('it speaks over a unix socket, with the token from standard input', async () => {
  const socket = join(folder, 'admin.sock');
  await listen({ path: socket });
  const listed = await run('list', ['--admin-url', `unix:${socket}`, '--token-file', '-', '--json'], `${TOKEN}\n`);
  assert.ok(JSON.parse(listed.out).applications.length > 0);
  assert.equal(entries.of('admin.called').at(-1)?.source, 'socket');
  const gone = ['--admin-url', `unix:${folder}/gone.sock`, '--token-file', tokenFile];
  await assert.rejects(run('list', gone), refusedWith('NOT_RUNNING'));
});

test('the token goes to this machine or through TLS, and is kept where others cannot read it', async () => {
  const asked = entries.of('admin.called').length;
  for (const wrong of [
    'http://example.com',
    'http://10.0.0.1:7101',
    'ftp://127.0.0.1',
    'nonsense',
    'http://127.0.0.1.example.com',
    'http://127.0.0.1@example.com',
  ]) {
    await assert.rejects(run('list', ['--admin-url', wrong, '--token-file', tokenFile]), refusedWith('USAGE'), wrong);
  }
  await assert.rejects(run('list', ['--admin-url', url]), refusedWith('USAGE', /go together/));
  await assert.rejects(run('list', ['--token-file', tokenFile]), refusedWith('USAGE', /go together/));
  await assert.rejects(run('list', ['--admin-url', url, '--token-file', '-'], ' \n'), refusedWith('USAGE', /no token/));
  const open = join(folder, 'open-token');
  writeFileSync(open, TOKEN);
  chmodSync(open, 0o644);
  await assert.rejects(run('list', ['--admin-url', url, '--token-file', open]), refusedWith('SECRET_UNREADABLE'));
  assert.equal(entries.of('admin.called').length, asked);
  const wrong = ['--admin-url', url, '--token-file', '-'];
  await assert.rejects(run('list', wrong, 'wrong'), refusedWith('ADMIN_UNAUTHORIZED'));
});

test('what a stranger answers is no answer', async () => {
  const stranger = Fastify();
  servers.push(stranger);
  stranger.get('/applications', async (_, reply) => reply.code(Number(mode.status)).send(mode.body));
  const mode = { status: 200, body: '<html>' };
  const origin = await stranger.listen({ port: 0, host: '127.0.0.1' });
  const argv = ['--admin-url', origin, '--token-file', tokenFile];
  await assert.rejects(run('list', argv), refusedWith('INTERNAL'));
  Object.assign(mode, { status: 500, body: '{"error_code": "toString"}' });
  await assert.rejects(run('list', argv), refusedWith('INTERNAL'));
  Object.assign(mode, { status: 302, body: '{}' });
  await assert.rejects(run('list', argv), refusedWith('INTERNAL'));
});

test('every command has its help', () => {
  for (const command of APPS) {
    assert.match(command.usage, new RegExp(`^usage: strongroom ${command.name}`));
    assert.ok(command.usage.includes('--json') && command.usage.includes('--admin-url'));
    for (const line of command.usage.split('\n')) assert.ok(line.length <= 100, line);
  }
});
