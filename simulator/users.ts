/** /user/*: Plaid users, their items, and tokens that third parties get for them. */
import { type Call, type Endpoint, invalidField, type Json, Reply } from './call.ts';
import { PlaidFailure } from './errors.ts';
import { itemById, renderItem } from './items.ts';
import type { Item, User } from './state.ts';
import { isoTime } from './world.ts';

const DAY = 86_400_000; // ms

/**
 * Answers 200 with a `user_token` in legacy mode, 201 without one where the
 * caller asks for the new users. The token is shown once and never again:
 * asking anew for the same client_user_id is refused (legacy) or answers the
 * user_id alone (new).
 */
const create: Endpoint = (call) => {
  const clientUserId = call.body.text('client_user_id');
  const legacy =
    call.world.settings.userTokens &&
    call.headers['plaid-new-user-api-enabled'] !== 'true' &&
    !call.body.flag('with_upgraded_user');
  for (const user of call.world.state.users.values()) {
    if (user.clientId !== call.clientId || user.clientUserId !== clientUserId) continue;
    if (legacy) throw invalidField('a user with this client_user_id already exists');
    return { user_id: user.id };
  }
  const user: User = {
    id: `usr_${call.world.mint.lower(14)}`,
    clientId: call.clientId,
    clientUserId,
    createdAt: call.now,
    updatedAt: call.now,
    identity: call.body.raw.identity ?? null,
  };
  call.world.state.users.set(user.id, user);
  if (!legacy) return new Reply(201, { user_id: user.id });
  const token = call.world.grant({ kind: 'user', clientId: call.clientId, createdAt: call.now, userId: user.id });
  return { user_token: token, user_id: user.id };
};

const get: Endpoint = (call) => {
  const user = call.user();
  return {
    user_id: user.id,
    client_user_id: user.clientUserId,
    created_at: isoTime(user.createdAt),
    updated_at: isoTime(user.updatedAt),
    identity: user.identity,
  };
};

const update: Endpoint = (call) => {
  const user = call.user();
  user.identity = call.body.raw.identity ?? user.identity;
  user.updatedAt = call.now;
  return {};
};

export function itemsOf(call: Call, user: User): Item[] {
  return [...call.world.state.items.values()].filter((item) => item.userId === user.id && item.state !== 'removed');
}

const remove: Endpoint = (call) => {
  const user = call.user();
  for (const item of itemsOf(call, user)) call.world.remove(item);
  call.world.state.users.delete(user.id);
  return {};
};

const getItems: Endpoint = (call) => ({ items: itemsOf(call, call.user()).map((item) => renderItem(item)) });

/** The one way to end an item without its access token. */
const removeItems: Endpoint = (call) => {
  const user = call.user();
  const items = call.body.texts('item_ids').map((id) => itemById(call, id));
  if (items.length === 0) throw invalidField('item_ids must be a non-empty array');
  if (items.some((item) => item.userId !== user.id)) throw new PlaidFailure('ITEM_NOT_FOUND');
  for (const item of items) call.world.remove(item);
  return {};
};

const createThirdPartyToken: Endpoint = (call) => {
  const user = call.user();
  const wanted = call.body.maybeText('expiration_time');
  const expiresAt = wanted === null ? call.now + DAY : Date.parse(wanted);
  if (!(expiresAt > call.now && expiresAt <= call.now + DAY))
    throw invalidField('expiration_time must lie within the next 24 hours');
  const token = call.world.grant({
    kind: 'third_party_user',
    clientId: call.clientId,
    createdAt: call.now,
    userId: user.id,
    expiresAt,
  });
  return { third_party_user_token: token };
};

const removeThirdPartyToken: Endpoint = (call) => {
  const token = call.body.text('third_party_user_token');
  call.token('third_party_user', token);
  call.world.state.grants.delete(token);
  return { removed: true };
};

/** Who pays the user, with a token for the report about it. */
const getEmployment: Endpoint = (call) => ({
  items: itemsOf(call, call.user()).map(
    (item): Json => ({
      item_id: item.id,
      employments: [
        {
          account_id: item.accounts[0]?.id ?? null,
          status: 'ACTIVE',
          start_date: '2020-01-01',
          end_date: null,
          employer: { name: 'Plaid Inc' },
          title: 'Software Engineer',
          platform_ids: { employee_id: '1234567', payroll_id: '1234567', position_id: '8888' },
          employee_type: 'FULL_TIME',
          last_paystub_date: '2026-01-15',
        },
      ],
      employment_report_token: call.world.grant({
        kind: 'employment_report',
        clientId: call.clientId,
        createdAt: call.now,
        itemId: item.id,
      }),
    }),
  ),
});

const getSessions: Endpoint = (call) => {
  const user = call.user();
  const sessions: Json[] = [];
  for (const grant of call.world.state.grants.values()) {
    if (grant.kind !== 'link' || grant.link.userId !== user.id) continue;
    for (const session of grant.link.sessions) {
      const item = call.world.state.items.get(session.itemId);
      sessions.push({
        link_session_id: session.id,
        session_start_time: isoTime(session.startedAt),
        results: {
          item_add_results: [
            {
              public_token: session.publicToken,
              item_id: session.itemId,
              institution_id: item?.institutionId ?? 'ins_109508',
            },
          ],
        },
        errors: [],
      });
    }
  }
  return { sessions };
};

export const userEndpoints: Readonly<Record<string, Endpoint>> = {
  '/user/create': create,
  '/user/get': get,
  '/user/update': update,
  '/user/remove': remove,
  '/user/items/get': getItems,
  '/user/items/remove': removeItems,
  '/user/third_party_token/create': createThirdPartyToken,
  '/user/third_party_token/remove': removeThirdPartyToken,
  '/credit/employment/get': getEmployment,
  '/credit/sessions/get': getSessions,
};
