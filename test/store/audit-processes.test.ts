import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadSequencer } from '../../src/audit/sequencer.ts';
import { leaseSequencer } from '../../src/store/audit.ts';
import { exportAudit } from '../../src/store/audit-log.ts';
import type { Database } from '../../src/store/sql.ts';
import { SIGNER, verify } from '../audit/memory-log.ts';
import { type Child, startChild } from '../support/child.ts';
import { testDatabase } from '../support/database.ts';

interface Said {
  readonly writer?: string;
  readonly acknowledged?: [counter: number, mark: number];
}

async function wholeLog(worker: Database): Promise<{ lines: string[]; gaps: number }> {
  const lease = (await leaseSequencer(worker)) ?? assert.fail('the lock is taken');
  let gaps = 0;
  const sequencer = await loadSequencer({ store: lease.store, signer: SIGNER, onGap: async () => void gaps++ });
  while ((await sequencer.step()).sequenced > 0);
  await lease.release();
  const lines: string[] = [];
  for await (const line of exportAudit(worker.sql)) lines.push(line);
  return { lines, gaps };
}

/** Collects what a writer was promised, until it ends. */
async function promises(child: Child, onEach: (count: number) => void = () => {}) {
  const started = (await child.next()) as Said;
  const acknowledged: [number, number][] = [];
  for (let said = (await child.next()) as Said | undefined; said !== undefined; said = (await child.next()) as Said) {
    if (said.acknowledged !== undefined) onEach(acknowledged.push(said.acknowledged));
  }
  return { writer: started.writer ?? '', acknowledged };
}

/** Each promised entry stands in the log, once, where it was promised. */
function holdsAll(lines: readonly string[], promised: readonly { writer: string; acknowledged: [number, number][] }[]) {
  const found = new Map<string, number>();
  for (const line of lines) {
    if (!line.startsWith('{"index":')) continue;
    const { entry } = JSON.parse(line);
    const key = `${entry.writer} ${entry.n}`;
    assert.ok(!found.has(key), `${key} stands twice`);
    found.set(key, entry.from);
  }
  for (const { writer, acknowledged } of promised) {
    assert.ok(acknowledged.length > 0);
    for (const [counter, mark] of acknowledged) assert.equal(found.get(`${writer} ${counter}`), mark);
  }
}

test('four processes write at once: every acknowledged entry is in one whole log', async () => {
  const database = await testDatabase();
  const worker = await database.open('worker');
  const children = [1, 2, 3, 4].map(() => startChild('audit-writer.ts', [database.url('gateway'), '8']));
  const promised = await Promise.all(
    children.map((child) =>
      promises(child, (count) => {
        if (count === 200) child.process.stdin?.end();
      }),
    ),
  );
  const { lines, gaps } = await wholeLog(worker);
  assert.equal(gaps, 0);
  holdsAll(lines, promised);
  const report = await verify(lines);
  assert.deepEqual(report.findings, []);
  assert.equal(report.writers, 4);
  assert.equal(report.writersUnstopped, 0);
});

test('kill -9 at any moment loses no acknowledged entry, and the next start goes on', async () => {
  const database = await testDatabase();
  const worker = await database.open('worker');
  const promised: Awaited<ReturnType<typeof promises>>[] = [];
  for (const killAt of [1, 37, 150]) {
    const child = startChild('audit-writer.ts', [database.url('gateway'), '16']);
    promised.push(
      await promises(child, (count) => {
        if (count === killAt) child.process.kill('SIGKILL');
      }),
    );
    const { lines, gaps } = await wholeLog(worker);
    assert.equal(gaps, 0);
    holdsAll(lines, promised);
    const report = await verify(lines);
    assert.deepEqual(report.findings, []);
    assert.equal(report.writersUnstopped, promised.length, 'a writer that was killed did not stop in order');
  }
  assert.equal(promised.length, 3);
});
