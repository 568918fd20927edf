/**
 * The one table of what a secret looks like in text. Redaction, the gate over
 * every log line and the leak scanner all read it.
 *
 * Shapes of Plaid's tokens follow the official SDK's types and Plaid's examples;
 * they are wider than the examples on purpose (any eight characters after the
 * prefix), since a word too many that is hidden costs little. Handles are not
 * here: they stand for a secret and are none, and an operator searches for them.
 *
 * Every pattern runs in linear time: literal starts, bounded gaps, one repeated
 * character class, and never a class that could begin the match again inside
 * itself. test/redaction/linear.test.ts measures it.
 */

export interface Pattern {
  /** Named in the mark that replaces the secret: `[redacted access]`. */
  readonly name: string;
  /** Source of a regular expression, for the flags `gi`. */
  readonly source: string;
}

/** `development` ended in 2024 and `prod` stands in some tokens; old logs hold both. */
const ENVIRONMENT = '(?:sandbox|production|development|prod)';
const BODY = '[0-9a-z_][0-9a-z_-]{7,}';
/** Not in the middle of a word: `data-sandbox-...` is no audit copy token. */
const START = '(?<![0-9a-z_-])';

function plaid(name: string, word: string): Pattern {
  return { name, source: `${word}-${ENVIRONMENT}-${BODY}` };
}

export const PATTERNS: readonly Pattern[] = [
  plaid('access', 'access'),
  plaid('third_party_user', 'third-party-user'),
  plaid('user', 'user'),
  plaid('processor', 'processor'),
  plaid('payment_profile', 'payment-profile'),
  plaid('payment_token', 'payment-token'),
  plaid('public', 'public'),
  plaid('link', 'link'),
  // Plaid's example says `assets`, its glossary `asset-report`.
  plaid('report', '(?:assets|asset-report)'),
  plaid('employment_report', 'employment-report'),
  plaid('relay', 'credit-relay'),
  plaid('audit_copy', `${START}a`),
  { name: 'oauth_access', source: `${START}pda-[\\w-]{20,}={0,2}` },
  { name: 'oauth_refresh', source: `${START}pdr-[\\w-]{20,}={0,2}` },
  { name: 'stripe', source: `${START}btok_[0-9a-z]{8,}` },
  { name: 'application_key', source: 'strongroom-key-[0-9a-z]{8,}' },
  { name: 'admin_token', source: 'strongroom-admin-[0-9a-z_-]{8,}' },
  { name: 'jwt', source: `${START}eyJ[\\w-]{10,}\\.[\\w-]{10,}\\.[\\w-]{10,}` },
  { name: 'bearer', source: '(?<=bearer\\s{1,3})[\\w+/.~=-]{8,}' },
  { name: 'basic', source: '(?<=basic\\s{1,3})[\\w+/.~=-]{8,}' },
  // Line ends may stand as \n or, inside a string inside a string, \\n.
  {
    name: 'private_key',
    source:
      '-----BEGIN[A-Z ]{0,32}PRIVATE KEY-----(?:[A-Za-z0-9+/=:,\\s]|\\\\{1,4}[nr])*(?:-----END[A-Z ]{0,32}PRIVATE KEY-----)?',
  },
  { name: 'url_credentials', source: '(?<=://)[^\\s"\'\\\\/@:]{0,256}:[^\\s"\'\\\\/@]{1,256}(?=@)' },
];

/**
 * Parts that every encoding of a token must hold, whatever the token: the
 * environment in the middle of it. Found in base64, at each of the three offsets,
 * and in hexadecimal.
 */
export const ENCODED_MARKS: readonly { readonly alphabet: RegExp; readonly mark: RegExp }[] = (() => {
  const cores = ['-sandbox-', '-production-', '-development-', 'strongroom-key-', 'strongroom-admin-'];
  const base64 = cores.flatMap((core) => [0, 1, 2].map((offset) => base64Core(core, offset)));
  const hex = cores.map((core) => Buffer.from(core).toString('hex'));
  return [
    // The URL alphabet writes - and _ for + and /.
    {
      alphabet: /[A-Za-z0-9+/_=-]/,
      mark: new RegExp(base64.map((core) => core.replace(/[+/]/g, '[+/_-]')).join('|'), 'g'),
    },
    { alphabet: /[0-9A-Fa-f]/, mark: new RegExp(hex.join('|'), 'gi') },
  ];
})();

/** The base64 digits that depend on `core` alone when `offset` bytes (mod 3) stand before it. */
function base64Core(core: string, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), Buffer.from(core)]).toString('base64');
  return text.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + core.length) * 8) / 6));
}

const SECRET_WORDS =
  '(?:secret|token|password|passwd|passphrase|api[-_]?key|application[-_]?key|private[-_]?key|authorization|cookie|credential)s?';

const VALUE = '[^\\s"\'\\\\,;&<>(){}[\\]]';
/** No colon first: in JSON, the quote before it ends a name and opens no value. */
const VALUE_START = `(?!:)${VALUE}`;

/**
 * A secret by the name before it, inside text: `PLAID-SECRET: x`, `"secret":"x"`,
 * `token=x`, at any depth of escaping. Groups: name, separator, scheme, value.
 */
export const NAMED_VALUE = new RegExp(
  `(${SECRET_WORDS})((?:\\\\{0,8}["'])?\\s{0,3}(?:=>|[:=])\\s{0,3}(?:\\\\{0,8}["'])?)((?:bearer|basic)\\s{1,3})?(${VALUE_START}${VALUE}{3,})`,
  'gi',
);

const SECRET_KEY =
  /secret|password|passwd|passphrase|privatekey|authorization|cookie|credential|accesstoken|apikey|applicationkey|plaintext|tokens?$/;

/**
 * Whether a field of this name holds a secret, however it is spelt
 * (`PLAID-SECRET`, `accessToken`, `access_tokens`).
 */
export function isSecretKey(key: string): boolean {
  return key.length <= 256 && SECRET_KEY.test(key.toLowerCase().replace(/[^a-z0-9]/g, ''));
}
