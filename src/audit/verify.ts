import type { Checkpoint, Verifier } from './checkpoint.ts';
import { type Finding, Findings } from './findings.ts';
import { LogCheck } from './log-check.ts';

/**
 * Checks an exported log with nothing but the export and a public key: no
 * database, no network, no secret. Constant memory for any length (but for one
 * small record per writer). Every byte of an export is accounted for.
 */

/** One file of an export, in the order of the log. */
export interface ExportPart {
  readonly name: string;
  readonly bytes: AsyncIterable<Uint8Array>;
}

export interface VerifyOptions {
  /**
   * Keys to trust. Without any, those that the export names are taken: that finds
   * damage, but whoever could rewrite the log could also have signed it anew.
   */
  readonly verifiers?: readonly Verifier[];
  /** Heads that were kept elsewhere, with good signatures. */
  readonly heads?: readonly Checkpoint[];
  /** Called every 10,000 lines. */
  readonly onProgress?: (entries: number) => void;
}

export interface AuditReport {
  /** No finding. Says nothing about what came after the last entry, unless a newer head was given. */
  readonly sound: boolean;
  readonly origin: string | null;
  /** Index of the first entry of the export, and how many the log has at its end. */
  readonly first: number;
  readonly size: number;
  /** Root over all entries, in base64, when the last checkpoint proves it. */
  readonly root: string | null;
  readonly entries: number;
  readonly checkpoints: number;
  readonly partitions: number;
  readonly writers: number;
  /** Writers without an orderly end: running at the time, or ended in a crash. */
  readonly writersUnstopped: number;
  /** Whether the keys were given, and not taken from the export itself. */
  readonly keysGiven: boolean;
  readonly keys: readonly string[];
  readonly headsCompared: number;
  /** Heads that lie before the export's beginning or in a hole. */
  readonly headsUnproven: number;
  /** Checkpoints behind a hole, which nothing could be compared with. */
  readonly checkpointsUnproven: number;
  /** Entries of kinds that this version does not know. Their chain and place were checked, their fields not. */
  readonly unknownKinds: number;
  /** In the order of the export; the first one first. At most 1000. */
  readonly findings: readonly Finding[];
  readonly findingsTotal: number;
}

const PROGRESS_LINES = 10_000;
/** No line that we write is longer: an entry has at most 17 KB, an escaped note 96 KB. */
const MAX_LINE = 131_072;
const NEWLINE = 0x0a;

/** Resolves for any bytes; throws only what reading `parts` throws. */
export async function verifyAudit(parts: Iterable<ExportPart>, options: VerifyOptions = {}): Promise<AuditReport> {
  const { verifiers = [], heads = [], onProgress } = options;
  const findings = new Findings();
  const check = new LogCheck({ verifiers, heads, findings });
  let last: { file: string; line: number } | null = null;
  let lines = 0;
  for (const { name: file, bytes } of parts) {
    let line = 0;
    for await (const { text, ended } of splitLines(bytes)) {
      last = { file, line: ++line };
      if (!ended) findings.add('cut', 'The last line does not end: the file was cut.', { at: last, index: check.size });
      check.take(text, last);
      if (++lines % PROGRESS_LINES === 0) onProgress?.(check.entries);
    }
  }
  check.end(last);
  const list = withoutConsequences(findings.list());
  const proven = check.proven?.size === check.size ? check.proven : null;
  return {
    sound: findings.total === 0,
    origin: check.origin,
    first: check.first,
    size: check.size,
    root: proven?.root.toString('base64') ?? null,
    entries: check.entries,
    checkpoints: check.checkpoints,
    partitions: check.partitions,
    writers: check.writers,
    writersUnstopped: check.unstopped,
    keysGiven: verifiers.length > 0,
    keys: check.vkeys,
    headsCompared: check.headsChecked,
    headsUnproven: check.headsUnproven,
    checkpointsUnproven: check.unproven,
    unknownKinds: check.unknownKinds,
    findings: list,
    findingsTotal: findings.total,
  };
}

/** A root that does not fit says no more than the altered entry under it that could be named. */
function withoutConsequences(findings: readonly Finding[]): Finding[] {
  return findings.filter(
    ({ code, index, last }) =>
      code !== 'root' ||
      !findings.some((other) => other.code !== 'root' && other.index !== null && overlaps(other, index, last)),
  );
}

function overlaps(other: Finding, from: number | null, to: number | null): boolean {
  if (from === null || to === null || other.index === null) return false;
  return other.index <= to && (other.last ?? other.index) >= from;
}

interface RawLine {
  /** Null when it is too long or holds a byte outside printable ASCII. */
  readonly text: string | null;
  /** False for a last line without a newline. */
  readonly ended: boolean;
}

async function* splitLines(chunks: AsyncIterable<Uint8Array>): AsyncIterable<RawLine> {
  let held: Buffer[] = [];
  let length = 0;
  const take = (end: Buffer): string | null => {
    const whole = held.length === 0 ? end : Buffer.concat([...held, end]);
    const tooLong = length + end.length > MAX_LINE;
    held = [];
    length = 0;
    const text = whole.toString('latin1');
    return tooLong || !/^[ -~]*$/.test(text) ? null : text;
  };
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      yield { text: take(bytes.subarray(start, end)), ended: true };
      start = end + 1;
    }
    const rest = bytes.subarray(start);
    // A line past the limit is counted, not kept.
    if (length + rest.length <= MAX_LINE && rest.length > 0) held.push(rest);
    length += rest.length;
  }
  if (length > 0) yield { text: take(Buffer.alloc(0)), ended: false };
}
