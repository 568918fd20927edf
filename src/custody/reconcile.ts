import { policyDigest } from '../access/policy.ts';
import type { ParsedEntry } from '../audit/entry.ts';
import type { RecordId } from '../base/ids.ts';
import { type ApplicationRow, keyChecks, listApplications } from '../store/applications.ts';
import { entriesOfKinds, firstKeptEntry } from '../store/audit-entries.ts';
import { type RecordDigest, recordDigests } from '../store/records.ts';
import type { Sql } from '../store/sql.ts';

/**
 * Holds the tables against the audit log: whoever can write to the database can
 * put back an old row, move it to another owner or edit a policy, and no
 * ciphertext shows that. The log does, since it says what was sealed, for whom,
 * and who changed what. It needs no key and opens nothing.
 *
 * What the log says is taken as it is. Whether the log itself is whole is asked
 * of the verifier.
 */

export type DriftCode =
  /** The row has an older version than the log. */
  | 'rolled_back'
  /** Another ciphertext than the one that was sealed for this version. */
  | 'altered'
  /** Owner, Plaid client, item or handle are not those of the sealing. */
  | 'moved'
  /** The log has two ciphertexts for one version, or two owners. */
  | 'contradicted'
  /** No entry says that this version was ever sealed. */
  | 'never_sealed'
  /** The log has it, the table has not. */
  | 'missing'
  /** It was shredded, and there is a ciphertext again. */
  | 'revived'
  /** The ciphertext is gone, and no entry says so. */
  | 'emptied'
  /** The policy is not the one that the last change set. */
  | 'policy'
  /** A key that nobody issued. */
  | 'key'
  /** An application that nobody added, or that was shut out and is not. */
  | 'application';

export interface Drift {
  readonly code: DriftCode;
  /** A record id or an application id. */
  readonly id: string;
  /** One sentence for people. */
  readonly says: string;
}

export interface Reconciliation {
  readonly compared: number;
  /** At most 1000. */
  readonly drifts: readonly Drift[];
  readonly driftsTotal: number;
  /** Rows whose entries may be among those that were archived and dropped. */
  readonly unproven: number;
}

const MOST_DRIFTS = 1_000;
/** Records that are held in memory at once, some 40 MB; each page reads the log once. */
const PAGE_RECORDS = 100_000;

/** Compares every record with its last entries. Reads rows first, so that what is sealed meanwhile shows as a drift. */
export async function reconcileRecords(sql: Sql, pageRecords = PAGE_RECORDS): Promise<Reconciliation> {
  const archived = (await firstKeptEntry(sql)) > 0;
  const found = new Drifts();
  let [compared, unproven] = [0, 0];
  for (let after: string | null = null, last = false; !last; ) {
    const page: RecordDigest[] = await recordDigests(sql, after, pageRecords);
    last = page.length < pageRecords;
    const [from, to]: [string | null, string | null] = [after, last ? null : (page.at(-1)?.recordId ?? null)];
    const accounts = await accountsOf(sql, (id) => (from === null || id > from) && (to === null || id <= to));
    for (const row of page) {
      const account = accounts.get(row.recordId);
      accounts.delete(row.recordId);
      if (account === undefined && archived) unproven++;
      else for (const drift of driftsOf(row, account)) found.add(drift);
    }
    for (const [id, account] of accounts) {
      if (!account.shredded)
        found.add({ code: 'missing', id, says: `Version ${account.version} was sealed, and there is no such row.` });
    }
    compared += page.length;
    after = to;
  }
  return { compared, drifts: found.list, driftsTotal: found.total, unproven };
}

/** What the log says of one record. */
interface Account {
  /** The newest version that was sealed; 0 when only its end is known. */
  version: number;
  ciphertextSha256: string;
  rowSha256: string | null;
  application: string | null;
  shredded: boolean;
  contradicted: boolean;
}

async function accountsOf(sql: Sql, wanted: (id: string) => boolean): Promise<Map<RecordId, Account>> {
  const accounts = new Map<RecordId, Account>();
  for await (const { kind, fields } of entriesOfKinds(sql, ['record.sealed', 'record.shredded'])) {
    const id = String(fields.record) as RecordId;
    if (!wanted(id)) continue;
    let account = accounts.get(id);
    if (account === undefined) {
      account = {
        version: 0,
        ciphertextSha256: '',
        rowSha256: null,
        application: null,
        shredded: false,
        contradicted: false,
      };
      accounts.set(id, account);
    }
    if (kind === 'record.shredded') account.shredded = true;
    else tellSealing(account, fields);
  }
  return accounts;
}

/** Entries of one record may come in any order: they are of several writers. */
function tellSealing(account: Account, fields: ParsedEntry['fields']): void {
  const version = Number(fields.version);
  const ciphertext = String(fields.ciphertext_sha256);
  const row = typeof fields.row_sha256 === 'string' ? fields.row_sha256 : null;
  if (version === account.version && ciphertext !== account.ciphertextSha256) account.contradicted = true;
  if (row !== null && account.rowSha256 !== null && row !== account.rowSha256) account.contradicted = true;
  if (row !== null) {
    account.rowSha256 ??= row;
    account.application ??= typeof fields.application === 'string' ? fields.application : null;
  }
  if (version > account.version) {
    account.version = version;
    account.ciphertextSha256 = ciphertext;
  }
}

