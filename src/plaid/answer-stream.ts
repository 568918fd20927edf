/**
 * The leak scanner for answers that are too large to hold, and for files. What
 * has not been seen whole is kept back, so that a token split over any number of
 * chunks is found before its first byte leaves.
 *
 * What a file compresses (most of a PDF, all of a ZIP) cannot be looked into.
 */
import { StrongroomError } from '../base/errors.ts';
import { findLeakFrom } from './answer.ts';
import { type CallSecrets, longestSpelling } from './known-secrets.ts';
import { LONGEST_SHAPE } from './token-shapes.ts';

export interface StreamScanner {
  /**
   * Takes the next chunk; returns the bytes that may leave now, perhaps none.
   * @throws StrongroomError `UPSTREAM_LEAK`: nothing more may leave, and the
   *   connection to the application must be cut, since its answer has begun.
   */
  push(chunk: Buffer): Buffer;
  /** The rest. @throws StrongroomError `UPSTREAM_LEAK` */
  end(): Buffer;
}

/** Bytes kept back for shapes: each character may be a six-byte escape. */
const HOLD_FOR_SHAPES = LONGEST_SHAPE * 6;

/** @param secrets - As for findLeak. */
export function createStreamScanner(secrets: CallSecrets): StreamScanner {
  const hold = Math.max(HOLD_FOR_SHAPES, longestSpelling(secrets));
  // The first byte has left already; it is kept for what may not stand before a token.
  let window: Buffer = Buffer.alloc(1, ' ');

  const look = () => {
    const leak = findLeakFrom(window, secrets, 1);
    if (leak !== null) {
      window = Buffer.alloc(1);
      throw new StrongroomError('UPSTREAM_LEAK', { kind: leak.kind, spelling: leak.spelling });
    }
  };

  return {
    push(chunk) {
      window = Buffer.concat([window, chunk]);
      look();
      const keep = Math.min(window.length - 1, hold);
      const safe = window.subarray(1, window.length - keep);
      if (safe.length > 0) window = Buffer.from(window.subarray(window.length - keep - 1));
      return safe;
    },
    end() {
      look();
      const rest = window.subarray(1);
      window = Buffer.alloc(1);
      return rest;
    },
  };
}
