import { createPrivateKey } from 'node:crypto';
import { createSigner, logOrigin, type Signer } from '../../src/audit/checkpoint.ts';
import { type ExportOptions, exportLines, type LogSource, type LogStart } from '../../src/audit/export.ts';
import type { Group } from '../../src/audit/group.ts';
import type { WriterStore } from '../../src/audit/placing.ts';
import { loadSequencer, type SequencerStore, type Step } from '../../src/audit/sequencer.ts';
import { type Gap, isStop } from '../../src/audit/sequencing.ts';
import { type AuditReport, type VerifyOptions, verifyAudit } from '../../src/audit/verify.ts';
import { type AuditWriter, type AuditWriterOptions, startAuditWriter } from '../../src/audit/writer.ts';
import type { Clock } from '../../src/base/clock.ts';

/**
 * The log's tables in memory, for proofs that need thousands of logs or exact
 * bytes. test/store/audit.test.ts holds the same stories against PostgreSQL.
 */

export const DEPLOYMENT = 'test-deployment';
// RFC 8032 section 7.1, test 1: a key that everybody knows, so that vectors can be frozen.
const SEED = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
export const SIGNER = signerOf(SEED);
export const OTHER_SIGNER = signerOf('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb');

function signerOf(seed: string): Signer {
  const der = Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex');
  return createSigner(logOrigin(DEPLOYMENT), createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }));
}

/** A clock that moves a second with every reading of `now`, and not at all otherwise. */
export function stepClock(start = Date.UTC(2026, 0, 2, 3, 4, 5, 678)): Clock & { advance(ms: number): void } {
  let now = start;
  let monotonic = 0;
  return {
    now: () => {
      now += 1000;
      return now;
    },
    monotonic: () => monotonic,
    advance: (ms) => {
      monotonic += ms;
    },
  };
}

/** Bytes that are the same in every run. */
export function countingRandom() {
  let count = 0;
  return {
    bytes: (length: number) => Buffer.alloc(length, ++count),
    uuid: () => `00000000-0000-4000-8000-${String(++count).padStart(12, '0')}`,
  };
}

interface Registered {
  readonly key: number;
  readonly writer: string;
  readonly role: string;
}

export class MemoryLog implements WriterStore, SequencerStore, LogSource {
  readonly writers: Registered[] = [];
  readonly groups = new Map<number, Group[]>();
  readonly steps: Step[] = [];
  readonly keys: { vkey: string; firstSize: number }[] = [];
  readonly gaps: Gap[] = [];
  readonly clock = stepClock();
  readonly random = countingRandom();

  startWriter(options: Partial<AuditWriterOptions> = {}): Promise<AuditWriter> {
    return startAuditWriter({
      store: this,
      deploymentId: DEPLOYMENT,
      role: 'gateway',
      random: this.random,
      clock: this.clock,
      pause: async () => {},
      ...options,
    });
  }

  async sequence(signer = SIGNER, groupsPerWriter?: number): Promise<void> {
    const sequencer = await loadSequencer({
      store: this,
      signer,
      onGap: async (gap) => {
        this.gaps.push(gap);
      },
      ...(groupsPerWriter === undefined ? {} : { groupsPerWriter }),
    });
    while ((await sequencer.step()).more);
  }

  async lines(options: ExportOptions = {}): Promise<string[]> {
    const lines: string[] = [];
    for await (const line of exportLines(this, options)) lines.push(line);
    return lines;
  }

  async register(writer: string, _deployment: string, role: string) {
    const known = this.writers.find((each) => each.writer === writer);
    const key = known?.key ?? this.writers.push({ key: this.writers.length + 1, writer, role });
    const before = this.writers.findLast((each) => each.role === role && each.key < key);
    const last = before === undefined ? undefined : this.groups.get(before.key)?.at(-1);
    if (before === undefined || last === undefined) return { key, previous: null };
    const hash = last.hashes.subarray(-32).toString('hex');
    return { key, previous: { writer: before.writer, n: last.firstN + last.count - 1, hash } };
  }

