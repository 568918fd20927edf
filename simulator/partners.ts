/** OAuth tokens, payment profiles and reseller customers: the rarer kinds of secrets. */
import { type Call, type Endpoint, invalidField, type Json } from './call.ts';
import { PlaidFailure } from './errors.ts';
import type { Customer } from './state.ts';
import { isoTime } from './world.ts';

const OAUTH_LIFE = 900_000; // ms, as in Plaid's examples
const PAYMENT_TOKEN_LIFE = 15 * 60_000; // ms

/** The subject of a token exchange: a user token, or a refresh token for another scope. */
function subjectOf(call: Call): string | null {
  const { body } = call;
  switch (body.text('grant_type')) {
    case 'client_credentials':
      return null;
    case 'refresh_token': {
      const old = call.token('oauth_refresh', body.text('refresh_token'));
      if (old.revoked) throw new PlaidFailure('INVALID_OAUTH_TOKEN');
      old.revoked = true; // a refresh token is good for one use
      return old.subject;
    }
    default: {
      const token = body.text('subject_token');
      if (token === '')
        throw new PlaidFailure('MISSING_FIELDS', 'the following required fields are missing: subject_token');
      return body.text('subject_token_type') === 'urn:plaid:params:oauth:user-token'
        ? call.token('oauth_refresh', token).subject
        : call.token('user', token).userId;
    }
  }
}

const token: Endpoint = (call) => {
  const subject = subjectOf(call);
  const scope = call.body.maybeText('scope') ?? 'user:read';
  const common = { clientId: call.clientId, createdAt: call.now, subject, scope, revoked: false };
  return {
    access_token: call.world.grant({ kind: 'oauth_access', ...common, expiresAt: call.now + OAUTH_LIFE }),
    refresh_token: call.world.grant({ kind: 'oauth_refresh', ...common }),
    token_type: 'Bearer',
    expires_in: OAUTH_LIFE / 1000,
  };
};

const introspect: Endpoint = (call) => {
  const grant = call.world.state.grants.get(call.body.text('token'));
  const known =
    grant !== undefined &&
    grant.clientId === call.clientId &&
    (grant.kind === 'oauth_access' || grant.kind === 'oauth_refresh');
  if (!known || grant.revoked || ('expiresAt' in grant && grant.expiresAt <= call.now)) return { active: false };
  return {
    active: true,
    scope: grant.scope,
    client_id: call.clientId,
    iat: Math.floor(grant.createdAt / 1000),
    ...('expiresAt' in grant ? { exp: Math.floor(grant.expiresAt / 1000) } : {}),
    ...(grant.subject === null ? {} : { sub: grant.subject, user_id: grant.subject }),
    token_type: grant.kind === 'oauth_access' ? 'access_token' : 'refresh_token',
  };
};

/** RFC 7009 section 2.2: an unknown token is no error. */
const revoke: Endpoint = (call) => {
  const grant = call.world.state.grants.get(call.body.text('token'));
  if (
    grant !== undefined &&
    grant.clientId === call.clientId &&
    (grant.kind === 'oauth_access' || grant.kind === 'oauth_refresh')
  ) {
    grant.revoked = true;
  }
  return {};
};

const createProfile: Endpoint = (call) => ({
  payment_profile_token: call.world.grant({
    kind: 'payment_profile',
    clientId: call.clientId,
    createdAt: call.now,
    status: 'READY',
    updatedAt: call.now,
  }),
});

const getProfile: Endpoint = (call) => {
  const profile = call.token('payment_profile', call.body.text('payment_profile_token'));
  return {
    created_at: isoTime(profile.createdAt),
    updated_at: isoTime(profile.updatedAt),
    deleted_at: profile.status === 'REMOVED' ? isoTime(profile.updatedAt) : null,
    status: profile.status,
  };
};

const setProfile =
  (status: 'PENDING' | 'REMOVED', answer: Json): Endpoint =>
  (call) => {
    const profile = call.token('payment_profile', call.body.text('payment_profile_token'));
    profile.status = status;
    profile.updatedAt = call.now;
    return answer;
  };

const createPaymentToken: Endpoint = (call) => {
  const expiresAt = call.now + PAYMENT_TOKEN_LIFE;
  const grant = {
    kind: 'payment' as const,
    clientId: call.clientId,
    createdAt: call.now,
    paymentId: call.body.text('payment_id'),
    expiresAt,
  };
  return { payment_token: call.world.grant(grant), payment_token_expiration_time: isoTime(expiresAt) };
};

const renderCustomer = (customer: Customer): Json => ({
  client_id: customer.clientId,
  company_name: customer.companyName,
  status: customer.status,
});

/** The new client's keys work at once, as those of any other client. */
const createCustomer: Endpoint = (call) => {
  const client = call.world.addClient();
  const customer: Customer = {
    clientId: client.id,
    ownerId: call.clientId,
    companyName: call.body.text('company_name'),
    status: 'PENDING_ENABLEMENT',
  };
  call.world.state.customers.set(client.id, customer);
  return { end_customer: { ...renderCustomer(customer), secrets: { sandbox: client.secrets[0] } } };
};

function customerOf(call: Call): Customer {
  const customer = call.world.state.customers.get(call.body.text('end_customer_client_id'));
  if (customer === undefined || customer.ownerId !== call.clientId) throw new PlaidFailure('CUSTOMER_NOT_FOUND');
  return customer;
}

const enableCustomer: Endpoint = (call) => {
  const customer = customerOf(call);
  if (customer.status === 'ACTIVE') throw new PlaidFailure('CUSTOMER_ALREADY_ENABLED');
  customer.status = 'ACTIVE';
  const client = call.world.state.clients.get(customer.clientId);
  if (client === undefined) throw invalidField('end_customer_client_id is not known');
  const secret = call.world.mint.lower(30);
  // A production secret: it does not open this environment unless this one is production.
  if (call.world.environment === 'production') client.secrets.push(secret);
  return { production_secret: secret };
};

export const partnerEndpoints: Readonly<Record<string, Endpoint>> = {
  '/oauth/token': token,
  '/oauth/introspect': introspect,
  '/oauth/revoke': revoke,
  '/payment_profile/create': createProfile,
  '/payment_profile/get': getProfile,
  '/payment_profile/remove': setProfile('REMOVED', {}),
  '/sandbox/payment_profile/reset_login': setProfile('PENDING', { reset_login: true }),
  '/payment_initiation/payment/token/create': createPaymentToken,
  '/partner/customer/create': createCustomer,
  '/partner/customer/get': (call) => ({ end_customer: renderCustomer(customerOf(call)) }),
  '/partner/customer/enable': enableCustomer,
};
