/** The endpoints about webhooks: keys, the seven-day log, and the Sandbox's ways to cause one. */
import { type Call, type Endpoint, invalidField, type Json } from './call.ts';
import { PlaidFailure, storedError } from './errors.ts';
import { itemById } from './items.ts';
import type { Item, WebhookEvent } from './state.ts';
import { itemsOf } from './users.ts';
import { renderKey } from './webhook-keys.ts';
import { isoTime } from './world.ts';

const DAY = 86_400_000; // ms
const KEPT_FOR = 7 * DAY;

const getKey: Endpoint = (call) => {
  const key = call.world.state.webhookKeys.get(call.body.text('key_id'));
  if (key === undefined) throw new PlaidFailure('INVALID_WEBHOOK_VERIFICATION_KEY_ID');
  return { key: renderKey(key) };
};

const renderEvent = (event: WebhookEvent): Json => ({
  webhook_message_id: event.id,
  webhook_type: event.payload.webhook_type,
  webhook_code: event.payload.webhook_code,
  item_id: event.itemId,
  sent_time: isoTime(event.createdAt),
  payload: event.payload,
  destination_url: event.url,
  delivery_status: event.status,
  last_http_status_code: event.lastStatus,
  attempt_count: event.attempts,
  last_attempt_time: event.lastAttemptAt === null ? null : isoTime(event.lastAttemptAt),
});

/** Oldest first. A cursor is the id of the last event that was shown. */
const listEvents: Endpoint = (call) => {
  const { body } = call;
  const count = body.number('count', 100);
  if (count < 1 || count > 500) throw invalidField('count must be an integer between 1 and 500');
  const start = body.maybeText('start_time');
  const since = start === null ? call.now - KEPT_FOR : Date.parse(start);
  if (!(since >= call.now - KEPT_FOR - 60_000)) throw new PlaidFailure('WEBHOOK_EVENTS_START_TIME_OUT_OF_RANGE');
  const keeps = (name: string, value: unknown): boolean =>
    !body.has(name) || body.texts(name).includes(value as string);
  const all = [...call.world.state.webhookEvents.values()].filter(
    (event) =>
      event.clientId === call.clientId &&
      event.createdAt >= since &&
      keeps('webhook_types', event.payload.webhook_type) &&
      keeps('webhook_codes', event.payload.webhook_code) &&
      keeps('item_ids', event.itemId) &&
      keeps('delivery_statuses', event.status),
  );
  const cursor = body.maybeText('cursor') ?? '';
  const after = cursor === '' ? -1 : all.findIndex((event) => event.id === cursor);
  if (cursor !== '' && after < 0) throw new PlaidFailure('WEBHOOK_EVENTS_CURSOR_EXPIRED');
  const page = all.slice(after + 1, after + 1 + count);
  return {
    webhook_events: page.map(renderEvent),
    has_more: after + 1 + page.length < all.length,
    next_cursor: page.at(-1)?.id ?? cursor,
  };
};

