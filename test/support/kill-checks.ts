import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ParsedEntry } from '../../src/audit/entry.ts';
import { parseLine } from '../../src/audit/export-lines.ts';
import { run } from '../../src/cli/main.ts';
import type { Installation, Running } from './installation.ts';
import {
  type Book,
  type Call,
  type Caller,
  call,
  type Door,
  exchange,
  type Held,
  read,
  unexplained,
} from './kill-load.ts';

/**
 * What must hold after a crash, whatever was under way: compared are the book of
 * those who called, the database, what is really so at Plaid, and the audit log.
 */

export interface Findings {
  /** Exchanges that were named uncertain: possible orphans. */
  orphans: number;
  /** Items that say that their outcome is unknown. */
  uncertain: number;
  /** Items whose claim has not run out yet, seen as such. */
  parked: number;
}

interface Row {
  readonly record_id: string;
  readonly item_id: string;
  readonly version: number;
  readonly state: string;
  readonly ciphertext_sha256: string | null;
  /** Whether an operation on it is open, with its lease running. */
  readonly claimed: boolean;
}

/**
 * Everything that must hold; throws at the first thing that does not.
 *
 * @param patient - Also asks for an item with a dead caller's claim on it, for
 *   which the gateway waits some ten seconds.
 */
export async function check(
  installation: Installation,
  running: Running,
  door: Door,
  book: Book,
  patient: boolean,
): Promise<Findings> {
  const { last_seq: before } = await installation.control<Truth>('GET', `/truth?after=${Number.MAX_SAFE_INTEGER}`);
  for (const link of book.links.filter(({ doubt }) => doubt)) await exchange(door, link.caller, link, book);
  // What was acknowledged stays so: the same answer, and nobody asks Plaid again.
  for (const link of book.links.slice(-5)) await exchange(door, link.caller, link, book);

  const rows = await records(installation);
  const byItem = new Map(rows.map((row) => [row.item_id, row]));
  assert.equal(byItem.size, rows.length, 'an item stands in the database twice');
  const findings: Findings = { orphans: book.links.filter(({ orphan }) => orphan).length, uncertain: 0, parked: 0 };
  for (const item of book.held.values()) {
    const row = byItem.get(item.itemId);
    assert.ok(row !== undefined, `item ${item.itemId} was acknowledged and is not in the database`);
    await checkItem(door, item, row);
    if (item.state === 'uncertain') findings.uncertain++;
    if (item.state === 'parked') findings.parked++;
  }

  const claimed = [...book.held.values()].find(({ state }) => state === 'parked');
  if (patient && claimed !== undefined) {
    const answer = await call(door, claimed.caller, '/accounts/get', { access_token: claimed.handle });
    if (answer.body.error_code !== 'TOKEN_ROTATING') throw unexplained('a read of a claimed item', answer);
  }

  const truth = await installation.control<Truth>('GET', `/truth?after=${before}`);
  checkTruth(truth, rows, book);
  const entries = await auditLog(installation, running);
  checkAudit(entries, book, byItem);
  return findings;
}

/** Reads every item; what was cut off is explained by the state of its record, or the item is not served. */
async function checkItem(door: Door, item: Held, row: Row): Promise<void> {
  const { rotation, removal } = item.doubt;
  const cutOff = rotation + removal > 0;
  if (row.state === 'rotating' || row.state === 'removing') {
    assert.ok(cutOff, `a record is ${row.state} and nobody was changing it`);
    assert.ok(row.claimed, `a record is ${row.state} and no operation says why`);
    item.state = 'parked';
    return;
  }
  const least = 1 + item.rotations;
  // A call that was cut off after its commit has rotated without being acknowledged.
  const most = least + rotation;
  assert.ok(row.version >= least && row.version <= most, `version ${row.version} after ${item.rotations} rotations`);
  item.rotations = row.version - 1;
  item.doubt.rotation = 0;
  item.doubt.removal = 0;

  if (item.state === 'removed') assert.equal(row.state, 'removed', 'an acknowledged removal');
  else if (row.state === 'removed') assert.ok(removal > 0, 'removed by nobody');
  else if (row.state === 'uncertain') assert.ok(cutOff || item.state === 'uncertain', 'uncertain without a reason');
  else assert.equal(row.state, 'active');
  item.state = row.state as 'active' | 'uncertain' | 'removed';

  if (item.state === 'active') {
    const answer = await read(door, item.caller, item);
    if (answer.status !== 200) throw unexplained('a read of an active item', answer);
    return;
  }
  const answer = await call(door, item.caller, '/accounts/get', { access_token: item.handle });
  const named = item.state === 'removed' ? 'TOKEN_REMOVED' : 'TOKEN_UNCERTAIN';
  if (answer.body.error_code !== named) throw unexplained(`a read of an item that is ${item.state}`, answer);
}

