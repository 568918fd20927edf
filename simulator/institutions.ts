/** The catalogue: a dozen fictitious banks under the ids that Plaid's Sandbox uses. */
import { type Call, type Endpoint, invalidField, type Json } from './call.ts';
import { PlaidFailure } from './errors.ts';

const US_PRODUCTS = [
  'assets',
  'auth',
  'balance',
  'transactions',
  'identity',
  'investments',
  'liabilities',
  'signal',
  'transfer',
  'statements',
  'income_verification',
  'employment',
  'recurring_transactions',
  'transactions_refresh',
];
const EU_PRODUCTS = ['assets', 'auth', 'balance', 'transactions', 'identity', 'payment_initiation'];

export interface Institution {
  readonly id: string;
  readonly name: string;
  readonly products: readonly string[];
  readonly countries: readonly string[];
  readonly oauth: boolean;
  readonly routing: readonly string[];
  readonly color: string;
  /** What linking it fails with, as Plaid's unhealthy test banks do. */
  readonly fails?: 'INSTITUTION_DOWN' | 'INSTITUTION_NO_LONGER_SUPPORTED';
  readonly degraded?: boolean;
}

const bank = (id: string, name: string, color: string, more: Partial<Institution> = {}): Institution => ({
  id,
  name,
  products: US_PRODUCTS,
  countries: ['US'],
  oauth: false,
  routing: ['011401533'],
  color,
  ...more,
});

export const INSTITUTIONS: readonly Institution[] = [
  bank('ins_109508', 'First Platypus Bank', '#1f1f1f', { routing: ['011401533', '021000021'] }),
  bank('ins_109509', 'First Gingham Credit Union', '#5c3a8e'),
  bank('ins_109510', 'Tattersall Federal Credit Union', '#20639b'),
  bank('ins_109511', 'Tartan Bank', '#a11d33'),
  bank('ins_109512', 'Houndstooth Bank', '#3c3c3c'),
  bank('ins_43', 'Tartan-Dominion Bank of Canada', '#c1121f', { countries: ['CA'], routing: ['021000021'] }),
  bank('ins_116834', 'Royal Bank of Plaid', '#003566', {
    countries: ['GB'],
    products: EU_PRODUCTS,
    oauth: true,
    routing: [],
  }),
  bank('ins_117650', 'Flexible Platypus Open Banking', '#2a9d8f', {
    countries: ['GB'],
    products: EU_PRODUCTS,
    oauth: true,
    routing: [],
  }),
  bank('ins_127287', 'Platypus OAuth Bank', '#264653', { oauth: true }),
  bank('ins_127989', 'Windowpane Bank', '#457b9d', {
    products: ['auth', 'balance', 'identity', 'transactions', 'signal', 'transfer'],
  }),
  bank('ins_132241', 'First Platypus OAuth App2App Bank', '#6a4c93', { oauth: true }),
  bank('ins_132363', 'Unhealthy Platypus Bank - Degraded', '#bc6c25', { degraded: true }),
  bank('ins_132361', 'Unhealthy Platypus Bank - Down', '#9b2226', { fails: 'INSTITUTION_DOWN' }),
  bank('ins_133402', 'Unsupported Platypus Bank', '#6c757d', { fails: 'INSTITUTION_NO_LONGER_SUPPORTED' }),
];

const BY_ID = new Map(INSTITUTIONS.map((institution) => [institution.id, institution]));

export function institutionById(id: string): Institution {
  const found = BY_ID.get(id);
  if (found === undefined) throw new PlaidFailure('INVALID_INSTITUTION');
  return found;
}

const healthy = (degraded: boolean): Json => ({
  status: degraded ? 'DEGRADED' : 'HEALTHY',
  last_status_change: '2026-01-15T15:53:00Z',
  breakdown: {
    success: degraded ? 0.6 : 0.97,
    error_plaid: 0.01,
    error_institution: degraded ? 0.39 : 0.02,
    refresh_interval: 'NORMAL',
  },
});

function render(institution: Institution, call: Call): Json {
  const options = call.body.child('options');
  return {
    institution_id: institution.id,
    name: institution.name,
    products: institution.products,
    country_codes: institution.countries,
    oauth: institution.oauth,
    routing_numbers: institution.routing,
    dtc_numbers: [],
    ...(options.flag('include_optional_metadata')
      ? { url: 'https://plaid.com', primary_color: institution.color, logo: null }
      : {}),
    ...(options.flag('include_status')
      ? {
          status: {
            item_logins: healthy(institution.degraded === true),
            transactions_updates: healthy(institution.degraded === true),
            auth: healthy(false),
            identity: healthy(false),
            health_incidents: null,
          },
        }
      : {}),
    ...(options.flag('include_auth_metadata')
      ? {
          auth_metadata: institution.products.includes('auth')
            ? {
                supported_methods: {
                  instant_auth: true,
                  instant_match: true,
                  automated_micro_deposits: false,
                  instant_micro_deposits: false,
                },
              }
            : null,
        }
      : {}),
  };
}

function matching(call: Call, more: (institution: Institution) => boolean): Institution[] {
  const countries = call.body.texts('country_codes');
  const products = [...call.body.texts('products'), ...call.body.child('options').texts('products')];
  const oauth = call.body.child('options').raw.oauth;
  return INSTITUTIONS.filter(
    (institution) =>
      institution.countries.some((country) => countries.includes(country)) &&
      products.every((product) => institution.products.includes(product)) &&
      (typeof oauth !== 'boolean' || institution.oauth === oauth) &&
      more(institution),
  );
}

const get: Endpoint = (call) => {
  const count = call.body.number('count', 0);
  const offset = call.body.number('offset', 0);
  if (count < 1 || count > 500) throw invalidField('count must be an integer between 1 and 500');
  if (offset < 0) throw invalidField('offset must be a non-negative integer');
  const routing = call.body.child('options').texts('routing_numbers');
  const all = matching(
    call,
    (institution) => routing.length === 0 || routing.some((number) => institution.routing.includes(number)),
  );
  return {
    institutions: all.slice(offset, offset + count).map((institution) => render(institution, call)),
    total: all.length,
  };
};

const search: Endpoint = (call) => {
  const query = call.body.text('query').toLowerCase();
  const found = matching(call, (institution) => institution.name.toLowerCase().includes(query));
  return { institutions: found.slice(0, 10).map((institution) => render(institution, call)) };
};

const getById: Endpoint = (call) => {
  const institution = institutionById(call.body.text('institution_id'));
  const countries = call.body.texts('country_codes');
  if (!institution.countries.some((country) => countries.includes(country)))
    throw new PlaidFailure('INVALID_INSTITUTION');
  return { institution: render(institution, call) };
};

const CATEGORIES: Endpoint = () => ({
  categories: [
    { category_id: '10000000', group: 'special', hierarchy: ['Bank Fees'] },
    { category_id: '13005000', group: 'place', hierarchy: ['Food and Drink', 'Restaurants'] },
    { category_id: '21009000', group: 'special', hierarchy: ['Transfer', 'Payroll'] },
    { category_id: '22016000', group: 'special', hierarchy: ['Travel', 'Taxi'] },
  ],
});

export const institutionEndpoints: Readonly<Record<string, Endpoint>> = {
  '/institutions/get': get,
  '/institutions/search': search,
  '/institutions/get_by_id': getById,
  '/categories/get': CATEGORIES,
};
