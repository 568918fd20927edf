import { readFileSync } from 'node:fs';
import { Refusals, TokenBuckets } from './access/rate.ts';
import { AddressSet, clientAddress } from './access/source.ts';
import { systemClock, systemRandom } from './base/clock.ts';
import { StrongroomError } from './base/errors.ts';
import type { Config } from './config.ts';
import { Answers } from './custody/answers.ts';
import { Authentication } from './custody/authentication.ts';
import { Exchange } from './custody/exchange.ts';
import { Forward } from './custody/forward.ts';
import { Gateway } from './custody/gateway.ts';
import { Lookup } from './custody/lookup.ts';
import { OPERATION_LEASE_MS } from './custody/operation.ts';
import { PlaidClients } from './custody/plaid-clients.ts';
import { Removal } from './custody/removal.ts';
import { Rotation } from './custody/rotation.ts';
import { Vault } from './custody/vault.ts';
import { gatewayListener } from './http/gateway.ts';
import { type Common, keyringOf, listen, type Part, stampOf, within } from './main-common.ts';
import { declareEndpoint, ENDPOINTS } from './plaid/endpoints.ts';
import { createUpstream } from './plaid/upstream.ts';
import { readSecret } from './secrets/read.ts';
import { loadApplication } from './store/applications.ts';
import { readStamp, requireSameStamp } from './store/deployment.ts';
import { UsageReservations } from './store/usage.ts';

/** The gateway: everything that an application's call passes through, put together. */

export async function startGateway(common: Common): Promise<Part> {
  const { config, log, database, audit, kms } = common;
  const keyring = keyringOf(common);
  const stamp = await readStamp(database.sql);
  if (stamp === null) {
    throw new StrongroomError('STAMP_MISMATCH', {
      detail: 'The database has no stamp yet: start the worker role first.',
    });
  }
  requireSameStamp(stamp, await stampOf(config, kms, keyring));
  // Fetched now, so that a key service that refuses is found at start and not by the first caller.
  for (const purpose of ['index', 'record'] as const) await keyring.current(purpose);

  const { plaid, limits } = config;
  const vault = new Vault({
    database,
    keyring,
    audit,
    random: systemRandom,
    deploymentId: config.deployment.id,
    plaidEnvironment: plaid.environment,
    alarm: (what, facts) => log.error({ component: 'vault', ...facts }, what),
  });
  const clients = new PlaidClients(
    plaid.clients.map(({ name, clientId, secret }) => ({ name, clientId, fetch: () => readSecret(secret) })),
    audit,
    systemClock,
  );
  const upstream = createUpstream({
    environment: plaid.environment,
    ...(plaid.upstream === undefined ? {} : { origin: plaid.upstream }),
    connections: limits.upstreamConnections,
    totalMs: limits.upstreamMs,
    headersMs: limits.upstreamMs,
    bufferBytes: limits.bufferedAnswerBytes,
    answerBytes: limits.answerBytes,
  });
  const answers = new Answers({ vault, database });
  const forward = new Forward({ vault, upstream, clients, answers, audit, database, clock: systemClock });
  const operations = { database, audit, vault, random: systemRandom };
  const refusals = new Refusals(systemClock);
  const usage = new UsageReservations(database.sql);
  const gateway = new Gateway({
    authentication: new Authentication({
      load: (id) => loadApplication(database.reads, id),
      clock: systemClock,
      audit,
      refusals,
    }),
    endpoints: ENDPOINTS.with(config.endpoints.map((endpoint) => declareEndpoint(rowOf(endpoint)))),
    lookup: new Lookup(database.reads),
    vault,
    usage,
    rates: new TokenBuckets(systemClock),
    audit,
    sql: database.sql,
    clock: systemClock,
    plaidEnvironment: plaid.environment,
    bodyDepth: limits.bodyDepth,
    settleMs: 10_000,
    special: new Map([
      ['/item/public_token/exchange', new Exchange(operations, forward, answers).carry],
      ['/item/access_token/invalidate', new Rotation(operations, forward).carry],
      ['/item/remove', new Removal(operations, forward).carry],
    ]),
    forward: forward.carry,
  });

  const { host, port, tls, trustedProxies } = config.listeners.gateway;
  const proxies = new AddressSet(trustedProxies);
  let stopping = false;
  const app = gatewayListener({
    door: gateway,
    sourceOf: (socket, forwarded) => clientAddress(socket, forwarded, proxies),
    limits: {
      bodyBytes: limits.bodyBytes,
      requestMs: limits.requestMs,
      connections: limits.connections,
      requests: limits.queue,
    },
    tls:
      tls === undefined
        ? null
        : { certificate: readFileSync(tls.certificate), key: Buffer.from((await readSecret(tls.key)).reveal()) },
    ready: async () => {
      if (stopping) return ['stopping'];
      const reasons = await database.reads.query('select 1').then(
        () => [],
        () => ['database'],
      );
      return vault.unsaved > 0 ? [...reasons, 'unsaved_token'] : reasons;
    },
    log: (level, fields, message) => log[level](fields, message),
  });
  const tellCounts = (all: boolean) => {
    for (const { source, count } of refusals.drain(all)) {
      audit.note('access.refused', { source, code: 'CREDENTIALS_REFUSED', count });
    }
  };
  const telling = setInterval(() => tellCounts(false), 60_000).unref();
  const listener = await listen(app, { host, port }, tls === undefined ? 'http' : 'https');
  log.info({ listener: 'gateway', origin: listener.url }, 'listening');

  return {
    url: listener.url,
    async stop() {
      stopping = true;
      clearInterval(telling);
      tellCounts(true);
      await listener.close(limits.shutdownMs);
      // A token that the database has not taken yet lives here alone. Nothing is worth more than waiting for it.
      const patience = performance.now() + OPERATION_LEASE_MS;
      while (vault.unsaved > 0 && performance.now() < patience)
        await new Promise((resolve) => setTimeout(resolve, 100));
      await within(limits.shutdownMs, upstream.close());
      await within(limits.shutdownMs, usage.close());
      keyring.drop();
    },
  };
}

/** An endpoint of the configuration as a row of the table. */
function rowOf(endpoint: Config['endpoints'][number]) {
  const map = (spots: readonly { at: string; kind: string }[]) =>
    Object.fromEntries(spots.map(({ at, kind }) => [at, `${kind}?`]));
  const own = endpoint.subject !== undefined || endpoint.request.length > 0;
  return {
    path: endpoint.path,
    class: endpoint.class,
    effect: endpoint.retrySafe ? 'read' : 'change',
    // Without anything that could be owned it may reach across the whole Plaid client.
    reach: own ? 'own' : 'client',
    binary: endpoint.binary,
    tokensIn: map(endpoint.request),
    tokensOut: Object.fromEntries(endpoint.response.map(({ at, kind }) => [at, kind])),
    ...(endpoint.subject === undefined ? {} : { subjects: { [endpoint.subject]: subjectKindOf(endpoint.subject) } }),
  };
}

/** `user_id` names a user. */
function subjectKindOf(field: string): string {
  return (field.split('.').at(-1) ?? field).replace(/_id$/, '').toLowerCase();
}