interface Truth {
  readonly items: readonly { item_id: string; state: string; access_token_sha256: string | null }[];
  readonly calls: readonly { endpoint: string; token_sha256: string | null; status: number | null }[];
  readonly last_seq: number;
}

/** What Strongroom believes, against what is so. */
function checkTruth({ items, calls }: Truth, rows: readonly Row[], book: Book): void {
  const real = new Map(items.map((item) => [item.item_id, item]));
  const read = new Set(
    calls.filter((one) => one.endpoint === '/accounts/get' && one.status === 200).map((one) => one.token_sha256),
  );
  const known = new Set([...book.held.values()].map(({ itemId }) => itemId));
  for (const row of rows) {
    const item = real.get(row.item_id);
    assert.ok(item !== undefined, 'a record of an item that Plaid never had');
    if (row.state === 'removed') assert.equal(item.state, 'removed', 'shredded, and alive at Plaid');
    if (row.state !== 'active') continue;
    assert.equal(item.state, 'live', 'shown as active, and dead at Plaid');
    // The calls of this check carried each stored token to Plaid: it is the one that is alive there.
    if (known.has(row.item_id)) assert.ok(read.has(item.access_token_sha256), 'the stored token is not the live one');
  }
  const held = new Set(rows.map((row) => row.item_id));
  const lost = items.filter((item) => item.state === 'live' && !held.has(item.item_id)).length;
  const named = book.links.filter(({ orphan }) => orphan).length;
  assert.ok(
    lost <= named,
    `${lost} items are live at Plaid without a record, and ${named} exchanges are named uncertain`,
  );
}

function records({ query }: Installation): Promise<Row[]> {
  return query<Row>(
    `select record_id::text, item_id, version, state, encode(sha256(sealed), 'hex') as ciphertext_sha256,
            exists (select from strongroom.operations o
                     where o.record_id = s.record_id and o.state = 'open' and o.lease_until > now()) as claimed
       from strongroom.secrets s where kind = 'access'`,
  );
}

/** Waits until everything written so far is signed, then exports, verifies and reads the log. */
export async function auditLog(installation: Installation, running: Running): Promise<ParsedEntry[]> {
  const sizes = async () =>
    (
      await installation.query<{ written: number; signed: number }>(
        `select (select coalesce(sum(count), 0)::int from strongroom.audit_groups) as written,
                (select coalesce(max(size), 0)::int from strongroom.audit_checkpoints) as signed`,
      )
    )[0] as { written: number; signed: number };
  const { written } = await sizes();
  for (const deadline = performance.now() + 30_000; (await sizes()).signed < written; await sleep(50)) {
    assert.ok(performance.now() < deadline, 'the audit log was not signed within 30 s');
  }
  const folder = join(installation.home, 'audit-export');
  await command('audit', 'export', '--out', folder, '--admin-url', running.adminUrl, '--token-file', running.tokenFile);
  const { headsFile } = installation;
  const heads = existsSync(headsFile) && statSync(headsFile).size > 0 ? ['--head', headsFile] : [];
  await command('audit', 'verify', folder, ...heads);
  return readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .sort()
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
    .flatMap((text) => {
      const line = parseLine(text);
      if (line?.type !== 'entry') return [];
      assert.ok(line.entry !== null, 'an entry that cannot be read');
      return [line.entry];
    });
}

