import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { entryPrefix } from '../../src/audit/entry.ts';
import { type Group, makeGroup } from '../../src/audit/group.ts';
import { loadSequencer, type SequencerOptions, type SequencerStore } from '../../src/audit/sequencer.ts';
import { type SequencerLease, startSequencer } from '../../src/audit/sequencer-loop.ts';
import { DEPLOYMENT, MemoryLog, OTHER_SIGNER, SIGNER, verify } from './memory-log.ts';

const migrated = (from: number) => ({ from, to: from + 1 });

/** A writer with three groups of two entries behind its start. */
async function threeGroups(): Promise<MemoryLog> {
  const log = new MemoryLog();
  const writer = await log.startWriter();
  for (const from of [0, 2, 4]) {
    await Promise.all([
      writer.append('schema.migrated', migrated(from)),
      writer.append('schema.migrated', migrated(from + 1)),
    ]);
  }
  assert.deepEqual(
    log.groups.get(1)?.map(({ firstN }) => firstN),
    [0, 1, 3, 5],
  );
  return log;
}

const groupsOf = (log: MemoryLog) => log.groups.get(1) as Group[];
const gapsOf = (log: MemoryLog) => log.gaps.map(({ reason, n, entries }) => [reason, n, entries]);
const codesOf = async (log: MemoryLog) => (await verify(await log.lines())).findings.map(({ code, n }) => [code, n]);

test('entries that were deleted before they had an index are named, and the rest goes on', async () => {
  const log = await threeGroups();
  groupsOf(log).splice(2, 1);
  await log.sequence();
  assert.deepEqual(gapsOf(log), [['missing', 3, 2]]);
  assert.equal(log.steps.at(-1)?.size, 5);
  assert.deepEqual(await codesOf(log), [['missing', 3]]);
});

test('an entry that was altered before it had an index is named', async () => {
  const log = await threeGroups();
  const group = groupsOf(log)[2] as Group;
  groupsOf(log)[2] = { ...group, entries: group.entries.replace('"from":2', '"from":9') };
  await log.sequence();
  assert.deepEqual(gapsOf(log), [['altered', 3, 1]]);
  assert.deepEqual(await codesOf(log), [['altered', 3]]);
});

test('a group that was replaced by another with fitting hashes does not fit its neighbours', async () => {
  const log = await threeGroups();
  const writer = log.writers[0]?.writer ?? '';
  const head = { next: 3, hash: groupsOf(log)[1]?.hashes.subarray(-32).toString('hex') ?? '' };
  const rests = groupsOf(log)[2]?.entries.replace('"from":2', '"from":9').split('\n') ?? [];
  groupsOf(log)[2] = makeGroup(entryPrefix(DEPLOYMENT, writer), head, rests);
  await log.sequence();
  assert.deepEqual(gapsOf(log), [['altered', 5, 1]]);
  assert.deepEqual(await codesOf(log), [['altered', 4]]);
});

test('a row that does not hold together is passed over and named', async () => {
  const log = await threeGroups();
  const group = groupsOf(log)[2] as Group;
  groupsOf(log)[2] = { ...group, entries: `${group.entries}\n"at":"x"}` };
  await log.sequence();
  assert.deepEqual(gapsOf(log)[0], ['malformed', 3, 2]);
  assert.deepEqual(await codesOf(log), [['missing', 3]]);
});

test('a second row for a place that was given is named', async () => {
  const log = await threeGroups();
  const group = groupsOf(log)[2] as Group;
  groupsOf(log).splice(3, 0, {
    ...group,
    firstN: 4,
    count: 1,
    hashes: group.hashes.subarray(0, 32),
    entries: group.entries.split('\n')[0] ?? '',
  });
  await log.sequence();
  assert.deepEqual(gapsOf(log), [['doubled', 4, 1]]);
});

test('what the sequencer found stands in the log for ever', async () => {
  const log = await threeGroups();
  const worker = await log.startWriter({ role: 'worker' });
  groupsOf(log).splice(2, 1);
  const sequencer = await loadSequencer({
    store: log,
    signer: SIGNER,
    onGap: async (gap) => void (await worker.append('audit.gap', { ...gap })),
  });
  await sequencer.step();
  await sequencer.step();
  assert.deepEqual((await codesOf(log)).map(([code]) => code).sort(), ['missing', 'recorded']);
});

test('a gap that cannot be recorded stops the step: it is told again later', async () => {
  const log = await threeGroups();
  groupsOf(log).splice(2, 1);
  const options = { store: log, signer: SIGNER };
  const failing = await loadSequencer({ ...options, onGap: async () => Promise.reject(new Error('log is down')) });
  await assert.rejects(failing.step(), /log is down/);
  assert.equal(log.steps.length, 0);
  await log.sequence();
  assert.deepEqual(gapsOf(log), [['missing', 3, 2]]);
});

test('two sequencers at once: one moves the tree, the other is told', async () => {
  const log = await threeGroups();
  const options: SequencerOptions = { store: log, signer: SIGNER, onGap: async () => {} };
  const [one, two] = [await loadSequencer(options), await loadSequencer(options)];
  const outcomes = await Promise.allSettled([one.step(), two.step()]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  );
  assert.ok((await verify(await log.lines())).sound);
});

