import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { Group } from '../../src/audit/group.ts';
import type { WriterStore } from '../../src/audit/placing.ts';
import type { AuditProblem, AuditWriterOptions, EntryRef } from '../../src/audit/writer.ts';
import { StrongroomError } from '../../src/base/errors.ts';
import { MemoryLog, stepClock, verify } from './memory-log.ts';

/** How a remote step can go wrong: `answer_lost` did the work, `not_done` did not, `late` does it after the next call. */
type Fault = 'not_done' | 'answer_lost' | 'late' | 'disk_full' | 'none';

const DOWN = () => new StrongroomError('DATABASE_UNAVAILABLE', { sqlstate: null, outcome: 'unknown' });
const FULL = () => new StrongroomError('DATABASE_UNAVAILABLE', { sqlstate: '53100', outcome: 'not_done' });

/** A log whose next calls fail as planned; when the plan is used up they work. */
class FaultyLog implements WriterStore {
  readonly log = new MemoryLog();
  readonly clock = stepClock();
  readonly problems: AuditProblem[] = [];
  plan: Fault[] = [];
  /** Calls that failed, for tests that watch. */
  calls: string[] = [];
  #late: (() => Promise<unknown>)[] = [];

  register(writer: string, deployment: string, role: string) {
    return this.#step('register', () => this.log.register(writer, deployment, role));
  }

  insert(key: number, group: Group) {
    return this.#step('insert', () => this.log.insert(key, group));
  }

  hashesAt(key: number, firstN: number) {
    return this.#step('hashesAt', () => this.log.hashesAt(key, firstN));
  }

  async #step<T>(name: string, work: () => Promise<T>): Promise<T> {
    const fault = this.plan.shift() ?? 'none';
    this.calls.push(`${name} ${fault}`);
    if (fault === 'late') {
      this.#late.push(work);
      throw DOWN();
    }
    if (fault === 'none' || fault === 'answer_lost') {
      const result = await work();
      await this.land();
      if (fault === 'none') return result;
    }
    throw fault === 'disk_full' ? FULL() : DOWN();
  }

  /** What an earlier call left on its way arrives. */
  async land(): Promise<void> {
    for (const work of this.#late.splice(0)) await work();
  }

  start(options: Partial<AuditWriterOptions> = {}) {
    return this.log.startWriter({
      store: this,
      clock: this.clock,
      patienceMs: 1000,
      pause: async (ms) => this.clock.advance(ms),
      onProblem: (problem) => this.problems.push(problem),
      ...options,
    });
  }

  /** Every entry in the log, read through sequencer and verifier; fails when the log is not whole. */
  async entries(): Promise<{ n: number; writer: string; kind: string; from?: number }[]> {
    await this.log.sequence();
    assert.deepEqual(this.log.gaps, []);
    const lines = await this.log.lines();
    const report = await verify(lines);
    assert.deepEqual(report.findings, []);
    return lines.flatMap((line) => {
      const value = JSON.parse(line) as { entry?: never };
      return value.entry === undefined ? [] : [value.entry];
    });
  }
}

const migrated = (from: number) => ({ from, to: from + 1 });

test('callers of one turn of the event loop share one commit', async () => {
  const log = new MemoryLog();
  const writer = await log.startWriter();
  const refs = await Promise.all(Array.from({ length: 64 }, (_, i) => writer.append('schema.migrated', migrated(i))));
  assert.deepEqual(
    refs.map(({ counter }) => counter),
    Array.from({ length: 64 }, (_, i) => i + 1),
  );
  assert.equal(log.groups.get(1)?.length, 2, 'the start and one group');
});

test('while one group is on its way the next gathers, and never two go at once', async () => {
  const log = new MemoryLog();
  let going = 0;
  let most = 0;
  const sizes: number[] = [];
  const store: WriterStore = {
    register: (...args) => log.register(...args),
    hashesAt: (...args) => log.hashesAt(...args),
    insert: async (key, group) => {
      most = Math.max(most, ++going);
      sizes.push(group.count);
      // Others arrive while this commit lasts.
      if (group.firstN === 1) for (let i = 0; i < 10; i++) void writer.append('schema.migrated', migrated(i));
      await new Promise(setImmediate);
      going--;
      return log.insert(key, group);
    },
  };
  const writer = await log.startWriter({ store });
  await writer.append('schema.migrated', migrated(0));
  await writer.close();
  assert.equal(most, 1);
  assert.deepEqual(sizes, [1, 1, 10, 1]);
});

