import { Secret } from '../../src/base/secret.ts';

/**
 * Nasty values that hold a secret, and the bytes that must not survive. Tokens
 * are built from parts so that no scanner mistakes this file for a leak.
 */

const UUID = '7c1e9f42-8b3d-4a6e-9d10-5f2b8c4e7a93';
export function token(word: string, environment = 'sandbox', body = UUID): string {
  return [word, environment, body].join('-');
}

export const ACCESS = token('access');
export const KEY = ['strongroom', 'key', 'a2b3c4d5e6f7g2h3i4j5k6l7m2n3o4p5q6r7s2t3u4v5w6x7y2z3abcdef'].join('-');
export const PLAID_SECRET = '5d0f1b8c3e7a9246d1c5b8f03a7e92';
export const PEM_BODY = 'MC4CAQAwBQYDK2VwBCIEIHh3canaryHjQvVtYk0a1b2c3d4e5f6g7h8i9j0kLmN';
const PEM = ['-----BEGIN PRIVATE', ` KEY-----\n${PEM_BODY}\n-----END PRIVATE`, ' KEY-----\n'].join('');

export interface Nasty {
  readonly name: string;
  readonly value: unknown;
  /** None of these may be in the output. Default: the access token and its UUID. */
  readonly secrets?: readonly string[];
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const escaped = (text: string): string =>
  [...text].map((c) => `\\u00${c.charCodeAt(0).toString(16).padStart(2, '0')}`).join('');
const percent = (text: string): string =>
  [...text].map((c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`).join('');

function axiosLike(): Error {
  const config = {
    url: 'https://sandbox.plaid.com/accounts/get',
    headers: { 'PLAID-CLIENT-ID': 'abc', 'PLAID-SECRET': PLAID_SECRET, 'Content-Type': 'application/json' },
    data: JSON.stringify({ access_token: ACCESS, secret: PLAID_SECRET }),
  };
  return Object.assign(new Error('Request failed with status code 400'), {
    name: 'AxiosError',
    isAxiosError: true,
    config,
    request: { _header: `POST / HTTP/1.1\r\nPLAID-SECRET: ${PLAID_SECRET}\r\nAuthorization: Bearer ${KEY}\r\n` },
    response: { status: 400, data: { error_message: `bad token ${ACCESS}` }, config },
    toJSON: () => ({ config }),
  });
}

function circular(): object {
  const one: Record<string, unknown> = { token: ACCESS, text: ACCESS };
  one.self = one;
  one.list = [one, { one }];
  return one;
}

function deep(levels: number): unknown {
  let value: unknown = { access_token: ACCESS };
  for (let i = 0; i < levels; i++) value = { inner: value };
  return value;
}

const BOTH = [ACCESS, UUID, PLAID_SECRET];

export const CORPUS: readonly Nasty[] = [
  // Every kind of token, alone and in a sentence
  ...[
    ...['access', 'user', 'processor', 'public', 'link', 'assets', 'asset-report', 'payment-profile', 'payment-token'],
    ...['third-party-user', 'credit-relay', 'employment-report', 'a'],
  ].flatMap((word) =>
    ['sandbox', 'production', 'development', 'prod'].map((environment) => ({
      name: `${word} token of ${environment}`,
      value: `got ${token(word, environment)} from Plaid`,
      secrets: [UUID],
    })),
  ),
  {
    name: 'an audit copy token of 26 characters',
    value: `a-${'prod'}-JGJKDQPWXEX5UQIXKTMJWEOXHY`,
    secrets: ['JGJKDQPWXEX5UQ'],
  },
  {
    name: 'a processor token that is no UUID',
    value: token('processor', 'sandbox', '0asd1-a92nc'),
    secrets: ['0asd1-a92nc'],
  },
  { name: 'an OAuth access token', value: `t pda-RDdg0TUCB0FB25_UPIlnhA==`, secrets: ['RDdg0TUCB0FB25'] },
  { name: 'an OAuth refresh token', value: `t pdr-RDdg0TUCB0FB25_UPIlnhA==`, secrets: ['RDdg0TUCB0FB25'] },
  { name: 'a Stripe token', value: `btok_${'5oEetfLzPklE1fwJZ7SG'}`, secrets: ['5oEetfLzPkl'] },
  { name: 'an application key', value: `my key is ${KEY}.`, secrets: [KEY.slice(15)] },
  { name: 'an upper-case token', value: ACCESS.toUpperCase(), secrets: [UUID.toUpperCase()] },
  { name: 'a token glued to letters', value: `xx${ACCESS}yy`, secrets: BOTH },
  { name: 'two tokens without a gap', value: ACCESS + ACCESS, secrets: BOTH },
  { name: 'a cut token', value: ACCESS.slice(0, 30), secrets: [UUID.slice(0, 12)] },
  { name: 'a token at the end of a long text', value: 'x'.repeat(16_370) + ACCESS, secrets: [UUID.slice(0, 13)] },
  { name: 'a token past the longest text', value: 'x'.repeat(20_000) + ACCESS },
  { name: 'a private key', value: PEM, secrets: [PEM_BODY] },
  { name: 'a private key inside JSON', value: JSON.stringify({ pem: PEM }), secrets: [PEM_BODY] },
  {
    name: 'a private key inside JSON inside JSON',
    value: JSON.stringify(JSON.stringify({ pem: PEM })),
    secrets: [PEM_BODY],
  },
  { name: 'a private key that is cut', value: PEM.slice(0, 80), secrets: [PEM_BODY.slice(0, 30)] },

  // Secrets known by the name before them
  { name: 'a header line', value: `PLAID-SECRET: ${PLAID_SECRET}`, secrets: [PLAID_SECRET] },
  {
    name: 'a whole HTTP head',
    value: `POST / HTTP/1.1\r\nhost: x\r\nplaid-secret:${PLAID_SECRET}\r\n\r\n`,
    secrets: [PLAID_SECRET],
  },
  { name: 'a form', value: `client_id=abc&secret=${PLAID_SECRET}&x=1`, secrets: [PLAID_SECRET] },
  { name: 'an assignment', value: `PLAID_SECRET = "${PLAID_SECRET}"`, secrets: [PLAID_SECRET] },
  { name: 'a Ruby hash', value: `{:client_secret=>"${PLAID_SECRET}"}`, secrets: [PLAID_SECRET] },
  { name: 'a Python dict', value: `{'secret': '${PLAID_SECRET}'}`, secrets: [PLAID_SECRET] },
  { name: 'a YAML line', value: `  password: ${PLAID_SECRET}`, secrets: [PLAID_SECRET] },
  { name: 'JSON in a text', value: JSON.stringify({ secret: PLAID_SECRET }), secrets: [PLAID_SECRET] },
  {
    name: 'JSON in JSON in a text',
    value: JSON.stringify(JSON.stringify({ secret: PLAID_SECRET })),
    secrets: [PLAID_SECRET],
  },
  { name: 'a curl command', value: `curl -H 'Authorization: Bearer ${PLAID_SECRET}' x`, secrets: [PLAID_SECRET] },
  {
    name: 'a basic authorization',
    value: `authorization: Basic ${base64(`me:${PLAID_SECRET}`)}`,
    secrets: [base64(`me:${PLAID_SECRET}`)],
  },
  { name: 'bearer without a name', value: `sent bearer ${PLAID_SECRET} to them`, secrets: [PLAID_SECRET] },
  { name: 'a cookie line', value: `set-cookie: sid=${PLAID_SECRET}; path=/`, secrets: [PLAID_SECRET] },
  { name: 'a database URL', value: `postgres://me:${PLAID_SECRET}@host/db`, secrets: [PLAID_SECRET] },
  {
    name: 'a URL object with credentials',
    value: new URL(`https://me:${PLAID_SECRET}@host/x?token=${PLAID_SECRET}#${PLAID_SECRET}`),
    secrets: [PLAID_SECRET],
  },
  { name: 'URL search parameters', value: new URLSearchParams({ secret: PLAID_SECRET, q: ACCESS }), secrets: BOTH },
  { name: 'a query in a sentence', value: `GET /x?access_token=${PLAID_SECRET} failed`, secrets: [PLAID_SECRET] },

  // Fields
  ...[
    ...[
      'secret',
      'PLAID-SECRET',
      'plaid_secret',
      'clientSecret',
      'access_token',
      'accessToken',
      'ACCESS_TOKENS',
      'new_access_token',
    ],
    ...[
      'public_token',
      'token',
      'refresh_token',
      'password',
      'db_password',
      'passphrase',
      'Authorization',
      'proxy-authorization',
    ],
    ...[
      'cookie',
      'Set-Cookie',
      'apiKey',
      'api_key',
      'application_key',
      'private_key',
      'credentials',
      'plaintext',
      'x.secret.y',
    ],
  ].map((key) => ({ name: `a field named ${key}`, value: { [key]: PLAID_SECRET }, secrets: [PLAID_SECRET] })),
  { name: 'a field with a list', value: { access_tokens: [PLAID_SECRET, [PLAID_SECRET]] }, secrets: [PLAID_SECRET] },
  { name: 'a field with an object', value: { secrets: { sandbox: PLAID_SECRET } }, secrets: [PLAID_SECRET] },
  { name: 'a field with a number', value: { password: 830_114_771 }, secrets: ['830114771'] },
  { name: 'a token as the name of a field', value: { [ACCESS]: 1 } },
  { name: 'raw headers', value: ['Host', 'x', 'PLAID-SECRET', PLAID_SECRET], secrets: [PLAID_SECRET] },
  { name: 'header pairs', value: [['plaid-secret', PLAID_SECRET]], secrets: [PLAID_SECRET] },
  { name: 'header objects', value: [{ name: 'PLAID-SECRET', value: PLAID_SECRET }], secrets: [PLAID_SECRET] },
  { name: 'a map of headers', value: new Map([['authorization', PLAID_SECRET]]), secrets: [PLAID_SECRET] },
  { name: 'a map with tokens as keys', value: new Map([[ACCESS, 1]]) },
  { name: 'a map with objects as keys', value: new Map([[{ secret: PLAID_SECRET }, ACCESS]]), secrets: BOTH },
  { name: 'a set', value: new Set([ACCESS, { token: PLAID_SECRET }]), secrets: BOTH },
  { name: 'fetch headers', value: { headers: new Headers({ 'PLAID-SECRET': PLAID_SECRET }) }, secrets: [PLAID_SECRET] },
  {
    name: 'an object without prototype',
    value: Object.assign(Object.create(null), { secret: PLAID_SECRET }),
    secrets: [PLAID_SECRET],
  },
  {
    name: 'a nested configuration',
    value: { plaid: { clients: [{ config: { baseOptions: { headers: { 'PLAID-SECRET': PLAID_SECRET } } } }] } },
    secrets: [PLAID_SECRET],
  },
  { name: 'a value twelve levels down', value: deep(12) },
  { name: 'a value 20,000 levels down', value: deep(20_000) },
  { name: 'a cycle', value: circular() },
  { name: 'a very long list', value: Array.from({ length: 5_000 }, () => ACCESS) },
  { name: 'a very wide object', value: Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`k${i}`, ACCESS])) },

  // Errors
  { name: 'an error message', value: new Error(`bad ${ACCESS}`) },
  { name: 'an error stack', value: Object.assign(new Error('x'), { stack: `Error: ${ACCESS}\n at y` }) },
  { name: 'an error name', value: Object.assign(new Error('x'), { name: ACCESS }) },
  { name: 'an error code', value: Object.assign(new Error('x'), { code: ACCESS }) },
  { name: 'a cause', value: new Error('outer', { cause: new Error(`inner ${ACCESS}`) }) },
  {
    name: 'a cause that is no error',
    value: new Error('outer', { cause: { secret: PLAID_SECRET, text: ACCESS } }),
    secrets: BOTH,
  },
  { name: 'a cause that is a text', value: new Error('outer', { cause: ACCESS }) },
  {
    name: 'an aggregate',
    value: new AggregateError([new Error(ACCESS), new Error('y', { cause: new Error(ACCESS) })], ACCESS),
  },
  { name: 'an HTTP client error', value: axiosLike(), secrets: [...BOTH, KEY] },
  { name: 'an HTTP client error as a cause', value: new Error('x', { cause: axiosLike() }), secrets: [...BOTH, KEY] },
  {
    name: 'a database error with row values',
    value: Object.assign(new Error('duplicate key'), {
      detail: `Key (t)=(${ACCESS}) already exists.`,
      parameters: [ACCESS],
    }),
  },
  { name: 'a thrown text', value: `Error: ${ACCESS}` },

  // Encodings
  { name: 'percent signs for hyphens', value: ACCESS.replaceAll('-', '%2D') },
  { name: 'percent signs throughout', value: percent(ACCESS) },
  { name: 'percent signs twice', value: encodeURIComponent(percent(ACCESS)) },
  { name: 'escaped hyphens', value: ACCESS.replaceAll('-', '\\u002d') },
  { name: 'escapes throughout', value: `{"t":"${escaped(ACCESS)}"}` },
  { name: 'escapes in JSON in JSON', value: JSON.stringify(JSON.stringify(`x${escaped(ACCESS)}`)) },
  { name: 'HTML entities', value: ACCESS.replaceAll('-', '&#45;') },
  { name: 'HTML entities in hexadecimal', value: ACCESS.replaceAll('-', '&#x2d;') },
  { name: 'UTF-16', value: Buffer.from(ACCESS, 'utf16le').toString('latin1') },
  ...['', 'x', 'xx', 'Basic ', '{"access_token":"'].map((before) => ({
    name: `base64 after ${JSON.stringify(before)}`,
    value: `got ${base64(before + ACCESS)}.`,
    secrets: [base64(before + ACCESS), base64(before + ACCESS).slice(24, 60)],
  })),
  {
    name: 'base64url',
    value: Buffer.from(`??>${ACCESS}`).toString('base64url'),
    secrets: [Buffer.from(`??>${ACCESS}`).toString('base64url').slice(24, 50)],
  },
  { name: 'base64 of an application key', value: base64(`id:${KEY}`), secrets: [base64(`id:${KEY}`).slice(24, 60)] },
  { name: 'hexadecimal', value: Buffer.from(ACCESS).toString('hex'), secrets: [Buffer.from(UUID).toString('hex')] },
  {
    name: 'upper-case hexadecimal',
    value: Buffer.from(ACCESS).toString('hex').toUpperCase(),
    secrets: [Buffer.from(UUID).toString('hex').toUpperCase()],
  },

  // Objects that fight back
  { name: 'a Buffer', value: { body: Buffer.from(ACCESS) }, secrets: [...BOTH, '97,99,99'] },
  { name: 'an ArrayBuffer', value: new TextEncoder().encode(ACCESS).buffer },
  { name: 'a DataView', value: new DataView(new TextEncoder().encode(ACCESS).buffer) },
  { name: 'a Secret', value: { token: new Secret(ACCESS), other: new Secret({ ACCESS }) } },
  { name: 'a toJSON that tells', value: { toJSON: () => ({ t: ACCESS }) } },
  { name: 'a toString that tells', value: { toString: () => ACCESS } },
  { name: 'a function that holds a token', value: Object.assign(() => ACCESS, { token: ACCESS }) },
  { name: 'a symbol', value: Symbol(ACCESS) },
  { name: 'a regular expression', value: new RegExp(ACCESS) },
  { name: 'a boxed text', value: new String(ACCESS) },
  { name: 'a getter', value: Object.defineProperty({}, 'x', { enumerable: true, get: () => ACCESS }) },
  { name: 'a proxy', value: new Proxy({ t: ACCESS }, {}) },
  { name: 'a proxy in an object', value: { inner: new Proxy({ t: ACCESS }, {}) } },
  { name: 'a promise', value: Promise.resolve(ACCESS) },
  {
    name: 'a class instance',
    value: new (class Client {
      readonly apiSecret = PLAID_SECRET;
      readonly url = `x/${ACCESS}`;
    })(),
    secrets: BOTH,
  },
];
