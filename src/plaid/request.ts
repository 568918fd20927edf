/**
 * A request body as the gateway needs it: handles and subjects at their
 * positions, credentials to cut out, and everything that stands where it must not.
 */
import type { Endpoint, RequestSlot } from './endpoints.ts';
import { type JsonLimits, type JsonReading, readJson, type Spot } from './json-spots.ts';
import { HINT, nextTokenOrHandle, type Sight } from './token-shapes.ts';

/** A token or a handle outside the positions that take one. `at` is a byte of the body. */
export interface Stray {
  readonly what: Sight['what'];
  readonly at: number;
}

export interface RequestReading
  extends Pick<JsonReading<RequestSlot>, 'spots' | 'credentials' | 'cuts' | 'unexpected'> {
  readonly strays: readonly Stray[];
}

/**
 * Reads a request body. A long-lived token or a handle is a stray unless it is
 * the value of a vaulted or released token field: at those positions the caller
 * judges the value itself. That holds for keys, for fields that Plaid does not
 * know, for subjects, for link and public token fields, and through escapes.
 *
 * A string of 100 bytes or a body of 20 MB: time grows with the length only.
 *
 * @throws StrongroomError as {@link readJson}.
 */
export function readRequest(body: Buffer, endpoint: Endpoint, limits: Omit<JsonLimits, 'watch'> = {}): RequestReading {
  const reading = readJson<RequestSlot, Sight['what']>(body, endpoint.requestShape, { ...limits, watch: firstSight });
  const strays: Stray[] = [];
  let covering: readonly Spot<RequestSlot>[] | null = null;
  const judge = ({ what, start, end }: Sight): boolean => {
    covering ??= reading.spots.filter(takesToken);
    if (!covered(covering, start, end)) strays.push({ what, at: start });
    // One is enough to refuse; a few help whoever has to find them.
    return strays.length < MOST_STRAYS;
  };
  for (const sight of reading.sightings) if (!judge(sight)) return { ...reading, strays };
  const text = body.toString('latin1');
  if (!HINT.test(text)) return { ...reading, strays };
  for (let sight = nextTokenOrHandle(text, 0); sight !== null; sight = nextTokenOrHandle(text, sight.end)) {
    if (!judge(sight)) break;
  }
  return { ...reading, strays };
}

const MOST_STRAYS = 8;

function firstSight(text: string): Sight['what'] | null {
  return nextTokenOrHandle(text, 0)?.what ?? null;
}

function takesToken({ slot, value }: Spot<RequestSlot>): boolean {
  return typeof value === 'string' && slot.token !== null && slot.token.disposition !== 'pass';
}

/** Spots are in the order of the text: found by halving, so that many spots and many sights stay cheap. */
function covered(spots: readonly Spot<RequestSlot>[], start: number, end: number): boolean {
  let low = 0;
  let high = spots.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((spots[middle] as Spot<RequestSlot>).end <= start) low = middle + 1;
    else high = middle;
  }
  const spot = spots[low];
  return spot !== undefined && spot.start <= start && end <= spot.end;
}