/** The command line in this process. */
async function command(...argv: string[]): Promise<void> {
  const said: Buffer[] = [];
  const stream = () => new PassThrough().on('data', (chunk: Buffer) => said.push(chunk));
  const code = await run(argv, { stdin: Readable.from([]), stdout: stream(), stderr: stream() });
  assert.equal(code, 0, `strongroom ${argv.slice(0, 2).join(' ')}: ${Buffer.concat(said)}`);
}

/** Refusals that are decided before anything is admitted. */
const DENIALS = new Set(['TOKEN_REMOVED', 'TOKEN_UNCERTAIN', 'TOKEN_ROTATING']);

/**
 * Every answered call has exactly one entry that admits or denies it, in the order
 * in which its caller made them; a call that was cut off has at most one.
 */
function checkAudit(entries: readonly ParsedEntry[], book: Book, byItem: ReadonlyMap<string, Row>): void {
  const decisions = new Map<string, Record<string, unknown>[]>();
  const requests = new Set<unknown>();
  const sealed = new Map<string, unknown>();
  for (const { kind, fields } of entries) {
    if (kind === 'access.admitted' || kind === 'access.denied') {
      const key = `${fields.application} ${fields.source}`;
      decisions.set(key, [...(decisions.get(key) ?? []), { kind, ...fields }]);
      assert.ok(!requests.has(fields.request), `two decisions on request ${fields.request}`);
      requests.add(fields.request);
    } else if (kind === 'record.sealed') {
      const place = `${fields.record} ${fields.version}`;
      // The worker may tell again what the dead process had told; never anything else.
      assert.equal(sealed.get(place) ?? fields.ciphertext_sha256, fields.ciphertext_sha256, `two accounts of ${place}`);
      sealed.set(place, fields.ciphertext_sha256);
    }
  }
  for (const caller of book.callers) {
    const key = `${caller.app.id} ${caller.source ?? '127.0.0.1'}`;
    compare(caller, decisions.get(key) ?? [], book, byItem);
    decisions.delete(key);
  }
  const strangers = [...decisions.keys()].filter((key) => book.callers.some(({ app }) => key.startsWith(app.id)));
  assert.deepEqual(strangers, [], 'decisions on calls that nobody made');

  for (const { itemId, state } of book.held.values()) {
    const row = byItem.get(itemId) as Row;
    if (state !== 'active') continue;
    // The log knows every ciphertext: a row that was put back later would show.
    assert.equal(sealed.get(`${row.record_id} ${row.version}`), row.ciphertext_sha256, `version ${row.version}`);
  }
}

/** Lays the calls of one caller beside the decisions on them. */
function compare(
  caller: Caller,
  decisions: readonly Record<string, unknown>[],
  book: Book,
  byItem: ReadonlyMap<string, Row>,
): void {
  const name = caller.source ?? caller.app.id;
  const { calls } = caller;
  let furthest = { index: -1, why: '' };
  const amiss = (index: number, why: string): false => {
    if (index >= furthest.index) furthest = { index, why };
    return false;
  };

  // A cut-off call may have left its entry or not: both are tried. There is one such call a round.
  const laid = (index: number, at: number): boolean => {
    for (; index < calls.length; index++, at++) {
      const made = calls[index] as Call;
      const decision = decisions[at];
      const found = decision?.endpoint === made.path && recordFits(made, decision);
      if (made.answer === null) return (found && laid(index + 1, at + 1)) || laid(index + 1, at);
      const code = String(made.answer.body.error_code ?? '');
      const denied = DENIALS.has(code);
      if (!found || decision?.kind !== (denied ? 'access.denied' : 'access.admitted')) {
        return amiss(index, `${made.path} was answered, and the log has ${JSON.stringify(decision)} in its place`);
      }
      if (denied && decision.code !== code) return amiss(index, `${code} is in the log as ${decision.code}`);
    }
    return at === decisions.length || amiss(index, `${decisions.length - at} decisions more than calls`);
  };
  const recordFits = (made: Call, decision: Record<string, unknown>) => {
    const held = book.held.get(made.handle ?? '');
    return held === undefined || decision.records === byItem.get(held.itemId)?.record_id;
  };
  assert.ok(laid(0, 0), `call ${furthest.index} of ${name}: ${furthest.why}`);
}
