/** /item/*: exchange, look at, rotate, remove. */
import { linkItem } from './bank.ts';
import { type Call, checkUrl, type Endpoint, type Json } from './call.ts';
import { PlaidFailure } from './errors.ts';
import { institutionById } from './institutions.ts';
import type { Item } from './state.ts';
import { isoTime } from './world.ts';

/** The `item` object that goes with most answers. */
export function renderItem(item: Item): Json {
  return {
    item_id: item.id,
    institution_id: item.institutionId,
    institution_name: institutionById(item.institutionId).name,
    webhook: item.webhook,
    auth_method: item.authMethod,
    error: item.error,
    available_products: item.consented.filter((product) => !item.billed.includes(product)),
    billed_products: item.billed,
    products: item.billed,
    consented_products: item.consented,
    consent_expiration_time: item.consentEndsAt === null ? null : isoTime(item.consentEndsAt),
    update_type: 'background',
  };
}

/** The only endpoint that answers 200 for an item in error: the error stands in the body. */
const get: Endpoint = (call) => {
  const item = call.item();
  const updated = {
    last_successful_update: isoTime(item.refreshedAt),
    last_failed_update: item.error === null ? null : isoTime(call.now),
  };
  return {
    item: { ...renderItem(item), created_at: isoTime(item.createdAt) },
    status: {
      transactions: item.billed.includes('transactions') ? updated : null,
      investments: item.billed.includes('investments') ? updated : null,
      last_webhook: item.lastWebhook,
    },
  };
};

const exchange: Endpoint = (call) => {
  const item = call.world.exchange(call.body.text('public_token'), call.clientId);
  return { access_token: item.accessToken, item_id: item.id };
};

const createPublicToken: Endpoint = (call) => {
  const item = call.item();
  return { public_token: call.world.publicToken(item) };
};

/** The item id is not in the answer, as in Plaid. */
const invalidate: Endpoint = (call) => ({ new_access_token: call.world.invalidate(call.item()) });

const remove: Endpoint = (call) => {
  call.world.remove(call.item());
  return {};
};

const updateWebhook: Endpoint = (call) => {
  const url = checkUrl('webhook', call.body.maybeText('webhook'));
  const item = call.item();
  item.webhook = url;
  call.world.itemWebhook(item, 'ITEM', 'WEBHOOK_UPDATE_ACKNOWLEDGED', { new_webhook_url: url, error: null });
  return { item: renderItem(item) };
};

/** Plaid Exchange: the bank's own user, no Link. Sandbox takes the usual test user. */
const importItem: Endpoint = (call) => {
  const auth = call.body.child('user_auth');
  const item = linkItem(call.world, {
    clientId: call.clientId,
    institutionId: call.body.maybeText('institution_id') ?? 'ins_109508',
    products: call.body.texts('products'),
    webhook: checkUrl('webhook', call.body.child('options').maybeText('webhook')),
    username: auth.text('user_id'),
    password: auth.maybeText('auth_token'),
  });
  return { access_token: call.world.issueToken(item) };
};

export const itemEndpoints: Readonly<Record<string, Endpoint>> = {
  '/item/get': get,
  '/item/public_token/exchange': exchange,
  '/item/public_token/create': createPublicToken,
  '/item/access_token/invalidate': invalidate,
  '/item/remove': remove,
  '/item/webhook/update': updateWebhook,
  '/item/import': importItem,
};

/** An item of this client by its id; an item of somebody else does not exist. */
export function itemById(call: Call, id: string): Item {
  const item = call.world.state.items.get(id);
  if (item === undefined || item.clientId !== call.clientId || item.state === 'removed')
    throw new PlaidFailure('ITEM_NOT_FOUND');
  return item;
}
