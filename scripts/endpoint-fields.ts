/**
 * What field names of Plaid mean to us. The SDK's types say where a field
 * stands; what it carries is known only by people, and is written down here.
 * The generator stops at a token-like or id-like name that no rule covers.
 */
import type { TokenKind } from '../src/plaid/endpoints.ts';

/** Names that may carry a secret. Wider than needed: what is harmless is listed as such below. */
export const TOKEN_LIKE = /token|secret|password|credential/i;

/** Names by which a request may point at something that already exists. */
export const ID_LIKE = /(^|_)ids?$|Ids?$/;

/** Credentials of the Plaid client in a request body: the gateway cuts them out and sends headers instead. */
export const CLIENT_CREDENTIALS: ReadonlySet<string> = new Set(['client_id', 'secret', 'client_secret']);

export const REQUEST_TOKENS: Readonly<Record<string, readonly TokenKind[]>> = {
  access_token: ['access'],
  access_tokens: ['access'],
  transactions_access_token: ['access'],
  transactions_access_tokens: ['access'],
  user_token: ['user'],
  asset_report_token: ['report'],
  // An asset report and an employment report may be combined in one copy.
  report_tokens: ['report', 'employment_report'],
  audit_copy_token: ['audit_copy'],
  relay_token: ['relay'],
  processor_token: ['processor'],
  payment_profile_token: ['payment_profile'],
  third_party_user_token: ['third_party_user'],
  refresh_token: ['oauth_refresh'],
  // /oauth/token: which of the two is said by subject_token_type.
  subject_token: ['user', 'oauth_refresh'],
  // /oauth/introspect and /oauth/revoke.
  token: ['oauth_access', 'oauth_refresh'],
  auth_token: ['exchange_auth'],
  link_token: ['link'],
  public_token: ['public'],
};

export const ANSWER_TOKENS: Readonly<Record<string, TokenKind>> = {
  access_token: 'access',
  access_tokens: 'access',
  new_access_token: 'access',
  user_token: 'user',
  asset_report_token: 'report',
  employment_report_token: 'employment_report',
  payment_profile_token: 'payment_profile',
  refresh_token: 'oauth_refresh',
  production_secret: 'customer_secret',
  'secrets.sandbox': 'customer_secret',
  'secrets.development': 'customer_secret',
  'secrets.production': 'customer_secret',
  audit_copy_token: 'audit_copy',
  relay_token: 'relay',
  processor_token: 'processor',
  stripe_bank_account_token: 'stripe',
  third_party_user_token: 'third_party_user',
  link_token: 'link',
  public_token: 'public',
  payment_token: 'payment_token',
};

/** One field name, two meanings: `METHOD path field`. */
export const ANSWER_TOKEN_EXCEPTIONS: Readonly<Record<string, TokenKind>> = {
  'POST /oauth/token access_token': 'oauth_access',
};

/** Token-like names that carry no token. */
export const HARMLESS_NAMES: ReadonlySet<string> = new Set([
  'override_password', // the password of a made-up sandbox user
  'reroute_to_credentials', // a setting of Link
  'subject_token_type',
  'token_type',
  'is_tokenized_account_number',
  'payment_token_expiration_time',
]);

/** Ids that name something an application can own, with the kind of subject. */
export const SUBJECTS: Readonly<Record<string, string>> = {
  user_id: 'user',
  item_id: 'item',
  item_ids: 'item',
  link_token: 'link_token',
  link_session_id: 'link_session',
  link_delivery_session_id: 'link_delivery',
  asset_report_id: 'asset_report',
  income_verification_id: 'income_verification',
  precheck_id: 'income_precheck',
  subscription_id: 'subscription',
  issue_id: 'issue',
  transfer_id: 'transfer',
  authorization_id: 'transfer_authorization',
  transfer_intent_id: 'transfer_intent',
  intent_id: 'transfer_intent',
  recurring_transfer_id: 'recurring_transfer',
  refund_id: 'transfer_refund',
  bank_transfer_id: 'bank_transfer',
  test_clock_id: 'test_clock',
  payment_id: 'payment',
  consent_id: 'payment_consent',
  recipient_id: 'payment_recipient',
  wallet_id: 'wallet',
  originator_client_id: 'originator',
  end_customer_client_id: 'end_customer',
  identity_verification_id: 'identity_verification',
  idv_session_id: 'identity_verification',
  watchlist_screening_id: 'watchlist_screening',
  entity_watchlist_screening_id: 'entity_screening',
  business_verification_id: 'business_verification',
  beacon_user_id: 'beacon_user',
  beacon_report_id: 'beacon_report',
  beacon_report_syndication_id: 'beacon_syndication',
  event_id: 'protect_event',
  protect_event_id: 'protect_event',
};

/** Ids that are no subject, by the reason. */
export const PLAIN_IDS: Readonly<Record<string, readonly string[]>> = {
  'Plaid takes it only together with the token or subject beside it': [
    'account_id',
    'account_ids',
    'document_id',
    'person_id',
    'report_id',
    'rule_id',
    'statement_id',
    'unique_id',
  ],
  "part of the Plaid client's own set-up, which all its applications share": [
    'auditor_id',
    'cohort_id',
    'dashboard_user_id',
    'entity_watchlist_program_id',
    'from_ledger_id',
    'funding_account_id',
    'ledger_event_id',
    'ledger_id',
    'origination_account_id',
    'program_id',
    'repayment_id',
    'source_id',
    'sweep_id',
    'template_id',
    'to_ledger_id',
    'watchlist_program_id',
  ],
  'chosen by the caller, or passed through, to correlate': [
    'after_id',
    'beacon_session_id',
    'client_account_id',
    'client_advance_id',
    'client_evaluation_id',
    'client_report_id',
    'device_session_id',
    'fico_lender_id',
    'fico_scoring_request_id',
    'lender_application_id',
    'link_session_request_id',
    'request_correlation_id',
    'signal_client_transaction_id',
    'tax_id',
  ],
  'names another company or something public': [
    'institution_id',
    'key_id',
    'notificationId',
    'registeredEntityId',
    'secondary_client_id',
    'third_party_client_id',
  ],
  'no answer ever teaches who owns it, so its endpoints need a grant by path': ['beacon_duplicate_id', 'customer_id'],
  'random, single use and short lived: whoever has it was given it by the browser': [
    'link_correlation_id',
    'oauth_state_id',
  ],
};

/**
 * Ids that mean different things on different endpoints. There is no default:
 * each row of the knowledge table that has one says what it is.
 */
export const SAY_EACH_TIME: ReadonlySet<string> = new Set([
  'application_id',
  'client_transaction_id',
  'client_user_id',
  'id',
  'loan_id',
  'transaction_id',
]);
