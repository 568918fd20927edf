import { StrongroomError } from '../base/errors.ts';
import { checkpointText, openCheckpoint, parseVerifier, type Signer } from './checkpoint.ts';
import { type Gap, type PendingGroup, planStep, type Run, type WriterPosition } from './sequencing.ts';
import { Frontier } from './tree.ts';

/**
 * Gives entries their place in the log and signs the tree over them. One process
 * does it at a time: it holds a lock, reads and writes over the very connection
 * that holds it, and every step moves the tree only from where it was read, so
 * that even two at once cannot fork the log.
 *
 * A start, a takeover and the recovery after any error are the same code:
 * {@link loadSequencer}. Nothing lives only in memory.
 */

export interface StoredCheckpoint {
  readonly size: number;
  readonly root: Buffer;
  readonly note: string;
}

export interface SequencerState {
  readonly size: number;
  readonly frontier: Buffer;
  readonly checkpoint: StoredCheckpoint | null;
  /** Keys that may have signed checkpoints of this log. */
  readonly vkeys: readonly string[];
}

export interface Step {
  /** The size that the tree must still have. */
  readonly from: number;
  readonly size: number;
  readonly frontier: Buffer;
  readonly runs: readonly Run[];
  readonly checkpoint: StoredCheckpoint;
}

/** What the sequencer needs of the database, on the connection that holds the lock. */
export interface SequencerStore {
  load(): Promise<SequencerState>;
  addKey(vkey: string, firstSize: number): Promise<void>;
  /** Positions of the writers registered after key `after` (all from 0), stopped ones included, but for the known. */
  positions(after: number, known: readonly number[]): Promise<WriterPosition[]>;
  /** At most `perWriter` next groups of each writer, by writer key and first counter. */
  pending(positions: readonly WriterPosition[], perWriter: number): Promise<PendingGroup[]>;
  /** All or nothing. False when the tree was no longer at `from`: nothing was written. */
  commit(step: Step): Promise<boolean>;
}

export interface SequencerOptions {
  readonly store: SequencerStore;
  readonly signer: Signer;
  /**
   * Makes a finding durable in the log (`audit.gap`) and loud elsewhere. The step
   * that found it goes on only after this; it may be told the same gap twice.
   */
  readonly onGap: (gap: Gap) => Promise<void>;
  /** Groups taken of one writer in one step. Default 128. */
  readonly groupsPerWriter?: number;
}

export interface StepResult {
  /** Entries that got their index. */
  readonly sequenced: number;
  /** Whether more waited than were taken. */
  readonly more: boolean;
  readonly checkpoint: StoredCheckpoint | null;
}

export interface Sequencer {
  /** The last signed checkpoint, null in an empty log. */
  readonly checkpoint: StoredCheckpoint | null;
  /**
   * Takes what waits, once. After it threw, load anew: what was written is then read back.
   * @throws StrongroomError `DATABASE_UNAVAILABLE`; `AUDIT_BROKEN` when another sequencer moved the tree.
   */
  step(): Promise<StepResult>;
}

/** Registrations become visible out of order by at most this many keys: one is running per process start. */
const LATE_REGISTRATIONS = 256;
const GROUPS_PER_WRITER = 128;

/**
 * Reads where the log stands and checks that it hangs together.
 * @throws StrongroomError `AUDIT_BROKEN` when the stored tree does not give the
 *   last checkpoint's root or that checkpoint was not signed by a key of this log:
 *   signing on top of it would vouch for it. Nothing has been changed.
 */
export async function loadSequencer(options: SequencerOptions): Promise<Sequencer> {
  const { store, signer } = options;
  const state = await store.load();
  checkState(state, signer);
  if (!state.vkeys.includes(signer.vkey)) await store.addKey(signer.vkey, state.size);
  return new LoadedSequencer(options, state);
}

