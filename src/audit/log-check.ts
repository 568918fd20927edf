import { Chains } from './chains.ts';
import { type Checkpoint, openCheckpoint, parseVerifier, type Verifier } from './checkpoint.ts';
import type { ParsedEntry } from './entry.ts';
import { type Header, type Line, parseLine, type RunHeading } from './export-lines.ts';
import type { Findings, Place } from './findings.ts';
import { Frontier, leafHash } from './tree.ts';

/**
 * Checks an export line by line: the order of lines, the tree, the signatures and,
 * through Chains, the writers. Goes on after a finding, so that one broken entry
 * does not hide the rest: what can no longer be proven is counted as such until
 * the next partition begins with a frontier of its own, which the checkpoint
 * after it has to confirm.
 */

export interface LogCheckOptions {
  /** Keys that are trusted. Empty: those in the export are taken. */
  readonly verifiers: readonly Verifier[];
  /** Heads that were kept elsewhere, by size. */
  readonly heads: readonly Checkpoint[];
  readonly findings: Findings;
}

export class LogCheck {
  readonly #options: LogCheckOptions;
  readonly #findings: Findings;
  readonly #verifiers = new Map<string, Verifier>();
  readonly #heads: Checkpoint[];
  #chains: Chains | null = null;
  #deployment = '';
  /** Null while entries are missing that it would need. */
  #tree: Frontier | null = null;
  #run: { writer: string; n: number; left: number } | null = null;
  /** Size of the last checkpoint. */
  #lastSize = -1;
  #partitionFirst = -1;

  origin: string | null = null;
  /** Index of the first entry. */
  first = 0;
  /** Index that the next entry must have. */
  size = 0;
  entries = 0;
  checkpoints = 0;
  partitions = 0;
  headsChecked = 0;
  /** Heads from before the export begins, or inside a hole. */
  headsUnproven = 0;
  /** Entries of kinds that this version does not know. */
  unknownKinds = 0;
  /** Checkpoints that could not be compared with a tree. */
  unproven = 0;
  /** The newest checkpoint whose signature holds and whose root fits. */
  proven: Checkpoint | null = null;

  constructor(options: LogCheckOptions) {
    this.#options = options;
    this.#findings = options.findings;
    this.#heads = [...options.heads].sort((a, b) => a.size - b.size);
    for (const verifier of options.verifiers) this.#verifiers.set(verifier.vkey, verifier);
  }

  get writers(): number {
    return this.#chains?.size ?? 0;
  }

  get unstopped(): number {
    return this.#chains?.unstopped ?? 0;
  }

  get vkeys(): string[] {
    return [...this.#verifiers.keys()];
  }

  /** One line without its newline; null for one that is too long or holds bytes that no line holds. */
  take(text: string | null, at: Place): void {
    const line = text === null ? null : parseLine(text);
    if (line === null) {
      this.#unreadable(at);
      return;
    }
    if (this.origin === null && line.type !== 'header') {
      this.#findings.add('cut', 'The export does not begin with its first line.', { at });
      this.#begin({ origin: '', first: firstIndexOf(line) }, at);
    }
    if (line.type === 'entry') this.#entry(line.index, line.text, line.entry, at);
    else if (line.type === 'run') this.#heading(line.run, at);
    else if (line.type === 'checkpoint') this.#checkpoint(line.note, at);
    else if (line.type === 'key') this.#key(line.vkey, at);
    else this.#header(line.header, at);
  }

  end(at: Place | null): void {
    if (this.origin === null) {
      this.#findings.add('cut', 'There is nothing in this export.', { at });
      return;
    }
    this.#closeRun(at);
    if (this.size > this.#lastSize) {
      const from = Math.max(this.#lastSize, this.first);
      const says = `No checkpoint covers the entries from ${from} on: the export was cut.`;
      this.#findings.add('cut', says, { at, index: from, last: Math.max(from, this.size - 1) });
    }
    this.#chains?.end();
    this.#endHeads();
  }

  #unreadable(at: Place): void {
    const run = this.#run;
    if (run === null || run.left === 0) {
      this.#findings.add('malformed', 'This line is not part of an export.', { at });
      return;
    }
    // Between a run's entries only an entry can stand, so that we know which one this was.
    const where = { at, index: this.size, writer: run.writer, n: run.n };
    this.#findings.add('malformed', `Entry ${this.size} cannot be read.`, where);
    this.#passOver(1, at);
  }

  #begin({ origin, first }: Pick<Header, 'origin' | 'first'>, at: Place): void {
    const match = /^strongroom\/([A-Za-z0-9._-]{1,64})\/[!-~]{1,64}$/.exec(origin);
    // An origin that is none is not repeated: it may hold anything.
    this.origin = match === null ? '' : origin;
    this.first = first;
    this.size = first;
    this.#lastSize = first;
    this.#chains = new Chains(this.#findings, first === 0);
    this.#deployment = match?.[1] ?? '';
    if (match === null && origin !== '') {
      this.#findings.add('malformed', 'The origin does not name a deployment and a log.', { at });
    }
  }

