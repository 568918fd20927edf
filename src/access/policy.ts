import { createHash } from 'node:crypto';
import { type Static, type TSchema, Type } from 'typebox';
import Value from 'typebox/value';
import { StrongroomError } from '../base/errors.ts';
import { parseCidr } from './source.ts';

/**
 * The policy of an application: a closed document in which everything that is
 * not granted is denied, and an empty list means nobody. docs/policy.md says it
 * to people. What a policy means for a call stands in decide.ts.
 */

/** What an endpoint is about; every row of the endpoint table has one. */
export const ENDPOINT_CLASSES = ['item', 'user', 'money', 'link', 'report', 'directory', 'admin', 'sandbox'] as const;
export type EndpointClass = (typeof ENDPOINT_CLASSES)[number];

/** Tokens that are made to leave custody, each by its own grant. */
export const RELEASED_KINDS = ['processor', 'relay', 'audit_copy', 'stripe', 'third_party_user'] as const;
export type ReleasedKind = (typeof RELEASED_KINDS)[number];

const closed = <T extends Record<string, TSchema>>(properties: T, description: string) =>
  Type.Object(properties, { additionalProperties: false, description });
const count = (description: string) => Type.Integer({ minimum: 0, maximum: 1_000_000_000, description });

// At least one whole segment, so that no single star can grant everything.
const Glob = Type.String({
  pattern: '^(/[A-Za-z0-9_{}.-]+)+(/\\*)?$',
  maxLength: 200,
  description: 'An exact path, or a prefix that ends in /*.',
});

export const PolicyDocument = closed(
  {
    classes: Type.Array(Type.Enum(ENDPOINT_CLASSES), {
      uniqueItems: true,
      description:
        'Endpoint classes that may be called, but for removals, rotations and endpoints that answer over the whole Plaid client.',
    }),
    endpoints: Type.Array(Glob, {
      uniqueItems: true,
      maxItems: 500,
      description: 'Further endpoints by path. Guarded endpoints need their exact path; see docs/policy.md.',
    }),
    denied: Type.Array(Glob, {
      uniqueItems: true,
      maxItems: 500,
      description: 'Endpoints that stay denied whatever else grants them.',
    }),
    shares: Type.Array(Type.String({ pattern: '^[0-9a-f]{24}$', description: 'An application id.' }), {
      uniqueItems: true,
      maxItems: 100,
      description: 'Applications whose items and subjects this one may use too. Its own need no entry.',
    }),
    sourceCidrs: Type.Array(
      Type.String({ minLength: 2, maxLength: 49, description: 'An address or CIDR, IPv4 or IPv6.' }),
      {
        uniqueItems: true,
        maxItems: 200,
        description: 'Where calls may come from. Anywhere is ["0.0.0.0/0", "::/0"].',
      },
    ),
    rate: closed(
      {
        perSecond: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'Calls per second and replica.' }),
        burst: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'Calls at once, per replica.' }),
      },
      'Counted by each replica for itself.',
    ),
    dayQuota: count('Calls in one UTC day, over all replicas, exact.'),
    budgets: closed(
      {
        distinctItemsPerHour: count('Different records used in one UTC hour.'),
        removalsPerDay: count('Removals in one UTC day.'),
        rotationsPerDay: count('Rotations in one UTC day.'),
      },
      'Past a budget the application is frozen for that class of calls until somebody lifts the freeze.',
    ),
    releases: Type.Array(Type.Enum(RELEASED_KINDS), {
      uniqueItems: true,
      description: 'Kinds of tokens that may be handed out in the clear, because they are made to leave.',
    }),
  },
  'What one application may do. Nothing is allowed by default.',
);

export type Policy = Static<typeof PolicyDocument>;

/** Deeper than any policy, so that hostile nesting ends early. */
const MAX_DEPTH = 4;

/**
 * Reads a policy document from JSON, from a request or from the database.
 *
 * Only own properties count: neither an inherited `allow` nor a `__proto__` key
 * can add to a policy. The result is frozen and shares nothing with the input.
 *
 * @throws StrongroomError `INPUT_INVALID`, naming the place and what it takes.
 */
export function parsePolicy(document: unknown): Policy {
  const own = ownCopy(document, MAX_DEPTH);
  if (!Value.Check(PolicyDocument, own)) {
    throw new StrongroomError('INPUT_INVALID', { detail: firstProblem(PolicyDocument, own, 'policy') });
  }
  for (const [at, text] of own.sourceCidrs.entries()) {
    if (parseCidr(text) === null) {
      throw new StrongroomError('INPUT_INVALID', {
        detail: `policy/sourceCidrs/${at}: must be an address or a CIDR such as 10.0.0.0/8, with no bits beyond the prefix.`,
      });
    }
  }
  return own;
}

/** A frozen copy of the own, enumerable, JSON part of a value, without prototypes. */
function ownCopy(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth === 0) return null;
  if (Array.isArray(value)) return Object.freeze(Array.from(value, (element) => ownCopy(element, depth - 1)));
  const copy: Record<string, unknown> = Object.create(null);
  for (const key of Object.keys(value)) copy[key] = ownCopy((value as Record<string, unknown>)[key], depth - 1);
  return Object.freeze(copy);
}

/** SHA-256 over a policy, in hex. The order of fields does not matter, that of lists does. */
export function policyDigest(policy: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted(policy)))
    .digest('hex');
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(sorted);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.map(([name, field]) => [name, sorted(field)]);
}

/**
 * The first thing that does not fit, in words: where, and what is wanted. Never
 * the value itself. Names that are not plain (they came from outside) are escaped.
 */
export function firstProblem(schema: TSchema, value: unknown, name: string): string {
  // `boolean` is TypeBox's echo of the closed object, which is reported as such.
  const errors = Value.Errors(schema, value).filter((error) => error.keyword !== 'boolean');
  const first = errors[0];
  if (first === undefined) return `${name}: does not fit.`;
  const place = plain(`${name}${first.instancePath}`);
  if (first.keyword === 'additionalProperties') {
    const unknown = (first.params as { additionalProperties: string[] }).additionalProperties[0] ?? '';
    return `${place}: unknown field ${JSON.stringify(plain(unknown))}.`;
  }
  if (first.keyword === 'enum') {
    return `${place}: must be one of ${(first.params as { allowedValues: string[] }).allowedValues.join(', ')}.`;
  }
  return `${place}: ${first.message}.`;
}

function plain(text: string): string {
  return text.slice(0, 100).replace(/[^\x20-\x7e]/g, '?');
}
