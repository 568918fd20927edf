import { entryPrefix, entryText, NO_PREVIOUS } from './entry.ts';
import { HASH_BYTES, leafHash } from './tree.ts';

/**
 * A group: consecutive entries of one writer that become durable together, as
 * one row. The row keeps the rests only; heads follow from the writer, the
 * counter and the hashes. Pure.
 */

/** Most entries in a group, and most bytes of their rests. */
export const MAX_GROUP = 256;
export const MAX_GROUP_BYTES = 256 * 1024;

/** Where a writer's chain stands. */
export interface ChainHead {
  /** Counter of the next entry. */
  readonly next: number;
  /** Hash of the last entry in hex; {@link NO_PREVIOUS} before the first. */
  readonly hash: string;
}

export const CHAIN_START: ChainHead = { next: 0, hash: NO_PREVIOUS };

export interface Group {
  readonly firstN: number;
  readonly count: number;
  /** 32 bytes: hash of the entry before the group. */
  readonly prev: Buffer;
  /** 32 bytes for each entry: the hash of the whole entry, which is also its leaf in the tree. */
  readonly hashes: Buffer;
  /** The rests, one newline between. */
  readonly entries: string;
}

/** Chains rests onto a head. */
export function makeGroup(
  prefix: string,
  head: ChainHead,
  rests: readonly string[],
): Group & { readonly end: ChainHead } {
  const hashes = Buffer.allocUnsafe(rests.length * HASH_BYTES);
  let { next, hash } = head;
  for (let i = 0; i < rests.length; i++) {
    hash = leafHash(entryText(prefix, next, hash, rests[i] as string));
    hashes.write(hash, i * HASH_BYTES, 'hex');
    next++;
  }
  return {
    firstN: head.next,
    count: rests.length,
    prev: Buffer.from(head.hash, 'hex'),
    hashes,
    entries: rests.join('\n'),
    end: { next, hash },
  };
}

export interface GroupOfWriter extends Group {
  readonly deployment: string;
  readonly writer: string;
}

/** One entry of a stored group, with the hash that was stored for it beside the hash that its bytes have. */
export interface StoredEntry {
  readonly n: number;
  readonly text: string;
  readonly leaf: string;
  readonly stored: string;
}

/**
 * The entries of a stored group as whole texts. Null when the row does not hold
 * together (counts differ); an altered entry comes back as it is, and shows by
 * `leaf` and `stored` differing.
 */
export function readGroup(group: GroupOfWriter): StoredEntry[] | null {
  const rests = group.entries.split('\n');
  if (rests.length !== group.count || group.hashes.length !== group.count * HASH_BYTES) return null;
  const prefix = entryPrefix(group.deployment, group.writer);
  const stored = group.hashes.toString('hex');
  let prev = group.prev.toString('hex');
  return rests.map((rest, i) => {
    const n = group.firstN + i;
    const text = entryText(prefix, n, prev, rest);
    prev = stored.slice(i * 2 * HASH_BYTES, (i + 1) * 2 * HASH_BYTES);
    return { n, text, leaf: leafHash(text), stored: prev };
  });
}
