/**
 * Plaid refuses bodies with fields that an endpoint does not know. The known
 * fields come from the official SDK's types (fields.generated.ts).
 */
import { PlaidFailure } from './errors.ts';
import { ENUMS, REQUESTS, SHAPES } from './fields.generated.ts';

interface Findings {
  readonly missing: string[];
  readonly unknown: string[];
  readonly invalid: string[];
}

/** Bodies nested deeper than this are refused before they are walked. */
const DEEPEST = 32;

/**
 * Throws MISSING_FIELDS, UNKNOWN_FIELDS or INVALID_FIELD, in this order.
 * An optional field may be null, as SDKs send it. Fields that only carry
 * credentials were looked at before.
 */
export function checkFields(path: string, body: Readonly<Record<string, unknown>>): void {
  const request = REQUESTS[path];
  if (request === undefined || request === null) return;
  const found: Findings = { missing: [], unknown: [], invalid: [] };
  checkShape(request, body, '', found, 0);
  if (found.missing.length > 0) {
    throw new PlaidFailure('MISSING_FIELDS', `the following required fields are missing: ${found.missing.join(', ')}`);
  }
  if (found.unknown.length > 0) {
    throw new PlaidFailure(
      'UNKNOWN_FIELDS',
      `the following fields are not recognized by this endpoint: ${found.unknown.join(', ')}`,
    );
  }
  const [invalid] = found.invalid;
  if (invalid !== undefined) throw new PlaidFailure('INVALID_FIELD', invalid);
}

function checkShape(
  name: string,
  value: Readonly<Record<string, unknown>>,
  at: string,
  found: Findings,
  depth: number,
): void {
  const shape = SHAPES[name] ?? {};
  for (const field of Object.keys(value)) if (!Object.hasOwn(shape, field)) found.unknown.push(at + field);
  for (const field in shape) {
    const word = shape[field] as string;
    const given = Object.hasOwn(value, field) ? value[field] : undefined;
    if (given !== undefined && given !== null) checkValue(word.slice(1), given, at + field, found, depth);
    else if (word.startsWith('!')) found.missing.push(at + field);
  }
}

function checkValue(word: string, value: unknown, at: string, found: Findings, depth: number): void {
  if (depth > DEEPEST) found.invalid.push(`${at} is nested too deeply`);
  else if (word.endsWith('[]')) {
    if (!Array.isArray(value)) found.invalid.push(`${at} must be an array`);
    else for (const entry of value) checkValue(word.slice(0, -2), entry, at, found, depth + 1);
  } else if (word.startsWith('@')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      found.invalid.push(`${at} must be an object`);
    else checkShape(word.slice(1), value as Record<string, unknown>, `${at}.`, found, depth + 1);
  } else if (word.startsWith('#')) {
    const values = ENUMS[word.slice(1)] ?? [];
    if (!values.includes(value as string)) found.invalid.push(`${at} must be one of: ${values.join(', ')}`);
  } else if (word === 's') {
    if (typeof value !== 'string') found.invalid.push(`${at} must be a string`);
    // Tokens and ids: Plaid refuses an empty one before it looks it up.
    else if (value === '' && /(_token|_id)$/.test(at)) found.invalid.push(`${at} must be a non-empty string`);
  } else if (word === 'n') {
    if (typeof value !== 'number') found.invalid.push(`${at} must be a number`);
  } else if (word === 'b') {
    if (typeof value !== 'boolean') found.invalid.push(`${at} must be a boolean`);
  } else if (word === 'o') {
    if (typeof value !== 'object' || Array.isArray(value)) found.invalid.push(`${at} must be an object`);
  }
}
