import { createHash } from 'node:crypto';
import { Agent, request } from 'undici';

/**
 * Callers that keep a gateway busy, and the book in which they write what was
 * acknowledged to them. What is not in the book as answered may have happened or
 * not; everything else must be found again after a crash.
 */

/** One caller. It makes one call at a time, so that its calls have an order. */
export interface Caller {
  readonly app: { readonly id: string; readonly key: string };
  /** The address that it gives itself, where the gateway believes X-Forwarded-For. */
  readonly source: string | null;
  readonly calls: Call[];
}

export interface Call {
  readonly path: string;
  /** The handle that it named. */
  readonly handle: string | null;
  /** Null: the connection ended first. */
  answer: Answer | null;
}

export interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A public token and what became of it. */
export interface Link {
  readonly caller: Caller;
  readonly publicToken: string;
  /** The handle that was acknowledged for it. */
  handle: string | null;
  /** An exchange of it was cut off. */
  doubt: boolean;
  /** EXCHANGE_UNCERTAIN was the answer. */
  orphan: boolean;
}

/** An item, as the holder of its handle knows it. */
export interface Held {
  readonly caller: Caller;
  readonly handle: string;
  readonly itemId: string;
  /** Acknowledged ones. */
  rotations: number;
  /** Changes that are under way, or were cut off and not explained since. */
  readonly doubt: { rotation: number; removal: number };
  /** `parked`: claimed by a call whose caller was killed, until its lease is over. */
  state: 'active' | 'parked' | 'uncertain' | 'removed';
}

export interface Book {
  readonly callers: readonly Caller[];
  readonly links: Link[];
  readonly held: Map<string, Held>;
}

/** Where the numbers of a run come from: same seed, same numbers. */
export type Dice = () => number;

