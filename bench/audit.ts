/**
 * What a durable audit entry costs, beside what else could have been done: a batched
 * append to a file with fdatasync (no database at all), and a chain whose head is
 * locked, read and moved by every entry. All on the same disk, with fsync on.
 *
 * The sides take turns, so that a disk that slows down slows all of them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, hash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createSigner, logOrigin } from '../src/audit/checkpoint.ts';
import { loadSequencer } from '../src/audit/sequencer.ts';
import { type AuditWriter, startAuditWriter } from '../src/audit/writer.ts';
import { systemClock, systemRandom } from '../src/base/clock.ts';
import { Secret } from '../src/base/secret.ts';
import { auditWriterStore, leaseSequencer } from '../src/store/audit.ts';
import type { ConnectionOptions } from '../src/store/connection.ts';
import { startEmbedded } from '../src/store/embedded.ts';
import { migrate } from '../src/store/migrate.ts';
import { type Database, openDatabase } from '../src/store/sql.ts';
import type { BenchResult } from './run.ts';

export const name = 'audit';

const CALLERS = 64;
const PROCESSES = 4;
/** Many short rounds, taking turns: what another program does to the machine then hits every side. */
const ROUNDS = 20;
const ROUND_MS = 500;
const LONG_MS = 3_000;
/** Compiling takes its time, and each of four processes does a quarter of the work towards it. */
const WARM_UP_MS = 6_000;
const DEPLOYMENT = 'bench';
const APPLICATIONS = Array.from({ length: 5 }, () => systemRandom.bytes(12).toString('hex'));
const RECORDS = Array.from({ length: 1000 }, () => systemRandom.uuid());
const ENDPOINTS = ['/transactions/sync', '/accounts/get', '/accounts/balance/get', '/identity/get', '/item/get'];

/** As the gateway writes them: who, what, from where, with which record. */
function fieldsOf(i: number) {
  return {
    application: APPLICATIONS[i % APPLICATIONS.length] as string,
    endpoint: ENDPOINTS[i % ENDPOINTS.length] as string,
    source: `10.0.${i % 7}.${i % 251}`,
    records: RECORDS[(i * 31) % RECORDS.length] as string,
    class: 'item',
    request: `r${(i * 2654435761) % 2 ** 32}`,
  };
}

/** So many callers, each asking again as soon as it was answered. Entries per second. */
async function rateOf(callers: number, ms: number, append: (i: number) => Promise<unknown>): Promise<number> {
  let done = 0;
  const began = performance.now();
  const end = began + ms;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() < end) {
        await append(done++);
      }
    }),
  );
  return done / ((performance.now() - began) / 1000);
}

/** The peer without a database: one writer, batches, fdatasync. */
async function fileAppender(file: string) {
  const handle = await open(file, 'a');
  let waiting: { line: string; resolve(): void }[] = [];
  let running = false;
  const pump = async () => {
    running = true;
    while (waiting.length > 0) {
      await nextTurn();
      const batch = waiting;
      waiting = [];
      await handle.appendFile(batch.map(({ line }) => line).join(''));
      await handle.datasync();
      for (const { resolve } of batch) resolve();
    }
    running = false;
  };
  return {
    append: (i: number) =>
      new Promise<void>((resolve) => {
        const entry = { at: new Date().toISOString(), kind: 'access.admitted', ...fieldsOf(i) };
        waiting.push({ line: `${JSON.stringify(entry)}\n`, resolve });
        if (!running) void pump();
      }),
    close: () => handle.close(),
  };
}

/** The peer that keeps one chain for everybody: lock the head, read it, insert, move it. */
async function lockedChain(owner: Database) {
  await owner.sql.query('create table if not exists bench_head (one boolean primary key, n bigint, hash bytea)');
  await owner.sql.query('create table if not exists bench_chain (n bigint primary key, hash bytea, entry text)');
  await owner.sql.query("insert into bench_head values (true, 0, '') on conflict do nothing");
  return (i: number) =>
    owner.transaction(async (sql) => {
      const { rows } = await sql.query<{ n: number; hash: Buffer }>({
        name: 'head',
        text: 'select n, hash from bench_head for update',
      });
      const head = rows[0] as { n: number; hash: Buffer };
      const entry = JSON.stringify({ n: head.n, prev: head.hash.toString('hex'), at: new Date(), ...fieldsOf(i) });
      const next = hash('sha256', entry, 'buffer');
      await sql.query({
        name: 'add',
        text: 'insert into bench_chain values ($1, $2, $3)',
        values: [head.n, next, entry],
      });
      await sql.query({ name: 'move', text: 'update bench_head set n = n + 1, hash = $1', values: [next] });
    });
}

