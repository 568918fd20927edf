/**
 * One bounded pass over the bytes of a JSON object: finds the values at the
 * positions of a shape and leaves everything else alone, so that the untouched
 * bytes of a body (numbers above all) reach the other side as they came.
 *
 * It accepts less than RFC 8259 allows and nothing that RFC 8259 forbids, so
 * that no other parser can read a body differently: strict UTF-8 without a byte
 * order mark, one object at the top, no duplicate keys (compared after
 * unescaping), no lone surrogates, no key that differs from a known one only in
 * case, a bounded depth and number of keys.
 *
 * Time grows with the length of the body, memory with the number of keys and
 * found positions, both bounded. Strings are decoded only where a shape asks for it.
 */
import { isUtf8 } from 'node:buffer';
import { StrongroomError } from '../base/errors.ts';
import { fold, type Names, type Shape, type ShapeNode } from './json-shape.ts';
import { JsonText } from './json-text.ts';

/** A value at a known position. `start` and `end` enclose it in the body, quotes included. */
export interface Spot<S> {
  readonly slot: S;
  readonly start: number;
  readonly end: number;
  /** The decoded string, or null; undefined for a number, boolean, array or object. */
  readonly value: string | null | undefined;
}

/** A top-level `client_id`, `secret` or `client_secret`. */
export interface Credential {
  readonly name: string;
  readonly value: string | null | undefined;
}

/** Replaces the bytes from `start` to before `end`. */
export interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** A string, key or value, that a watcher recognised only after unescaping. */
export interface Sighting<W> {
  readonly what: W;
  readonly start: number;
  readonly end: number;
}

export interface JsonReading<S, W = never> {
  /** In the order of the text. */
  readonly spots: readonly Spot<S>[];
  readonly credentials: readonly Credential[];
  /** Removes the credentials with their commas; what stays is well-formed. */
  readonly cuts: readonly Edit[];
  /** Top-level keys that the shape guards against. */
  readonly unexpected: readonly string[];
  readonly sightings: readonly Sighting<W>[];
}

export interface JsonLimits<W = never> {
  /** Levels of arrays and objects, the outermost included. Default 64. */
  readonly depth?: number;
  /** Keys in the whole body. Default 100 000. */
  readonly keys?: number;
  /** Values at known positions. Default 10 000. */
  readonly spots?: number;
  /** Is shown every string that has an escape, decoded; returns null for nothing of interest. */
  readonly watch?: (text: string) => W | null;
}

/**
 * Reads a body. Nothing of it is kept beyond the answer.
 *
 * @throws StrongroomError `BODY_MALFORMED`, `BODY_DUPLICATE_KEY`, `BODY_TOO_DEEP`,
 *   or `BODY_TOO_LARGE` for too many keys or positions. The facts name the byte, never its content.
 */
export function readJson<S, W = never>(body: Buffer, shape: Shape<S>, limits: JsonLimits<W> = {}): JsonReading<S, W> {
  if (!isUtf8(body)) throw new StrongroomError('BODY_MALFORMED', { at: 0 });
  return new Reader<S, W>(body, shape, limits).read();
}

/**
 * The body with edits done; `edits` do not overlap, in any order. Bytes outside
 * them are copied unchanged. Texts are written as they are: quotes belong to them.
 */
export function splice(body: Buffer, edits: readonly Edit[]): Buffer {
  if (edits.length === 0) return body;
  const sorted = edits.length === 1 ? edits : [...edits].sort((a, b) => a.start - b.start);
  let length = body.length;
  for (const { start, end, text } of sorted) length += Buffer.byteLength(text) - (end - start);
  const out = Buffer.allocUnsafe(length);
  let from = 0;
  let to = 0;
  for (const { start, end, text } of sorted) {
    to += body.copy(out, to, from, start);
    to += out.write(text, to, 'utf8');
    from = end;
  }
  body.copy(out, to, from);
  return out;
}

const CREDENTIALS = ['client_id', 'secret', 'client_secret'];
/** Up to here keys of one object are compared pair by pair, which needs no memory. */
const PAIRWISE = 12;

class Reader<S, W> extends JsonText {
  readonly #shape: Shape<S>;
  readonly #maxDepth: number;
  readonly #maxSpots: number;
  readonly #watch: ((text: string) => W | null) | undefined;
  readonly #spots: Spot<S>[] = [];
  readonly #credentials: Credential[] = [];
  readonly #unexpected: string[] = [];
  readonly #sightings: Sighting<W>[] = [];
  /** Starts and ends of the keys of all open objects, the innermost last. */
  readonly #keys: number[] = [];
  #keysLeft: number;

