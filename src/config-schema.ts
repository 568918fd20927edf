import { Type } from 'typebox';
import type { SecretReference } from './secrets/reference.ts';

/**
 * The table of every setting: type, default, limits, unit and one sentence.
 * docs/config.md, docs/strongroom.schema.json and the `Config` type all come from
 * it; config-parse.ts checks a file against it. Rules that look at several
 * settings together are in config-rules.ts.
 *
 * Durations and sizes are plain integers whose name carries the unit (`...Ms`,
 * `...Seconds`, `...Bytes`): one way to write each value, the same in the file,
 * in the code and in the JSON Schema.
 */

/** What a string setting holds beyond being text; decides which checks and which advice apply. */
export type Meaning = 'reference' | 'path' | 'origin' | 'url' | 'databaseUrl' | 'cidr' | 'host' | 'destination';

const KIB = 1024;
const MIB = 1024 * KIB;

/** `form` puts a pattern into words, for the advice and the docs. */
const NAME = {
  pattern: '^[a-z][a-z0-9-]{0,62}$',
  form: 'a lower-case letter, then up to 62 letters, digits or hyphens',
};
const FIELD = '[A-Za-z_][A-Za-z0-9_]*';

/** Sections are objects that refuse unknown keys; one that is left out is filled with its defaults. */
function section<P extends Parameters<typeof Type.Object>[0]>(description: string, properties: P) {
  return Type.Object(properties, { description, additionalProperties: false });
}

function integer(description: string, fallback: number, minimum: number, maximum: number) {
  return Type.Integer({ description, default: fallback, minimum, maximum });
}

function text(description: string, meaning: Meaning) {
  return Type.String({ description, meaning, minLength: 1, maxLength: 4096 });
}

/** Type.Unsafe gives the branded type; in the file it is a string like any other. */
function reference(description: string) {
  const checks = { type: 'string', pattern: '^file:', minLength: 6, maxLength: 4096, meaning: 'reference' };
  return Type.Unsafe<SecretReference>({ ...checks, description: `${description} A reference: \`file:/path\`.` });
}

function port(description: string, fallback: number) {
  return integer(`${description} 0 takes a free one.`, fallback, 0, 65_535);
}

function login(role: string) {
  return Type.Optional(
    section(`Login of the ${role}.`, {
      user: Type.String({
        description: 'Name of the PostgreSQL login.',
        pattern: '^[A-Za-z_][A-Za-z0-9_$-]{0,62}$',
        form: 'up to 63 letters, digits, _, $ or -',
      }),
      password: reference('Its password.'),
    }),
  );
}

function tls() {
  return Type.Optional(
    section('Certificate of this listener (TLS 1.2 and 1.3). Without it the listener speaks plain HTTP.', {
      certificate: text('Path of the certificate chain, PEM.', 'path'),
      key: reference('Its private key, PEM.'),
    }),
  );
}

/** Kinds of token a declared endpoint may take or give. */
const TOKEN_KINDS = [
  ...['access', 'user', 'report', 'employment_report', 'payment_profile', 'oauth_access', 'oauth_refresh'],
  ...['customer_secret', 'processor', 'relay', 'audit_copy', 'stripe', 'third_party_user'],
  ...['link', 'public', 'payment_token'],
] as const;

const ENDPOINT_CLASSES = ['item', 'user', 'money', 'link', 'report', 'directory', 'admin', 'sandbox'] as const;

function tokenSpots(description: string) {
  const spot = section('One place where a token stands.', {
    at: Type.String({
      description: 'Where: field names joined by dots, `[]` after a list, for example `items[].access_token`.',
      pattern: `^${FIELD}(\\[\\])?(\\.${FIELD}(\\[\\])?){0,7}$`,
      form: 'field names joined by dots, `[]` after a list',
    }),
    kind: Type.Enum([...TOKEN_KINDS], { description: 'The kind of token.' }),
  });
  return Type.Array(spot, { description, default: [], maxItems: 32 });
}

