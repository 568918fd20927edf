import type { KeyObject } from 'node:crypto';
import { type Clock, type Random, systemClock, systemRandom } from '../base/clock.ts';
import { type ErrorCode, StrongroomError } from '../base/errors.ts';
import type { DeploymentEnvironment } from '../base/ids.ts';
import { DATA_KEY_BYTES, type DataKey, type KeyPurpose, keyCheck, newKey, passesKeyCheck } from './data-key.ts';
import { type KeyContext, type Kms, WRAPPED_LIMIT } from './kms.ts';

/**
 * Unwrapped data keys, held in memory for a limited time and a limited number of
 * uses, so that a permission taken away at the key service cuts access within the
 * limit. One unwrap per key, process and period, however many callers wait.
 *
 * A key past its limit is never used, also not when the key service is away: that
 * is the point of the limit. Eviction drops the reference; when the memory is
 * reused is up to the garbage collector (docs/threat-model.md).
 */

/** NIST SP 800-57 part 1 rev. 5, section 7. */
export type KeyState = 'pre-activation' | 'active' | 'suspended' | 'deactivated' | 'compromised' | 'destroyed';

/** States in which a key may still open what it sealed. Only an `active` key seals. */
const OPENING: readonly KeyState[] = ['active', 'deactivated', 'compromised'];

/** A data key as it is kept. `wrapped` is null once destroyed. */
export interface StoredDataKey {
  readonly id: string;
  readonly purpose: KeyPurpose;
  readonly state: KeyState;
  readonly wrapped: Uint8Array | null;
  readonly kekId: string;
  readonly keyCheck: Uint8Array;
}

/** Where wrapped keys are kept; src/store/keys.ts. Failures are DATABASE_UNAVAILABLE. */
export interface DataKeyRows {
  loadActive(purpose: KeyPurpose): Promise<StoredDataKey | null>;
  load(id: string): Promise<StoredDataKey | null>;
  /** Resolves once durable. False when the purpose has an active key already, and then nothing has changed. */
  insertActive(key: Omit<StoredDataKey, 'state' | 'wrapped'> & { readonly wrapped: Uint8Array }): Promise<boolean>;
}

/** What the audit log is told of an unwrap. `code` is null when it succeeded. */
export interface UnwrapEvent {
  readonly dataKey: string;
  readonly purpose: KeyPurpose;
  readonly kek: string;
  readonly code: ErrorCode | null;
}

export interface KeyringOptions {
  readonly kms: Kms;
  readonly rows: DataKeyRows;
  readonly deploymentId: string;
  readonly environment: DeploymentEnvironment;
  /** How long an unwrapped key is used, in seconds, counted from before the unwrap. Default 300; above 0. */
  readonly cacheSeconds?: number;
  /** How often an unwrapped key is handed out. Default 1,000,000; at least 1. */
  readonly cacheUses?: number;
  /** Patience with the key service, in milliseconds. Default 10,000. */
  readonly kmsTimeoutMs?: number;
  /**
   * Called after every unwrap, good or bad, and awaited before the key is used:
   * when it rejects on a good one, the key is not used (no audit, no access).
   */
  readonly onUnwrap?: (event: UnwrapEvent) => void | Promise<void>;
  readonly clock?: Clock;
  readonly random?: Random;
}

interface Held {
  readonly dataKey: DataKey;
  /** On the monotonic clock. */
  readonly until: number;
  usesLeft: number;
}

/** After a failed unwrap the key service is left alone for so long. */
const DAMPING_MS = 1_000;
/** How long the answer to "which key is active?" holds. A key that is deactivated still seals for so long. */
const ACTIVE_FOR_MS = 10_000;

export class Keyring {
  readonly #kms: Kms;
  readonly #rows: DataKeyRows;
  readonly #context: Pick<KeyContext, 'deployment' | 'environment'>;
  readonly #cacheMs: number;
  readonly #cacheUses: number;
  readonly #kmsTimeoutMs: number;
  readonly #onUnwrap: (event: UnwrapEvent) => void | Promise<void>;
  readonly #clock: Clock;
  readonly #random: Random;

  readonly #held = new Map<string, Held>();
  readonly #unwrapping = new Map<string, Promise<Held>>();
  readonly #failed = new Map<string, { readonly until: number; readonly error: StrongroomError }>();
  readonly #active = new Map<KeyPurpose, { readonly id: string; readonly until: number }>();
  readonly #asking = new Map<KeyPurpose, Promise<string>>();
  /** Grows with every {@link drop}: an unwrap that began before it is not kept. */
  #generation = 0;
  #sweep: NodeJS.Timeout | undefined;

