import { hash } from 'node:crypto';
import { digestOf } from '../access/credentials.ts';
import { type Policy, parsePolicy, policyDigest } from '../access/policy.ts';
import type { AuditWriter } from '../audit/writer.ts';
import type { Random } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import { APPLICATION_KEY_BYTES, type ApplicationId, formatApplicationKey } from '../base/ids.ts';
import { Secret } from '../base/secret.ts';
import * as store from '../store/applications.ts';
import type { Database, Sql } from '../store/sql.ts';
import { isOutcomeUnknown, isUniqueViolation } from '../store/sql-errors.ts';
import { type DayUsage, usageOf } from '../store/usage.ts';

/**
 * Adding, changing and ending applications.
 *
 * Each change is one transaction that ends with its audit entry and then the
 * commit: no change stands without an entry. The other way round can happen (the
 * entry is durable and the commit fails); such an entry then tells of an attempt.
 * When the answer of a commit is lost we read back what is true instead of guessing.
 */

export interface ApplicationsParts {
  /** With the role admin. */
  readonly database: Database;
  readonly audit: Pick<AuditWriter, 'append'>;
  /** The Plaid clients that this deployment has. */
  readonly plaidClients: readonly { readonly name: string; readonly clientId: string }[];
  readonly random: Random;
}

export interface Addition {
  readonly name: string;
  /** Name or id of one of the deployment's Plaid clients; may be left out when there is only one. */
  readonly plaidClient?: string | undefined;
  readonly policy: unknown;
}

export interface KeyChange {
  /** How long the old key stays valid. Default 24 h, at most 30 days; 0 ends it at once. */
  readonly oldKeyValidSeconds?: number | undefined;
  /** Which of two valid keys makes room. Left out: with two valid keys the change is refused. */
  readonly replaces?: 'older' | 'newer' | undefined;
}

export interface IssuedKey {
  /** The only time that it is seen: what is stored is its SHA-256. */
  readonly key: Secret<string>;
  readonly keyId: string;
}

const DAY_SECONDS = 86_400;
export const MAX_OLD_KEY_SECONDS = 30 * DAY_SECONDS;

/**
 * Letters, digits and a few marks, beginning and ending with a letter or digit. No
 * control characters, no bidirectional marks, nothing invisible: the name stands
 * in logs, tables and mails.
 */
const NAME = /^[\p{L}\p{N}](?:[\p{L}\p{M}\p{N} ._@/-]{0,62}[\p{L}\p{M}\p{N}])?$/u;

export class Applications {
  readonly #database: Database;
  readonly #audit: Pick<AuditWriter, 'append'>;
  readonly #plaidClients: ApplicationsParts['plaidClients'];
  readonly #random: Random;

  constructor({ database, audit, plaidClients, random }: ApplicationsParts) {
    this.#database = database;
    this.#audit = audit;
    this.#plaidClients = plaidClients;
    this.#random = random;
  }

