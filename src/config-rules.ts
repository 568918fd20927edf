import { isLoopback } from './config-meaning.ts';
import type { Draft } from './config-parse.ts';

/**
 * Rules that look at several settings together: what an environment implies, and
 * the floor under production that no switch goes below. A rule sees a draft in
 * which bad settings are missing, so that one mistake does not hide another; a
 * rule about a setting that is missing says nothing.
 *
 * `production` rules are answered with PRODUCTION_REFUSED, the others with
 * CONFIG_INVALID. test/config/rules.test.ts holds one broken file for each.
 */

export interface Breach {
  /** Path of the setting that has to change. */
  readonly setting: string;
  readonly problem: string;
  readonly write: string;
}

export interface ConfigRule {
  /** Stable name, printed with the finding. */
  readonly name: string;
  readonly production?: true;
  readonly breaches: (draft: Draft) => readonly Breach[];
}

export const RULES: readonly ConfigRule[] = [
  {
    name: 'development-uses-sandbox',
    breaches: (draft) =>
      draft.deployment?.environment === 'development' && draft.plaid?.environment === 'production'
        ? [breach('plaid.environment', 'a development deployment may not reach real banks', 'write sandbox')]
        : [],
  },
  {
    name: 'production-uses-production',
    production: true,
    breaches: (draft) =>
      draft.plaid?.environment === 'sandbox'
        ? [breach('plaid.environment', 'a production deployment uses Plaid production', 'write production')]
        : [],
  },
  {
    name: 'upstream-sandbox-only',
    breaches: (draft) =>
      draft.plaid?.upstream !== undefined && draft.plaid.environment === 'production'
        ? [breach('plaid.upstream', 'with Plaid production, calls go to Plaid only', 'remove this line')]
        : [],
  },
  {
    name: 'upstream-not-in-production',
    production: true,
    breaches: (draft) =>
      draft.plaid?.upstream !== undefined
        ? [breach('plaid.upstream', 'production calls Plaid and nothing else', 'remove this line')]
        : [],
  },
  {
    name: 'upstream-tls',
    breaches: (draft) => {
      const upstream = draft.plaid?.upstream;
      if (upstream === undefined) return [];
      const { protocol, hostname } = new URL(upstream);
      return protocol === 'http:' && !isLoopback(hostname)
        ? [breach('plaid.upstream', 'tokens would cross the network in the clear', 'write https://')]
        : [];
    },
  },
  {
    name: 'one-database',
    breaches: (draft) => {
      const { database } = draft;
      if (database === undefined) return [];
      if (database.embedded === true && database.url !== undefined) {
        return [breach('database.url', 'the embedded database has no URL', 'keep either `embedded: true` or `url`')];
      }
      return database.embedded === false && database.url === undefined
        ? [breach('database', 'no database is named', 'add url: postgres://host:5432/strongroom, or embedded: true')]
        : [];
    },
  },
  {
    name: 'embedded-makes-its-logins',
    breaches: (draft) =>
      draft.database?.embedded === true && draft.database.logins !== undefined
        ? [breach('database.logins', 'the embedded database makes its own logins', 'remove this section')]
        : [],
  },
  {
    name: 'own-server-needs-logins',
    breaches: (draft) => {
      const { database } = draft;
      if (database?.url === undefined || database.embedded === true) return [];
      const { gateway, admin, worker, auditor } = database.logins ?? {};
      return [gateway, admin, worker, auditor].every((login) => login === undefined)
        ? [breach('database.logins', 'no login is named', 'add gateway, admin, worker with user and password')]
        : [];
    },
  },
  {
    name: 'logins-differ',
    breaches: (draft) =>
      repeated(
        Object.entries(draft.database?.logins ?? {}).map(([role, login]) => [
          `database.logins.${role}.user`,
          (login as { user?: string }).user,
        ]),
        'two roles share a login',
        'give each role its own',
      ),
  },
  {
    name: 'database-tls',
    breaches: (draft) => {
      const { database } = draft;
      if (database?.url === undefined || database.tls !== 'off') return [];
      const { hostname } = new URL(database.url);
      return hostname !== '' && !isLoopback(hostname)
        ? [
            breach(
              'database.tls',
              'the database is on another machine',
              'write verify, and `ca` for your own authority',
            ),
          ]
        : [];
    },
  },
  {
    name: 'embedded-not-in-production',
    production: true,
    breaches: (draft) =>
      draft.database?.embedded === true
        ? [breach('database.embedded', 'the embedded database is for trying', 'write false, and database.url')]
        : [],
  },
  {
    name: 'file-key-path',
    breaches: (draft) =>
      draft.kms?.provider === 'file' && draft.kms.file === undefined
        ? [breach('kms.file', 'the key file is not named', 'add file: and below it path: /path/to/key')]
        : [],
  },
  {
    name: 'file-key-not-in-production',
    production: true,
    breaches: (draft) =>
      draft.kms?.provider === 'file'
        ? [
            breach(
              'kms.provider',
              'whoever copies the key file opens every record',
              'production needs a key service; this version has none yet, so it does not start in production',
            ),
          ]
        : [],
  },
  {
    name: 'secrets-manager-in-production',
    production: true,
    breaches: (draft) =>
      references(draft)
        .filter(([, value]) => value?.startsWith('file:'))
        .map(([setting]) =>
          breach(
            setting,
            'production secrets stand in a secrets manager',
            'this version reads files only, so it does not start in production',
          ),
        ),
  },
  {
    name: 'one-secret-one-purpose',
    breaches: (draft) => repeated(references(draft), 'this secret has another purpose too', 'give each its own'),
  },
  {
    name: 'clients-differ',
    breaches: (draft) => {
      const clients = draft.plaid?.clients ?? [];
      const of = (key: 'name' | 'clientId') =>
        clients.map((client, index) => [`plaid.clients[${index}].${key}`, client[key]] as const);
      return [
        ...repeated(of('name'), 'another client has this name', 'choose another name'),
        ...repeated(of('clientId'), 'this client is listed already', 'keep one of the two'),
      ];
    },
  },
  {
    name: 'gateway-tls',
    production: true,
    breaches: (draft) => {
      const gateway = draft.listeners?.gateway;
      return gateway?.host !== undefined && gateway.tls === undefined && !isLoopback(gateway.host)
        ? [
            breach(
              'listeners.gateway.host',
              'application keys and bank data would cross the network in the clear',
              'add listeners.gateway.tls, or listen on 127.0.0.1 behind a proxy on this machine',
            ),
          ]
        : [];
    },
  },
  {
    name: 'admin-stays-local',
    breaches: (draft) => {
      const admin = draft.listeners?.admin;
      return admin?.host !== undefined && admin.socket === undefined && !isLoopback(admin.host)
        ? [breach('listeners.admin.host', 'the admin API is for this machine only', 'write 127.0.0.1, or use socket')]
        : [];
    },
  },
  {
    name: 'ports-differ',
    breaches: (draft) => {
      const { gateway, admin } = draft.listeners ?? {};
      return gateway?.port !== undefined &&
        gateway.port !== 0 &&
        admin?.socket === undefined &&
        admin?.port === gateway.port
        ? [breach('listeners.admin.port', 'the gateway listens on this port', 'choose another port')]
        : [];
    },
  },
  {
    name: 'head-is-one-place',
    breaches: (draft) =>
      (draft.audit?.heads ?? []).flatMap((head, index) =>
        (head.file === undefined) === (head.url === undefined)
          ? [breach(`audit.heads[${index}]`, 'a head goes to one place', 'write either file or url')]
          : [],
      ),
  },
  {
    name: 'head-over-tls',
    production: true,
    breaches: (draft) =>
      (draft.audit?.heads ?? []).flatMap((head, index) =>
        head.url?.startsWith('http:') === true
          ? [breach(`audit.heads[${index}].url`, 'heads must not be altered on the way', 'write https://')]
          : [],
      ),
  },
  {
    name: 'heads-leave-the-database',
    production: true,
    breaches: (draft) =>
      draft.audit?.heads?.length === 0
        ? [breach('audit.heads', 'a cut end of the audit log would never show', 'name a file or a URL')]
        : [],
  },
  {
    name: 'quiet-log',
    production: true,
    breaches: (draft) => {
      const level = draft.logging?.level;
      return level === 'trace' || level === 'debug'
        ? [breach('logging.level', 'this level tells more than production may', 'write info, warn or error')]
        : [];
    },
  },
  {
    name: 'answers-fit',
    breaches: (draft) => {
      const { bufferedAnswerBytes, answerBytes } = draft.limits ?? {};
      return bufferedAnswerBytes !== undefined && answerBytes !== undefined && bufferedAnswerBytes > answerBytes
        ? [breach('limits.bufferedAnswerBytes', 'this is more than limits.answerBytes', 'make it smaller')]
        : [];
    },
  },
  {
    name: 'endpoints-differ',
    breaches: (draft) =>
      repeated(
        (draft.endpoints ?? []).map((endpoint, index) => [`endpoints[${index}].path`, endpoint.path]),
        'this endpoint is declared already',
        'keep one of the two',
      ),
  },
];

