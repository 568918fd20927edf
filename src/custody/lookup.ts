import { recordsByHandle, type StoredRecord, type Subject, subjectsByMac } from '../store/records.ts';
import type { Sql } from '../store/sql.ts';

/**
 * Reads what a request needs from the database, fresh at every request, so that a
 * freeze or a revoked key takes effect at once on every replica. Requests that
 * wait at the same moment share one round trip; a request that is alone does not
 * wait for company.
 */

/** What one request wants to know. Hashes and HMACs only. */
export interface Question {
  readonly applicationId: string;
  readonly handleHashes: readonly Buffer[];
  readonly subjectMacs: readonly Buffer[];
}

export interface Findings {
  /** Null: no such application. Grows with every change of keys, policy or freezes. */
  readonly applicationVersion: number | null;
  /** In the order of the question's handles; null where nothing is held. */
  readonly records: readonly (StoredRecord | null)[];
  /** Owner of each subject, in the order of the question; null where nobody is known. */
  readonly owners: readonly (string | null)[];
}

interface Waiting {
  readonly question: Question;
  readonly resolve: (findings: Findings) => void;
  readonly reject: (error: unknown) => void;
}

/** Round trips that may be under way at once. One more lets the next group leave while the last one is on its way back. */
const IN_FLIGHT = 2;
/** Bound of one round trip, so that one statement never carries an unbounded array. */
const GROUP = 256;

export class Lookup {
  readonly #sql: Sql;
  readonly #versionsOf: (sql: Sql, ids: string[]) => Promise<Map<string, number>>;
  #waiting: Waiting[] = [];
  #inFlight = 0;

  constructor(sql: Sql, versionsOf: (sql: Sql, ids: string[]) => Promise<Map<string, number>>) {
    this.#sql = sql;
    this.#versionsOf = versionsOf;
  }

  find(question: Question): Promise<Findings> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ question, resolve, reject });
      if (this.#inFlight < IN_FLIGHT) this.#leave();
    });
  }

  #leave(): void {
    const group = this.#waiting.splice(0, GROUP);
    if (group.length === 0) return;
    this.#inFlight++;
    this.#ask(group)
      .catch((error: unknown) => {
        for (const waiting of group) waiting.reject(error);
      })
      .finally(() => {
        this.#inFlight--;
        this.#leave();
      });
  }

  async #ask(group: Waiting[]): Promise<void> {
    const applications = new Set<string>();
    const handles = new Map<string, Buffer>();
    const subjects = new Map<string, Buffer>();
    for (const { question } of group) {
      applications.add(question.applicationId);
      for (const hash of question.handleHashes) handles.set(hash.toString('latin1'), hash);
      for (const mac of question.subjectMacs) subjects.set(mac.toString('latin1'), mac);
    }

    // Pipelined: three statements, one wait.
    const [versions, records, owners] = await Promise.all([
      this.#versionsOf(this.#sql, [...applications]),
      handles.size === 0 ? [] : recordsByHandle(this.#sql, [...handles.values()]),
      subjects.size === 0 ? [] : subjectsByMac(this.#sql, [...subjects.values()]),
    ]);
    const byHandle = new Map<string, StoredRecord>(
      records.map((record) => [record.handleHash.toString('latin1'), record]),
    );
    const byMac = new Map<string, Subject>(owners.map((subject) => [subject.subjectMac.toString('latin1'), subject]));

    for (const { question, resolve } of group) {
      resolve({
        applicationVersion: versions.get(question.applicationId) ?? null,
        records: question.handleHashes.map((hash) => byHandle.get(hash.toString('latin1')) ?? null),
        owners: question.subjectMacs.map((mac) => byMac.get(mac.toString('latin1'))?.applicationId ?? null),
      });
    }
  }
}
