import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { parseVerifier } from '../../src/audit/checkpoint.ts';
import { compareWithExportedHead } from '../../src/audit/heads.ts';
import { loadSequencer, type Sequencer } from '../../src/audit/sequencer.ts';
import type { SequencerLease } from '../../src/audit/sequencer-loop.ts';
import type { Gap } from '../../src/audit/sequencing.ts';
import {
  type AuditProblem,
  type AuditWriter,
  type AuditWriterOptions,
  startAuditWriter,
} from '../../src/audit/writer.ts';
import { systemClock, systemRandom } from '../../src/base/clock.ts';
import { auditWriterStore, leaseSequencer } from '../../src/store/audit.ts';
import {
  exportAudit,
  followAudit,
  newestCheckpoint,
  newestHeads,
  recordHead,
  storedHeads,
} from '../../src/store/audit-log.ts';
import type { Database, Sql } from '../../src/store/sql.ts';
import { isPermissionDenied, sqlstateOf } from '../../src/store/sql-errors.ts';
import { DEPLOYMENT, SIGNER, verify } from '../audit/memory-log.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { wireTo } from '../support/wire.ts';

const migrated = (from: number) => ({ from, to: from + 1 });

/** A fresh log, its worker, and whoever may do anything. */
class Log {
  readonly gaps: Gap[] = [];
  readonly problems: AuditProblem[] = [];
  readonly database: TestDatabase;
  readonly worker: Database;
  readonly superuser: Database;
  #lease: SequencerLease | null = null;
  #sequencer: Sequencer | null = null;

  private constructor(database: TestDatabase, worker: Database, superuser: Database) {
    this.database = database;
    this.worker = worker;
    this.superuser = superuser;
  }

  static async open(): Promise<Log> {
    const database = await testDatabase();
    return new Log(database, await database.open('worker'), await database.open('owner'));
  }

  async writer(
    role: 'gateway' | 'admin' | 'worker' = 'gateway',
    options: Partial<AuditWriterOptions> = {},
  ): Promise<AuditWriter> {
    const database = await this.database.open(role);
    return startAuditWriter({
      store: auditWriterStore(database.sql),
      deploymentId: DEPLOYMENT,
      role,
      random: systemRandom,
      clock: systemClock,
      onProblem: (problem) => this.problems.push(problem),
      ...options,
    });
  }