export function diceOf(seed: string): Dice {
  let state = createHash('sha256').update(seed).digest().readUInt32BE();
  // mulberry32: small, and good enough to choose moments.
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z = (z + Math.imul(z ^ (z >>> 7), z | 61)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The gateway is gone; the caller goes home. */
class Gone extends Error {}

/** One caller's way to the gateway. */
export interface Door {
  readonly url: string;
  readonly agent: Agent;
}

export function openDoor(url: string): Door {
  return { url, agent: new Agent({ connections: 1, headersTimeout: 30_000 }) };
}

/** Makes one call and writes it down before it is sent and when it was answered. */
export async function call(door: Door, caller: Caller, path: string, body: Record<string, unknown>): Promise<Answer> {
  const { id, key } = caller.app;
  const handle = typeof body.access_token === 'string' ? body.access_token : null;
  const made: Call = { path, handle, answer: null };
  caller.calls.push(made);
  try {
    const answer = await request(door.url + path, {
      method: 'POST',
      dispatcher: door.agent,
      headers: {
        'content-type': 'application/json',
        'plaid-client-id': id,
        'plaid-secret': key,
        ...(caller.source === null ? {} : { 'x-forwarded-for': caller.source }),
      },
      body: JSON.stringify(body),
    });
    made.answer = { status: answer.statusCode, body: (await answer.body.json()) as Record<string, unknown> };
    return made.answer;
  } catch (error) {
    throw new Gone(`${path}: ${(error as Error).message}`);
  }
}

/** Works until the gateway is gone. Rejects at an answer that nothing explains. */
export async function work(door: Door, caller: Caller, book: Book, dice: Dice): Promise<void> {
  // Also what another caller is changing at this moment.
  const mine = () =>
    [...book.held.values()].filter((item) => item.caller.app.id === caller.app.id && item.state === 'active');
  const chosen = <T>(list: readonly T[]) => list[Math.floor(dice() * list.length)];
  try {
    for (;;) {
      const what = dice();
      const item = chosen(mine());
      if (item === undefined || what < 0.25) await link(door, caller, book);
      else if (what < 0.35) {
        const known = chosen(book.links.filter((other) => other.caller.app.id === caller.app.id && !other.doubt));
        if (known !== undefined) await exchange(door, caller, known, book);
      } else if (what < 0.7) await read(door, caller, item);
      else if (what < 0.93) await rotate(door, caller, item);
      else await remove(door, caller, item);
    }
  } catch (error) {
    if (!(error instanceof Gone)) throw error;
  } finally {
    await door.agent.close().catch(() => {});
  }
}

async function link(door: Door, caller: Caller, book: Book): Promise<void> {
  const created = await call(door, caller, '/sandbox/public_token/create', {
    institution_id: 'ins_109508',
    initial_products: ['transactions'],
  });
  if (created.status !== 200) throw unexplained('a public token', created);
  const fresh = { caller, publicToken: String(created.body.public_token), handle: null, doubt: false, orphan: false };
  book.links.push(fresh);
  await exchange(door, caller, fresh, book);
}

/** The first exchange of a public token, or one more. */
export async function exchange(door: Door, caller: Caller, link: Link, book: Book): Promise<Answer> {
  const wasInDoubt = link.doubt;
  link.doubt = true;
  const answer = await call(door, caller, '/item/public_token/exchange', { public_token: link.publicToken });
  link.doubt = false;
  if (answer.status === 200) {
    const handle = String(answer.body.access_token);
    if (link.handle !== null && link.handle !== handle)
      throw new Error('one public token was answered with two handles');
    if (link.orphan) throw new Error('an exchange that was named uncertain gave a handle');
    for (const other of book.links) {
      if (other !== link && other.handle === handle) throw new Error('two public tokens were answered with one handle');
    }
    link.handle = handle;
    if (!book.held.has(handle)) {
      const itemId = String(answer.body.item_id);
      const doubt = { rotation: 0, removal: 0 };
      book.held.set(handle, { caller, handle, itemId, rotations: 0, doubt, state: 'active' });
    }
    return answer;
  }
  // Only a token whose exchange was cut off may be unsettled, and it says so.
  const code = answer.body.error_code;
  if (!(wasInDoubt || link.orphan) || link.handle !== null || code !== 'EXCHANGE_UNCERTAIN')
    throw unexplained('an exchange', answer);
  link.orphan = true;
  return answer;
}

export async function read(door: Door, caller: Caller, item: Held): Promise<Answer> {
  const answer = await call(door, caller, '/accounts/get', { access_token: item.handle });
  if (answer.status === 200) {
    const { item_id } = answer.body.item as { item_id?: unknown };
    if (item_id !== item.itemId) throw new Error(`a handle opened another item: ${item_id}, not ${item.itemId}`);
  } else if (!explained(item, answer)) throw unexplained('a read', answer);
  return answer;
}

async function rotate(door: Door, caller: Caller, item: Held): Promise<void> {
  item.doubt.rotation++;
  const answer = await call(door, caller, '/item/access_token/invalidate', { access_token: item.handle });
  item.doubt.rotation--;
  if (answer.status === 200) {
    if (answer.body.new_access_token !== item.handle) throw new Error('a rotation changed the handle');
    item.rotations++;
  } else if (answer.body.error_code !== 'ROTATION_CONFLICT' && !explained(item, answer))
    throw unexplained('a rotation', answer);
}

async function remove(door: Door, caller: Caller, item: Held): Promise<void> {
  item.doubt.removal++;
  const answer = await call(door, caller, '/item/remove', { access_token: item.handle });
  item.doubt.removal--;
  if (answer.status === 200) item.state = 'removed';
  else if (answer.body.error_code !== 'ROTATION_CONFLICT' && !explained(item, answer))
    throw unexplained('a removal', answer);
}

/** Whether a refusal fits what is known of the item: a removal is under way, or done. */
function explained(item: Held, { body }: Answer): boolean {
  switch (body.error_code) {
    case 'TOKEN_REMOVED':
    case 'ITEM_NOT_FOUND': // reached Plaid after the removal did
    case 'TOKEN_ROTATING':
      return item.doubt.removal > 0 || item.state === 'removed';
    default:
      return false;
  }
}

export function unexplained(what: string, answer: Answer): Error {
  return new Error(`${what} was answered with ${answer.status} ${JSON.stringify(answer.body)}`);
}
