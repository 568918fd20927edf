import { StrongroomError } from '../base/errors.ts';
import { type EntryFields, type EntryKind, type FieldType, isEntryKind, KINDS, TYPES } from './kinds.ts';

/**
 * One audit entry as bytes. There is exactly one way to write an entry
 * (docs/formats/audit.md): keys in a fixed order, no spaces, every character
 * outside printable ASCII escaped. So the bytes can be hashed, a changed byte is
 * another entry, and no value can forge a line, a colour or a direction of
 * writing on the screen of whoever reads the log.
 *
 * An entry is made in two halves. The rest (time, kind, fields) is known when
 * somebody asks for an entry; the head (counter, hash of the one before) only
 * when its group is put together.
 */

export const ENTRY_VERSION = 1;
/** What stands in `prev` of a writer's first entry. */
export const NO_PREVIOUS = '0'.repeat(64);
/** Longest rest, in bytes. The table allows no combination that is longer. */
export const MAX_REST = 16_384;
const MAX_DEPLOYMENT = 64;

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const FORMS: Record<Exclude<FieldType, 'count' | 'flag' | 'text'>, RegExp> = {
  uuid: new RegExp(`^${UUID}$`),
  uuids: new RegExp(`^${UUID}(?: ${UUID}){0,127}$`),
  application: /^[0-9a-f]{24}$/,
  hash: /^[0-9a-f]{64}$/,
  code: /^[A-Z][A-Z0-9_]{0,63}$/,
  word: /^[a-z][a-z0-9_.:-]{0,63}$/,
  address: /^[0-9a-f.:]{2,45}$/,
};

interface PlannedField {
  readonly name: string;
  /** `,"name":` */
  readonly key: string;
  readonly type: FieldType;
  readonly optional: boolean;
}
interface Plan {
  /** `","kind":"access.admitted"` */
  readonly start: string;
  readonly fields: readonly PlannedField[];
}

const PLANS = Object.fromEntries(
  Object.entries(KINDS).map(([kind, { fields }]) => [
    kind,
    {
      start: `","kind":"${kind}"`,
      fields: Object.entries(fields).map(([name, type]) => ({
        name,
        key: `,"${name}":`,
        type: (type.endsWith('?') ? type.slice(0, -1) : type) as FieldType,
        optional: type.endsWith('?'),
      })),
    },
  ]),
) as unknown as Record<EntryKind, Plan>;

/**
 * Writes time, kind and fields. Throws StrongroomError `INTERNAL`, which names
 * kind and field but not the value, when something does not fit the table: that
 * is an error of the calling code and nothing has been recorded.
 *
 * @param at - Milliseconds since 1970, UTC, years 1970 to 9999.
 */
export function writeRest<K extends EntryKind>(kind: K, fields: EntryFields<K>, at: number): string {
  if (!isEntryKind(kind)) throw misfit(String(kind), 'kind');
  const plan = PLANS[kind as EntryKind];
  const values = fields as Readonly<Record<string, unknown>>;
  let text = `"at":"${isoTime(at)}${plan.start}`;
  let used = 0;
  for (const field of plan.fields) {
    const value = values[field.name];
    if (value === undefined || value === null) {
      if (!field.optional) throw misfit(kind, field.name);
      continue;
    }
    used++;
    const written = writeValue(field.type, value);
    if (written === null) throw misfit(kind, field.name);
    text += field.key + written;
  }
  for (const name in values) if (values[name] !== undefined && values[name] !== null) used--;
  if (used !== 0) throw misfit(kind, 'a field that the table does not know');
  if (text.length >= MAX_REST) throw misfit(kind, 'all fields together');
  return `${text}}`;
}

/** The beginning that all entries of a writer share. */
export function entryPrefix(deployment: string, writer: string): string {
  if (!isDeploymentId(deployment)) throw new RangeError('a deployment id has 1 to 64 letters, digits, dots, dashes, _');
  return `{"v":${ENTRY_VERSION},"deployment":"${deployment}","writer":"${writer}","n":`;
}

/** The whole entry, ASCII: what is hashed, exported and proven. */
export function entryText(prefix: string, n: number, prev: string, rest: string): string {
  return `${prefix}${n},"prev":"${prev}",${rest}`;
}

export function isUuid(text: string): boolean {
  return FORMS.uuid.test(text);
}

export function isDeploymentId(text: string): boolean {
  return text.length <= MAX_DEPLOYMENT && /^[A-Za-z0-9._-]+$/.test(text);
}

export interface ParsedEntry {
  readonly deployment: string;
  readonly writer: string;
  readonly n: number;
  readonly prev: string;
  /** ISO 8601, milliseconds, UTC. */
  readonly at: string;
  readonly kind: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
  /** False for a kind that this version does not know; its fields are then unchecked. */
  readonly known: boolean;
}