const append = (writer: AuditWriter) => (i: number) => writer.append('access.admitted', fieldsOf(i));

async function startWriter(database: Database): Promise<AuditWriter> {
  const options = { deploymentId: DEPLOYMENT, role: 'gateway', random: systemRandom, clock: systemClock };
  return startAuditWriter({ ...options, store: auditWriterStore(database.sql) });
}

export async function run(): Promise<BenchResult> {
  const home = mkdtempSync(path.join(tmpdir(), 'strongroom-bench-audit-'));
  const server = await startEmbedded({ home });
  const opened: Database[] = [];
  const children: Child[] = [];
  const openAs = async (role: 'gateway' | 'worker' | 'owner') => {
    const database = await openDatabase({ ...server.connection(role), role, poolSize: role === 'owner' ? 16 : 4 });
    opened.push(database);
    return database;
  };
  try {
    await migrate(server.connection('owner'));
    const owner = await openAs('owner');
    const worker = await openAs('worker');
    const single = await startWriter(await openAs('gateway'));
    const file = await fileAppender(path.join(home, 'peer.log'));
    const locked = await lockedChain(owner);
    for (let i = 0; i < PROCESSES; i++) children.push(await startChild(server.connection('gateway')));

    const rates = { file: [] as number[], one: [] as number[], four: [] as number[], locked: [] as number[] };
    const sides: Record<keyof typeof rates, (ms: number) => Promise<number>> = {
      file: (ms) => rateOf(CALLERS, ms, file.append),
      one: (ms) => rateOf(CALLERS, ms, append(single)),
      four: async (ms) => sum(await Promise.all(children.map((child) => child.go(CALLERS / PROCESSES, ms)))),
      locked: (ms) => rateOf(CALLERS, ms, locked),
    };
    const names = Object.keys(rates) as (keyof typeof rates)[];
    for (const side of names) await sides[side](side === 'four' ? WARM_UP_MS : WARM_UP_MS / PROCESSES);
    for (let round = 0; round < ROUNDS; round++) {
      for (const side of names) rates[side].push(await sides[side](ROUND_MS));
    }
    const alone = await rateOf(1, LONG_MS, append(single));
    const catchUp = await sequenceAll(worker);
    const besides = await withSequencer(worker, single);
    const sizes = await bytesPerEntry(owner, worker);
    await single.close();
    await file.close();

    const [fileRate, one, four, lockedRate] = [rates.file, rates.one, rates.four, rates.locked].map(undisturbed) as [
      number,
      number,
      number,
      number,
    ];
    return {
      goals: [
        {
          name: 'one process, 64 callers, beside a batched file append',
          measured: one / fileRate,
          unit: 'x',
          bound: 0.35,
          direction: 'at_least',
        },
        {
          name: 'one process, 64 callers, beside "lock, read head, insert"',
          measured: one / lockedRate,
          unit: 'x',
          bound: 15,
          direction: 'at_least',
        },
        {
          name: 'the same callers over 4 processes',
          measured: four / one,
          unit: 'x',
          bound: 0.75,
          direction: 'at_least',
        },
        {
          name: 'entries without an index when writing stops',
          measured: besides.backlogSeconds,
          unit: 's of writing',
          bound: 1,
          direction: 'at_most',
        },
      ],
      figures: {
        entriesPerSecond: {
          file: Math.round(fileRate),
          oneProcess: Math.round(one),
          fourProcesses: Math.round(four),
          lockedChain: Math.round(lockedRate),
          oneCallerAlone: Math.round(alone),
          oneProcessBesideSequencer: Math.round(besides.rate),
          sequencerCatchingUp: Math.round(catchUp),
        },
        medians: Object.fromEntries(Object.entries(rates).map(([side, each]) => [side, Math.round(median(each))])),
        rounds: Object.fromEntries(Object.entries(rates).map(([side, each]) => [side, each.map(Math.round)])),
        bytesOnDiskPerEntry: sizes,
      },
    };
  } finally {
    for (const child of children) child.end();
    await Promise.all(opened.map((database) => database.close()));
    await server.stop();
    rmSync(home, { recursive: true, force: true });
  }
}