  constructor(bytes: Buffer, shape: Shape<S>, limits: JsonLimits<W>) {
    super(bytes);
    this.#shape = shape;
    this.#maxDepth = limits.depth ?? 64;
    this.#keysLeft = limits.keys ?? 100_000;
    this.#maxSpots = limits.spots ?? 10_000;
    this.#watch = limits.watch;
  }

  protected override sawEscapes(start: number, end: number): void {
    const what = this.#watch === undefined ? null : this.#watch(this.text(start, end));
    if (what !== null) this.#sightings.push({ what, start, end });
  }

  read(): JsonReading<S, W> {
    this.space();
    if (this.bytes[this.at] !== 0x7b) throw this.malformed();
    const cuts = this.#top();
    this.space();
    if (this.at !== this.bytes.length) throw this.malformed();
    return {
      spots: this.#spots,
      credentials: this.#credentials,
      cuts,
      unexpected: this.#unexpected,
      sightings: this.#sightings,
    };
  }

  /** The outermost object: as {@link #object}, and it notes credentials and guarded keys. */
  #top(): readonly Edit[] {
    const cuts: Edit[] = [];
    let survivorEnd = -1;
    let pendingCut = -1; // start of a credential whose end is the next key
    let lastCutStart = -1;
    this.at++;
    this.space();
    if (this.bytes[this.at] === 0x7d) {
      this.at++;
      return cuts;
    }
    const keys: KeySet = { base: this.#keys.length, seen: null };
    for (;;) {
      const keyStart = this.at;
      if (pendingCut >= 0) {
        cuts.push({ start: pendingCut, end: keyStart, text: '' });
        pendingCut = -1;
      }
      const node = this.#key(this.#shape.root, keys, true);
      const isCredential = this.#isCredential;
      const name = isCredential ? this.text(keyStart, this.#keyEnd) : '';
      this.colon();
      const start = this.at;
      this.#value(node, 2);
      if (isCredential) {
        this.#credentials.push({ name, value: this.#scalar(start, this.at) });
        pendingCut = keyStart;
        lastCutStart = keyStart;
      } else {
        survivorEnd = this.at;
        lastCutStart = -1;
      }
      const end = this.at;
      this.space();
      const c = this.bytes[this.at];
      this.at++;
      if (c === 0x2c) {
        this.space();
        continue;
      }
      if (c !== 0x7d) throw this.malformed(this.at - 1);
      this.#keys.length = keys.base;
      if (lastCutStart < 0) return cuts;
      // The last member goes, so the comma before it goes too, with every credential in between.
      const from = survivorEnd >= 0 ? survivorEnd : (cuts[0]?.start ?? lastCutStart);
      return [...cuts.filter((cut) => cut.start < from), { start: from, end, text: '' }];
    }
  }

  #object(node: ShapeNode | null, depth: number): void {
    if (depth > this.#maxDepth) throw new StrongroomError('BODY_TOO_DEEP', { at: this.at });
    this.at++;
    this.space();
    if (this.bytes[this.at] === 0x7d) {
      this.at++;
      return;
    }
    const keys: KeySet = { base: this.#keys.length, seen: null };
    for (;;) {
      const child = this.#key(node, keys, false);
      this.colon();
      this.#value(child, depth + 1);
      this.space();
      const c = this.bytes[this.at];
      this.at++;
      if (c === 0x7d) break;
      if (c !== 0x2c) throw this.malformed(this.at - 1);
      this.space();
    }
    this.#keys.length = keys.base;
  }

  #array(node: ShapeNode | null, depth: number): void {
    if (depth > this.#maxDepth) throw new StrongroomError('BODY_TOO_DEEP', { at: this.at });
    const element = node === null ? null : node.element;
    this.at++;
    this.space();
    if (this.bytes[this.at] === 0x5d) {
      this.at++;
      return;
    }
    for (;;) {
      this.#value(element, depth + 1);
      this.space();
      const c = this.bytes[this.at];
      this.at++;
      if (c === 0x5d) return;
      if (c !== 0x2c) throw this.malformed(this.at - 1);
      this.space();
    }
  }

  #value(node: ShapeNode | null, depth: number): void {
    const start = this.at;
    const c = this.bytes[start];
    if (c === 0x22) this.string();
    else if (c === 0x7b) this.#object(node, depth);
    else if (c === 0x5b) this.#array(node, depth);
    else if (c === 0x74) this.word('true');
    else if (c === 0x66) this.word('false');
    else if (c === 0x6e) this.word('null');
    else this.number();
    if (node !== null && node.slot >= 0) {
      if (this.#spots.length >= this.#maxSpots) {
        throw new StrongroomError('BODY_TOO_LARGE', { detail: `It has more than ${this.#maxSpots} tokens and ids.` });
      }
      const slot = this.#shape.slots[node.slot] as S;
      this.#spots.push({ slot, start, end: this.at, value: this.#scalar(start, this.at) });
    }
  }

  /** Reads a key and returns what the shape says about its value. */
  #key(node: ShapeNode | null, keys: KeySet, top: boolean): ShapeNode | null {
    const start = this.at;
    if (this.bytes[start] !== 0x22) throw this.malformed();
    if (--this.#keysLeft < 0) throw new StrongroomError('BODY_TOO_LARGE', { detail: 'It has too many keys.' });
    this.string();
    const end = this.at;
    this.#keyEnd = end;
    this.#isCredential = false;
    const odd = this.escaped || this.upper || this.beyondAscii;
    this.#refuseDuplicate(keys, start, end);
    const names = node === null ? null : node.keys;
    if (names === null && !top) return null;

    if (odd) return this.#oddKey(names, start, end, top);
    if (names !== null) {
      const found = this.#find(names, start + 1, end - 1);
      if (found !== undefined) return found.to;
    }
    if (top) {
      if (this.#find(CREDENTIAL_NAMES, start + 1, end - 1) !== undefined) this.#isCredential = true;
      else if (this.#shape.guarded !== null) {
        const guarded = this.#find(this.#shape.guarded, start + 1, end - 1);
        if (guarded !== undefined && !this.#shape.plain.has(guarded.text)) this.#unexpected.push(guarded.text);
      }
    }
    return null;
  }
  #keyEnd = 0;
  #isCredential = false;

  /** A key with an escape, an upper-case letter or a byte beyond ASCII: rare enough to be decoded. */
  #oddKey(names: Names | null, start: number, end: number, top: boolean): ShapeNode | null {
    const text = this.text(start, end);
    const { guarded, plain } = this.#shape;
    for (const known of top ? [names, CREDENTIAL_NAMES, guarded] : [names]) {
      if (known === null) continue;
      const exact = known.byLength[text.length]?.find((name) => name.text === text);
      if (exact !== undefined) {
        if (known === CREDENTIAL_NAMES) this.#isCredential = true;
        else if (known === guarded && !plain.has(text)) this.#unexpected.push(text);
        return exact.to;
      }
      if (known.folded.has(fold(text))) {
        throw new StrongroomError('BODY_MALFORMED', {
          at: start,
          detail: 'A key differs from a known one only in case.',
        });
      }
    }
    return null;
  }

  #find(names: Names, start: number, end: number) {
    const candidates = names.byLength[end - start];
    if (candidates === undefined) return undefined;
    const bytes = this.bytes;
    for (let n = 0; n < candidates.length; n++) {
      const candidate = candidates[n] as NonNullable<(typeof candidates)[number]>;
      const name = candidate.bytes;
      let i = 0;
      while (i < name.length && name[i] === bytes[start + i]) i++;
      if (i === name.length) return candidate;
    }
    return undefined;
  }

  #refuseDuplicate(keys: KeySet, start: number, end: number): void {
    const open = this.#keys;
    if (keys.seen === null && (this.escaped || open.length - keys.base >= 2 * PAIRWISE)) {
      // From here on whole strings are compared: valid UTF-8 has one spelling for each, escapes have many.
      keys.seen = new Set();
      for (let k = keys.base; k < open.length; k += 2) {
        keys.seen.add(this.decode(open[k] as number, open[k + 1] as number));
      }
      open.length = keys.base;
    }
    if (keys.seen !== null) {
      const size = keys.seen.size;
      keys.seen.add(this.escaped ? this.text(start, end) : this.decode(start, end));
      if (keys.seen.size === size) throw new StrongroomError('BODY_DUPLICATE_KEY', { at: start });
      return;
    }
    const bytes = this.bytes;
    const length = end - start;
    for (let k = keys.base; k < open.length; k += 2) {
      const other = open[k] as number;
      if ((open[k + 1] as number) - other !== length) continue;
      let i = 1;
      while (i < length && bytes[other + i] === bytes[start + i]) i++;
      if (i >= length) throw new StrongroomError('BODY_DUPLICATE_KEY', { at: start });
    }
    open.push(start, end);
  }

  /** The value just read: a string decoded, null, or undefined for anything else. */
  #scalar(start: number, end: number): string | null | undefined {
    const c = this.bytes[start];
    return c === 0x22 ? this.text(start, end) : c === 0x6e ? null : undefined;
  }
}

/** The keys of one open object: ranges from `base` in the reader's stack, or strings once there are many. */
interface KeySet {
  readonly base: number;
  seen: Set<string> | null;
}

const CREDENTIAL_NAMES: Names = ((): Names => {
  const byLength: Names['byLength'][number][] = [];
  for (const text of CREDENTIALS) {
    for (let i = byLength.length; i <= text.length; i++) byLength.push([]);
    byLength[text.length] = [{ text, bytes: Buffer.from(text), to: null }];
  }
  return { byLength, folded: new Set(CREDENTIALS) };
})();