test('a note travels with the next caller, and by itself when none comes', async () => {
  const log = new MemoryLog();
  const writer = await log.startWriter();
  const sizes = () => log.groups.get(1)?.map(({ count }) => count);
  writer.note('schema.migrated', migrated(0));
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  assert.deepEqual(sizes(), [1], 'no commit of its own, which the next caller would have to wait for');
  await writer.append('schema.migrated', migrated(1));
  assert.deepEqual(sizes(), [1, 2]);
  writer.note('schema.migrated', migrated(2));
  for (let n = 0; n < 100 && sizes()?.length === 2; n++) await sleep(20);
  assert.deepEqual(sizes(), [1, 2, 1]);
  for (let n = 0; n < 256; n++) writer.note('schema.migrated', migrated(n));
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  assert.deepEqual(sizes(), [1, 2, 1, 256], 'a whole group waits for nobody');
  await writer.close();
});

test('a value that does not fit fails its own caller and nobody else', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  const outcomes = await Promise.allSettled([
    writer.append('schema.migrated', migrated(1)),
    writer.append('schema.migrated', { from: -1, to: 0 }),
    writer.append('schema.migrated', migrated(2)),
  ]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  writer.note('schema.migrated', { from: 1 } as never);
  assert.equal(log.problems[0]?.event, 'bad_note');
  assert.equal((await log.entries()).length, 3);
});

for (const fault of ['not_done', 'answer_lost', 'late'] satisfies Fault[]) {
  test(`an insert that is ${fault} once costs callers time and nothing else`, async () => {
    const log = new FaultyLog();
    const writer = await log.start();
    log.plan = [fault];
    const refs = await Promise.all([1, 2, 3].map((from) => writer.append('schema.migrated', migrated(from))));
    await log.land();
    assert.deepEqual(
      refs.map(({ counter }) => counter),
      [1, 2, 3],
    );
    assert.deepEqual(
      (await log.entries()).map(({ kind }) => kind),
      ['writer.started', ...Array(3).fill('schema.migrated')],
    );
    assert.deepEqual(log.problems, []);
  });
}

test('a database that stays down: callers are refused, and later calls work without a restart', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  log.plan = Array(40).fill('not_done');
  const waiting = writer.append('schema.migrated', migrated(1));
  await assert.rejects(waiting, { code: 'AUDIT_UNAVAILABLE' });
  await assert.rejects(writer.append('schema.migrated', migrated(2)), { code: 'AUDIT_UNAVAILABLE' });
  while (log.plan.length > 0) await new Promise(setImmediate);
  await settled(log);
  await writer.append('schema.migrated', migrated(3));
  const entries = await log.entries();
  assert.deepEqual(
    entries.map(({ kind }) => kind),
    ['writer.started', 'writer.recovered', 'audit.shed', 'schema.migrated'],
  );
  assert.deepEqual(
    { ...entries[1], at: '', prev: '' },
    { ...entries[1], at: '', prev: '', first: 1, entries: 1, landed: false },
  );
  assert.deepEqual(pick(entries[2], 'callers', 'notes'), { callers: 2, notes: 0 });
  assert.deepEqual(
    log.problems.map(({ event }) => event),
    ['refusing', 'recovered'],
  );
});

test('a full disk is refused at once, and the log goes on when there is space', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  // A second attempt would find space: nobody is kept waiting for that.
  log.plan = ['disk_full'];
  await assert.rejects(writer.append('schema.migrated', migrated(1)), { code: 'AUDIT_UNAVAILABLE' });
  await settled(log);
  assert.equal((await writer.append('schema.migrated', migrated(2))).counter, 3);
  await log.entries();
});