const ENTRY = new RegExp(
  `^\\{"v":${ENTRY_VERSION},"deployment":"([A-Za-z0-9._-]{1,${MAX_DEPLOYMENT}})","writer":"(${UUID})",` +
    '"n":(0|[1-9][0-9]{0,15}),"prev":"([0-9a-f]{64})",' +
    '("at":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z)","kind":"([a-z][a-z0-9_.]{0,63})".*\\})$',
);

/** Reads an entry; null unless it is written in exactly the one way. The text is hostile. */
export function parseEntry(text: string): ParsedEntry | null {
  const match = text.length > MAX_REST + 512 ? null : ENTRY.exec(text);
  if (match === null) return null;
  const [, deployment = '', writer = '', digits, prev = '', rest = '', at = '', kind = ''] = match;
  const n = Number(digits);
  const time = Date.parse(at);
  if (!Number.isSafeInteger(n) || Number.isNaN(time) || new Date(time).toISOString() !== at) return null;
  const read = parseRest(rest, kind, time);
  return read === null ? null : { deployment, writer, n, prev, at, kind, ...read };
}

function parseRest(rest: string, kind: string, time: number): Pick<ParsedEntry, 'fields' | 'known'> | null {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(`{${rest}`) as Record<string, unknown>;
  } catch {
    return null;
  }
  const { at: _at, kind: _kind, ...fields } = value;
  const known = isEntryKind(kind);
  // Writing it again must give the same bytes: this catches spaces, other escapes,
  // repeated keys, a wrong order and what JSON.parse lets through.
  let again: string;
  try {
    again = known ? writeRest(kind, fields as never, time) : writeUnknown(kind, fields, time);
  } catch {
    return null;
  }
  return again === rest ? { fields: fields as ParsedEntry['fields'], known } : null;
}

/** An entry of a later version: the order of its fields is its own, the encoding is not. */
function writeUnknown(kind: string, fields: Readonly<Record<string, unknown>>, at: number): string {
  let text = `"at":"${isoTime(at)}","kind":"${kind}"`;
  for (const [name, value] of Object.entries(fields)) {
    if (!/^[a-z][a-z0-9_]{0,63}$/.test(name)) throw misfit(kind, 'field name');
    const type = typeof value === 'number' ? 'count' : typeof value === 'boolean' ? 'flag' : null;
    const written = type !== null ? writeValue(type, value) : typeof value === 'string' ? quote(value) : null;
    if (written === null) throw misfit(kind, 'field value');
    text += `,"${name}":${written}`;
  }
  return `${text}}`;
}

function writeValue(type: FieldType, value: unknown): string | null {
  if (type === 'count') {
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? String(value) : null;
  }
  if (type === 'flag') return typeof value === 'boolean' ? String(value) : null;
  if (typeof value !== 'string') return null;
  if (type === 'text') return quote(guard(value));
  return FORMS[type].test(value) ? `"${value}"` : null;
}

const PLAIN = /^[ !#-[\]-~]*$/;
const NOT_PLAIN = /[^ !#-[\]-~]/g;

/** A JSON string in the one way: printable ASCII as it is, all else escaped. */
export function quote(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : `"${text.replace(NOT_PLAIN, escapeUnit)}"`;
}

function escapeUnit(unit: string): string {
  if (unit === '"') return '\\"';
  if (unit === '\\') return '\\\\';
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

// Shapes of Plaid's tokens, our handles and our application keys. A net under the
// callers, who pass none: a path that somebody typed a token into still lands here.
const TOKEN = /(?:sandbox|production)-[A-Za-z0-9-]{6,}|strongroom-key-[a-z2-7]{6,}/gi;
const WITHHELD = '[withheld]';
/** Room for `...(+` digits `)`. */
const CUT_ROOM = 24;

/** What gets recorded of a text from outside. Doing it twice changes nothing more. */
function guard(text: string): string {
  const { max } = TYPES.text;
  const short = text.length <= max ? text : cut(text, max);
  if (!TOKEN.test(short)) return short;
  TOKEN.lastIndex = 0;
  return short.replace(TOKEN, WITHHELD);
}

function cut(text: string, max: number): string {
  const kept = max - CUT_ROOM;
  return `${text.slice(0, kept)}...(+${text.length - kept})`;
}

let cachedAt = Number.NaN;
let cachedIso = '';

/** Many entries fall into the same millisecond. */
function isoTime(at: number): string {
  if (at !== cachedAt) {
    const iso = new Date(at).toISOString();
    if (iso.length !== 24) throw new RangeError('a year has four digits');
    cachedAt = at;
    cachedIso = iso;
  }
  return cachedIso;
}

function misfit(kind: string, field: string): StrongroomError {
  return new StrongroomError('INTERNAL', { reason: 'audit entry does not fit the table', kind, field });
}