async function sequencerOf(worker: Database) {
  const lease = await leaseSequencer(worker);
  if (lease === null) throw new Error('somebody else sequences');
  const signer = createSigner(logOrigin(DEPLOYMENT), SIGNING_KEY);
  const onGap = async () => {
    throw new Error('the log has a gap');
  };
  return { lease, sequencer: await loadSequencer({ store: lease.store, signer, onGap }) };
}

const SIGNING_KEY = generateKeyPairSync('ed25519').privateKey;

/** Everything that was written so far; entries per second. */
async function sequenceAll(worker: Database): Promise<number> {
  const { lease, sequencer } = await sequencerOf(worker);
  const began = performance.now();
  let total = 0;
  for (let more = true; more; ) {
    const step = await sequencer.step();
    total += step.sequenced;
    more = step.sequenced > 0;
  }
  await lease.release();
  return total / ((performance.now() - began) / 1000);
}

/** Writing and sequencing at once, in the same process: less than a deployment has. */
async function withSequencer(worker: Database, writer: AuditWriter): Promise<{ rate: number; backlogSeconds: number }> {
  const { lease, sequencer } = await sequencerOf(worker);
  let writing = true;
  const sequencing = (async () => {
    while (writing) {
      const { more } = await sequencer.step();
      if (!more) await new Promise((resolve) => setTimeout(resolve, 500));
    }
  })();
  const rate = await rateOf(CALLERS, LONG_MS, append(writer));
  writing = false;
  await sequencing;
  let backlog = 0;
  for (let more = true; more; ) {
    const { sequenced } = await sequencer.step();
    backlog += sequenced;
    more = sequenced > 0;
  }
  await lease.release();
  return { rate, backlogSeconds: backlog / rate };
}

async function bytesPerEntry(owner: Database, worker: Database) {
  const { rows } = await worker.sql.query<{ entries: number; groups: number; callers: number }>(
    'select sum(count)::bigint as entries, count(*) as groups from audit_groups',
  );
  const { entries, groups } = rows[0] as { entries: number; groups: number };
  const size = async (table: string) => {
    const { rows: sized } = await owner.sql.query<{ bytes: number }>(
      'select pg_total_relation_size($1::regclass) as bytes',
      [table],
    );
    return (sized[0] as { bytes: number }).bytes;
  };
  const perEntry = async (table: string) => Number(((await size(table)) / entries).toFixed(2));
  return {
    entries,
    entriesPerGroup: Number((entries / groups).toFixed(1)),
    groupsTable: await perEntry('audit_groups'),
    runsTable: await perEntry('audit_runs'),
    checkpointsTable: await perEntry('audit_checkpoints'),
  };
}

interface Child {
  go(callers: number, ms: number): Promise<number>;
  end(): void;
}

/** A writer in a process of its own. The password travels over its standard input. */
async function startChild({ password, ...where }: ConnectionOptions): Promise<Child> {
  const child: ChildProcess = spawn(process.execPath, [import.meta.filename, '--writer'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout as NonNullable<ChildProcess['stdout']> })[Symbol.asyncIterator]();
  const say = (line: object) => child.stdin?.write(`${JSON.stringify(line)}\n`);
  say({ ...where, password: password.reveal() });
  await lines.next();
  return {
    async go(callers, ms) {
      say({ callers, ms });
      return Number((await lines.next()).value);
    },
    end: () => child.stdin?.end(),
  };
}

async function serveAsChild(): Promise<void> {
  let writer: AuditWriter | null = null;
  let database: Database | null = null;
  for await (const line of createInterface({ input: process.stdin })) {
    const said = JSON.parse(line);
    if (writer === null) {
      database = await openDatabase({ ...said, password: new Secret(said.password), role: 'gateway', poolSize: 2 });
      writer = await startWriter(database);
      console.log('ready');
    } else {
      console.log(await rateOf(said.callers, said.ms, append(writer)));
    }
  }
  await writer?.close();
  await database?.close();
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

/**
 * The mean of a side's best quarter. Other programs can only slow a side down, and
 * slow one of many processes on few cores more than a single one; the medians stand
 * beside it.
 */
function undisturbed(numbers: readonly number[]): number {
  const best = [...numbers].sort((a, b) => b - a).slice(0, Math.ceil(numbers.length / 4));
  return sum(best) / best.length;
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] as number;
}

if (import.meta.main) {
  if (process.argv.includes('--writer')) await serveAsChild();
  else console.log(JSON.stringify(await run(), null, 2));
}
