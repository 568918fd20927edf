import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Admission } from '../access/admission.ts';
import { covers } from '../access/admission.ts';
import type { EntryFields, EntryKind } from '../audit/kinds.ts';
import type { AuditWriter } from '../audit/writer.ts';
import type { Random } from '../base/clock.ts';
import { codeOf, type ErrorCode, StrongroomError } from '../base/errors.ts';
import { deploymentTag, formatHandle, type Handle, type PlaidEnvironment, type RecordId } from '../base/ids.ts';
import type { Secret } from '../base/secret.ts';
import { type DataKey, dataKeyIdOf, open, type RecordBinding, seal } from '../envelope/envelope.ts';
import type { Keyring } from '../envelope/keyring.ts';
import { fingerprint, indexMac, recordHandleId } from '../envelope/macs.ts';
import {
  insertRecord,
  markWitnessed,
  type NewRecord,
  recordById,
  rowSha256,
  type StoredRecord,
} from '../store/records.ts';
import type { Database, Sql } from '../store/sql.ts';

/**
 * Records in and out: seals what Plaid hands out, opens what an admission covers,
 * and turns record ids into the handles that applications hold.
 *
 * The only place in custody where plaintext is made from ciphertext or ciphertext
 * from plaintext. It decides nothing: who may open what is the admission's matter.
 */

export interface VaultParts {
  readonly database: Database;
  readonly keyring: Keyring;
  readonly audit: AuditWriter;
  readonly random: Random;
  readonly deploymentId: string;
  readonly plaidEnvironment: PlaidEnvironment;
  /** Told of what could not be written but must not be forgotten. Never holds a secret. */
  readonly alarm: (what: string, facts: Record<string, string | number>) => void;
}

/** First 16 bytes of SHA-256 over a handle's 128-bit id: what the database is asked for. */
export function handleHash(handleId: Uint8Array): Buffer {
  return hash('sha256', handleId, 'buffer').subarray(0, 16);
}

/** About 2 MB of them. */
const REMEMBERED_HASHES = 10_000;
/** How long a token that Plaid has handed out is offered to the database while the caller waits. */
const KEEP_PATIENCE_MS = 8_000;
/** Failures that say nothing about the write itself: time cures them, or an operator who gives a right back. */
const PASSING: ReadonlySet<ErrorCode> = new Set([
  'DATABASE_UNAVAILABLE',
  'DATABASE_ROLE_UNFIT',
  'AUDIT_UNAVAILABLE',
  'KMS_UNAVAILABLE',
  'OVERLOADED',
]);

export class Vault {
  readonly #parts: VaultParts;
  readonly #tag: number;
  #handleHashes: { readonly keyId: string; readonly of: Map<RecordId, Buffer> } = { keyId: '', of: new Map() };
  /** Tokens that Plaid has handed out and the database has not taken yet. */
  #unsaved = 0;

  constructor(parts: VaultParts) {
    this.#parts = parts;
    this.#tag = deploymentTag(parts.deploymentId);
  }

  get tag(): number {
    return this.#tag;
  }

  /** Tokens held in memory alone. A process with any must not be stopped lightly. */
  get unsaved(): number {
    return this.#unsaved;
  }