export const CONFIG = section('Configuration of Strongroom.', {
  deployment: section('Which installation this is. The database is stamped with it at first start.', {
    id: Type.String({
      description: 'Name of the installation; part of every sealed record and of every audit entry. Never change it.',
      ...NAME,
    }),
    environment: Type.Enum(['development', 'staging', 'production'], {
      description: 'What the installation is for. `development` needs Plaid sandbox, `production` Plaid production.',
    }),
  }),

  plaid: section('The Plaid account.', {
    environment: Type.Enum(['sandbox', 'production'], {
      description: 'The Plaid environment; decides the origin that calls go to.',
    }),
    clients: Type.Array(
      section('One Plaid client.', {
        name: Type.String({ description: 'Our name of it; applications are tied to it.', ...NAME }),
        clientId: Type.String({
          description: "Plaid's client_id (not secret).",
          pattern: '^[a-z0-9]{24}$',
          form: '24 lower-case letters and digits',
        }),
        secret: reference("Plaid's secret for this client and environment."),
      }),
      { description: 'The Plaid clients, at least one.', minItems: 1, maxItems: 64 },
    ),
    upstream: Type.Optional(
      text(
        "Origin that is called in place of Plaid's, for example a simulator. Sandbox only; refused in production.",
        'origin',
      ),
    ),
  }),

  database: section('PostgreSQL 15 or newer. Either `embedded: true` or `url`.', {
    embedded: Type.Boolean({
      description: 'Start a PostgreSQL of our own in the home folder. For trying and testing; refused in production.',
      default: false,
    }),
    url: Type.Optional(
      text(
        '`postgres://host:port/database`, or `postgres:///database?host=/socket/folder`. Holds no user and no password.',
        'databaseUrl',
      ),
    ),
    tls: Type.Enum(['verify', 'off'], {
      description: '`verify` checks the server certificate and its name. `off` only on loopback or a unix socket.',
      default: 'verify',
    }),
    ca: Type.Optional(text("Path of the certificate authority of the server, PEM. Default: Node's list.", 'path')),
    topology: Type.Enum(['single', 'replicated', 'managed'], {
      description:
        'How commits survive the loss of the server: `single` (no replica), `replicated` (synchronous standbys are then checked at start), `managed` (a service that replicates synchronously).',
      default: 'replicated',
    }),
    logins: Type.Optional(
      section('One PostgreSQL login for each role that runs here, each in its group role and in no other.', {
        owner: login('schema owner, used by `strongroom migrate` only'),
        gateway: login('gateway (group role strongroom_gateway)'),
        admin: login('admin API (group role strongroom_admin)'),
        worker: login('worker (group role strongroom_worker)'),
        auditor: login('auditor (group role strongroom_auditor), used by `strongroom doctor` only; it writes nothing'),
      }),
    ),
    poolSize: integer('Connections of each role to the database.', 10, 1, 200),
    connectMs: integer('Longest wait for a connection.', 5_000, 100, 60_000),
    statementMs: integer('Longest run of one statement.', 10_000, 100, 600_000),
  }),

  kms: section('Where the key-encryption key lives.', {
    provider: Type.Enum(['file'], {
      description:
        '`file`: a key file (0600) on this machine. Whoever reads it reads everything; refused in production.',
    }),
    file: Type.Optional(section('For `provider: file`.', { path: text('Path of the key file.', 'path') })),
    cache: section('How long an unwrapped data key may be used before the key service is asked again.', {
      seconds: integer(
        'Longest use of one unwrapped data key. A revoked KMS permission takes effect within it.',
        300,
        1,
        3_600,
      ),
      uses: integer('Most uses of one unwrapped data key.', 1_000_000, 1, 4_294_967_295),
    }),
  }),

  listeners: section('Where Strongroom listens.', {
    gateway: section('For applications, in place of Plaid.', {
      host: Type.String({ description: 'Address to listen on.', default: '127.0.0.1', meaning: 'host' }),
      port: port('Port.', 7100),
      tls: tls(),
      trustedProxies: Type.Array(Type.String({ meaning: 'cidr' }), {
        description: 'CIDRs of proxies whose X-Forwarded-For is believed, walked from the right. Empty: nobody.',
        default: [],
        maxItems: 64,
      }),
    }),
    admin: section('For the command line and people. Loopback or a unix socket only.', {
      host: Type.String({ description: 'Address to listen on; loopback.', default: '127.0.0.1', meaning: 'host' }),
      port: port('Port.', 7101),
      socket: Type.Optional(text('Path of a unix socket, in place of host and port.', 'path')),
      token: reference('The bearer token of the admin API, at least 32 characters.'),
    }),
  }),

  audit: section('The audit log.', {
    signingKey: reference('Ed25519 private key (PKCS #8, PEM) that signs checkpoints.'),
    checkpointIntervalMs: integer('Time between checkpoints while there are new entries.', 1_000, 100, 1_000),
    headIntervalMs: integer('Time between exports of the signed head to `heads`.', 10_000, 1_000, 10_000),
    heads: Type.Array(
      section('One place; exactly one of `file` and `url`.', {
        file: Type.Optional(
          text('Path of a file that heads are appended to; best on another machine or a write-once store.', 'path'),
        ),
        url: Type.Optional(text('HTTPS endpoint that heads are posted to.', 'url')),
      }),
      {
        description:
          'Where signed heads go, outside the database. A cut end of the log shows only against such a head.',
        default: [],
        maxItems: 8,
      },
    ),
  }),

  limits: section('Bounds on everything that comes from outside.', {
    bodyBytes: integer(
      'Largest request body. Of bodies over 64 KiB, twice this size is held at once in all; more get OVERLOADED.',
      8 * MIB,
      KIB,
      64 * MIB,
    ),
    bodyDepth: integer('Deepest nesting of a request body.', 64, 4, 64),
    requestMs: integer('Longest time for a request to arrive, headers and body.', 10_000, 100, 300_000),
    upstreamMs: integer("Longest wait for Plaid's answer.", 60_000, 1_000, 600_000),
    bufferedAnswerBytes: integer(
      'Largest answer that is read whole and scanned before it leaves; longer ones are scanned as they pass.',
      8 * MIB,
      64 * KIB,
      64 * MIB,
    ),
    answerBytes: integer('Largest answer of Plaid; a longer one is cut off.', 512 * MIB, MIB, 4_096 * MIB),
    connections: integer('Most connections of one listener.', 1_024, 1, 65_535),
    upstreamConnections: integer('Most connections to Plaid.', 64, 1, 1_024),
    queue: integer('Most requests under way at once; more are answered with OVERLOADED.', 1_024, 1, 65_535),
    shutdownMs: integer('Longest wait for requests under way when the process stops.', 30_000, 0, 600_000),
  }),

  endpoints: Type.Array(
    section('One Plaid endpoint that the built-in table lacks.', {
      path: Type.String({
        description: 'Path, for example `/new/product/get`.',
        pattern: '^(/[a-z0-9_]+){1,8}$',
        form: 'a path of lower-case words, without a query',
      }),
      class: Type.Enum([...ENDPOINT_CLASSES], { description: 'The class that policies grant.' }),
      request: tokenSpots('Where tokens stand in the request. Anywhere else they are refused.'),
      response: tokenSpots('Where tokens may stand in the answer. Anywhere else they are withheld.'),
      subject: Type.Optional(
        Type.String({
          description: 'Request field that names whose data the call is about, for example `user_id`.',
          pattern: `^${FIELD}(\\.${FIELD}){0,7}$`,
          form: 'field names joined by dots',
        }),
      ),
      retrySafe: Type.Boolean({ description: 'Whether repeating the call changes nothing.', default: false }),
      binary: Type.Boolean({ description: 'Whether a good answer is a file and not JSON.', default: false }),
    }),
    { description: 'Plaid endpoints beyond the built-in table. All others are refused.', default: [], maxItems: 256 },
  ),

  logging: section('The log of the process: one JSON object a line, without secrets.', {
    level: Type.Enum(['trace', 'debug', 'info', 'warn', 'error'], {
      description: 'Least level that is written. `trace` and `debug` are refused in production.',
      default: 'info',
    }),
    destination: Type.String({
      description: '`stdout`, `stderr`, or the path of a file (made with mode 0600).',
      default: 'stdout',
      meaning: 'destination',
      minLength: 1,
      maxLength: 4096,
    }),
  }),
});

export type Config = Type.Static<typeof CONFIG>;
