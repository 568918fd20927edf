/**
 * What a verifier found wrong, in words that name the place. Codes are a promise,
 * as scripts read them (docs/formats/audit.md lists them).
 */

export const FINDING_CODES = {
  malformed: 'A line is not what the format says; nothing can be said about its content.',
  missing: 'Entries are not there.',
  reordered: 'A line stands in another place than it was written to.',
  duplicated: 'An entry or line stands in the log twice.',
  altered: 'An entry is not the one that its writer wrote.',
  forked: 'A writer has two entries with the same counter, or wrote on after it had stopped.',
  root: 'The signed root does not fit the entries, and no single entry could be named.',
  signature: 'A checkpoint is not signed by a key of this log.',
  key: 'A verification key in the export is malformed or not among the given ones.',
  cut: 'The end is missing.',
  head: 'An older head, kept elsewhere, was signed over another log.',
  recorded: 'The log itself says that entries were broken before they had an index.',
} as const;

export type FindingCode = keyof typeof FINDING_CODES;

export interface Finding {
  readonly code: FindingCode;
  /** Where in the log, where known: the first entry concerned and the last. */
  readonly index: number | null;
  readonly last: number | null;
  readonly writer: string | null;
  readonly n: number | null;
  /** Where in the export; line from 1. Null for what shows only at the end. */
  readonly file: string | null;
  readonly line: number | null;
  /** One sentence. Holds nothing of the entry's fields. */
  readonly says: string;
}

/** Findings that are kept; more are only counted, so that a hostile export cannot fill the memory. */
const KEPT = 1_000;

export interface Place {
  readonly file: string;
  readonly line: number;
}

type Given = Partial<Omit<Finding, 'code' | 'says' | 'file' | 'line'>> & { readonly at?: Place | null };

export class Findings {
  #kept: (Finding & { readonly order: number })[] = [];
  #total = 0;
  #files: string[] = [];

  add(code: FindingCode, says: string, { at = null, index = null, last = null, writer = null, n = null }: Given): void {
    this.#total++;
    if (this.#kept.length >= KEPT) return;
    const file = at?.file ?? null;
    if (file !== null && !this.#files.includes(file)) this.#files.push(file);
    const order = file === null ? Number.MAX_SAFE_INTEGER : this.#files.indexOf(file) * 2 ** 40 + (at?.line ?? 0);
    this.#kept.push({ code, index, last: last ?? index, writer, n, file, line: at?.line ?? null, says, order });
  }

  /** Takes back the first finding that turned out to be another; null when there is none. */
  withdraw(matches: (finding: Finding) => boolean): Finding | null {
    const at = this.#kept.findIndex(matches);
    const [taken = null] = at < 0 ? [] : this.#kept.splice(at, 1);
    if (taken !== null) this.#total--;
    return taken;
  }

  get total(): number {
    return this.#total;
  }

  /** In the order of the export. */
  list(): Finding[] {
    return this.#kept.sort((a, b) => a.order - b.order).map(({ order: _order, ...finding }) => finding);
  }
}