function breach(setting: string, problem: string, write: string): Breach {
  return { setting, problem, write };
}

/** Every place but the first that holds a value for the second time. */
function repeated(
  settings: readonly (readonly [setting: string, value: string | undefined])[],
  problem: string,
  write: string,
): Breach[] {
  const seen = new Set<string>();
  return settings.flatMap(([setting, value]) => {
    if (value === undefined) return [];
    if (seen.has(value)) return [breach(setting, problem, write)];
    seen.add(value);
    return [];
  });
}

/** Every secret reference with its setting. A new reference in the table belongs here; a test compares. */
export function references(draft: Draft): [setting: string, value: string | undefined][] {
  const logins = draft.database?.logins ?? {};
  return [
    ...(draft.plaid?.clients ?? []).map((client, index): [string, string | undefined] => [
      `plaid.clients[${index}].secret`,
      client.secret,
    ]),
    ...Object.entries(logins).map(([role, login]): [string, string | undefined] => [
      `database.logins.${role}.password`,
      (login as { password?: string }).password,
    ]),
    ['listeners.gateway.tls.key', draft.listeners?.gateway?.tls?.key],
    ['listeners.admin.token', draft.listeners?.admin?.token],
    ['audit.signingKey', draft.audit?.signingKey],
  ];
}