/** The extra fields that a webhook of the code carries, as documented for it. */
export function webhookFields(item: Item, type: string, code: string, now: number): Json {
  switch (`${type}/${code}`) {
    case 'ITEM/ERROR':
      return { error: item.error ?? storedError('ITEM_LOGIN_REQUIRED') };
    case 'ITEM/USER_PERMISSION_REVOKED':
      return { error: storedError('USER_PERMISSION_REVOKED', null, 'ITEM_ERROR') };
    case 'ITEM/PENDING_DISCONNECT':
      return { reason: 'INSTITUTION_MIGRATION', disconnect_time: isoTime(now + 7 * DAY) };
    case 'ITEM/PENDING_EXPIRATION':
      return { consent_expiration_time: isoTime(now + 7 * DAY) };
    case 'ITEM/USER_ACCOUNT_REVOKED':
    case 'AUTH/AUTOMATICALLY_VERIFIED':
    case 'AUTH/VERIFICATION_EXPIRED':
    case 'AUTH/SMS_MICRODEPOSITS_VERIFICATION':
      return { account_id: item.accounts[0]?.id ?? null, ...(type === 'AUTH' ? { error: null } : {}) };
    case 'TRANSACTIONS/SYNC_UPDATES_AVAILABLE':
      return { initial_update_complete: true, historical_update_complete: true };
    case 'TRANSACTIONS/RECURRING_TRANSACTIONS_UPDATE':
      return { account_ids: item.accounts.map((account) => account.id) };
    case 'TRANSACTIONS/DEFAULT_UPDATE':
      return { error: null, new_transactions: 1 };
    case 'HOLDINGS/DEFAULT_UPDATE':
      return { error: null, new_holdings: 1, updated_holdings: 0 };
    case 'INVESTMENTS_TRANSACTIONS/DEFAULT_UPDATE':
      return { error: null, new_investments_transactions: 1, canceled_investments_transactions: 0 };
    case 'ITEM/LOGIN_REPAIRED':
      return {};
    default:
      return { error: null };
  }
}

/** The type that a code belongs to when the caller does not say. */
const TYPE_OF: Readonly<Record<string, string>> = {
  DEFAULT_UPDATE: 'TRANSACTIONS',
  RECURRING_TRANSACTIONS_UPDATE: 'TRANSACTIONS',
  SYNC_UPDATES_AVAILABLE: 'TRANSACTIONS',
  SMS_MICRODEPOSITS_VERIFICATION: 'AUTH',
  PRODUCT_READY: 'ASSETS',
};
const PRODUCT_OF: Readonly<Record<string, string>> = {
  AUTH: 'auth',
  HOLDINGS: 'investments',
  INVESTMENTS_TRANSACTIONS: 'investments',
  LIABILITIES: 'liabilities',
  TRANSACTIONS: 'transactions',
  ASSETS: 'assets',
};

const fire: Endpoint = (call) => {
  const code = call.body.text('webhook_code');
  const type = call.body.maybeText('webhook_type') ?? TYPE_OF[code] ?? 'ITEM';
  const item = call.item();
  const product = PRODUCT_OF[type];
  if (product !== undefined && !item.consented.includes(product)) throw new PlaidFailure('SANDBOX_PRODUCT_NOT_ENABLED');
  if (!call.world.itemWebhook(item, type, code, webhookFields(item, type, code, call.now))) {
    throw new PlaidFailure('SANDBOX_WEBHOOK_INVALID');
  }
  return { webhook_fired: true };
};

const resetLogin: Endpoint = (call) => {
  call.world.breakLogin(call.item());
  return { reset_login: true };
};

const resetUserLogin: Endpoint = (call) => {
  const user = call.user();
  const wanted = call.body.texts('item_ids');
  const items = wanted.length === 0 ? itemsOf(call, user) : wanted.map((id) => itemById(call, id));
  if (items.some((item) => item.userId !== user.id)) throw new PlaidFailure('ITEM_NOT_FOUND');
  for (const item of items) call.world.breakLogin(item);
  return {};
};

const setVerificationStatus: Endpoint = (call: Call) => {
  const item = call.item();
  const account = call.account(item);
  const status = call.body.text('verification_status');
  account.verificationStatus = status;
  const code = status === 'automatically_verified' ? 'AUTOMATICALLY_VERIFIED' : 'VERIFICATION_EXPIRED';
  call.world.itemWebhook(item, 'AUTH', code, { account_id: account.id, error: null });
  return {};
};

export const webhookEndpoints: Readonly<Record<string, Endpoint>> = {
  '/webhook_verification_key/get': getKey,
  '/beta/webhook_events/list': listEvents,
  '/sandbox/item/fire_webhook': fire,
  '/sandbox/item/reset_login': resetLogin,
  '/sandbox/user/reset_login': resetUserLogin,
  '/sandbox/item/set_verification_status': setVerificationStatus,
};