test('entries that landed although their callers were refused are named, not doubled', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  // The insert arrives, its answer and every other call is lost until patience ends.
  log.plan = ['answer_lost', ...Array(20).fill('not_done')];
  await assert.rejects(writer.append('schema.migrated', migrated(1)), { code: 'AUDIT_UNAVAILABLE' });
  await settled(log);
  await writer.append('schema.migrated', migrated(2));
  const entries = await log.entries();
  assert.deepEqual(
    entries.map(({ kind, from }) => from ?? kind),
    ['writer.started', 1, 'writer.recovered', 'audit.shed', 2],
  );
  assert.deepEqual(pick(entries[2], 'first', 'entries', 'landed'), { first: 1, entries: 1, landed: true });
});

test('a group that arrives after its place was taken changes nothing', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  log.plan = ['late', ...Array(20).fill('not_done')];
  await assert.rejects(writer.append('schema.migrated', migrated(1)), { code: 'AUDIT_UNAVAILABLE' });
  await settled(log);
  await log.land();
  await writer.append('schema.migrated', migrated(2));
  assert.deepEqual(
    (await log.entries()).map(({ kind, from }) => from ?? kind),
    ['writer.started', 'writer.recovered', 'audit.shed', 2],
  );
});

test('notes survive an outage that their group did not', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  log.plan = Array(20).fill('not_done');
  const waiting = writer.append('schema.migrated', migrated(1));
  writer.note('schema.migrated', migrated(7));
  await assert.rejects(waiting, { code: 'AUDIT_UNAVAILABLE' });
  writer.note('schema.migrated', migrated(8));
  await settled(log);
  await writer.close();
  assert.deepEqual(
    (await log.entries()).map(({ kind, from }) => from ?? kind),
    ['writer.started', 'writer.recovered', 'audit.shed', 7, 8, 'writer.stopped'],
  );
});

test('somebody else in the place of a writer retires it; the next one names what was acknowledged', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  const first = writer.writer;
  await writer.append('schema.migrated', migrated(1));
  const intruder = log.log.groups.get(1)?.[1] as Group;
  log.log.groups.get(1)?.push({ ...intruder, firstN: 2, hashes: Buffer.alloc(32, 9) });
  await assert.rejects(writer.append('schema.migrated', migrated(2)), { code: 'AUDIT_UNAVAILABLE' });
  await settled(log);
  const ref = await writer.append('schema.migrated', migrated(3));
  assert.notEqual(ref.writer, first);
  assert.equal(writer.writer, ref.writer);
  assert.deepEqual(
    log.problems.map(({ event }) => event),
    ['refusing', 'retired', 'recovered'],
  );
  const started = JSON.parse(`{${log.log.groups.get(2)?.[0]?.entries}`);
  assert.deepEqual(pick(started, 'reason', 'previous', 'previous_n'), {
    reason: 'retired',
    previous: first,
    previous_n: 1,
  });
  await log.log.sequence();
  assert.equal(log.log.gaps[0]?.reason, 'altered');
  assert.ok(!(await verify(await log.log.lines())).sound);
});

test('more callers than may wait are told so at once, and counted', async () => {
  const log = new FaultyLog();
  const writer = await log.start({ maxWaiting: 3 });
  const outcomes = await Promise.allSettled(
    [1, 2, 3, 4, 5].map((from) => writer.append('schema.migrated', migrated(from))),
  );
  writer.note('schema.migrated', migrated(6));
  assert.deepEqual(
    outcomes.map((outcome) => (outcome.status === 'fulfilled' ? 'ok' : outcome.reason.code)),
    ['ok', 'ok', 'ok', 'OVERLOADED', 'OVERLOADED'],
  );
  await writer.close();
  const shed = (await log.entries()).find(({ kind }) => kind === 'audit.shed');
  assert.deepEqual(pick(shed, 'callers', 'notes'), { callers: 2, notes: 0 });
});

test('closing writes what waits and the end of the chain; later callers are refused', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  const waiting = writer.append('schema.migrated', migrated(1));
  writer.note('schema.migrated', migrated(2));
  const closing = writer.close();
  await assert.rejects(writer.append('schema.migrated', migrated(3)), { code: 'SHUTTING_DOWN' });
  await closing;
  await writer.close();
  assert.equal((await waiting).counter, 1);
  writer.note('schema.migrated', migrated(4));
  assert.deepEqual(
    (await log.entries()).map(({ kind, from }) => from ?? kind),
    ['writer.started', 1, 2, 'writer.stopped'],
  );
});

