import { isAbsolute } from 'node:path';
import { StrongroomError } from '../base/errors.ts';

/**
 * How configuration names a secret: `<scheme>:<place>`, never the secret itself.
 * A reference is not secret; it may stand in logs, errors and statements.
 *
 * This file knows the notation only. Nothing is read here; see read.ts.
 */

declare const brand: unique symbol;
/** A checked reference, for example `file:/run/secrets/plaid`. Only {@link parseReference} makes one. */
export type SecretReference = string & { readonly [brand]: 'SecretReference' };

/** The schemes that have an adapter. */
export const SCHEMES = ['file'] as const;
export type Scheme = (typeof SCHEMES)[number];

/** Schemes that Strongroom is going to read. Named so that the refusal can say "not yet" instead of "unknown". */
const PLANNED = ['aws-sm', 'gcp-sm', 'azure-kv', 'vault'];

export type ParsedReference =
  | { readonly ok: true; readonly reference: SecretReference }
  | { readonly ok: false; readonly says: string };

/**
 * Checks a reference. Never throws, and never repeats the text in `says`: what
 * was written there may be the secret itself.
 *
 * @param text - At most 4,096 characters. The path of `file:` is absolute.
 */
export function parseReference(text: string): ParsedReference {
  if (text.length > 4096) return refused('a reference is at most 4096 characters long');
  const match = /^([a-z][a-z0-9-]{0,15}):(.*)$/s.exec(text);
  if (match === null) return refused('this is not a reference to a secret');
  const [, scheme, place] = match as unknown as [string, string, string];
  if (PLANNED.includes(scheme)) return refused(`the scheme ${scheme}: is not supported yet`);
  // The unknown scheme itself is not repeated: `hunter2:something` is a password too.
  if (!(SCHEMES as readonly string[]).includes(scheme)) return refused('the scheme of this reference is unknown');
  if (place.includes('\0')) return refused('a path holds no NUL');
  if (place.startsWith('//')) return refused('file: takes one slash before the path, not two');
  if (!isAbsolute(place)) return refused('the path after file: must be absolute');
  return { ok: true, reference: text as SecretReference };
}

function refused(says: string): ParsedReference {
  return { ok: false, says };
}

/**
 * @throws StrongroomError `SECRET_REFERENCE_INVALID`; the text is not repeated.
 */
export function referenceOf(text: string): SecretReference {
  const parsed = parseReference(text);
  if (!parsed.ok) throw new StrongroomError('SECRET_REFERENCE_INVALID', { detail: `${parsed.says}.` });
  return parsed.reference;
}

/** Splits a checked reference into its scheme and what follows the colon. */
export function partsOf(reference: SecretReference): { readonly scheme: Scheme; readonly place: string } {
  const colon = reference.indexOf(':');
  return { scheme: reference.slice(0, colon) as Scheme, place: reference.slice(colon + 1) };
}
