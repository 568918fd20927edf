import type { FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import { ENDPOINT_CLASSES, PolicyDocument } from '../access/policy.ts';
import { type Applications, MAX_OLD_KEY_SECONDS } from '../custody/applications.ts';
import type { ApplicationRow } from '../store/applications.ts';
import { type AdminRoute, TOKEN_HOLDER } from './admin-route.ts';

/** Applications over HTTP: shapes in, shapes out. What happens stands in custody/applications.ts. */

const closed = { additionalProperties: false };
const Time = Type.String({ format: 'date-time' });
const Id = Type.String({ pattern: '^[0-9a-f]{24}$', description: 'An application id.' });
const FreezeClass = Type.Enum([...ENDPOINT_CLASSES, 'removal', 'rotation']);

const Params = Type.Object({ id: Id }, closed);

const Application = Type.Object({
  application_id: Id,
  name: Type.String(),
  plaid_client_id: Type.String(),
  policy: PolicyDocument,
  version: Type.Integer({ description: 'Grows with every change of policy, keys, freezes or disabling.' }),
  created_at: Time,
  disabled_at: Type.Union([Time, Type.Null()]),
  keys: Type.Array(
    Type.Object({ key_id: Type.String(), created_at: Time, expires_at: Type.Union([Time, Type.Null()]) }),
    { description: 'The valid keys, the older one first. Never a key itself.' },
  ),
  freezes: Type.Array(Type.Object({ class: Type.String(), since: Time, reason: Type.String() })),
});

const Usage = Type.Object({
  calls_today: Type.Integer(),
  removals_today: Type.Integer(),
  rotations_today: Type.Integer(),
  distinct_items_this_hour: Type.Integer(),
});

const Key = Type.String({ description: 'The application key, shown this once. It cannot be read again.' });

const Addition = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 64, description: 'Unique. Letters, digits, spaces and . _ @ / -' }),
    plaid_client: Type.Optional(
      Type.String({ maxLength: 64, description: 'Name or id of a Plaid client; needed when there are several.' }),
    ),
    policy: PolicyDocument,
  },
  closed,
);

const KeyChange = Type.Object(
  {
    old_key_valid_seconds: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MAX_OLD_KEY_SECONDS,
        description: 'Default 86400. 0 ends the old key at once.',
      }),
    ),
    replaces: Type.Optional(
      Type.Enum(['older', 'newer'], {
        description: 'Which of two valid keys makes room. Without it two valid keys refuse a third.',
      }),
    ),
  },
  closed,
);

const Unfreeze = Type.Object(
  {
    classes: Type.Union([Type.Array(FreezeClass, { minItems: 1, uniqueItems: true }), Type.Literal('all')]),
  },
  closed,
);

const idOf = (request: FastifyRequest) => (request.params as Static<typeof Params>).id;

export function applicationRoutes(applications: Applications): AdminRoute[] {
  return [
    {
      method: 'POST',
      path: '/applications',
      summary: 'Add an application and get its key, which is shown this once.',
      body: Addition,
      answer: Type.Object({ application: Application, key: Key }),
      status: 201,
      errors: ['APPLICATION_EXISTS'],
      handle: async (request) => {
        const { name, plaid_client: plaidClient, policy } = request.body as Static<typeof Addition>;
        const added = await applications.add({ name, plaidClient, policy }, TOKEN_HOLDER);
        return { application: shown(added.application), key: added.key.reveal() };
      },
    },
    {
      method: 'GET',
      path: '/applications',
      summary: 'All applications, by name.',
      answer: Type.Object({ applications: Type.Array(Application) }),
      handle: async () => ({ applications: (await applications.list()).map(shown) }),
    },
    {
      method: 'GET',
      path: '/applications/:id',
      summary: 'One application and what it has used.',
      params: Params,
      answer: Type.Object({ application: Application, usage: Usage }),
      errors: ['APPLICATION_UNKNOWN'],
      handle: async (request) => {
        const id = idOf(request);
        const [row, usage] = await Promise.all([applications.show(id), applications.usage(id)]);
        return {
          application: shown(row),
          usage: {
            calls_today: usage.calls,
            removals_today: usage.removals,
            rotations_today: usage.rotations,
            distinct_items_this_hour: usage.items,
          },
        };
      },
    },
    {
      method: 'PUT',
      path: '/applications/:id/policy',
      summary: 'Replace the policy as a whole. Takes effect at the next call.',
      params: Params,
      body: PolicyDocument,
      answer: Type.Object({ application: Application }),
      errors: ['APPLICATION_UNKNOWN', 'APPLICATION_DISABLED'],
      handle: async (request) => ({
        application: shown(await applications.setPolicy(idOf(request), request.body, TOKEN_HOLDER)),
      }),
    },
    {
      method: 'POST',
      path: '/applications/:id/keys',
      summary: 'Make a new key, which is shown this once. The old one stays valid for a while.',
      params: Params,
      body: KeyChange,
      answer: Type.Object({ application: Application, key: Key }),
      status: 201,
      errors: ['APPLICATION_UNKNOWN', 'APPLICATION_DISABLED', 'KEYS_AT_LIMIT'],
      handle: async (request) => {
        const change = request.body as Static<typeof KeyChange>;
        const rotated = await applications.rotateKey(
          idOf(request),
          { oldKeyValidSeconds: change.old_key_valid_seconds, replaces: change.replaces },
          TOKEN_HOLDER,
        );
        return { application: shown(rotated.application), key: rotated.key.reveal() };
      },
    },
    {
      method: 'POST',
      path: '/applications/:id/disable',
      summary: 'Shut the application out for good.',
      params: Params,
      answer: Type.Object({ application: Application }),
      errors: ['APPLICATION_UNKNOWN'],
      handle: async (request) => ({ application: shown(await applications.disable(idOf(request), TOKEN_HOLDER)) }),
    },
    {
      method: 'POST',
      path: '/applications/:id/unfreeze',
      summary: 'Lift freezes after a budget was exceeded.',
      params: Params,
      body: Unfreeze,
      answer: Type.Object({ application: Application }),
      errors: ['APPLICATION_UNKNOWN', 'APPLICATION_DISABLED'],
      handle: async (request) => {
        const { classes } = request.body as Static<typeof Unfreeze>;
        const row = await applications.unfreeze(idOf(request), classes === 'all' ? null : classes, TOKEN_HOLDER);
        return { application: shown(row) };
      },
    },
  ];
}

const iso = (ms: number) => new Date(ms).toISOString();

/** jsonb forgets the order of fields; people read it in the order of the documentation. */
function inOrder(policy: Static<typeof PolicyDocument>): Static<typeof PolicyDocument> {
  const names = Object.keys(PolicyDocument.properties) as (keyof typeof policy)[];
  return Object.fromEntries(names.map((name) => [name, policy[name]])) as typeof policy;
}

function shown(row: ApplicationRow): Static<typeof Application> {
  return {
    application_id: row.id,
    name: row.name,
    plaid_client_id: row.plaidClientId,
    policy: inOrder(row.policy as Static<typeof PolicyDocument>),
    version: row.version,
    created_at: iso(row.createdAt),
    disabled_at: row.disabledAt === null ? null : iso(row.disabledAt),
    keys: row.keys.map((key) => ({
      key_id: key.keyId,
      created_at: iso(key.createdAt),
      expires_at: key.expiresAt === null ? null : iso(key.expiresAt),
    })),
    freezes: row.freezes.map((freeze) => ({ class: freeze.class, since: iso(freeze.since), reason: freeze.reason })),
  };
}
