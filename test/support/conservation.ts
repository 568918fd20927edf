import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Admission } from '../../src/access/admission.ts';
import { DEV_FILES } from '../../src/config.ts';
import { dataKeyIdOf, open } from '../../src/envelope/envelope.ts';
import { Keyring } from '../../src/envelope/keyring.ts';
import { fileKms } from '../../src/envelope/kms-file.ts';
import { dataKeyRows } from '../../src/store/keys.ts';
import type { CustodyState, StoredRecord } from '../../src/store/records.ts';
import type { Kit } from './strongroom.ts';

/**
 * The law of custody, checked from outside: what is stored is opened with the key
 * file, and what is really so is asked of the simulator.
 *
 * - A record that is shown as `active` holds the live token of its item.
 * - A live item is held by an active record, or named: by a record in another
 *   state, or by an exchange that is not done.
 * - A `removed` record holds no ciphertext, and its item is gone.
 * - `rotating` and `removing` last no longer than an open operation.
 * - Every version that is stored has its entry in the audit log, and what was
 *   intended there was settled, refused or called uncertain.
 */

export interface HeldRecord {
  readonly recordId: string;
  readonly itemId: string | null;
  readonly state: CustodyState;
  readonly version: number;
  /** Of the token that the stored ciphertext opens to; null when there is none. */
  readonly tokenSha256: string | null;
}

export interface Custody {
  readonly records: readonly HeldRecord[];
  /** What breaks the law, in words. Empty when it holds. */
  readonly breaches: readonly string[];
}

interface Truth {
  readonly items: readonly {
    readonly item_id: string;
    readonly state: 'pending' | 'live' | 'removed';
    readonly access_token_sha256: string | null;
  }[];
}

type Row = Pick<StoredRecord, 'recordId' | 'itemId' | 'state' | 'version' | 'kind' | 'plaidClientId' | 'sealed'> & {
  readonly open: boolean;
  readonly uncertain: boolean;
};

type Installation = Pick<Kit, 'home' | 'config' | 'database' | 'simulator' | 'entries'>;

export interface Exceptions {
  /** Items that were ended or rotated behind our back: nobody here can know yet. */
  readonly endedOutside?: ReadonlySet<string>;
}

/** Looks once. What is under way may break the law for a moment; see {@link assertConserved}. */
export async function custodyOf(kit: Installation, { endedOutside = new Set() }: Exceptions = {}): Promise<Custody> {
  const owner = await kit.database.open('owner', { poolSize: 1 });
  try {
    const { rows } = await owner.sql.query<Row>(
      `select record_id as "recordId", item_id as "itemId", state, version, kind,
              plaid_client_id as "plaidClientId", sealed,
              exists (select from operations o where o.record_id = s.record_id and o.state = 'open') as open,
              exists (select from operations o where o.record_id = s.record_id and o.state = 'uncertain') as uncertain
         from secrets s where kind = 'access'`,
    );
    const { rows: waiting } = await owner.sql.query<{ count: number }>(
      `select count(*) as count from exchanges where state <> 'done'`,
    );
    const keyring = new Keyring({
      kms: await fileKms(join(kit.home, DEV_FILES.kek)),
      rows: dataKeyRows(owner.sql),
      deploymentId: kit.config.deployment.id,
      environment: kit.config.deployment.environment,
    });
    const records: HeldRecord[] = [];
    for (const row of rows) records.push({ ...row, tokenSha256: await tokenSha256(kit, keyring, row) });
    keyring.drop();

    const { items } = await kit.simulator.control<Truth>('GET', '/truth');
    const live = new Map(items.map((item) => [item.item_id, item.access_token_sha256]));
    const breaches: string[] = [];
    for (const [at, { itemId, state, tokenSha256: held, version }] of records.entries()) {
      const row = rows[at] as Row;
      const name = `item ${itemId} (version ${version}, ${state})`;
      const token = itemId === null ? undefined : live.get(itemId);
      if (state === 'active' && held !== token && !endedOutside.has(itemId ?? ''))
        breaches.push(`${name} is shown as active and holds a dead token`);
      if (state === 'removed' && (row.sealed !== null || token !== null))
        breaches.push(`${name} is live at Plaid or still has its ciphertext`);
      if ((state === 'rotating' || state === 'removing') && !row.open) breaches.push(`${name} waits for nobody`);
      if (state === 'uncertain' && !row.uncertain) breaches.push(`${name} is not listed as uncertain`);
      if (row.open && state !== 'rotating' && state !== 'removing') breaches.push(`${name} has an operation open`);
    }
    const named = new Set(records.map(({ itemId }) => itemId));
    const orphans = items.filter((item) => item.access_token_sha256 !== null && !named.has(item.item_id));
    if (orphans.length > Number(waiting[0]?.count))
      breaches.push(`${orphans.length} live items, and only ${waiting[0]?.count} exchanges that are not done`);
    return { records, breaches };
  } finally {
    await owner.close();
  }
}

