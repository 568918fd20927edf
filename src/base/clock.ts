import { randomBytes, randomUUID } from 'node:crypto';

/** Time as a parameter, so that tests move it and nothing sleeps. */
export interface Clock {
  /** Milliseconds since 1970, UTC. May jump; leases use the database clock instead. */
  now(): number;
  /** Milliseconds that only grow, for durations. */
  monotonic(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};

/** Randomness as a parameter, for frozen vectors. Production always uses {@link systemRandom}. */
export interface Random {
  bytes(length: number): Buffer;
  uuid(): string;
}

export const systemRandom: Random = {
  bytes: (length) => randomBytes(length),
  uuid: () => randomUUID(),
};