  /** The handle of a record: derived, so that it is the same for ever and stored nowhere. */
  async handleOf(recordId: RecordId): Promise<Handle> {
    const { key } = await this.#parts.keyring.current('index');
    return formatHandle(this.#parts.plaidEnvironment, recordHandleId(key, recordId), this.#tag);
  }

  /** Keyed digest of one of Plaid's ids or of a one-time token, for ownership and idempotency. */
  async mac(purpose: 'subject' | 'public_token' | 'client_user_id', ...parts: string[]): Promise<Buffer> {
    const { key } = await this.#parts.keyring.current('index');
    return indexMac(key, purpose, ...parts);
  }

  async fingerprintOf(token: Secret<string>): Promise<Buffer> {
    const { key } = await this.#parts.keyring.current('fingerprint');
    return fingerprint(key, token);
  }

  /**
   * Opens a record that the admission covers.
   *
   * @throws SEAL_BROKEN for every way in which a row can be wrong; KMS_REFUSED and
   *   KMS_UNAVAILABLE when the data key cannot be had.
   */
  async open(record: StoredRecord, admission: Admission): Promise<Secret<string>> {
    if (!covers(admission, record.recordId) || record.sealed === null) throw new StrongroomError('INTERNAL');
    const index = await this.#parts.keyring.current('index');
    // The handle that was asked for is not bound by the ciphertext: with two of them swapped in the
    // table, a caller would get another item than the one it means.
    if (!this.#handleHashOf(index, record.recordId).equals(record.handleHash)) {
      throw new StrongroomError('SEAL_BROKEN', { record: record.recordId });
    }
    const dataKey = await this.#parts.keyring.get(dataKeyIdOf(record.sealed));
    return open(dataKey, this.#binding(record, record.version), record.sealed, admission);
  }

  /** Derived, so that it never changes while the index key does not: remembered for records that are used often. */
  #handleHashOf(index: DataKey, recordId: RecordId): Buffer {
    if (index.id !== this.#handleHashes.keyId || this.#handleHashes.of.size >= REMEMBERED_HASHES) {
      this.#handleHashes = { keyId: index.id, of: new Map() };
    }
    let known = this.#handleHashes.of.get(recordId);
    if (known === undefined) {
      known = handleHash(recordHandleId(index.key, recordId));
      this.#handleHashes.of.set(recordId, known);
    }
    return known;
  }

  /** The key that the next sealing uses. Fetch it before a call whose answer must not wait for a KMS. */
  sealingKey(): Promise<DataKey> {
    return this.#parts.keyring.current('record');
  }

  /** Seals version `version` of a record that exists. Local: needs no network. */
  reseal(dataKey: DataKey, record: StoredRecord, version: number, token: Secret<string>): Buffer {
    return seal(dataKey, this.#binding(record, version), token, this.#parts.random);
  }

  /**
   * Keeps a token that Plaid has just handed out, before anybody is answered.
   *
   * `dataKey`: null to fetch it now. `also` runs in the same transaction (an
   * exchange becomes done, ownership is learned); `kept` is told afterwards, also
   * when the caller has left by then. A database that is away is asked again for a
   * while; after that the caller is told, and this process goes on trying for as
   * long as it lives: a token that Plaid gave once is never dropped.
   *
   * @returns the record, which is an older one when this application already held the token.
   */
  async keep(
    dataKey: DataKey | null,
    token: Secret<string>,
    owner: { applicationId: string; plaidClientId: string; kind: string; itemId: string | null },
    also: (sql: Sql, recordId: RecordId) => Promise<void> = async () => {},
    kept: (recordId: RecordId) => void = () => {},
  ): Promise<RecordId> {
    const recordId = this.#parts.random.uuid() as RecordId;
    // Sealed once, so that repeating the write repeats the same bytes.
    let sealed: Promise<NewRecord> | null = null;
    return this.persist(async () => {
      sealed ??= this.#sealNew(recordId, dataKey, token, owner);
      const record = await sealed.catch((error: unknown) => {
        sealed = null;
        throw error;
      });
      const id = await this.#parts.database.transaction(async (sql) => {
        const inserted = await insertRecord(sql, record);
        await also(sql, inserted);
        return inserted;
      });
      if (id === recordId) await this.witness(record, 1, record.sealed, record.dataKeyId);
      kept(id);
      return id;
    });
  }

