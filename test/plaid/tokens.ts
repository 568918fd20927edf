/** Token-shaped strings for tests, put together so that no scanner takes them for real ones. */

const UUID = '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0';

export function token(word: string, environment = 'sandbox', tail: string = UUID): string {
  return [word, environment, tail].join('-');
}

export const ACCESS = token('access');
export const HANDLE = ['handle', 'sandbox', 'abcdefghijklmnopqrstuvwxyz234567abcd'].join('-');

/** Every long-lived class, with the kind that its shape tells. */
export const LONG_LIVED: readonly (readonly [kind: string, token: string])[] = [
  ['access', ACCESS],
  ['access', token('access', 'production')],
  ['access', token('access', 'development')],
  // Not hexadecimal, and not a UUID.
  ['access', token('access', 'sandbox', 'zzzzzzzz-yyyy-xxxx-wwww-vvvvvvvvvvvv')],
  ['access', token('access', 'production', 'AbCdEfGh1jKlMnOp')],
  ['user', token('user')],
  ['processor', token('processor')],
  ['processor', token('processor', 'sandbox', '0asd1-a92nc')],
  ['report', token('assets')],
  ['report', token('asset-report', 'production')],
  ['payment_profile', token('payment-profile')],
  ['third_party_user', token('third-party-user', 'production')],
  ['relay', token('credit-relay', 'production', '3TAU2CWVYBDVRHUCAAAI27ULU4')],
  ['relay', token('credit-relay')],
  ['audit_copy', token('a', 'prod', '3TAU2CWVYBDVRHUCAAAI27ULU4')],
  ['audit_copy', token('a', 'sandbox', '3tau2cwvybdvrhucaaai27ulu4')],
  ['oauth_access', ['pda', 'RDdg0TUCB0FB25_UPIlnhA_8ntUg'].join('-')],
  ['oauth_refresh', ['pdr', 'U9kRJ-Q5Pd2Qx3EgGmXEYIYGuWk='].join('-')],
  ['stripe', ['btok', '5oEetfLzPklE1fwJZ7SG'].join('_')],
];

/** What must pass: short-lived tokens, handles, identifiers, words. */
export const HARMLESS: readonly string[] = [
  HANDLE,
  token('link'),
  token('public', 'production'),
  token('payment-token'),
  'usr_8c3ZbDBYjaqUXZ',
  'BxBXxLj1m4HMXBm9WZZmCWVbPjX16EHwv99vp',
  'provided access token is in an invalid format. expected format: access-<environment>-<identifier>',
  'access-sandbox-only',
  'user-production-settings',
  'a-sandbox-account',
  'data-sandbox-9f8e7d6c5b4a39281706f5e4',
  'https://cdn.example/assets-production/logo.png',
  'PDA-12345678901234567890123',
  'xpda-RDdg0TUCB0FB25_UPIlnhA',
  'AT\\u0026T \\u003cb\\u003e',
];
