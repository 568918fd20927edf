import { isUuid, type ParsedEntry, parseEntry, quote } from './entry.ts';

/**
 * The lines of an export, both ways. Each is written in exactly one way: a line
 * that is read is written again and must come out the same, so that no byte of an
 * export is without a meaning. docs/formats/audit.md describes them.
 */

export const EXPORT_VERSION = 1;

export interface Header {
  readonly origin: string;
  /** Index of the first entry that follows. */
  readonly first: number;
  /** Stands for the entries before. */
  readonly frontier: readonly Buffer[];
  /** Keys that may have signed so far. */
  readonly vkeys: readonly string[];
}

export interface RunHeading {
  readonly firstIndex: number;
  readonly writer: string;
  readonly firstN: number;
  readonly count: number;
}

export function headerLine({ origin, first, frontier, vkeys }: Header): string {
  const hashes = frontier.map((hash) => `"${hash.toString('hex')}"`).join(',');
  const keys = vkeys.map(quote).join(',');
  return `{"export":${EXPORT_VERSION},"origin":${quote(origin)},"first":${first},"frontier":[${hashes}],"keys":[${keys}]}`;
}

export function keyLine(vkey: string): string {
  return `{"key":${quote(vkey)}}`;
}

export function runLine({ firstIndex, writer, firstN, count }: RunHeading): string {
  return `{"run":{"first":${firstIndex},"writer":"${writer}","n":${firstN},"count":${count}}}`;
}

export function entryLine(index: number, text: string): string {
  return `{"index":${index},"entry":${text}}`;
}

export function checkpointLine(note: string): string {
  return `{"checkpoint":${quote(note)}}`;
}

export type Line =
  | { readonly type: 'header'; readonly header: Header }
  | { readonly type: 'key'; readonly vkey: string }
  | { readonly type: 'run'; readonly run: RunHeading }
  | { readonly type: 'checkpoint'; readonly note: string }
  /** `entry` is null when the text is no entry. */
  | { readonly type: 'entry'; readonly index: number; readonly text: string; readonly entry: ParsedEntry | null };

const ENTRY_LINE = /^\{"index":(0|[1-9][0-9]{0,15}),"entry":(\{.*\})\}$/;

/** Reads one line without its newline; null when it is none. The text is hostile. */
export function parseLine(text: string): Line | null {
  const match = ENTRY_LINE.exec(text);
  if (match !== null) {
    const index = Number(match[1]);
    const body = match[2] as string;
    return Number.isSafeInteger(index) ? { type: 'entry', index, text: body, entry: parseEntry(body) } : null;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const line = readValue(value);
  return line !== null && written(line) === text ? line : null;
}

function readValue(value: unknown): Line | null {
  if (typeof value !== 'object' || value === null) return null;
  const given = value as Record<string, unknown>;
  if (isText(given.checkpoint)) return { type: 'checkpoint', note: given.checkpoint };
  if (isText(given.key)) return { type: 'key', vkey: given.key };
  if (typeof given.run === 'object' && given.run !== null) {
    const { first, writer, n, count } = given.run as Record<string, unknown>;
    if (!isCount(first) || !isText(writer) || !isUuid(writer) || !isCount(n) || !isCount(count)) return null;
    return { type: 'run', run: { firstIndex: first, writer, firstN: n, count } };
  }
  const { origin, first, frontier, keys } = given;
  if (given.export !== EXPORT_VERSION || !isText(origin) || !isCount(first)) return null;
  if (!isTexts(frontier) || !isTexts(keys) || !frontier.every((hash) => /^[0-9a-f]{64}$/.test(hash))) return null;
  const hashes = frontier.map((hash) => Buffer.from(hash, 'hex'));
  return { type: 'header', header: { origin, first, frontier: hashes, vkeys: keys } };
}

function written(line: Line): string {
  switch (line.type) {
    case 'header':
      return headerLine(line.header);
    case 'key':
      return keyLine(line.vkey);
    case 'run':
      return runLine(line.run);
    case 'checkpoint':
      return checkpointLine(line.note);
    case 'entry':
      return entryLine(line.index, line.text);
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
