import { setTimeout as sleep } from 'node:timers/promises';
import { presetPolicy } from '../../src/access/presets.ts';
import type { Installation, Running } from './installation.ts';
import { check } from './kill-checks.ts';
import { type Book, type Caller, type Dice, diceOf, type Held, openDoor, work } from './kill-load.ts';
import { runProgram } from './program.ts';

/**
 * kill -9 at a random moment under load, a start on the same home, and then
 * everything that was acknowledged has to be there: once, and as it was.
 *
 * Each group of rounds has an installation of its own and a seed of its own, from
 * which callers, faults and moments follow. The processes' own timing does not.
 */

export interface Report {
  rounds: number;
  /** Calls that were answered, and calls that the kill cut off. */
  answered: number;
  cutOff: number;
  items: number;
  rotations: number;
  removals: number;
  /** Possible orphans, named as such. */
  orphans: number;
  /** Items whose outcome is named unknown. */
  uncertain: number;
  /** Seen with the claim of a dead caller on them. */
  parked: number;
  /** Starts that were killed too. */
  startsKilled: number;
}

export interface KillOptions {
  readonly installation: Installation;
  readonly seed: string;
  readonly rounds: number;
  /** Takes some ten seconds more where the last round leaves a claim that still stands. */
  readonly patient?: boolean;
  /** Told after every round. */
  readonly onRound?: (line: string) => void;
}

/** @throws Error that names the seed and the round, for the first thing that does not hold. */
export async function killRounds({
  installation,
  seed,
  rounds,
  patient = false,
  onRound,
}: KillOptions): Promise<Report> {
  const dice = diceOf(seed);
  const report: Report = {
    ...{ rounds: 0, answered: 0, cutOff: 0, items: 0, rotations: 0, removals: 0 },
    ...{ orphans: 0, uncertain: 0, parked: 0, startsKilled: 0 },
  };
  let round = 0;
  try {
    let running = await installation.launch().ready;
    const book: Book = { callers: await callersOf(installation, running), links: [], held: new Map() };
    for (round = 1; round <= rounds; round++) {
      await loadAndKill(installation, running, book, dice);
      await ageLeases(installation, dice() < 0.7);
      if (dice() < 0.25) {
        const { program } = installation.launch();
        await sleep(dice() * 900);
        await program.kill('SIGKILL');
        report.startsKilled++;
      }
      running = await installation.launch().ready;
      await swept(installation);
      const door = openDoor(running.gatewayUrl);
      const findings = await check(installation, running, door, book, patient && round === rounds);
      await door.agent.close();
      tally(report, book, findings);
      onRound?.(`round ${round} of seed ${seed}: ${JSON.stringify(report)}`);
    }
    await doctorIsContent(installation);
    const { code } = await running.program.kill('SIGTERM');
    if (code !== 0) throw new Error(`SIGTERM ended it with ${code}: ${running.program.stderr()}`);
    return report;
  } catch (error) {
    throw new Error(`kill round ${round} of seed '${seed}': ${(error as Error).message}`, { cause: error });
  }
}

/** Six callers of two applications where addresses tell them apart, else four applications with one each. */
async function callersOf(installation: Installation, running: Running): Promise<Caller[]> {
  const sources = installation.knowsSources
    ? [
        ['192.0.2.1', '192.0.2.2', '192.0.2.3'],
        ['192.0.2.4', '192.0.2.5', '192.0.2.6'],
      ]
    : [[null], [null], [null], [null]];
  const policy = {
    ...presetPolicy('demo', ['0.0.0.0/0']),
    rate: { perSecond: 10_000, burst: 10_000 },
    budgets: { distinctItemsPerHour: 1_000_000, removalsPerDay: 1_000_000, rotationsPerDay: 1_000_000 },
  };
  const callers: Caller[] = [];
  for (const [n, addresses] of sources.entries()) {
    const { application, key } = await running.admin<{ application: { application_id: string }; key: string }>(
      'POST',
      '/applications',
      { name: `callers ${n + 1}`, policy },
    );
    for (const source of addresses) callers.push({ app: { id: application.application_id, key }, source, calls: [] });
  }
  return callers;
}

const REMOTE_STEPS = ['/item/public_token/exchange', '/item/access_token/invalidate', '/item/remove'];
const POINTS = ['before_commit', 'after_commit', 'mid_answer'];

