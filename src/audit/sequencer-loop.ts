import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../base/errors.ts';
import type { Signer } from './checkpoint.ts';
import { loadSequencer, type Sequencer, type SequencerStore, type StoredCheckpoint } from './sequencer.ts';
import type { Gap } from './sequencing.ts';

/**
 * Keeps one sequencer going: takes the lock when it is free, steps while it holds
 * it, and after any failure lets go and begins again from what the database says.
 */

export interface SequencerLease {
  readonly store: SequencerStore;
  /** Aborted when the lock is gone. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
}

export interface SequencerLoopOptions {
  /** Null while another process holds the lock. */
  readonly lease: () => Promise<SequencerLease | null>;
  readonly signer: Signer;
  readonly onGap: (gap: Gap) => Promise<void>;
  /** Time between two steps when nothing is left over. Default 500 ms, so that a checkpoint follows within a second. */
  readonly intervalMs?: number;
  /** How often a process that does not hold the lock asks for it. Default 1000 ms. */
  readonly askMs?: number;
  readonly onCheckpoint?: (checkpoint: StoredCheckpoint) => void;
  /** For the log: `AUDIT_BROKEN` needs a person, everything else passes. Must not throw. */
  readonly onProblem?: (error: unknown) => void;
}

export interface RunningSequencer {
  /** Whether this process holds the lock and has loaded the log. */
  readonly leading: boolean;
  /** Takes one last step if it leads, lets go of the lock, and resolves. */
  stop(): Promise<void>;
}

/** After a broken log was found nothing gets better by itself; asking again keeps it loud. */
const BROKEN_PAUSE_MS = 10_000;

export function startSequencer(options: SequencerLoopOptions): RunningSequencer {
  const { intervalMs = 500, askMs = 1_000, onProblem = () => {}, onCheckpoint = () => {} } = options;
  const stopping = new AbortController();
  let leading = false;

  const pause = (ms: number, lost?: AbortSignal) => {
    const signal = lost === undefined ? stopping.signal : AbortSignal.any([stopping.signal, lost]);
    return sleep(ms, undefined, { signal }).catch(() => {});
  };

  const stepOnce = async (sequencer: Sequencer): Promise<boolean> => {
    const { sequenced, more, checkpoint } = await sequencer.step();
    if (sequenced > 0 && checkpoint !== null) onCheckpoint(checkpoint);
    return more;
  };

  const lead = async ({ store, lost }: SequencerLease): Promise<void> => {
    const sequencer = await loadSequencer({ store, signer: options.signer, onGap: options.onGap });
    leading = true;
    while (!stopping.signal.aborted && !lost.aborted) {
      if (!(await stepOnce(sequencer))) await pause(intervalMs, lost);
    }
    if (!lost.aborted) await stepOnce(sequencer);
  };

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      let rest = askMs;
      let lease: SequencerLease | null = null;
      try {
        lease = await options.lease();
        if (lease !== null) await lead(lease);
      } catch (error) {
        onProblem(error);
        if (codeOf(error) === 'AUDIT_BROKEN') rest = BROKEN_PAUSE_MS;
      } finally {
        leading = false;
        await lease?.release().catch(onProblem);
      }
      await pause(rest);
    }
  };

  const running = run();
  return {
    get leading() {
      return leading;
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
