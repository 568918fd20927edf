/**
 * Guesses what somebody meant to write: a near name, the right section, a size
 * without its unit. Only ever used in the text of a finding.
 */

/** The candidate that differs least from `word`, or null when none is near. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  if (word.length > 64) return null;
  const plain = (text: string): string => text.toLowerCase().replace(/[-_.]/g, '');
  let best: string | null = null;
  // One letter in three may be wrong; more is another word.
  let least = Math.floor(Math.max(word.length, 3) / 3) + 1;
  for (const candidate of candidates) {
    // `warning` for warn, `prod` for production.
    const [short, long] = [plain(word), plain(candidate)].sort((a, b) => a.length - b.length) as [string, string];
    const away = short.length >= 3 && long.startsWith(short) ? 1 : distance(short, long);
    if (away < least) {
      best = candidate;
      least = away;
    }
  }
  return best;
}

/** Edits (insert, delete, replace, swap neighbours) between two short words. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let edits = Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        edits = Math.min(edits, (before[j - 2] ?? 0) + 1);
      }
      row.push(edits);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}

interface Tree {
  readonly type?: string;
  readonly properties?: Record<string, Tree>;
  readonly items?: Tree;
}

/** Every setting path that ends in this name. */
export function placesOf(name: string, tree: Tree, path = ''): string[] {
  const places: string[] = [];
  for (const [key, inner] of Object.entries(tree.properties ?? {})) {
    const here = path === '' ? key : `${path}.${key}`;
    if (key === name) places.push(here);
    places.push(...placesOf(name, inner, here));
    if (inner.items !== undefined) places.push(...placesOf(name, inner.items, `${here}[]`));
  }
  return places;
}

const UNITS: Readonly<Record<string, { readonly of: 'time' | 'size'; readonly factor: number }>> = {
  ms: { of: 'time', factor: 1 },
  s: { of: 'time', factor: 1_000 },
  m: { of: 'time', factor: 60_000 },
  h: { of: 'time', factor: 3_600_000 },
  b: { of: 'size', factor: 1 },
  kb: { of: 'size', factor: 1_000 },
  mb: { of: 'size', factor: 1_000_000 },
  gb: { of: 'size', factor: 1_000_000_000 },
  kib: { of: 'size', factor: 1_024 },
  mib: { of: 'size', factor: 1_048_576 },
  gib: { of: 'size', factor: 1_073_741_824 },
};

/** `30s` for a setting that ends in `Ms` is 30000; null when the text is no size or time that fits the setting. */
export function sizeIn(text: string, setting: string): number | null {
  const match = /^(\d{1,12})\s{0,2}([A-Za-z]{1,3})$/.exec(text);
  const unit = UNITS[match?.[2]?.toLowerCase() ?? ''];
  if (match === null || unit === undefined) return null;
  const amount = Number(match[1]) * unit.factor;
  if (unit.of === 'size') return /bytes$/i.test(setting) ? amount : null;
  if (/ms$/i.test(setting)) return amount;
  return /seconds$/i.test(setting) ? Math.ceil(amount / 1_000) : null;
}
