/**
 * The way to Plaid: one origin, no redirects, no proxies, TLS always checked.
 * What is sent is built from allowlists; what comes back is bounded. Whether a
 * call can have been carried out is told by the error code.
 *
 * It does not look into bodies: rewriting and scanning are done around it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { Client, type Dispatcher, Pool } from 'undici';
import { StrongroomError } from '../base/errors.ts';
import type { PlaidEnvironment } from '../base/ids.ts';
import type { Secret } from '../base/secret.ts';
import type { Endpoint } from './endpoints.ts';
import { findToken } from './token-shapes.ts';
import { Exchange } from './upstream-exchange.ts';

export interface UpstreamRequest {
  readonly endpoint: Endpoint;
  /** The path to ask for: the endpoint's, with its placeholders filled. */
  readonly path: string;
  /** As the caller sent them; only a few are passed on (see {@link passedHeaders}). */
  readonly headers: IncomingHttpHeaders;
  /** Empty for none. */
  readonly body: Buffer;
  readonly client: { readonly clientId: string; readonly secret: Secret<string> };
  /**
   * Gives up when aborted: `UPSTREAM_UNAVAILABLE` when nothing was sent yet, else
   * `UPSTREAM_TIMEOUT`. Leave it out where giving up would lose a token.
   */
  readonly signal?: AbortSignal;
  /** A connection of its own: no idle connection can die under a call that must not be sent twice. Default false. */
  readonly fresh?: boolean;
}

export type UpstreamAnswer =
  | {
      readonly kind: 'buffered';
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly body: Buffer;
    }
  | {
      /** Larger than the buffer: to be passed on while it is scanned. */
      readonly kind: 'stream';
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      /** Errors with a StrongroomError. Destroying it cuts the connection to Plaid. */
      readonly body: Readable;
    };

export interface Upstream {
  /**
   * Sends one call. Safe to call concurrently.
   *
   * @throws StrongroomError `UPSTREAM_UNAVAILABLE`: surely nothing was sent.
   *   `UPSTREAM_TIMEOUT`, `UPSTREAM_BROKEN`: the call may have been carried out.
   *   `REQUEST_MALFORMED`: a header that would be passed on is not what Plaid takes.
   *   A call is repeated once, and only for `endpoint.retry` `safe`, when the
   *   connection failed before an answer began.
   */
  call(request: UpstreamRequest): Promise<UpstreamAnswer>;
  /** Waits for calls under way, then closes the connections. */
  close(): Promise<void>;
}

export interface UpstreamOptions {
  readonly environment: PlaidEnvironment;
  /** Another origin than Plaid's, for tests and the simulator. Only the composition root decides this. */
  readonly origin?: string;
  /** Most connections at once. Default 128. */
  readonly connections?: number;
  /** Milliseconds for a connection with TLS. Default 5 000. */
  readonly connectMs?: number;
  /** Milliseconds until the answer begins; Plaid's slowest calls ask banks. Default 60 000. */
  readonly headersMs?: number;
  /** Milliseconds between two parts of an answer. Default 15 000. */
  readonly bodyMs?: number;
  /** Milliseconds for all of it. Default 90 000. */
  readonly totalMs?: number;
  /** Answers up to this many bytes are held in memory. Default 8 MiB. */
  readonly bufferBytes?: number;
  /** Larger answers are refused. Default 256 MiB. */
  readonly answerBytes?: number;
  /** Sent before the caller's own. Default `Strongroom`. */
  readonly userAgent?: string;
  /** PEM roots to trust instead of the system's, for tests. */
  readonly ca?: string;
}

const ORIGINS: Readonly<Record<PlaidEnvironment, string>> = {
  sandbox: 'https://sandbox.plaid.com',
  production: 'https://production.plaid.com',
};