  /**
   * Adds an application with its first key.
   *
   * @throws StrongroomError `INPUT_INVALID`, `APPLICATION_EXISTS` (nothing added);
   *   `AUDIT_UNAVAILABLE` (nothing added); `DATABASE_UNAVAILABLE` (not added, unless
   *   its detail says that it is not known).
   */
  async add(addition: Addition, by: string): Promise<IssuedKey & { readonly application: store.ApplicationRow }> {
    const name = readName(addition.name);
    const plaidClientId = this.#plaidClientId(addition.plaidClient);
    const policy = parsePolicy(addition.policy);
    const id = this.#random.bytes(12).toString('hex') as ApplicationId;
    const issued = this.#newKey();
    await this.#change(
      async (sql) => {
        try {
          await store.insertApplication(sql, {
            id,
            name,
            plaidClientId,
            policy,
            keyId: issued.keyId,
            keySha256: digestOf(issued.key),
          });
        } catch (error) {
          if (isUniqueViolation(error, 'applications_name_key')) throw new StrongroomError('APPLICATION_EXISTS');
          throw error;
        }
        await this.#audit.append('application.created', {
          application: id,
          name,
          policy_sha256: policyDigest(policy),
          by,
          key: issued.keyId,
          key_check: keyCheck(issued.key),
        });
      },
      () => store.keyExists(this.#database.sql, id, issued.keyId),
    );
    return { ...issued, application: await this.show(id) };
  }

  list(): Promise<store.ApplicationRow[]> {
    return store.listApplications(this.#database.sql);
  }

  /** @throws StrongroomError `APPLICATION_UNKNOWN`. */
  async show(id: string): Promise<store.ApplicationRow> {
    const row = await store.applicationRow(this.#database.sql, id);
    if (row === null) throw new StrongroomError('APPLICATION_UNKNOWN');
    return row;
  }

  usage(id: string): Promise<DayUsage> {
    return usageOf(this.#database.sql, id);
  }

  /**
   * Replaces the policy as a whole. Takes effect at the next call, on every replica.
   *
   * @throws StrongroomError `INPUT_INVALID`, `APPLICATION_UNKNOWN`, `APPLICATION_DISABLED`,
   *   `AUDIT_UNAVAILABLE` (nothing changed), `DATABASE_UNAVAILABLE` as in {@link add}.
   */
  async setPolicy(id: string, document: unknown, by: string): Promise<store.ApplicationRow> {
    const policy: Policy = parsePolicy(document);
    const digest = policyDigest(policy);
    await this.#change(
      async (sql) => {
        const before = await enabled(sql, id);
        await store.replacePolicy(sql, id, policy);
        await this.#audit.append('application.policy_changed', {
          application: id,
          policy_sha256: digest,
          previous_sha256: policyDigest(before.policy),
          by,
        });
      },
      async () => policyDigest((await this.show(id)).policy) === digest,
    );
    return await this.show(id);
  }

  /**
   * Gives an application a new key; the old one stays valid for a while.
   *
   * @throws StrongroomError `KEYS_AT_LIMIT` when two keys are valid and `replaces`
   *   names neither; the rest as in {@link setPolicy}. When the answer is lost the
   *   key is lost with it: change again with `replaces: 'newer'`, which leaves the
   *   key in use alone.
   */
  async rotateKey(
    id: string,
    change: KeyChange,
    by: string,
  ): Promise<IssuedKey & { readonly application: store.ApplicationRow }> {
    const oldKeyValidSeconds = change.oldKeyValidSeconds ?? DAY_SECONDS;
    if (!Number.isInteger(oldKeyValidSeconds) || oldKeyValidSeconds < 0 || oldKeyValidSeconds > MAX_OLD_KEY_SECONDS) {
      throw new StrongroomError('INPUT_INVALID', { detail: 'The old key can stay valid for 0 seconds to 30 days.' });
    }
    const issued = this.#newKey();
    await this.#change(
      async (sql) => {
        await enabled(sql, id);
        const valid = await store.replaceKey(sql, id, {
          keyId: issued.keyId,
          keySha256: digestOf(issued.key),
          oldKeyValidSeconds,
          replaces: change.replaces ?? null,
        });
        if (valid === 'two_valid') throw new StrongroomError('KEYS_AT_LIMIT');
        await this.#audit.append('application.key_rotated', {
          application: id,
          key: issued.keyId,
          valid_keys: valid,
          by,
          key_check: keyCheck(issued.key),
        });
      },
      () => store.keyExists(this.#database.sql, id, issued.keyId),
    );
    return { ...issued, application: await this.show(id) };
  }

  /** Shuts an application out for good. Repeating it changes nothing. */
  async disable(id: string, by: string): Promise<store.ApplicationRow> {
    await this.#change(
      async (sql) => {
        const before = await store.lockApplication(sql, id);
        if (before === null) throw new StrongroomError('APPLICATION_UNKNOWN');
        if (before.disabled) return;
        await store.disableApplication(sql, id);
        await this.#audit.append('application.disabled', { application: id, by });
      },
      async () => (await this.show(id)).disabledAt !== null,
    );
    return await this.show(id);
  }

  /** Lifts freezes: the named ones, or all. What was not frozen stays as it is. */
  async unfreeze(id: string, classes: readonly string[] | null, by: string): Promise<store.ApplicationRow> {
    await this.#change(
      async (sql) => {
        await enabled(sql, id);
        for (const lifted of await store.liftFreezes(sql, id, classes)) {
          await this.#audit.append('application.unfrozen', { application: id, class: lifted, by });
        }
      },
      async () => !(await this.show(id)).freezes.some((freeze) => classes === null || classes.includes(freeze.class)),
    );
    return await this.show(id);
  }

  /** Runs a change; when its answer is lost, `holds` tells whether it took effect. */
  async #change(work: (sql: Sql) => Promise<void>, holds: () => Promise<boolean>): Promise<void> {
    try {
      await this.#database.transaction(work);
    } catch (error) {
      if (!isOutcomeUnknown(error)) throw error;
      const took = await holds().catch(() => null);
      if (took === true) return;
      const detail = 'It is not known whether the change was made; look before you repeat it.';
      throw new StrongroomError('DATABASE_UNAVAILABLE', took === null ? { detail } : {}, error);
    }
  }

  #newKey(): IssuedKey {
    const bytes = this.#random.bytes(APPLICATION_KEY_BYTES);
    const key = new Secret(formatApplicationKey(bytes));
    bytes.fill(0);
    return { key, keyId: this.#random.uuid() };
  }

  #plaidClientId(wanted: string | undefined): string {
    const [first] = this.#plaidClients;
    if (wanted === undefined && this.#plaidClients.length === 1 && first !== undefined) return first.clientId;
    const found = this.#plaidClients.find(({ name, clientId }) => wanted === name || wanted === clientId);
    if (found !== undefined) return found.clientId;
    const names = this.#plaidClients.map(({ name }) => name).join(', ');
    throw new StrongroomError('INPUT_INVALID', { detail: `plaid_client: must be one of ${names}.` });
  }
}

async function enabled(sql: Sql, id: string): Promise<{ policy: unknown }> {
  const before = await store.lockApplication(sql, id);
  if (before === null) throw new StrongroomError('APPLICATION_UNKNOWN');
  if (before.disabled) throw new StrongroomError('APPLICATION_DISABLED');
  return before;
}

/** By which doctor sees that a stored key is the one that was issued; see application_key_checks. */
function keyCheck(key: Secret<string>): string {
  return hash('sha256', digestOf(key));
}

function readName(text: string): string {
  const name = text.normalize('NFC');
  // A name that reads like an id could be taken for another application's.
  if (!NAME.test(name) || name.length > 64 || /^[0-9a-f]{24}$/.test(name)) {
    throw new StrongroomError('INPUT_INVALID', {
      detail: 'name: takes 1 to 64 letters, digits, spaces and . _ @ / -, and begins and ends with a letter or digit.',
    });
  }
  return name;
}
