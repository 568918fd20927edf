/**
 * /link/* and its relatives. Plaid's Link is a page in a browser; here the
 * control API plays the user ({@link completeLink}).
 */
import { linkItem } from './bank.ts';
import { type Call, checkUrl, type Endpoint, invalidField, type Json } from './call.ts';
import { PlaidFailure } from './errors.ts';
import { institutionById } from './institutions.ts';
import type { Item, LinkToken } from './state.ts';
import { isoTime, type World } from './world.ts';

const MINUTE = 60_000; // ms
const HOUR = 60 * MINUTE;
/** Update mode: 30 minutes, else 4 hours, as documented for link tokens. */
const LIFE = { fresh: 4 * HOUR, update: 30 * MINUTE };

/** Lists are null in SDKs whose user did not set them. */
const create: Endpoint = (call) => {
  const { body, world } = call;
  const tokens = [...(body.has('access_token') ? [body.text('access_token')] : []), ...body.texts('access_tokens')];
  const [first] = tokens.map((token) => world.itemByToken(token, call.clientId));
  const user = call.maybeUser();
  if (user === null && !body.has('user')) {
    throw new PlaidFailure('MISSING_FIELDS', 'the following required fields are missing: user');
  }
  const products = body.texts('products');
  const update = first !== undefined || body.child('update').flag('user');
  if (products.length === 0 && !update)
    throw invalidField('products must be a non-empty array, unless access_token is given');
  const institutionId = body.maybeText('institution_id');
  if (institutionId !== null) institutionById(institutionId);
  if (body.has('third_party_user_token')) call.token('third_party_user', body.text('third_party_user_token'));
  const profile = body.child('transfer').maybeText('payment_profile_token');
  if (profile !== null) call.token('payment_profile', profile);

  const hosted = body.has('hosted_link') ? `${world.baseUrl}/hosted/${world.mint.uuid()}` : null;
  const lifetime = body.child('hosted_link').number('url_lifetime_seconds', 0) * 1000;
  const expiresAt = call.now + (lifetime > 0 ? lifetime : update ? LIFE.update : LIFE.fresh);
  const link: LinkToken = {
    expiresAt,
    clientName: body.text('client_name'),
    countryCodes: body.texts('country_codes'),
    language: body.text('language'),
    products,
    consented: [
      ...body.texts('required_if_supported_products'),
      ...body.texts('optional_products'),
      ...body.texts('additional_consented_products'),
    ],
    webhook: checkUrl('webhook', body.maybeText('webhook')),
    redirectUri: checkUrl('redirect_uri', body.maybeText('redirect_uri')),
    institutionId,
    itemId: first?.id ?? null,
    userId: user?.id ?? null,
    hosted,
    layer: false,
    sessions: [],
  };
  const token = world.grant({ kind: 'link', clientId: call.clientId, createdAt: call.now, link });
  return {
    link_token: token,
    expiration: isoTime(expiresAt),
    ...(hosted === null ? {} : { hosted_link_url: hosted }),
    ...(user === null ? {} : { user_id: user.id }),
  };
};

const createSession: Endpoint = (call) => {
  const user = call.maybeUser();
  const expiresAt = call.now + LIFE.update;
  const link: LinkToken = {
    expiresAt,
    clientName: null,
    countryCodes: ['US'],
    language: 'en',
    products: ['auth', 'identity'],
    consented: [],
    webhook: checkUrl('webhook', call.body.maybeText('webhook')),
    redirectUri: checkUrl('redirect_uri', call.body.maybeText('redirect_uri')),
    institutionId: null,
    itemId: null,
    userId: user?.id ?? null,
    hosted: null,
    layer: true,
    sessions: [],
  };
  const token = call.world.grant({ kind: 'link', clientId: call.clientId, createdAt: call.now, link });
  return {
    link: { link_token: token, expiration: isoTime(expiresAt), ...(user === null ? {} : { user_id: user.id }) },
  };
};

const linkAccounts = (item: Item): Json[] =>
  item.accounts.map((account) => ({
    id: account.id,
    name: account.name,
    mask: account.mask,
    type: account.type,
    subtype: account.subtype,
    verification_status: account.verificationStatus,
    class_type: null,
  }));

const linkInstitution = (item: Item): Json => ({
  name: institutionById(item.institutionId).name,
  institution_id: item.institutionId,
});

const get: Endpoint = (call) => {
  const token = call.body.text('link_token');
  const grant = call.token('link', token);
  const { link } = grant;
  const { items } = call.world.state;
  return {
    link_token: token,
    created_at: isoTime(grant.createdAt),
    expiration: isoTime(link.expiresAt),
    link_sessions: link.sessions.map((session) => {
      const item = items.get(session.itemId) as Item;
      return {
        link_session_id: session.id,
        started_at: isoTime(session.startedAt),
        finished_at: isoTime(session.finishedAt),
        on_success: {
          public_token: session.publicToken,
          metadata: {
            institution: linkInstitution(item),
            accounts: linkAccounts(item),
            link_session_id: session.id,
            transfer_status: null,
          },
        },
        on_exit: null,
        exit: null,
        events: [],
        results: {
          item_add_results: [
            { public_token: session.publicToken, accounts: linkAccounts(item), institution: linkInstitution(item) },
          ],
          cra_item_add_results: [],
          cra_update_results: [],
          bank_income_results: [],
          payroll_income_results: [],
          document_income_results: null,
        },
      };
    }),
    metadata: {
      initial_products: link.products,
      webhook: link.webhook,
      country_codes: link.countryCodes,
      language: link.language,
      redirect_uri: link.redirectUri,
      client_name: link.clientName,
    },
    ...(link.userId === null ? {} : { user_id: link.userId }),
  };
};