export function createUpstream(options: UpstreamOptions): Upstream {
  const origin = originOf(options);
  const limits = {
    totalMs: options.totalMs ?? 90_000,
    bufferBytes: options.bufferBytes ?? 8 * 1024 * 1024,
    answerBytes: options.answerBytes ?? 256 * 1024 * 1024,
  };
  const settings: Client.Options = {
    allowH2: false,
    pipelining: 1,
    headersTimeout: options.headersMs ?? 60_000,
    bodyTimeout: options.bodyMs ?? 15_000,
    connectTimeout: options.connectMs ?? 5_000,
    // Shorter than the idle time of load balancers, so that we close first.
    keepAliveTimeout: 10_000,
    keepAliveMaxTimeout: 30_000,
    maxHeaderSize: 16 * 1024,
    strictContentLength: true,
  };
  // Said aloud, because an environment variable can turn the default off.
  const connect = {
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2' as const,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  };
  const pool = new Pool(origin, { ...settings, connections: options.connections ?? 128, connect });
  const agent = options.userAgent ?? 'Strongroom';

  function once(request: UpstreamRequest, dispatch: Dispatcher.DispatchOptions): Promise<UpstreamAnswer> {
    const exchange = new Exchange(request.endpoint, limits, request.signal);
    if (request.fresh !== true) {
      pool.dispatch(dispatch, exchange);
      return exchange.answer;
    }
    const client = new Client(origin, { ...settings, connect });
    client.dispatch({ ...dispatch, reset: true }, exchange);
    // Closing waits for the call that has been handed over.
    client.close().catch(() => undefined);
    return exchange.answer;
  }

  return {
    async call(request) {
      const { endpoint, body, client } = request;
      const headers = passedHeaders(request.headers, agent);
      headers.push('plaid-client-id', client.clientId, 'plaid-secret', client.secret.reveal());
      if (body.length > 0) headers.push('content-type', 'application/json');
      const dispatch: Dispatcher.DispatchOptions = {
        method: endpoint.method,
        path: request.path,
        headers,
        body: body.length > 0 ? body : null,
      };
      try {
        return await once(request, dispatch);
      } catch (error) {
        if (endpoint.retry !== 'safe' || request.signal?.aborted === true || !isConnectionFailure(error)) throw error;
        return once(request, dispatch);
      }
    },
    close: () => pool.close(),
  };
}

function originOf({ origin, environment }: UpstreamOptions): string {
  if (origin === undefined) return ORIGINS[environment];
  const url = URL.canParse(origin) ? new URL(origin) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.origin !== origin.replace(/\/$/, '')) {
    throw new StrongroomError('CONFIG_INVALID', {
      detail: 'plaid.upstream is an origin such as https://127.0.0.1:7103.',
    });
  }
  return url.origin;
}

/** The connection failed and no byte of an answer had come. Time that ran out is not of that kind. */
function isConnectionFailure(error: unknown): boolean {
  if (!(error instanceof StrongroomError)) return false;
  return error.code === 'UPSTREAM_UNAVAILABLE' || (error.code === 'UPSTREAM_BROKEN' && error.facts.answered === false);
}

/** What each header that is passed on has to look like: strict, so that nothing can be carried in it. */
const PASSED: readonly (readonly [name: string, form: RegExp])[] = [
  ['plaid-version', /^\d{4}-\d{2}-\d{2}$/],
  ['plaid-new-user-api-enabled', /^(?:true|false)$/],
  ['oauth-state-id', /^[0-9A-Za-z_-]{1,128}$/],
];
const SDK_AGENT = /^[0-9A-Za-z][0-9A-Za-z ./()_;:+-]{0,119}$/;

function passedHeaders(headers: IncomingHttpHeaders, agent: string): string[] {
  const passed = ['accept', '*/*', 'accept-encoding', 'identity'];
  for (const [name, form] of PASSED) {
    const value = headers[name];
    if (value === undefined) continue;
    if (typeof value !== 'string' || !form.test(value) || findToken(value) !== null) {
      throw new StrongroomError('REQUEST_MALFORMED', { detail: `The header ${name} is not what Plaid takes.` });
    }
    passed.push(name, value);
  }
  // Plaid's support asks which SDK made a call. An odd one, or a token that strayed, is left out: nothing depends on it.
  const sdk = headers['user-agent'];
  const plain = sdk !== undefined && SDK_AGENT.test(sdk) && findToken(sdk) === null;
  passed.push('user-agent', plain ? `${agent} (${sdk})` : agent);
  return passed;
}