/** What is wrong with one row, worst first; nothing when it is as the log says. Pure. */
function* driftsOf(row: RecordDigest, account: Account | undefined): Iterable<Drift> {
  const { recordId: id, version, ciphertextSha256, rowSha256, applicationId } = row;
  const drift = (code: DriftCode, says: string): Drift => ({ code, id, says });
  if (account === undefined) {
    yield drift('never_sealed', `No entry says that version ${version} was ever sealed.`);
    return;
  }
  if (account.contradicted) {
    yield drift(
      'contradicted',
      'The log has two accounts of one version: somebody changed the row, and it was sealed or told again.',
    );
  }
  if (ciphertextSha256 === null) {
    if (!account.shredded)
      yield drift('emptied', `The ciphertext of version ${version} is gone, and no entry says that it was shredded.`);
  } else if (account.shredded) {
    yield drift('revived', `It was shredded, and version ${version} is there again.`);
  } else if (version < account.version) {
    yield drift('rolled_back', `The row has version ${version}; version ${account.version} was sealed.`);
  } else if (version > account.version) {
    yield drift(
      'never_sealed',
      `No entry says that version ${version} was ever sealed; the last one is ${account.version}.`,
    );
  } else if (ciphertextSha256 !== account.ciphertextSha256) {
    yield drift('altered', `Version ${version} has another ciphertext than the one that was sealed.`);
  }
  if (account.rowSha256 !== null && account.rowSha256 !== rowSha256) {
    const owner = account.application !== null && account.application !== applicationId;
    yield drift(
      'moved',
      owner
        ? `It belongs to application ${applicationId}; it was sealed for ${account.application}.`
        : 'Its kind, Plaid client, item or handle is not the one of the sealing.',
    );
  }
}

/** What the log says of one application. */
interface Told {
  added: boolean;
  disabled: boolean;
  /** From key id to check. */
  keys: Map<string, string>;
  policy: { at: string; digest: string; previous: string | null } | null;
}

/** Compares policies, keys and the end of applications with what was changed through the admin API. */
export async function reconcileApplications(sql: Sql): Promise<Reconciliation> {
  const archived = (await firstKeptEntry(sql)) > 0;
  const rows = await listApplications(sql);
  const keys = await keyChecks(sql);
  const told = new Map<string, Told>();
  for await (const { kind, at, fields } of entriesOfKinds(sql, [
    'application.created',
    'application.policy_changed',
    'application.key_rotated',
    'application.disabled',
  ])) {
    const id = String(fields.application);
    const about = told.get(id) ?? { added: false, disabled: false, keys: new Map(), policy: null };
    told.set(id, about);
    if (kind === 'application.created') about.added = true;
    if (kind === 'application.disabled') about.disabled = true;
    if (typeof fields.key === 'string' && typeof fields.key_check === 'string')
      about.keys.set(fields.key, fields.key_check);
    const { policy_sha256: digest, previous_sha256: previous } = fields;
    if (typeof digest === 'string' && at >= (about.policy?.at ?? '')) {
      about.policy = { at, digest, previous: typeof previous === 'string' ? previous : null };
    }
  }
  const found = new Drifts();
  let unproven = 0;
  for (const row of rows) {
    const about = told.get(row.id);
    if (about?.added !== true && archived) unproven++;
    for (const drift of applicationDrifts(
      row,
      keys.filter((key) => key.applicationId === row.id),
      about,
      archived,
    ))
      found.add(drift);
  }
  return { compared: rows.length, drifts: found.list, driftsTotal: found.total, unproven };
}

function* applicationDrifts(
  row: ApplicationRow,
  keys: readonly { readonly keyId: string; readonly keyCheck: string }[],
  told: Told | undefined,
  archived: boolean,
): Iterable<Drift> {
  const drift = (code: DriftCode, says: string): Drift => ({ code, id: row.id, says });
  if (told?.added !== true && !archived)
    yield drift('application', 'No entry says that anybody added this application.');
  if (told === undefined) return;
  if (told.disabled && row.disabledAt === null) yield drift('application', 'It was shut out for good, and is not.');
  const digest = policyDigest(row.policy);
  if (told.policy !== null && digest !== told.policy.digest) {
    yield drift(
      'policy',
      digest === told.policy.previous
        ? 'Its policy is the one before the last change: that change failed half-way, or somebody put the old one back.'
        : 'Its policy is not the one that was last set.',
    );
  }
  for (const { keyId, keyCheck } of keys) {
    const issued = told.keys.get(keyId);
    if (issued === undefined && !archived) yield drift('key', `Nobody issued its key ${keyId}.`);
    if (issued !== undefined && issued !== keyCheck)
      yield drift('key', `Its key ${keyId} is not the one that was issued.`);
  }
}

class Drifts {
  readonly list: Drift[] = [];
  total = 0;

  add(drift: Drift): void {
    this.total++;
    if (this.list.length < MOST_DRIFTS) this.list.push(drift);
  }
}