  async #sealNew(
    recordId: RecordId,
    dataKey: DataKey | null,
    token: Secret<string>,
    owner: { applicationId: string; plaidClientId: string; kind: string; itemId: string | null },
  ): Promise<NewRecord> {
    const { key: indexKey } = await this.#parts.keyring.current('index');
    const sealing = dataKey ?? (await this.sealingKey());
    return {
      recordId,
      handleHash: handleHash(recordHandleId(indexKey, recordId)),
      kind: owner.kind,
      applicationId: owner.applicationId,
      plaidClientId: owner.plaidClientId,
      itemId: owner.itemId,
      fingerprint: await this.fingerprintOf(token),
      dataKeyId: sealing.id,
      sealed: seal(sealing, this.#binding({ ...owner, recordId }, 1), token, this.#parts.random),
    };
  }

  /**
   * Repeats a write that must not be lost, while the database, the log or the key
   * service is away. It must be safe to repeat. Whatever is needed after Plaid has
   * handed out a token belongs into it: a key that is not cached any more is no
   * reason to drop the only copy.
   *
   * @throws DATABASE_UNAVAILABLE when patience ran out; the write goes on in the background.
   */
  async persist<T>(write: () => Promise<T>): Promise<T> {
    this.#unsaved++;
    const deadline = performance.now() + KEEP_PATIENCE_MS;
    for (let pause = 20; ; pause = Math.min(pause * 2, 2_000)) {
      try {
        const result = await write();
        this.#unsaved--;
        return result;
      } catch (error) {
        if (!PASSING.has(codeOf(error))) {
          this.#unsaved--;
          throw error;
        }
        if (performance.now() + pause > deadline) {
          this.#parts.alarm('a token is held in memory alone', { unsaved: this.#unsaved });
          void this.#persistLater(write);
          throw new StrongroomError('DATABASE_UNAVAILABLE', {}, error);
        }
        await sleep(pause);
      }
    }
  }

  async #persistLater<T>(write: () => Promise<T>): Promise<void> {
    for (;;) {
      await sleep(2_000);
      try {
        await write();
        break;
      } catch (error) {
        if (!PASSING.has(codeOf(error))) {
          this.#parts.alarm('a token could not be saved', { code: codeOf(error) });
          break;
        }
      }
    }
    this.#unsaved--;
  }

  /**
   * Writes into the audit log which ciphertext stands for which version and whose it
   * is, so that a row that is rolled back or moved later shows. The token is safe
   * already; what a crash leaves unsaid here, a worker says (sweep.ts).
   */
  witness(
    record: Pick<NewRecord, 'recordId' | 'kind' | 'applicationId' | 'plaidClientId' | 'itemId' | 'handleHash'>,
    version: number,
    sealed: Buffer,
    dataKeyId: string,
  ): Promise<void> {
    const sealing: EntryFields<'record.sealed'> = {
      record: record.recordId,
      version,
      record_kind: record.kind,
      ciphertext_sha256: hash('sha256', sealed),
      data_key: dataKeyId,
      application: record.applicationId,
      row_sha256: rowSha256(record),
    };
    return this.#witness('record.sealed', sealing, record.recordId, version, false);
  }

  /** The same for the end of a record. */
  witnessEnd(recordId: RecordId, version: number): Promise<void> {
    const shredding = { record: recordId, version, reason: 'removed' };
    return this.#witness('record.shredded', shredding, recordId, version, true);
  }

  async #witness<K extends EntryKind>(
    kind: K,
    fields: EntryFields<K>,
    recordId: RecordId,
    version: number,
    shredded: boolean,
  ): Promise<void> {
    if (!(await this.tell(kind, fields))) return;
    // Failing here leads to the entry being written twice, which says nothing new.
    await markWitnessed(this.#parts.database.sql, recordId, version, shredded).catch(() => {});
  }

  /**
   * An entry about something that has happened and cannot be taken back: waits for
   * the log, and leaves the entry with its next group when the log refuses.
   *
   * @returns whether the entry is durable.
   */
  async tell<K extends EntryKind>(kind: K, fields: EntryFields<K>): Promise<boolean> {
    try {
      await this.#parts.audit.append(kind, fields);
      return true;
    } catch {
      this.#parts.audit.note(kind, fields);
      return false;
    }
  }

  /** The record as it stands now, on the writing side: for answers that say our version is old. */
  reread(recordId: RecordId): Promise<StoredRecord | null> {
    return recordById(this.#parts.database.sql, recordId);
  }

  #binding(record: { plaidClientId: string; recordId: RecordId; kind: string }, version: number): RecordBinding {
    return {
      deploymentId: this.#parts.deploymentId,
      plaidEnvironment: this.#parts.plaidEnvironment,
      plaidClientId: record.plaidClientId,
      recordId: record.recordId,
      kind: record.kind,
      version,
    };
  }
}