  #header(header: Header, at: Place): void {
    this.partitions++;
    let tree: Frontier | null = null;
    try {
      tree = new Frontier(header.first, header.frontier);
    } catch {
      this.#findings.add('malformed', `The frontier does not fit ${header.first} entries.`, { at });
    }
    if (this.origin === null) {
      this.#begin(header, at);
      this.#partitionFirst = header.first;
      this.#tree = tree;
      for (const vkey of header.vkeys) this.#key(vkey, at);
      return;
    }
    this.#closeRun(at);
    const began = this.#partitionFirst;
    this.#partitionFirst = header.first;
    if (header.origin !== this.origin) this.#findings.add('malformed', 'This partition is of another log.', { at });
    if (header.first < this.size || header.first === began) {
      this.#findings.add('duplicated', `A partition begins at ${header.first} again.`, { at, index: header.first });
      return;
    }
    if (header.first > this.size) this.#missing(this.size, header.first - 1, at);
    if (this.size > this.#lastSize && header.first === this.size) {
      this.#findings.add('cut', `The partition before has no checkpoint at its end, ${this.size}.`, {
        at,
        index: this.size,
      });
    }
    const told = this.vkeys;
    if (this.#options.verifiers.length === 0 && header.vkeys.join() !== told.join()) {
      this.#findings.add('key', 'This partition names other keys than those before it.', { at });
    }
    for (const vkey of header.vkeys) this.#key(vkey, at);
    if (this.#tree !== null && this.#tree.size === header.first && tree?.root().equals(this.#tree.root()) === false) {
      this.#findings.add('altered', `The frontier at ${header.first} is not that of the entries before.`, { at });
      return;
    }
    // After a hole this is where proving begins again; the next checkpoint confirms the frontier or not.
    this.size = header.first;
    this.#lastSize = Math.max(this.#lastSize, header.first);
    this.#tree = tree;
  }

  #key(vkey: string, at: Place): void {
    if (this.#verifiers.has(vkey)) return;
    const verifier = parseVerifier(vkey);
    if (verifier === null) {
      this.#findings.add('key', 'This is not a verification key.', { at });
    } else if (this.#options.verifiers.length > 0) {
      this.#findings.add('key', `The key ${verifier.name}+${verifier.keyId} is not among the given ones.`, { at });
    } else {
      this.#verifiers.set(vkey, verifier);
    }
  }

  #heading(run: RunHeading, at: Place): void {
    this.#closeRun(at);
    if (run.firstIndex > this.size) this.#missing(this.size, run.firstIndex - 1, at);
    if (run.firstIndex < this.size || run.count === 0) {
      this.#findings.add('reordered', `A run begins at ${run.firstIndex}, where ${this.size} was due.`, {
        at,
        index: run.firstIndex,
      });
      return;
    }
    this.#run = { writer: run.writer, n: run.firstN, left: run.count };
  }

  #entry(index: number, text: string, entry: ParsedEntry | null, at: Place): void {
    this.entries++;
    if (index < this.size) {
      this.#comesLate(index, at);
      return;
    }
    const run = this.#run;
    if (run === null || run.left === 0 || index >= this.size + run.left) {
      this.#closeRun(at);
      if (index > this.size) this.#missing(this.size, index - 1, at);
      this.#findings.add('reordered', `Entry ${index} belongs to no run.`, { at, index });
      this.size = index + 1;
      this.#tree = null;
      return;
    }
    if (index > this.size) this.#missing(this.size, index - 1, at);
    const where = { at, index, writer: run.writer, n: run.n };
    if (entry === null || entry.deployment !== this.#deployment) {
      const says = entry === null ? 'is not written as entries are' : 'belongs to another deployment';
      this.#findings.add('malformed', `Entry ${index} ${says}.`, where);
      this.#passOver(1, at);
      return;
    }
    if (entry.writer !== run.writer || entry.n !== run.n) {
      const says = `Entry ${index} should be entry ${run.n} of writer ${run.writer}, but says that it is another.`;
      this.#findings.add('reordered', says, where);
      this.#passOver(1, at);
      return;
    }
    if (!entry.known) this.unknownKinds++;
    const hash = leafHash(text);
    this.#chains?.follow(entry, hash, { index, at });
    this.#tree?.append(Buffer.from(hash, 'hex'));
    run.n++;
    run.left--;
    this.size = index + 1;
    this.#compareHeads();
  }

  /** An entry whose index has passed: it was missing where it belongs, or stands here twice. */
  #comesLate(index: number, at: Place): void {
    const hole = this.#findings.withdraw(
      ({ code, index: from, last }) => code === 'missing' && from !== null && from <= index && index <= (last ?? from),
    );
    if (hole === null) {
      this.#findings.add('duplicated', `Entry ${index} stands here again.`, { at, index });
      return;
    }
    this.#findings.add('reordered', `Entry ${index} stands behind entry ${this.size - 1}.`, { at, index });
    const { index: from, last, file, line } = hole;
    const place = file === null ? null : { file, line: line ?? 0 };
    if (from !== null && from < index) this.#sayMissing(from, index - 1, place);
    if (last !== null && last > index) this.#sayMissing(index + 1, last, place);
  }

  /** Names entries as missing and goes on behind them. */
  #missing(from: number, to: number, at: Place): void {
    const run = this.#run;
    const inRun = run !== null && run.left > 0;
    const where = inRun ? { writer: run.writer, n: run.n } : {};
    this.#sayMissing(from, to, at, where);
    this.#passOver(to - from + 1, at);
  }

  #sayMissing(from: number, to: number, at: Place | null, where: { writer?: string; n?: number } = {}): void {
    const says = from === to ? `Entry ${from} is missing.` : `Entries ${from} to ${to} are missing.`;
    this.#findings.add('missing', says, { at, index: from, last: to, ...where });
  }

  #passOver(count: number, at: Place): void {
    const run = this.#run;
    if (run !== null && run.left > 0) {
      const passed = Math.min(count, run.left);
      run.n += passed;
      run.left -= passed;
      this.#chains?.pass(run.writer, run.n - 1, { index: this.size + passed - 1, at });
    }
    this.size += count;
    this.#tree = null;
  }

  #closeRun(at: Place | null): void {
    const run = this.#run;
    if (run !== null && run.left > 0 && at !== null) this.#missing(this.size, this.size + run.left - 1, at);
    this.#run = null;
  }

  #checkpoint(note: string, at: Place): void {
    this.checkpoints++;
    this.#closeRun(at);
    const opened = openCheckpoint(note, [...this.#verifiers.values()]);
    if (!opened.ok) {
      const why = { malformed: 'is malformed', unknown_key: 'is by an unknown key', bad_signature: 'does not verify' };
      this.#findings.add('signature', `The signature of this checkpoint ${why[opened.reason]}.`, {
        at,
        index: this.size,
      });
      return;
    }
    const { checkpoint } = opened;
    if (checkpoint.origin !== this.origin) {
      this.#findings.add('signature', 'This checkpoint is of another log.', { at, index: this.size });
      return;
    }
    if (checkpoint.size < this.size || checkpoint.size === this.#lastSize) {
      const says = `A checkpoint of size ${checkpoint.size} stands after ${this.size} entries.`;
      this.#findings.add(checkpoint.size === this.#lastSize ? 'duplicated' : 'reordered', says, {
        at,
        index: checkpoint.size,
      });
      return;
    }
    if (checkpoint.size > this.size) this.#missing(this.size, checkpoint.size - 1, at);
    const from = this.#lastSize;
    this.#lastSize = checkpoint.size;
    if (this.#tree === null) {
      this.unproven++;
    } else if (this.#tree.root().equals(checkpoint.root)) {
      this.proven = checkpoint;
    } else {
      const says = `The root signed for ${checkpoint.size} entries does not fit the entries ${from} to ${checkpoint.size - 1}.`;
      this.#findings.add('root', says, { at, index: from, last: checkpoint.size - 1 });
      this.#tree = null;
    }
  }

  #compareHeads(): void {
    while ((this.#heads[0]?.size ?? Number.POSITIVE_INFINITY) <= this.size) {
      const head = this.#heads.shift() as Checkpoint;
      if (this.#isForeign(head)) continue;
      if (head.size < this.size || this.#tree === null) {
        this.headsUnproven++;
        continue;
      }
      this.headsChecked++;
      if (this.#tree.root().equals(head.root)) continue;
      const says = `The head of ${head.size} entries was signed over another log: entries before it were rewritten.`;
      this.#findings.add('head', says, { index: 0, last: head.size - 1 });
    }
  }

  #endHeads(): void {
    this.#compareHeads();
    for (const head of this.#heads) {
      if (this.#isForeign(head)) continue;
      const says = `The end is missing: a head of ${head.size} entries was signed, the export has ${this.size}.`;
      this.#findings.add('cut', says, { index: this.size, last: head.size - 1 });
    }
  }

  #isForeign(head: Checkpoint): boolean {
    if (head.origin === this.origin) return false;
    this.#findings.add('head', `A given head is of another log, ${head.origin}.`, {});
    return true;
  }
}

function firstIndexOf(line: Line): number {
  if (line.type === 'entry') return line.index;
  return line.type === 'run' ? line.run.firstIndex : 0;
}
