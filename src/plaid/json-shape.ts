/**
 * The positions of a JSON document that matter, compiled into a tree that the
 * tokenizer walks beside the text. Pure; built once per endpoint.
 */

/** Keys by their length in bytes, so that a key of a document is compared with few candidates. */
export interface Names {
  readonly byLength: readonly (readonly Name[] | undefined)[];
  /** The same names in lower case, to notice a key that differs only in case. */
  readonly folded: ReadonlySet<string>;
}

export interface Name {
  readonly text: string;
  readonly bytes: Uint8Array;
  /** Null for a guarded or plain name, which leads nowhere. */
  readonly to: ShapeNode | null;
}

/** Stands for one value. */
export interface ShapeNode {
  /** Index into `Shape.slots`, or -1 when the value itself is of no interest. */
  readonly slot: number;
  readonly keys: Names | null;
  /** What stands for each element, when the value is an array. */
  readonly element: ShapeNode | null;
}

export interface Shape<S> {
  readonly slots: readonly S[];
  readonly root: ShapeNode;
  /** Top-level names to report when the shape itself does not know them. */
  readonly guarded: Names | null;
  /** Top-level names that are no concern although they are guarded elsewhere. */
  readonly plain: ReadonlySet<string>;
}

interface Draft {
  slot: number;
  keys: Map<string, Draft>;
  element: Draft | null;
}

/** Paths are dotted keys; `[]` after a key steps into each element: `loans[].user_token`. */
export function compileShape<S extends { readonly path: string }>(
  slots: readonly S[],
  top: { readonly guarded: Names | null; readonly plain: readonly string[] } = { guarded: null, plain: [] },
): Shape<S> {
  const root = draft();
  slots.forEach(({ path }, index) => {
    let node = root;
    for (const part of path.split('.')) {
      const name = part.replace(/(\[\])+$/, '');
      const next = node.keys.get(name) ?? draft();
      node.keys.set(name, next);
      node = next;
      for (let depth = (part.length - name.length) / 2; depth > 0; depth--) {
        node.element ??= draft();
        node = node.element;
      }
    }
    node.slot = index;
  });
  return { slots, root: finish(root), guarded: top.guarded, plain: new Set(top.plain) };
}

export function compileNames(names: readonly string[]): Names {
  return index(names.map((text) => [text, null]));
}

function draft(): Draft {
  return { slot: -1, keys: new Map(), element: null };
}

function finish({ slot, keys, element }: Draft): ShapeNode {
  return {
    slot,
    keys: keys.size === 0 ? null : index([...keys].map(([text, to]) => [text, finish(to)])),
    element: element === null ? null : finish(element),
  };
}

function index(names: readonly (readonly [string, ShapeNode | null])[]): Names {
  const byLength: Name[][] = [];
  for (const [text, to] of names) {
    const bytes = Buffer.from(text, 'utf8');
    const list = byLength[bytes.length] ?? [];
    list.push({ text, bytes, to });
    byLength[bytes.length] = list;
  }
  // No holes: a dense array is the faster one to look into.
  for (let i = 0; i < byLength.length; i++) byLength[i] ??= [];
  return { byLength, folded: new Set(names.map(([text]) => fold(text))) };
}

/**
 * How a parser that ignores case may read a key. Go's encoding/json does, and
 * folds U+017F to s and U+212A to k as Unicode does.
 */
export function fold(key: string): string {
  return key.replaceAll('\u017f', 's').replaceAll('\u212a', 'k').toLowerCase();
}