async function loadAndKill({ control }: Installation, running: Running, book: Book, dice: Dice): Promise<void> {
  // A slower Plaid in some calls: more kills fall between its commit and ours.
  for (const endpoint of REMOTE_STEPS) {
    const point = POINTS[Math.floor(dice() * POINTS.length)];
    const delay = {
      endpoint,
      kind: 'delay',
      ms: 10 + Math.floor(dice() * 80),
      times: 4,
      after: Math.floor(dice() * 4),
      point,
    };
    if (dice() < 0.7) await control('POST', '/faults', { ...delay, ...(point === 'mid_answer' ? { bytes: 40 } : {}) });
  }
  const seeds = book.callers.map(() => String(dice()));
  const working = book.callers.map((caller, n) => {
    const door = openDoor(running.gatewayUrl);
    return work(door, caller, book, diceOf(seeds[n] as string));
  });
  // Counted in answers, so that a slow machine sees as much as a fast one; then anywhere within a call.
  const answered = () => book.callers.flatMap(({ calls }) => calls).filter(({ answer }) => answer !== null).length;
  const enough = answered() + Math.floor(dice() * 150);
  let over = false;
  const ended = Promise.all(working).finally(() => {
    over = true;
  });
  ended.catch(() => {});
  for (const deadline = performance.now() + 5_000; !over && answered() < enough; await sleep(2)) {
    if (performance.now() > deadline) break;
  }
  await sleep(dice() * 15);
  await running.program.kill('SIGKILL');
  await ended;
}

/**
 * Waits until the database has noticed that the callers' process is gone, then
 * lets time pass for what it had claimed: leases run on the database clock.
 * Exchanges always; rotations and removals only when `all` is set, so that some
 * rounds see a claim that still stands.
 */
async function ageLeases({ query }: Installation, all: boolean): Promise<void> {
  await until('the sessions of the killed process ended', async () => {
    const [row] = await query<{ alive: number }>(
      `select count(*)::int as alive from pg_stat_activity
        where datname = current_database() and application_name like 'strongroom %'`,
    );
    return row?.alive === 0;
  });
  const past = `lease_until = now() - interval '1 second' where state = 'open'`;
  await query(`update strongroom.exchanges set ${past}`);
  if (all) await query(`update strongroom.operations set ${past}`);
  // What the dead process had no time to write into the audit log, the worker writes after a while.
  await query(`update strongroom.secrets set changed_at = now() - interval '1 minute' where unwitnessed`);
}

/** The worker names what was left open with its lease over, and tells the log what was not told; it begins at start. */
async function swept({ query }: Installation): Promise<void> {
  await until('the worker named what was left open', async () => {
    const [row] = await query<{ open: number; untold: number }>(
      `select (select count(*)::int from strongroom.operations where state = 'open' and lease_until < now()) as open,
              (select count(*)::int from strongroom.secrets where unwitnessed) as untold`,
    );
    return row?.open === 0 && row.untold === 0;
  });
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 20_000; !(await holds()); await sleep(20)) {
    if (performance.now() > deadline) throw new Error(`not within 20 s: ${what}`);
  }
}

/** Nobody has touched the database: a crash alone must not look as if somebody had. */
async function doctorIsContent({ home, named }: Installation): Promise<void> {
  const { stdout, stderr } = await runProgram(['doctor', '--json', ...named], { home });
  const { checks } = JSON.parse(stdout || '{"checks":[]}') as { checks: { name: string; outcome: string }[] };
  if (checks.length === 0) throw new Error(`doctor failed: ${stderr}`);
  // Outcomes that are not known are what a killed process leaves, and are for a person to look at.
  const bad = checks.filter(({ name, outcome }) => outcome === 'finding' && name !== 'operations');
  if (bad.length > 0) throw new Error(`doctor found: ${JSON.stringify(bad)}`);
}

function tally(report: Report, book: Book, findings: { orphans: number; uncertain: number; parked: number }): void {
  const calls = book.callers.flatMap((caller) => caller.calls);
  const held: readonly Held[] = [...book.held.values()];
  report.rounds++;
  report.answered = calls.filter(({ answer }) => answer !== null).length;
  report.cutOff = calls.length - report.answered;
  report.items = held.length;
  report.rotations = held.reduce((sum, { rotations }) => sum + rotations, 0);
  report.removals = held.filter(({ state }) => state === 'removed').length;
  report.orphans = findings.orphans;
  report.uncertain = findings.uncertain;
  report.parked += findings.parked;
}