  async insert(key: number, { firstN, count, prev, hashes, entries }: Group): Promise<boolean> {
    const groups = this.groups.get(key) ?? [];
    this.groups.set(key, groups);
    if (groups.some((group) => group.firstN === firstN)) return false;
    groups.push({ firstN, count, prev: Buffer.from(prev), hashes: Buffer.from(hashes), entries });
    groups.sort((a, b) => a.firstN - b.firstN);
    return true;
  }

  async hashesAt(key: number, firstN: number): Promise<Buffer | null> {
    return this.groups.get(key)?.find((group) => group.firstN === firstN)?.hashes ?? null;
  }

  async load() {
    const last = this.steps.at(-1);
    return {
      size: last?.size ?? 0,
      frontier: last?.frontier ?? Buffer.alloc(0),
      checkpoint: last?.checkpoint ?? null,
      vkeys: this.keys.map(({ vkey }) => vkey),
    };
  }

  async addKey(vkey: string, firstSize: number): Promise<void> {
    this.keys.push({ vkey, firstSize });
  }

  async positions(after: number, known: readonly number[]) {
    return this.writers
      .filter(({ key }) => key > after && !known.includes(key))
      .map(({ key, writer }) => {
        const run = this.steps.flatMap(({ runs }) => runs).findLast((each) => each.key === key);
        const next = run === undefined ? 0 : run.firstN + run.count;
        const group = this.groups.get(key)?.findLast(({ firstN }) => firstN < next);
        const hash = group === undefined ? null : group.hashes.subarray(-32).toString('hex');
        return {
          key,
          writer,
          next,
          hash,
          lastGroup: group?.firstN ?? -1,
          stopped: group !== undefined && isStop(group.entries),
        };
      });
  }

  async pending(positions: readonly { key: number; writer: string; lastGroup: number }[], perWriter: number) {
    return positions.flatMap(({ key, writer, lastGroup }) =>
      (this.groups.get(key) ?? [])
        .filter(({ firstN }) => firstN > lastGroup)
        .slice(0, perWriter)
        .map((group) => ({ ...group, key, writer, deployment: DEPLOYMENT })),
    );
  }

  async commit(step: Step): Promise<boolean> {
    if ((this.steps.at(-1)?.size ?? 0) !== step.from) return false;
    this.steps.push(step);
    return true;
  }

  async bounds() {
    const size = this.steps.at(-1)?.size;
    if (size === undefined) return null;
    const start: LogStart = { first: 0, frontier: [] };
    return { size, origin: SIGNER.name, start, keys: this.keys };
  }

  async *runs(from: number, to: number) {
    for (const { firstIndex, key, firstN, count } of this.steps.flatMap(({ runs }) => runs)) {
      if (firstIndex + count <= from || firstIndex >= to) continue;
      const writer = this.writers[key - 1]?.writer ?? '';
      const groups = (this.groups.get(key) ?? [])
        .filter((group) => group.firstN >= firstN && group.firstN < firstN + count)
        .map((group) => ({ ...group, writer, deployment: DEPLOYMENT }));
      yield { firstIndex, firstN, count, writer, groups };
    }
  }

  async *checkpoints(from: number, to: number) {
    for (const { checkpoint } of this.steps) if (checkpoint.size > from && checkpoint.size <= to) yield checkpoint;
  }
}

/** Verifies lines, or bytes, as one file called `export`. */
export function verify(content: readonly string[] | Buffer, options: VerifyOptions = {}): Promise<AuditReport> {
  const bytes = Buffer.isBuffer(content) ? content : Buffer.from(content.map((line) => `${line}\n`).join(''), 'latin1');
  return verifyAudit([{ name: 'export', bytes: once(bytes) }], options);
}

async function* once(bytes: Buffer): AsyncIterable<Uint8Array> {
  yield bytes;
}