/**
 * Asserts the law once nothing is under way any more: waits until it holds, or
 * fails with what still breaks it.
 *
 * @param options - `patienceMs`: default 15 s. `settled`: no operation may be open
 *   any more, and the audit log has to say everything; default true.
 */
export async function assertConserved(
  kit: Installation,
  { patienceMs = 15_000, settled = true, ...exceptions }: Exceptions & { patienceMs?: number; settled?: boolean } = {},
): Promise<readonly HeldRecord[]> {
  const deadline = performance.now() + patienceMs;
  for (let pause = 20; ; pause = Math.min(2 * pause, 500)) {
    const { records, breaches } = await custodyOf(kit, exceptions);
    const unsaid = settled ? [...underWay(records), ...(await unsaidOf(kit, records))] : [];
    const wrong = [...breaches, ...unsaid];
    if (wrong.length === 0) return records;
    if (performance.now() > deadline) assert.deepEqual(wrong, []);
    await sleep(pause);
  }
}

function underWay(records: readonly HeldRecord[]): string[] {
  return records
    .filter(({ state }) => state === 'rotating' || state === 'removing')
    .map(({ itemId, state }) => `item ${itemId} is ${state} and stays so`);
}

/** What the audit log owes: a sealing for every version that is stored, an end for every beginning. */
async function unsaidOf(kit: Installation, records: readonly HeldRecord[]): Promise<string[]> {
  const entries = await kit.entries();
  const sealed = new Set(
    entries.filter(({ kind }) => kind === 'record.sealed').map(({ record, version }) => `${record} ${version}`),
  );
  const unsaid = records
    .filter(({ state, recordId, version }) => state !== 'removed' && !sealed.has(`${recordId} ${version}`))
    .map(({ itemId, version }) => `no record.sealed for version ${version} of item ${itemId}`);
  for (const kind of ['rotation', 'removal']) {
    const ended = new Set(
      entries
        .filter((entry) => String(entry.kind).startsWith(`${kind}.`) && entry.kind !== `${kind}.intended`)
        .map(({ operation }) => operation),
    );
    for (const { operation, kind: what } of entries)
      if (what === `${kind}.intended` && !ended.has(operation)) unsaid.push(`${kind} ${operation} has no end`);
  }
  const count = (...kinds: string[]) => entries.filter(({ kind }) => kinds.includes(String(kind))).length;
  if (count('exchange.intended') > count('exchange.settled', 'exchange.uncertain'))
    unsaid.push('an exchange has no end');
  return unsaid;
}

async function tokenSha256(kit: Installation, keyring: Keyring, row: Row): Promise<string | null> {
  if (row.sealed === null) return null;
  const binding = {
    deploymentId: kit.config.deployment.id,
    plaidEnvironment: kit.config.plaid.environment,
    plaidClientId: row.plaidClientId,
    recordId: row.recordId,
    kind: row.kind,
    version: row.version,
  };
  // Nobody was admitted: this is the test looking, with the key file in its hand.
  const token = open(await keyring.get(dataKeyIdOf(row.sealed)), binding, row.sealed, null as unknown as Admission);
  return createHash('sha256').update(token.reveal()).digest('hex');
}