  constructor(options: KeyringOptions) {
    const { cacheSeconds = 300, cacheUses = 1_000_000, kmsTimeoutMs = 10_000 } = options;
    if (!(cacheSeconds > 0 && cacheUses >= 1 && kmsTimeoutMs > 0))
      throw new RangeError('a cache limit is out of bounds');
    this.#kms = options.kms;
    this.#rows = options.rows;
    this.#context = { deployment: options.deploymentId, environment: options.environment };
    this.#cacheMs = cacheSeconds * 1_000;
    this.#cacheUses = cacheUses;
    this.#kmsTimeoutMs = kmsTimeoutMs;
    this.#onUnwrap = options.onUnwrap ?? (() => {});
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
  }

  /**
   * The key to seal or digest with.
   *
   * @throws StrongroomError `DATA_KEY_MISSING` before the first {@link ensure};
   *   `DATABASE_UNAVAILABLE`; and as {@link get}.
   */
  async current(purpose: KeyPurpose): Promise<DataKey> {
    const known = this.#active.get(purpose);
    if (known !== undefined && this.#clock.monotonic() < known.until) return this.get(known.id);
    const id = await once(this.#asking, purpose, () => this.#askForActive(purpose));
    return this.get(id);
  }

  /**
   * The key with this id, to open with.
   *
   * @throws StrongroomError `SEAL_BROKEN` when there is no such key (the id comes
   *   from a sealed row, so the row is wrong); `DATA_KEY_UNUSABLE` in a state that
   *   opens nothing; `KEK_WRONG` when it is wrapped under another KEK than ours;
   *   `KMS_REFUSED`, `KMS_UNAVAILABLE`, `DATABASE_UNAVAILABLE`.
   */
  async get(id: string): Promise<DataKey> {
    for (;;) {
      const held = this.#held.get(id);
      if (held !== undefined && this.#clock.monotonic() < held.until && held.usesLeft > 0) {
        held.usesLeft--;
        return held.dataKey;
      }
      this.#held.delete(id);
      const fresh = await once(this.#unwrapping, id, () => this.#load(id));
      if (this.#clock.monotonic() >= fresh.until) {
        throw new StrongroomError('KMS_UNAVAILABLE', { data_key: id, reason: 'slower than a key may be held' });
      }
      if (fresh.usesLeft > 0) {
        fresh.usesLeft--;
        return fresh.dataKey;
      }
      // More callers waited than one unwrap may serve: the rest ask again.
    }
  }

  /**
   * Makes sure that a purpose has a key, and returns it. Safe to call from many
   * replicas at once: the database lets one key become active, and all use that.
   * The new key is unwrapped once before it is kept, so that a key service that
   * would wrap but not unwrap is found out before anything is sealed.
   *
   * @returns also whether this call made the key.
   */
  async ensure(purpose: KeyPurpose): Promise<{ readonly dataKey: DataKey; readonly created: boolean }> {
    const created = (await this.#rows.loadActive(purpose)) === null && (await this.#create(purpose));
    this.#active.delete(purpose);
    return { dataKey: await this.current(purpose), created };
  }

  /** Forgets every key now. Callers that hold one may finish with it; later calls ask the key service again. */
  drop(): void {
    this.#generation++;
    this.#held.clear();
    this.#active.clear();
    this.#failed.clear();
    this.#unwrapping.clear();
    this.#asking.clear();
    clearTimeout(this.#sweep);
    this.#sweep = undefined;
  }

  async #askForActive(purpose: KeyPurpose): Promise<string> {
    const generation = this.#generation;
    const until = this.#clock.monotonic() + ACTIVE_FOR_MS;
    const row = await this.#rows.loadActive(purpose);
    if (row === null) throw new StrongroomError('DATA_KEY_MISSING', { purpose });
    if (generation === this.#generation) this.#active.set(purpose, { id: row.id, until });
    return row.id;
  }

  async #load(id: string): Promise<Held> {
    const generation = this.#generation;
    const failed = this.#failed.get(id);
    if (failed !== undefined && this.#clock.monotonic() < failed.until) throw failed.error;
    this.#failed.delete(id);

    const row = await this.#rows.load(id);
    if (row === null) throw new StrongroomError('SEAL_BROKEN', { data_key: id });
    if (!OPENING.includes(row.state))
      throw new StrongroomError('DATA_KEY_UNUSABLE', { data_key: id, state: row.state });

    // The limit counts from before the unwrap: that is when the permission was last known to hold.
    const started = this.#clock.monotonic();
    let dataKey: DataKey;
    try {
      dataKey = await this.#unwrap(row);
    } catch (caught) {
      const error = typed(caught);
      this.#failed.set(id, { until: this.#clock.monotonic() + DAMPING_MS, error });
      // The failure is what the caller must hear, whether or not it could be recorded.
      await this.#tell(row, error.code).catch(() => {});
      throw error;
    }
    await this.#tell(row, null);

    const held = { dataKey, until: started + this.#cacheMs, usesLeft: this.#cacheUses };
    if (generation === this.#generation) {
      this.#held.set(id, held);
      this.#planSweep();
    }
    return held;
  }

  async #tell(row: Pick<StoredDataKey, 'id' | 'purpose' | 'kekId'>, code: ErrorCode | null): Promise<void> {
    await this.#onUnwrap({ dataKey: row.id, purpose: row.purpose, kek: row.kekId, code });
  }

  async #unwrap({ id, purpose, kekId, wrapped, keyCheck: check }: StoredDataKey): Promise<DataKey> {
    if (kekId !== this.#kms.keyId) {
      throw new StrongroomError('KEK_WRONG', {
        data_key: id,
        detail: `The data keys are wrapped under ${kekId}; configured is ${this.#kms.keyId}.`,
      });
    }
    if (wrapped === null || wrapped.length > WRAPPED_LIMIT) throw new StrongroomError('KMS_REFUSED', { data_key: id });
    const context = { ...this.#context, purpose, dataKey: id };
    const key = await within(this.#kmsTimeoutMs, (signal) => this.#kms.unwrap(wrapped, context, signal));
    const dataKey: DataKey = { id, purpose, key };
    if (!isWhole(key) || !passesKeyCheck(dataKey, check)) {
      throw new StrongroomError('KMS_REFUSED', { data_key: id, kek: kekId, reason: 'another key came back' });
    }
    return dataKey;
  }

  /** @returns false when another replica was faster. */
  async #create(purpose: KeyPurpose): Promise<boolean> {
    const dataKey: DataKey = { id: this.#random.uuid(), purpose, key: newKey(this.#random) };
    const context = { ...this.#context, purpose, dataKey: dataKey.id };
    const row = await within(this.#kmsTimeoutMs, async (signal) => ({
      id: dataKey.id,
      purpose,
      wrapped: await this.#kms.wrap(dataKey.key, context, signal),
      kekId: this.#kms.keyId,
      keyCheck: keyCheck(dataKey),
    }));
    await this.#unwrap({ ...row, state: 'pre-activation' });
    await this.#tell(row, null);
    return this.#rows.insertActive(row);
  }

  /** Drops stale keys also in a process that nobody asks for one. */
  #planSweep(): void {
    if (this.#sweep !== undefined) return;
    const first = Math.min(...[...this.#held.values()].map((held) => held.until));
    this.#sweep = setTimeout(
      () => {
        this.#sweep = undefined;
        if (this.sweep() > 0) this.#planSweep();
      },
      Math.max(first - this.#clock.monotonic(), 1_000),
    ).unref();
  }

  /** Drops keys that are past their time. Runs by itself; returns how many are left. */
  sweep(): number {
    const now = this.#clock.monotonic();
    for (const [id, held] of this.#held) if (now >= held.until) this.#held.delete(id);
    for (const [id, failed] of this.#failed) if (now >= failed.until) this.#failed.delete(id);
    return this.#held.size;
  }
}

function isWhole(key: KeyObject): boolean {
  return key.type === 'secret' && key.symmetricKeySize === DATA_KEY_BYTES;
}

/** Joins the call that is under way for this key, else starts one. */
function once<K, V>(calls: Map<K, Promise<V>>, key: K, start: () => Promise<V>): Promise<V> {
  const running = calls.get(key);
  if (running !== undefined) return running;
  const call = start().finally(() => {
    if (calls.get(key) === call) calls.delete(key);
  });
  calls.set(key, call);
  return call;
}

/** An adapter's untyped failure says nothing about what the service decided. */
function typed(error: unknown): StrongroomError {
  return error instanceof StrongroomError ? error : new StrongroomError('KMS_UNAVAILABLE', {}, error);
}

/** Gives up on an adapter that does not answer, also on one that ignores its signal. */
async function within<T>(ms: number, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new StrongroomError('KMS_UNAVAILABLE', { reason: 'no answer', after_ms: ms }));
      controller.abort();
    }, ms);
  });
  try {
    return await Promise.race([call(controller.signal), late]);
  } catch (error) {
    throw typed(error);
  } finally {
    clearTimeout(timer);
  }
}