export interface LinkOutcome {
  readonly publicToken: string;
  readonly itemId: string;
  readonly sessionId: string;
}

/**
 * The user finishes Link: links a bank, or goes through update mode when the
 * link token was made with an access token. Throws Plaid's errors for a link
 * token that is unknown or expired, and for a bank that cannot be linked.
 */
export function completeLink(
  world: World,
  linkToken: string,
  choice: { institutionId?: string; username?: string; password?: string },
): LinkOutcome {
  const grant = world.state.grants.get(linkToken);
  if (grant?.kind !== 'link' || grant.link.expiresAt <= world.now()) throw new PlaidFailure('INVALID_LINK_TOKEN');
  const { link } = grant;
  const updated = link.itemId === null ? undefined : world.state.items.get(link.itemId);
  let item: Item;
  if (updated !== undefined) {
    if (updated.state === 'removed') throw new PlaidFailure('ITEM_NOT_FOUND');
    world.completeUpdateMode(updated);
    item = updated;
  } else {
    item = linkItem(world, {
      clientId: grant.clientId,
      institutionId: choice.institutionId ?? link.institutionId ?? 'ins_109508',
      products: link.products,
      consented: link.consented.length > 0 ? link.consented : null,
      webhook: link.webhook,
      username: choice.username ?? null,
      password: choice.password ?? null,
      userId: link.userId,
    });
  }
  const publicToken = world.publicToken(item);
  const session = {
    id: world.mint.uuid(),
    startedAt: world.now(),
    finishedAt: world.now(),
    publicToken,
    itemId: item.id,
  };
  link.sessions.push(session);
  for (const delivery of world.state.deliveries.values()) {
    if (delivery.linkToken !== linkToken || delivery.completedAt !== null) continue;
    delivery.completedAt = world.now();
    delivery.itemIds.push(item.id);
    world.issueToken(item);
  }
  announce(world, grant.clientId, linkToken, link, session);
  return { publicToken, itemId: item.id, sessionId: session.id };
}

function announce(
  world: World,
  clientId: string,
  linkToken: string,
  link: LinkToken,
  session: LinkToken['sessions'][number],
): void {
  if (link.webhook === null) return;
  const common = { environment: world.environment, link_session_id: session.id, link_token: linkToken };
  const send = (payload: Json): void => world.emit({ url: link.webhook as string, clientId, itemId: null, payload });
  if (link.layer) {
    send({ ...common, webhook_code: 'LAYER_AUTHENTICATION_PASSED', webhook_type: 'LAYER' });
    return;
  }
  send({ ...common, public_token: session.publicToken, webhook_code: 'ITEM_ADD_RESULT', webhook_type: 'LINK' });
  send({
    ...common,
    public_token: session.publicToken,
    public_tokens: [session.publicToken],
    status: 'SUCCESS',
    webhook_code: 'SESSION_FINISHED',
    webhook_type: 'LINK',
  });
}

/** Layer: the session's items come with their access tokens, and the public token is used up. */
const getUserAccountSession: Endpoint = (call) => {
  const item = call.world.exchange(call.body.text('public_token'), call.clientId);
  return {
    identity: {
      name: { first_name: 'Carmen', last_name: 'Berzatto' },
      address: {
        street: '3200 W Armitage Ave',
        street2: null,
        city: 'Chicago',
        region: 'IL',
        postal_code: '60657',
        country: 'US',
      },
      phone_number: '+14155550100',
      email: 'carmen@example.com',
      date_of_birth: '1987-01-31',
      ssn: null,
      ssn_last_4: '1234',
    },
    items: [{ item_id: item.id, access_token: item.accessToken }],
  };
};

const createDelivery: Endpoint = (call) => {
  const linkToken = call.body.text('link_token');
  call.token('link', linkToken);
  const id = call.world.mint.uuid();
  call.world.state.deliveries.set(id, {
    linkToken,
    clientId: call.clientId,
    createdAt: call.now,
    completedAt: null,
    itemIds: [],
  });
  return { link_delivery_url: `${call.world.baseUrl}/hosted/${id}`, link_delivery_session_id: id };
};

const getDelivery: Endpoint = (call) => {
  const delivery = call.world.state.deliveries.get(call.body.text('link_delivery_session_id'));
  if (delivery === undefined || delivery.clientId !== call.clientId)
    throw invalidField('link_delivery_session_id is not known');
  const done = delivery.completedAt !== null;
  return {
    status: done ? 'COMPLETED' : 'CREATED',
    created_at: isoTime(delivery.createdAt),
    completed_at: done ? isoTime(delivery.completedAt as number) : null,
    access_tokens: done ? delivery.itemIds.map((id) => call.world.state.items.get(id)?.accessToken ?? '') : null,
    item_ids: done ? delivery.itemIds : null,
  };
};

/** The token that a broken-off OAuth redirect belongs to: here simply a new one. */
const exchangeCorrelationId: Endpoint = (call: Call) => {
  for (const [token, grant] of call.world.state.grants) {
    if (grant.kind === 'link' && grant.clientId === call.clientId && grant.link.expiresAt > call.now)
      return { link_token: token };
  }
  throw invalidField('link_correlation_id is not known');
};

export const linkEndpoints: Readonly<Record<string, Endpoint>> = {
  '/link/token/create': create,
  '/link/token/get': get,
  '/link/oauth/correlation_id/exchange': exchangeCorrelationId,
  '/session/token/create': createSession,
  '/user_account/session/get': getUserAccountSession,
  '/link_delivery/create': createDelivery,
  '/link_delivery/get': getDelivery,
};