  async sequence(): Promise<void> {
    this.#lease ??= await leaseSequencer(this.worker);
    assert.ok(this.#lease !== null);
    const onGap = async (gap: Gap) => void this.gaps.push(gap);
    this.#sequencer ??= await loadSequencer({ store: this.#lease.store, signer: SIGNER, onGap, groupsPerWriter: 4 });
    while ((await this.#sequencer.step()).sequenced > 0);
  }

  async release(): Promise<void> {
    await this.#lease?.release();
    this.#lease = null;
    this.#sequencer = null;
  }

  async lines(partitionEntries?: number): Promise<string[]> {
    const lines: string[] = [];
    const options = partitionEntries === undefined ? {} : { partitionEntries };
    for await (const line of exportAudit(this.worker.sql, options)) lines.push(line);
    return lines;
  }

  async findings() {
    return (await verify(await this.lines())).findings.map(({ code, index }) => [code, index]);
  }

  /** What somebody with all rights over the database can do. */
  tamper(statement: string, values: readonly unknown[] = []): Promise<unknown> {
    return this.superuser.transaction(async (sql) => {
      for (const table of ['audit_groups', 'audit_runs', 'audit_checkpoints'])
        await sql.query(`alter table ${table} disable trigger user`);
      await sql.query(statement, values);
      for (const table of ['audit_groups', 'audit_runs', 'audit_checkpoints'])
        await sql.query(`alter table ${table} enable trigger user`);
    });
  }
}

let log: Log;
before(async () => {
  log = await Log.open();
});
after(() => log.release());

test('what three roles write becomes one log that verifies, page by page and from any partition', async () => {
  const writers = [await log.writer('gateway'), await log.writer('admin'), await log.writer('worker')];
  for (let round = 0; round < 12; round++) {
    await Promise.all(
      writers.flatMap((writer) => [0, 1, 2].map((i) => writer.append('schema.migrated', migrated(round * 3 + i)))),
    );
    if (round % 3 === 0) await log.sequence();
  }
  for (const writer of writers) await writer.close();
  await log.sequence();
  const lines = await log.lines(20);
  const report = await verify(lines, { verifiers: [parseVerifier(SIGNER.vkey) ?? assert.fail()] });
  assert.deepEqual(report.findings, []);
  assert.equal(report.entries, 3 * (12 * 3 + 2));
  assert.equal(report.writersUnstopped, 0);
  assert.ok(report.partitions > 3);
  assert.deepEqual(await log.lines(20), lines, 'the same log gives the same bytes');
  assert.equal(report.root, (await newestCheckpoint(log.worker.sql))?.root.toString('base64'));

  const header = JSON.parse(lines.findLast((line) => line.startsWith('{"export":')) ?? '');
  const start = { first: header.first, frontier: header.frontier.map((hash: string) => Buffer.from(hash, 'hex')) };
  const later: string[] = [];
  for await (const line of exportAudit(log.worker.sql, { start, partitionEntries: 20 })) later.push(line);
  assert.deepEqual(later, lines.slice(-later.length), 'going on from a partition gives the same lines');
  assert.ok((await verify(later)).sound);
});

test('the view that readers use shows the same entries as the export', async () => {
  const auditor = await log.database.open('auditor');
  const { rows } = await auditor.sql.query<{
    index: number;
    writer: string;
    n: number;
    at: string;
    kind: string;
    entry: string;
  }>('select index, writer, n, at, kind, entry from audit_log order by index');
  const exported = (await log.lines()).flatMap((line) => (line.startsWith('{"index":') ? [JSON.parse(line)] : []));
  assert.equal(rows.length, exported.length);
  rows.forEach((row, i) => {
    const { index, entry } = exported[i];
    const { v: _v, deployment: _d, writer, n, prev: _p, ...rest } = entry;
    assert.deepEqual([row.index, row.writer, row.n, row.at, row.kind], [index, writer, n, entry.at, entry.kind]);
    assert.deepEqual(JSON.parse(row.entry), rest);
  });
});

test('following shows entries as they get their place', async () => {
  const size = (await newestCheckpoint(log.worker.sql))?.size ?? 0;
  const stop = new AbortController();
  const seen: string[] = [];
  const writer = await log.writer();
  const following = (async () => {
    for await (const line of followAudit(log.worker.sql, { from: -2, signal: stop.signal, pollMs: 5 })) {
      seen.push(line);
      if (seen.length === 4) stop.abort();
    }
  })();
  await writer.append('schema.migrated', migrated(1));
  await log.sequence();
  await following;
  assert.deepEqual(
    seen.map((line) => JSON.parse(line).index),
    [size - 2, size - 1, size, size + 1],
  );
  assert.deepEqual(seen, (await log.lines()).filter((line) => line.startsWith('{"index":')).slice(size - 2, size + 2));
});

test('writers may insert under their own name, and nothing else', async () => {
  const writer = await log.writer('gateway');
  const gateway = await log.database.open('gateway');
  const webhooks = await log.database.open('webhooks');
  const refused = (sql: Sql, text: string) => assert.rejects(sql.query(text), isPermissionDenied, text);
  for (const table of ['audit_groups', 'audit_writers', 'audit_runs', 'audit_tree', 'audit_keys', 'audit_heads']) {
    await refused(gateway.sql, `select from ${table}`);
    await refused(gateway.sql, `delete from ${table}`);
  }
  for (const text of [
    'update audit_groups set count = 1',
    'truncate audit_groups',
    'insert into audit_runs (first_index, writer, first_n, count) values (0, 1, 0, 1)',
    "insert into audit_checkpoints (size, root, note) values (1, '', '')",
    "insert into audit_writers (writer, deployment, role) values (gen_random_uuid(), 'x', 'worker')",
    "update audit_tree set size = 0, frontier = ''",
    "select audit_archive(0, '')",
  ]) {
    await refused(gateway.sql, text);
  }
  const { rows } = await log.worker.sql.query<{ id: number }>('select id from audit_writers where writer = $1', [
    writer.writer,
  ]);
  const hash = Buffer.alloc(32);
  const foreign = auditWriterStore(webhooks.sql).insert(rows[0]?.id ?? 0, {
    firstN: 9,
    count: 1,
    prev: hash,
    hashes: hash,
    entries: 'x',
  });
  await assert.rejects(foreign, isPermissionDenied, 'another role cannot speak for the gateway');
  assert.equal(await auditWriterStore(webhooks.sql).hashesAt(rows[0]?.id ?? 0, 0), null, 'nor read what it wrote');
  const stolen = auditWriterStore(webhooks.sql).register(writer.writer, DEPLOYMENT, 'gateway');
  await assert.rejects(stolen, 'nor take its name');
});

test('nobody changes or deletes what was written, the owner included', async () => {
  for (const table of ['writers', 'groups', 'runs', 'keys', 'checkpoints', 'heads', 'archives']) {
    for (const text of [`delete from audit_${table}`, `truncate audit_${table}`]) {
      await assert.rejects(log.superuser.sql.query(text), isPermissionDenied, text);
    }
  }
  for (const text of [
    'update audit_groups set count = 1',
    'update audit_checkpoints set size = 1',
    'update audit_runs set count = 1',
  ]) {
    await assert.rejects(log.superuser.sql.query(text), isPermissionDenied, text);
  }
});

test('a group that does not hold together is not taken by the table', async () => {
  const gateway = await log.database.open('gateway');
  const store = auditWriterStore(gateway.sql);
  const { key } = await store.register(systemRandom.uuid(), DEPLOYMENT, 'gateway');
  const hash = Buffer.alloc(32);
  const group = { firstN: 0, count: 1, prev: hash, hashes: hash, entries: 'x' };
  for (const wrong of [
    { count: 2 },
    { prev: Buffer.alloc(31) },
    { hashes: Buffer.alloc(33) },
    { firstN: -1 },
    { count: 0, hashes: Buffer.alloc(0) },
  ]) {
    await assert.rejects(store.insert(key, { ...group, ...wrong }), (error) => sqlstateOf(error) === '23514');
  }
  assert.equal(await store.insert(key, group), true);
  assert.equal(await store.insert(key, { ...group, entries: 'y' }), false, 'a place is taken once');
  assert.deepEqual(await store.hashesAt(key, 0), hash);
});

test('a second sequencer gets no lock; when the first dies, it goes on where that one was', async () => {
  const own = await Log.open();
  const writer = await own.writer();
  await own.sequence();
  const other = await own.database.open('worker');
  assert.equal(await leaseSequencer(other), null);
  await writer.append('schema.migrated', migrated(1));
  await own.worker.sql.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and usename = session_user and application_name like '% lock'`);
  await assert.rejects(own.sequence());
  const lease = await eventually(() => leaseSequencer(other));
  const sequencer = await loadSequencer({ store: lease.store, signer: SIGNER, onGap: async () => assert.fail() });
  assert.equal((await sequencer.step()).sequenced, 1);
  assert.ok((await verify(await own.lines())).sound);
  await lease.release();
});

test('entries deleted before they had an index are named', async () => {
  const own = await Log.open();
  const writer = await own.writer();
  for (let i = 0; i < 4; i++) await writer.append('schema.migrated', migrated(i));
  await own.tamper('delete from audit_groups where first_n = 2');
  await own.sequence();
  assert.deepEqual(own.gaps, [{ writer: writer.writer, reason: 'missing', n: 2, entries: 1 }]);
  assert.deepEqual(
    (await verify(await own.lines())).findings.map(({ code, n }) => [code, n]),
    [['missing', 2]],
  );
  await own.release();
});

test('entries altered, deleted or doubled after they had an index are named by the export', async () => {
  // With one writer, an entry's counter is also its index.
  const tampered: [string, string, number][] = [
    [`update audit_groups set entries = replace(entries, '"from":1', '"from":7') where first_n = 2`, 'altered', 2],
    ['delete from audit_groups where first_n = 2', 'missing', 2],
    [`update audit_groups set entries = entries || E'\\nx' where first_n = 2`, 'missing', 2],
    ['update audit_runs set count = count - 1 where first_n = 0', 'missing', 3],
  ];
  for (const [statement, code, n] of tampered) {
    const own = await Log.open();
    const writer = await own.writer();
    for (let i = 0; i < 3; i++) await writer.append('schema.migrated', migrated(i));
    await writer.close();
    await own.sequence();
    await own.tamper(statement);
    assert.deepEqual((await own.findings())[0], [code, n], statement);
    await own.release();
  }
});

test('a database that was put back is behind the head that left it', async () => {
  const own = await Log.open();
  const writer = await own.writer();
  await own.sequence();
  await writer.append('schema.migrated', migrated(1));
  await own.sequence();
  const newest = (await newestCheckpoint(own.worker.sql)) ?? assert.fail();
  await recordHead(own.worker.sql, newest.size, 'file');
  assert.deepEqual(
    (await newestHeads(own.worker.sql)).map(({ size, destination }) => [size, destination]),
    [[2, 'file']],
  );
  const heads = { heads: [{ origin: SIGNER.name, size: newest.size, root: newest.root }], unreadable: 0 };
  const gateway = await own.database.open('gateway');
  const compare = () => compareWithExportedHead(heads, SIGNER.name, storedHeads(gateway.sql));
  assert.equal((await compare()).state, 'consistent');
  await own.tamper('delete from audit_checkpoints where size = 2');
  assert.equal((await compare()).state, 'behind');
  await own.release();
  await assert.rejects(own.sequence(), { code: 'AUDIT_BROKEN' }, 'and nothing is signed on top of it');
  await own.release();
});

test('archived entries are gone, and what stays is still proven', async () => {
  const own = await Log.open();
  const writer = await own.writer();
  for (let i = 0; i < 3; i++) {
    await writer.append('schema.migrated', migrated(i));
    await own.sequence();
  }
  const whole = await own.lines(1);
  const headers = whole.filter((line) => line.startsWith('{"export":')).map((line) => JSON.parse(line));
  const { first, frontier } = headers.at(-1);
  const archive = (bytes: Buffer) =>
    own.superuser.sql.query<{ dropped: number }>('select audit_archive($1, $2) as dropped', [first, bytes]);
  const bytes = Buffer.from(frontier.join(''), 'hex');
  await assert.rejects(archive(bytes), 'not before a head has left');
  await recordHead(own.worker.sql, first, 'file');
  await assert.rejects(archive(Buffer.alloc(bytes.length)), 'not with another frontier');
  assert.ok(((await archive(bytes)).rows[0]?.dropped ?? 0) >= 1);
  await writer.append('schema.migrated', migrated(9));
  await own.release();
  await own.sequence();
  assert.deepEqual(own.gaps, []);
  const rest = await own.lines(1);
  const report = await verify(rest);
  assert.deepEqual(report.findings, []);
  assert.equal(report.first, first);
  const kept = whole.slice(whole.indexOf(rest[0] ?? ''));
  assert.deepEqual(rest.slice(0, kept.length), kept);
  await own.release();
});

/** An insert's answer lost, or the insert never sent, on a real connection, at every attempt in turn. */
for (const verdict of ['not_done', 'answer_lost'] as const) {
  test(`a wire that breaks (${verdict}) loses and doubles no acknowledged entry`, async () => {
    const own = await Log.open();
    const wire = await wireTo(own.database.connection('gateway'));
    const database = await own.database.open('gateway', wire.connection);
    const writer = await own.writer('gateway', { store: auditWriterStore(database.sql) });
    let inserts = 0;
    wire.judge = (chunk) => (chunk.includes('audit insert') && ++inserts % 2 === 0 ? verdict : 'pass');
    for (let i = 0; i < 5; i++) assert.equal((await writer.append('schema.migrated', migrated(i))).counter, i + 1);
    wire.judge = () => 'pass';
    await writer.close();
    await own.sequence();
    assert.ok(inserts >= 6);
    const report = await verify(await own.lines());
    assert.deepEqual([report.sound, report.entries], [true, 7]);
    assert.deepEqual(own.problems, []);
    await own.release();
  });
}

test('a full disk refuses callers at once and heals without a restart', async () => {
  const own = await Log.open();
  const writer = await own.writer();
  await own.superuser.sql.query(`create function full_disk() returns trigger language plpgsql as
    $$ begin raise exception 'no space left' using errcode = '53100'; end $$`);
  await own.superuser.sql.query(
    'create trigger full_disk before insert on audit_groups for each statement execute function full_disk()',
  );
  await assert.rejects(writer.append('schema.migrated', migrated(1)), { code: 'AUDIT_UNAVAILABLE' });
  await assert.rejects(writer.append('schema.migrated', migrated(2)), { code: 'AUDIT_UNAVAILABLE' });
  await own.superuser.sql.query('drop trigger full_disk on audit_groups');
  await eventually(() => writer.append('schema.migrated', migrated(3)).catch(() => null));
  await writer.close();
  await own.sequence();
  const report = await verify(await own.lines());
  assert.ok(report.sound);
  assert.deepEqual(
    own.problems.map(({ event }) => event),
    ['refusing', 'recovered'],
  );
  await own.release();
});

/** Asks again until there is an answer; the test's own timeout is the limit. */
async function eventually<T>(ask: () => Promise<T | null>): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
