import { types } from 'node:util';
import { StrongroomError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';
import { isSecretKey } from './patterns.ts';
import { mark, redactText } from './text.ts';

/**
 * A safe copy of any value, for logs. Never throws, never changes what it is
 * given, runs no getter, no `toJSON` and no proxy trap, and ends: depth, width
 * and total size are bounded.
 */

const MOST_DEPTH = 8;
const MOST_ENTRIES = 100;
const MOST_NODES = 2_000;

interface Progress {
  nodes: number;
  /** What stands above the value; a value that stands above itself is a cycle. */
  readonly above: Set<object>;
}

/**
 * @returns Plain JSON data: strings, numbers, booleans, null, lists and objects
 *   without prototype. Secrets are replaced by `[redacted]`, recognised by the
 *   name of their field or by their shape.
 */
export function redactValue(value: unknown): unknown {
  try {
    return copy(value, { nodes: 0, above: new Set() });
  } catch {
    return '[unprintable]';
  }
}

function copy(value: unknown, progress: Progress): unknown {
  switch (typeof value) {
    case 'string':
      return redactText(value);
    case 'number':
      return Number.isFinite(value) ? value : String(value);
    case 'bigint':
      return value.toString();
    case 'symbol':
      return redactText(value.toString());
    case 'function':
      return '[function]';
    case 'object':
      return value === null ? null : copyObject(value, progress);
    default:
      return value;
  }
}

function copyObject(value: object, progress: Progress): unknown {
  // A proxy's traps are foreign code and may lie, throw or never return.
  if (types.isProxy(value)) return '[proxy]';
  if (value instanceof Secret) return '[secret]';
  if (progress.above.has(value)) return '[circular]';
  if (progress.above.size >= MOST_DEPTH) return '[deeper]';
  if (++progress.nodes > MOST_NODES) return '[more]';
  progress.above.add(value);
  try {
    return copyKind(value, progress);
  } catch {
    return '[unprintable]';
  } finally {
    progress.above.delete(value);
  }
}

function copyKind(value: object, progress: Progress): unknown {
  if (types.isNativeError(value) || value instanceof Error) return copyError(value as Error, progress);
  if (Array.isArray(value)) return copyList(value, progress);
  if (types.isMap(value)) return copyPairs([...Map.prototype.entries.call(value)], progress);
  if (types.isSet(value)) return copyList([...Set.prototype.values.call(value)], progress);
  // Bytes may be a key or a token, and nobody reads them in a log.
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (types.isAnyArrayBuffer(value)) return `[${value.byteLength} bytes]`;
  if (types.isDate(value)) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  if (types.isRegExp(value)) return redactText(RegExp.prototype.toString.call(value));
  if (types.isBoxedPrimitive(value)) return copy(value.valueOf(), progress);
  if (types.isKeyObject(value)) return '[key]';
  if (types.isPromise(value)) return '[promise]';
  if (value instanceof URL) return urlOf(value);
  if (value instanceof URLSearchParams) return copyPairs([...value.entries()], progress);
  return copyFields(value, progress);
}

/** Without credentials, query and fragment: values stand there that are not ours to print. */
function urlOf(url: URL): string {
  return redactText(
    `${url.origin === 'null' ? url.protocol : url.origin}${url.pathname}${url.search === '' ? '' : '?'}`,
  );
}

function copyFields(value: object, progress: Progress): Record<string, unknown> {
  const safe: Record<string, unknown> = Object.create(null);
  const keys = Object.keys(value);
  // { name: 'PLAID-SECRET', value: '...' }, the way many libraries list headers.
  const named = ['name', 'key', 'header', 'field'].some((field) => {
    const name = dataOf(value, field);
    return typeof name === 'string' && isSecretKey(name);
  });
  for (const key of keys.slice(0, MOST_ENTRIES)) {
    const inner = dataOf(value, key);
    const hidden = isSecretKey(key) || (named && /^values?$/i.test(key));
    safe[redactText(key)] = inner === GETTER ? '[getter]' : hidden ? hide(inner) : copy(inner, progress);
  }
  if (keys.length > MOST_ENTRIES) safe['[more]'] = keys.length - MOST_ENTRIES;
  return safe;
}

const GETTER = Symbol('getter');

/** The value of a data property; a getter is not run. */
function dataOf(value: object, key: string): unknown {
  const property = Object.getOwnPropertyDescriptor(value, key);
  return property !== undefined && !('value' in property) ? GETTER : property?.value;
}

/** Absence is no secret, and "was it there?" is often the question. */
function hide(value: unknown): unknown {
  return value === null || value === undefined || typeof value === 'boolean' ? value : mark();
}

function copyList(list: readonly unknown[], progress: Progress): unknown[] {
  const safe: unknown[] = [];
  for (let index = 0; index < Math.min(list.length, MOST_ENTRIES); index++) {
    const before = list[index - 1];
    // Raw headers: name, value, name, value; or one pair of them.
    const hidden = typeof before === 'string' && /^[\w.-]{1,64}$/.test(before) && isSecretKey(before);
    safe.push(hidden ? hide(list[index]) : copy(list[index], progress));
  }
  if (list.length > MOST_ENTRIES) safe.push(`[${list.length - MOST_ENTRIES} more]`);
  return safe;
}

/** An object where all names are texts, else a list of pairs. */
function copyPairs(pairs: readonly (readonly [unknown, unknown])[], progress: Progress): unknown {
  if (!pairs.every(([name]) => typeof name === 'string')) return copyList(pairs, progress);
  const safe: Record<string, unknown> = Object.create(null);
  for (const [name, inner] of pairs.slice(0, MOST_ENTRIES)) {
    safe[redactText(name as string)] = isSecretKey(name as string) ? hide(inner) : copy(inner, progress);
  }
  if (pairs.length > MOST_ENTRIES) safe['[more]'] = pairs.length - MOST_ENTRIES;
  return safe;
}

/** Name, message, code, stack, causes, and whatever fields a library hung on it. */
function copyError(error: Error, progress: Progress): Record<string, unknown> {
  const safe = errorCore(error, (inner) => copy(inner, progress));
  for (const [key, inner] of Object.entries(copyFields(error, progress))) {
    if (!Object.hasOwn(safe, key) && key !== 'detail') safe[key] = inner;
  }
  return safe;
}

/**
 * What a log record says about an error, and nothing of what a library hung on it
 * (an HTTP client's error holds the request, headers and body included).
 */
export function describeError(error: unknown, depth = 0): unknown {
  try {
    if (types.isProxy(error)) return { type: '[proxy]' };
    if (!(error instanceof Error) && !types.isNativeError(error)) return { type: 'thrown', message: summary(error) };
    if (depth >= MOST_DEPTH) return { type: '[deeper]' };
    return errorCore(error as Error, (inner) => describeError(inner, depth + 1));
  } catch {
    return { type: '[unprintable]' };
  }
}

function summary(thrown: unknown): string {
  if (typeof thrown === 'string') return redactText(thrown);
  if (typeof thrown === 'object' && thrown !== null) return '[object]';
  return redactText(String(thrown));
}

function errorCore(error: Error, nested: (inner: unknown) => unknown): Record<string, unknown> {
  const safe: Record<string, unknown> = Object.create(null);
  const read = (key: string): unknown => {
    try {
      // Not only data properties: V8 makes `stack` an accessor. Errors that are proxies do not come here.
      return (error as unknown as Record<string, unknown>)[key];
    } catch {
      return '[unprintable]';
    }
  };
  const text = (key: string): string | undefined => {
    const found = read(key);
    return typeof found === 'string' ? redactText(found) : undefined;
  };
  safe.type = text('name') ?? 'Error';
  safe.message = text('message') ?? '';
  const code = read('code');
  if (typeof code === 'number') safe.code = code;
  else if (text('code') !== undefined) safe.code = text('code');
  if (text('syscall') !== undefined) safe.syscall = text('syscall');
  if (error instanceof StrongroomError) safe.facts = redactValue(error.facts);
  if (text('stack') !== undefined) safe.stack = text('stack');
  const cause = read('cause');
  if (cause !== undefined) safe.cause = nested(cause);
  const errors = read('errors');
  if (Array.isArray(errors)) safe.errors = errors.slice(0, 10).map(nested);
  return safe;
}