function checkState({ size, frontier, checkpoint, vkeys }: SequencerState, signer: Signer): void {
  const broken = (reason: string) => new StrongroomError('AUDIT_BROKEN', { reason, size });
  let tree: Frontier;
  try {
    tree = Frontier.from(size, frontier);
  } catch {
    throw broken('the frontier does not fit the size of the tree');
  }
  if (checkpoint === null) {
    if (size > 0) throw broken('a tree without a checkpoint');
    return;
  }
  if (checkpoint.size !== size) throw broken('the last checkpoint is of another size than the tree');
  if (!tree.root().equals(checkpoint.root)) throw broken('the tree does not give the root of the last checkpoint');
  const verifiers = [signer.vkey, ...vkeys].flatMap((vkey) => parseVerifier(vkey) ?? []);
  const note = openCheckpoint(checkpoint.note, verifiers);
  if (!note.ok) throw broken(`the last checkpoint's signature: ${note.reason}`);
  const { origin, size: signedSize, root } = note.checkpoint;
  if (origin !== signer.name) throw broken('the last checkpoint belongs to another log');
  if (signedSize !== size || !root.equals(checkpoint.root)) throw broken('the last checkpoint differs from its note');
}

class LoadedSequencer implements Sequencer {
  readonly #options: SequencerOptions;
  readonly #positions = new Map<number, WriterPosition>();
  /** Writers whose chain has ended: remembered, so that they are not looked at again. */
  readonly #stopped = new Set<number>();
  #frontier: Frontier;
  #checkpoint: StoredCheckpoint | null;
  #newest = 0;

  constructor(options: SequencerOptions, state: SequencerState) {
    this.#options = options;
    this.#frontier = Frontier.from(state.size, state.frontier);
    this.#checkpoint = state.checkpoint;
  }

  get checkpoint(): StoredCheckpoint | null {
    return this.#checkpoint;
  }

  async step(): Promise<StepResult> {
    const { store, onGap, groupsPerWriter = GROUPS_PER_WRITER } = this.#options;
    // Writers first: whoever registers later is seen in the next step, and nobody
    // is fetched before a predecessor that it names.
    await this.#discover();
    const groups = await store.pending([...this.#positions.values()], groupsPerWriter);
    if (groups.length === 0) return { sequenced: 0, more: false, checkpoint: this.#checkpoint };
    const cutShort = fullyFetched(groups, groupsPerWriter);
    const plan = planStep(this.#frontier.size, this.#positions, groups, cutShort);
    // Findings become durable before the step that passes over them: a crash in
    // between tells them twice, never not at all.
    for (const gap of plan.gaps) await onGap(gap);
    if (plan.leaves.length > 0) await this.#commit(plan.runs, plan.leaves);
    // The step is durable: from here on these entries have their index for ever.
    for (const position of plan.positions) this.#follow(position);
    return { sequenced: plan.leaves.length, more: cutShort.size > 0, checkpoint: this.#checkpoint };
  }

  async #discover(): Promise<void> {
    const after = Math.max(0, this.#newest - LATE_REGISTRATIONS);
    const known = [...this.#positions.keys(), ...this.#stopped].filter((key) => key > after);
    for (const position of await this.#options.store.positions(after, known)) {
      this.#newest = Math.max(this.#newest, position.key);
      this.#follow(position);
    }
  }

  #follow(position: WriterPosition): void {
    if (position.stopped) {
      this.#positions.delete(position.key);
      this.#stopped.add(position.key);
    } else {
      this.#positions.set(position.key, position);
    }
  }

  async #commit(runs: readonly Run[], leaves: readonly Buffer[]): Promise<void> {
    const { store, signer } = this.#options;
    const from = this.#frontier.size;
    const frontier = this.#frontier.copy();
    for (const leaf of leaves) frontier.append(leaf);
    const { size } = frontier;
    const root = frontier.root();
    const note = signer.sign(checkpointText({ origin: signer.name, size, root }));
    const checkpoint = { size, root, note };
    if (!(await store.commit({ from, size, frontier: frontier.bytes(), runs, checkpoint }))) {
      throw new StrongroomError('AUDIT_BROKEN', { reason: 'another sequencer moved the tree', size: from });
    }
    this.#frontier = frontier;
    this.#checkpoint = checkpoint;
  }
}

function fullyFetched(groups: readonly PendingGroup[], perWriter: number): Set<number> {
  const counts = new Map<number, number>();
  for (const { key } of groups) counts.set(key, (counts.get(key) ?? 0) + 1);
  return new Set([...counts].filter(([, count]) => count >= perWriter).map(([key]) => key));
}
