import { randomBytes } from 'node:crypto';
import type { FastifyPluginAsync, FastifyRequest, FastifyServerOptions } from 'fastify';
import type { TSchema } from 'typebox';
import Value from 'typebox/value';
import { digestOf, sameDigest } from '../access/credentials.ts';
import { firstProblem } from '../access/policy.ts';
import { Refusals } from '../access/rate.ts';
import type { AuditWriter } from '../audit/writer.ts';
import type { Clock } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import { formatRequestId } from '../base/ids.ts';
import type { Applications } from '../custody/applications.ts';
import { applicationRoutes } from './admin-applications.ts';
import { healthRoutes } from './admin-health.ts';
import { openApi } from './admin-openapi.ts';
import { type AdminRoute, type Health, TOKEN_HOLDER } from './admin-route.ts';
import { asStrongroomError, plaidShaped } from './plaid-error.ts';

/**
 * The door for people and the command line. Loopback or a unix socket only; one
 * bearer token; every call recorded before it acts.
 *
 * It knows HTTP and nothing else. What there is to do stands in routes, small
 * values that the OpenAPI document is written from too.
 */

export interface AdminParts {
  readonly applications: Applications;
  readonly audit: Pick<AuditWriter, 'append' | 'note'>;
  /** SHA-256 of the bearer token. The token itself is not needed here. */
  readonly tokenSha256: Uint8Array;
  readonly clock: Clock;
  health(): Promise<Health>;
  /** Further routes, such as those of the audit log. */
  readonly routes?: readonly AdminRoute[];
  /** Told about every error that is not the caller's. For the log. */
  readonly onError?: (error: StrongroomError, request: { id: string; method: string; route: string }) => void;
}

/** What the admin listener's Fastify needs to be made with. */
export const ADMIN_SERVER = {
  bodyLimit: 256 * 1024,
  requestTimeout: 10_000,
  genReqId: () => formatRequestId(randomBytes(15)),
  exposeHeadRoutes: false,
  trustProxy: false,
} as const satisfies FastifyServerOptions;

const LOOPBACK_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?$/i;
const BEARER = /^Bearer ([\x21-\x7e]{1,512})$/i;
const APPLICATION_ID = /^[0-9a-f]{24}$/;
const REFUSAL_WINDOW_MS = 60_000;

export function adminDoor(parts: AdminParts): FastifyPluginAsync {
  return async (app) => {
    const routes: AdminRoute[] = [
      ...healthRoutes(parts.health),
      ...applicationRoutes(parts.applications),
      ...(parts.routes ?? []),
    ];
    routes.push({
      method: 'GET',
      path: '/openapi.json',
      summary: 'This API as an OpenAPI document.',
      answer: 'application/json',
      handle: async () => openApi(routes),
    });
    const open = new Set(routes.filter((route) => route.open === true).map((route) => route.path));
    const refusals = new Refusals(parts.clock, { windowMs: REFUSAL_WINDOW_MS });

    const tellCounts = (all: boolean) => {
      for (const { source, count } of refusals.drain(all)) {
        parts.audit.note('admin.refused', { code: 'ADMIN_UNAUTHORIZED', source, count });
      }
    };
    const timer = setInterval(() => tellCounts(false), REFUSAL_WINDOW_MS).unref();
    app.addHook('onClose', async () => {
      clearInterval(timer);
      tellCounts(true);
    });

    // Everything from outside is checked as it came: nothing coerced, nothing dropped, no defaults.
    app.setValidatorCompiler<TSchema>(({ schema, httpPart }) => (data) => {
      if (Value.Check(schema, data)) return { value: data };
      return {
        error: new StrongroomError('INPUT_INVALID', { detail: firstProblem(schema, data, httpPart ?? 'input') }),
      };
    });

    app.addHook('onRequest', async (request, reply) => {
      reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
      const source = request.ip || 'socket';
      const route = routeOf(request);
      // A browser that was led here by a rebound name says that name.
      const hostFits = LOOPBACK_HOST.test(request.headers.host ?? '');
      if (hostFits && open.has(route)) return;
      const token = BEARER.exec(request.headers.authorization ?? '')?.[1] ?? '';
      const tokenFits = sameDigest(digestOf(token), parts.tokenSha256) && token !== '';
      if (!hostFits || !tokenFits) {
        tellCounts(false);
        if (refusals.refused(source, '')) {
          parts.audit.note('admin.refused', { route, code: 'ADMIN_UNAUTHORIZED', source, count: 1 });
        }
        throw new StrongroomError('ADMIN_UNAUTHORIZED');
      }
      // Durable before anything is done, reading included.
      await parts.audit.append('admin.called', { method: request.method, route, by: TOKEN_HOLDER, source });
    });

    app.setErrorHandler((error, request, reply) => {
      const ours = asAdminError(error);
      if (ours.status >= 500) {
        parts.onError?.(ours, { id: request.id, method: request.method, route: routeOf(request) });
      }
      return reply.code(ours.status).send(plaidShaped(ours.code, request.id, ours.detail));
    });
    app.setNotFoundHandler(() => {
      throw new StrongroomError('ROUTE_UNKNOWN');
    });

    for (const route of routes) {
      app.route({
        method: route.method,
        url: route.path,
        schema: {
          ...(route.params === undefined ? {} : { params: route.params }),
          ...(route.query === undefined ? {} : { querystring: route.query }),
          ...(route.body === undefined ? {} : { body: route.body }),
        },
        handler: async (request, reply) => {
          const answer = await route.handle(request, reply);
          if (reply.statusCode === 200 && route.status !== undefined) reply.code(route.status);
          if (typeof route.answer === 'string') reply.type(route.answer);
          return answer;
        },
      });
    }
  };
}

/** The route for the log: the pattern, with the id of an application filled in, and nothing else that came from outside. */
function routeOf(request: FastifyRequest): string {
  const pattern = request.routeOptions.url;
  if (pattern === undefined) return 'unknown';
  const id = (request.params as { id?: unknown } | null)?.id;
  return typeof id === 'string' && APPLICATION_ID.test(id) ? pattern.replace(':id', id) : pattern;
}

function asAdminError(error: unknown): StrongroomError {
  switch ((error as { code?: unknown } | null)?.code) {
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return new StrongroomError('BODY_MALFORMED');
    default:
      return asStrongroomError(error);
  }
}