test('closing while the database is down ends, and refuses who waits', async () => {
  const log = new FaultyLog();
  const writer = await log.start();
  log.plan = Array(1000).fill('not_done');
  const waiting = assert.rejects(writer.append('schema.migrated', migrated(1)), { code: 'AUDIT_UNAVAILABLE' });
  await writer.close();
  await waiting;
  assert.deepEqual(
    log.problems.map(({ event }) => event),
    ['stop_failed'],
    'patience is spent once',
  );
});

test('a start that fails says so and may be tried again', async () => {
  const log = new FaultyLog();
  log.plan = Array(1000).fill('not_done');
  await assert.rejects(log.start(), { code: 'AUDIT_UNAVAILABLE' });
  log.plan = ['answer_lost', 'answer_lost', 'answer_lost'];
  const writer = await log.start();
  await writer.append('schema.migrated', migrated(1));
  assert.equal((await log.entries()).at(-1)?.kind, 'schema.migrated');
});

test('a new process names the last entry of the one before it', async () => {
  const log = new MemoryLog();
  const first = await log.startWriter();
  const { counter } = await first.append('schema.migrated', migrated(1));
  await log.startWriter();
  const started = JSON.parse(`{${log.groups.get(2)?.[0]?.entries}`);
  const hash = log.groups.get(1)?.at(-1)?.hashes.toString('hex');
  assert.deepEqual(pick(started, 'previous', 'previous_n', 'previous_hash'), {
    previous: first.writer,
    previous_n: counter,
    previous_hash: hash,
  });
});

/**
 * The law of the writer, whatever goes wrong and when: what was acknowledged is in
 * the log once, at the place that was acknowledged; nothing is in it twice; the
 * chain neither forks nor has holes.
 */
test('no order of faults loses, doubles or forks anything', async () => {
  const faults = fc.constantFrom<Fault>('none', 'none', 'not_done', 'answer_lost', 'late', 'disk_full');
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(5), fc.array(faults, { maxLength: 30 })), { maxLength: 6 }),
      async (rounds) => {
        const log = new FaultyLog();
        const writer = await log.start();
        const acknowledged = new Map<number, EntryRef>();
        const notes: number[] = [];
        let next = 0;
        for (const [callers, plan] of rounds) {
          log.plan = plan;
          const mine = Array.from({ length: callers + 1 }, () => next++);
          const noted = next++;
          notes.push(noted);
          writer.note('schema.migrated', migrated(noted));
          const outcomes = await Promise.allSettled(
            mine.map((from) => writer.append('schema.migrated', migrated(from))),
          );
          outcomes.forEach((outcome, i) => {
            if (outcome.status === 'fulfilled') acknowledged.set(mine[i] as number, outcome.value);
            else assert.ok(['AUDIT_UNAVAILABLE'].includes(outcome.reason.code));
          });
        }
        log.plan = [];
        await settled(log);
        await log.land();
        await writer.close();
        const entries = await log.entries();
        for (const [from, { writer: name, counter }] of acknowledged) {
          const found = entries.filter((entry) => entry.from === from);
          assert.equal(found.length, 1, `entry ${from} stands ${found.length} times`);
          assert.deepEqual([found[0]?.writer, found[0]?.n], [name, counter]);
        }
        const seen = entries.flatMap(({ from }) => from ?? []);
        assert.equal(new Set(seen).size, seen.length, 'an entry doubled');
        for (const note of notes) assert.ok(seen.includes(note), 'a note was lost');
      },
    ),
    { numRuns: 400 },
  );
});

/** Until the writer takes entries again or has nothing to recover from. */
async function settled(log: FaultyLog): Promise<void> {
  const open = () => {
    const last = log.problems.findLast(({ event }) => event === 'refusing' || event === 'recovered');
    return last?.event !== 'refusing';
  };
  for (let turns = 0; !open(); turns++) {
    assert.ok(turns < 10_000, 'the writer never recovered');
    await new Promise(setImmediate);
  }
}

function pick(value: object | undefined, ...names: string[]): Record<string, unknown> {
  return Object.fromEntries(names.map((name) => [name, (value as Record<string, unknown>)[name]]));
}
