import { writeRest } from '../../src/audit/entry.ts';
import type { EntryFields, EntryKind } from '../../src/audit/kinds.ts';
import type { AuditWriter } from '../../src/audit/writer.ts';

export interface SeenEntry {
  readonly kind: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * An audit writer that keeps its entries in memory, for tests of what is
 * recorded. Fields that the real table would refuse are refused here too.
 */
export class Entries implements Pick<AuditWriter, 'append' | 'note'> {
  readonly seen: SeenEntry[] = [];
  /** Set it to make every entry fail. */
  failure: Error | null = null;

  async append<K extends EntryKind>(kind: K, fields: EntryFields<K>): Promise<{ writer: string; counter: number }> {
    if (this.failure !== null) throw this.failure;
    this.#keep(kind, fields);
    return { writer: '00000000-0000-4000-8000-00000000aaaa', counter: this.seen.length - 1 };
  }

  note<K extends EntryKind>(kind: K, fields: EntryFields<K>): void {
    this.#keep(kind, fields);
  }

  kinds(): string[] {
    return this.seen.map((entry) => entry.kind);
  }

  of(kind: string): SeenEntry['fields'][] {
    return this.seen.filter((entry) => entry.kind === kind).map((entry) => entry.fields);
  }

  #keep<K extends EntryKind>(kind: K, fields: EntryFields<K>): void {
    writeRest(kind, fields, 0);
    this.seen.push({ kind, fields: { ...fields } });
  }
}