test('a writer whose predecessor is not caught up with waits for it', async () => {
  const log = new MemoryLog();
  const first = await log.startWriter();
  for (let i = 0; i < 5; i++) await first.append('schema.migrated', migrated(i));
  const second = await log.startWriter();
  await second.append('schema.migrated', migrated(9));
  const sequencer = await loadSequencer({ store: log, signer: SIGNER, onGap: async () => {}, groupsPerWriter: 2 });
  for (let more = true; more; ) {
    ({ more } = await sequencer.step());
    // Also a reader of the log as it was then finds it whole.
    assert.deepEqual(await codesOf(log), []);
  }
  assert.equal(log.steps.at(-1)?.size, 8);
});

test('a sequencer starts nothing on a tree that does not hang together', async () => {
  const breakages: [string, (log: MemoryLog) => unknown][] = [
    ['frontier of another tree', (log) => log.steps.at(-1)?.frontier.fill(1)],
    ['cut frontier', (log) => Object.assign(log.steps.at(-1) ?? {}, { frontier: Buffer.alloc(0) })],
    ['no checkpoint', (log) => Object.assign(log.steps.at(-1) ?? {}, { checkpoint: null })],
    ['signed by somebody', (log) => log.keys.splice(0)],
    ['another size', (log) => Object.assign(log.steps.at(-1)?.checkpoint ?? {}, { size: 1 })],
  ];
  for (const [what, damage] of breakages) {
    const log = await threeGroups();
    await log.sequence(OTHER_SIGNER);
    damage(log);
    await assert.rejects(log.sequence(), { code: 'AUDIT_BROKEN' }, what);
  }
});

test('a new signing key takes over, and both keys verify the log', async () => {
  const log = await threeGroups();
  await log.sequence();
  const writer = await log.startWriter();
  await log.sequence(OTHER_SIGNER);
  await writer.close();
  await log.sequence(OTHER_SIGNER);
  const report = await verify(await log.lines());
  assert.ok(report.sound);
  assert.deepEqual(report.keys, [SIGNER.vkey, OTHER_SIGNER.vkey]);
});

/** After every fault at every call, a new start leads to the same log as if nothing had happened. */
test('no fault in a step loses or doubles an entry', async () => {
  const calm = await threeGroups();
  await calm.sequence();
  const fault = fc.constantFrom('none', 'none', 'not_done', 'answer_lost');
  await fc.assert(
    fc.asyncProperty(fc.array(fault, { maxLength: 30 }), async (plan) => {
      const log = await threeGroups();
      const step =
        <A extends unknown[], R>(work: (...args: A) => Promise<R>) =>
        async (...args: A): Promise<R> => {
          const what = plan.shift() ?? 'none';
          if (what === 'not_done') throw new Error('injected');
          const result = await work.apply(log, args);
          if (what === 'answer_lost') throw new Error('injected');
          return result;
        };
      const store: SequencerStore = {
        load: step(log.load),
        addKey: step((vkey, size) =>
          log.keys.some((key) => key.vkey === vkey) ? Promise.resolve() : log.addKey(vkey, size),
        ),
        positions: step(log.positions),
        pending: step(log.pending),
        commit: step(log.commit),
      };
      for (let done = false; !done; ) {
        try {
          const sequencer = await loadSequencer({
            store,
            signer: SIGNER,
            onGap: async () => assert.fail('a gap'),
            groupsPerWriter: 1,
          });
          while ((await sequencer.step()).sequenced > 0);
          done = true;
        } catch (error) {
          assert.match(String(error), /injected/);
        }
      }
      assert.deepEqual(log.steps.at(-1)?.checkpoint.root, calm.steps.at(-1)?.checkpoint.root);
      assert.ok((await verify(await log.lines())).sound);
    }),
    { numRuns: 200 },
  );
});

test('the loop leads while it has the lock, gives it back, and outlives failures', async () => {
  const log = await threeGroups();
  const problems: unknown[] = [];
  let asked = 0;
  let released = 0;
  const sizes: number[] = [];
  const done = Promise.withResolvers<void>();
  const lease = async (): Promise<SequencerLease | null> => {
    asked++;
    if (asked === 1) return null;
    if (asked === 2) throw new Error('database down');
    return { store: log, lost: new AbortController().signal, release: async () => void released++ };
  };
  const sequencer = startSequencer({
    lease,
    signer: SIGNER,
    onGap: async () => {},
    intervalMs: 1,
    askMs: 1,
    onCheckpoint: ({ size }) => {
      sizes.push(size);
      done.resolve();
    },
    onProblem: (error) => problems.push(error),
  });
  await done.promise;
  assert.ok(sequencer.leading);
  await log.startWriter();
  await sequencer.stop();
  assert.equal(sequencer.leading, false);
  assert.equal(released, 1);
  assert.equal(problems.length, 1);
  assert.deepEqual(sizes, [7, 8], 'the last step takes what came before the stop');
});
