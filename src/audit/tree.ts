import { hash } from 'node:crypto';

/**
 * The Merkle tree over the log, as RFC 6962 section 2.1 defines it: SHA-256,
 * 0x00 before a leaf, 0x01 before two children. Pure. Appending needs only the
 * frontier: the roots of the perfect subtrees that the size in binary is made
 * of, so that a log of any length costs 32 bytes for each of its bits.
 */

export const HASH_BYTES = 32;
/** RFC 6962 section 2.1: the root of no leaves is the hash of nothing. */
export const EMPTY_ROOT: Buffer = hash('sha256', '', 'buffer');

const LEAF_PREFIX = '\u0000';
const pair = Buffer.alloc(1 + 2 * HASH_BYTES, 1);

/** Hash of a leaf, in hex. The text is ASCII, so that characters are bytes. */
export function leafHash(text: string): string {
  return hash('sha256', LEAF_PREFIX + text, 'hex');
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  pair.set(left, 1);
  pair.set(right, 1 + HASH_BYTES);
  return hash('sha256', pair, 'buffer');
}

/**
 * The growing edge of the tree. `hashes` are ordered from the largest subtree to
 * the smallest; there are as many as `size` has one-bits.
 */
export class Frontier {
  #size: number;
  readonly #hashes: Buffer[];

  constructor(size = 0, hashes: readonly Uint8Array[] = []) {
    if (!Number.isSafeInteger(size) || size < 0) throw new RangeError('a tree size is a safe integer from 0');
    if (hashes.length !== ones(size) || hashes.some((each) => each.length !== HASH_BYTES)) {
      throw new RangeError('the frontier does not fit the size');
    }
    this.#size = size;
    this.#hashes = hashes.map((each) => Buffer.from(each));
  }

  /** From the hashes written one behind the other, as the database keeps them. Throws RangeError when they do not fit. */
  static from(size: number, bytes: Uint8Array): Frontier {
    const hashes: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += HASH_BYTES) hashes.push(bytes.subarray(at, at + HASH_BYTES));
    return new Frontier(size, hashes);
  }

  get size(): number {
    return this.#size;
  }

  get hashes(): readonly Buffer[] {
    return this.#hashes;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#hashes);
  }

  copy(): Frontier {
    return new Frontier(this.#size, this.#hashes);
  }

  append(leaf: Uint8Array): void {
    let node: Buffer = Buffer.from(leaf);
    // Each trailing one-bit of the size is a perfect subtree that the new leaf completes.
    // Division, not shifts: sizes may pass 2^32.
    for (let rest = this.#size; rest % 2 === 1; rest = (rest - 1) / 2) {
      node = nodeHash(this.#hashes.pop() as Buffer, node);
    }
    this.#hashes.push(node);
    this.#size += 1;
  }

  root(): Buffer {
    const last = this.#hashes.at(-1);
    if (last === undefined) return EMPTY_ROOT;
    let node = last;
    for (let i = this.#hashes.length - 2; i >= 0; i--) node = nodeHash(this.#hashes[i] as Buffer, node);
    return node;
  }
}

/** Proof that leaf `index` is under the root of the first `size` leaves: RFC 6962 section 2.1.1, lowest sibling first. */
export function inclusionProof(leaves: readonly Uint8Array[], index: number, size = leaves.length): Buffer[] {
  if (index < 0 || index >= size || size > leaves.length) throw new RangeError('no such leaf');
  return path(leaves, index, 0, size);
}

/** Proof that the tree of `from` leaves is a beginning of the tree of `to` leaves: RFC 6962 section 2.1.2. */
export function consistencyProof(leaves: readonly Uint8Array[], from: number, to = leaves.length): Buffer[] {
  if (from < 0 || from > to || to > leaves.length) throw new RangeError('no such tree');
  return from === 0 || from === to ? [] : subproof(leaves, from, 0, to, true);
}

/** Checks an inclusion proof (RFC 9162 section 2.1.3.2). False for every kind of misfit. */
export function verifyInclusion(
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!Number.isSafeInteger(size) || !Number.isSafeInteger(index) || index < 0 || index >= size) return false;
  let at = index;
  let last = size - 1;
  let node: Uint8Array = leaf;
  for (const sibling of proof) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      node = nodeHash(sibling, node);
      // On the right edge the levels without a sibling are skipped.
      while (at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      node = nodeHash(node, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && same(node, root);
}

/** Checks a consistency proof (RFC 9162 section 2.1.4.2). False for every kind of misfit. */
export function verifyConsistency(
  from: number,
  fromRoot: Uint8Array,
  to: number,
  toRoot: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0 || from > to) return false;
  if (from === 0) return proof.length === 0 && same(fromRoot, EMPTY_ROOT);
  if (from === to) return proof.length === 0 && same(fromRoot, toRoot);
  let at = from - 1;
  let last = to - 1;
  while (at % 2 === 1) [at, last] = [half(at), half(last)];
  // When `from` is a power of two its root is itself the first node.
  const nodes = at === 0 ? [fromRoot, ...proof] : [...proof];
  let older = nodes.shift();
  if (older === undefined) return false;
  let newer = older;
  for (const sibling of nodes) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      older = nodeHash(sibling, older);
      newer = nodeHash(sibling, newer);
      while (at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      newer = nodeHash(newer, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && same(older, fromRoot) && same(newer, toRoot);
}

function path(leaves: readonly Uint8Array[], index: number, start: number, end: number): Buffer[] {
  if (end - start === 1) return [];
  const split = start + largestPowerBelow(end - start);
  return index < split
    ? [...path(leaves, index, start, split), rootOf(leaves, split, end)]
    : [...path(leaves, index, split, end), rootOf(leaves, start, split)];
}

function subproof(leaves: readonly Uint8Array[], from: number, start: number, end: number, whole: boolean): Buffer[] {
  if (from === end) return whole ? [] : [rootOf(leaves, start, end)];
  const split = start + largestPowerBelow(end - start);
  return from <= split
    ? [...subproof(leaves, from, start, split, whole), rootOf(leaves, split, end)]
    : [...subproof(leaves, from, split, end, false), rootOf(leaves, start, split)];
}

function rootOf(leaves: readonly Uint8Array[], start: number, end: number): Buffer {
  const frontier = new Frontier();
  for (let i = start; i < end; i++) frontier.append(leaves[i] as Uint8Array);
  return frontier.root();
}

function largestPowerBelow(count: number): number {
  let power = 1;
  while (power * 2 < count) power *= 2;
  return power;
}

function half(count: number): number {
  return Math.floor(count / 2);
}

function ones(count: number): number {
  let sum = 0;
  for (let rest = count; rest > 0; rest = half(rest)) sum += rest % 2;
  return sum;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
