import { lookUp, type Wanted } from '../store/lookup.ts';
import { type StoredRecord, subjectsByMac } from '../store/records.ts';
import type { Sql } from '../store/sql.ts';

/**
 * Reads what a request needs from the database, fresh at every request, so that a
 * freeze or a revoked key takes effect at once on every replica. Requests that
 * become ready in the same turn of the event loop, or while a read is under way,
 * share one round trip.
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

/** Requests of one round trip, at most. */
const GROUP = 256;

export class Lookup {
  readonly #sql: Sql;
  #waiting: Waiting[] = [];
  /** One round trip at a time: while it is under way the next group gathers. */
  #asking = false;
  #planned = false;

  /** @param sql - A pipelined connection of the gateway's role. */
  constructor(sql: Sql) {
    this.#sql = sql;
  }

  find(question: Question): Promise<Findings> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ question, resolve, reject });
      this.#plan();
    });
  }

  /** At the end of this turn of the event loop: whoever else becomes ready in it comes along. */
  #plan(): void {
    if (this.#planned || this.#waiting.length === 0 || this.#asking) return;
    this.#planned = true;
    setImmediate(() => {
      this.#planned = false;
      this.#leave();
    });
  }

  #leave(): void {
    const group = this.#waiting.splice(0, GROUP);
    this.#asking = true;
    this.#ask(group)
      .catch((error: unknown) => {
        for (const waiting of group) waiting.reject(error);
      })
      .finally(() => {
        this.#asking = false;
        this.#plan();
      });
  }

  async #ask(group: Waiting[]): Promise<void> {
    const wanted: Wanted[] = [];
    const subjects = new Map<string, Buffer>();
    for (const { question } of group) {
      const { applicationId, handleHashes, subjectMacs } = question;
      if (handleHashes.length === 0) wanted.push({ applicationId, handleHash: null });
      for (const handleHash of handleHashes) wanted.push({ applicationId, handleHash });
      for (const mac of subjectMacs) subjects.set(mac.toString('latin1'), mac);
    }

    // Pipelined: two statements, one wait.
    const [found, owners] = await Promise.all([
      lookUp(this.#sql, wanted),
      subjects.size === 0 ? [] : subjectsByMac(this.#sql, [...subjects.values()]),
    ]);
    const byMac = new Map(owners.map((subject) => [subject.subjectMac.toString('latin1'), subject.applicationId]));

    let at = 0;
    for (const { question, resolve } of group) {
      const count = question.handleHashes.length;
      const mine = found.slice(at, at + Math.max(1, count));
      at += mine.length;
      resolve({
        applicationVersion: mine[0]?.applicationVersion ?? null,
        records: mine.slice(0, count).map((one) => one?.record ?? null),
        owners: question.subjectMacs.map((mac) => byMac.get(mac.toString('latin1')) ?? null),
      });
    }
  }
}
