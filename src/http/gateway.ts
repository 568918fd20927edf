import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline, type Readable } from 'node:stream';
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions,
} from 'fastify';
import { StrongroomError } from '../base/errors.ts';
import { formatRequestId } from '../base/ids.ts';
import type { GatewayAnswer, GatewayRequest, Trace } from '../custody/call.ts';
import { asStrongroomError, plaidShaped, rawRefusal } from './plaid-error.ts';

/**
 * The door that applications use in place of Plaid: same paths, same bodies, with
 * handles where Plaid has tokens.
 *
 * It knows HTTP and nothing else: bounds, who is calling, what comes back. Every
 * decision is in custody/gateway.ts.
 */

export interface GatewayDoor {
  /** Checks header credentials without a body. Called before a large body is read. */
  preauthenticate(headers: IncomingHttpHeaders, source: string): Promise<void>;
  handle(request: GatewayRequest, trace: Trace): Promise<GatewayAnswer>;
}

export interface GatewayListenerOptions {
  readonly door: GatewayDoor;
  readonly sourceOf: (socketAddress: string, forwardedFor: string | undefined) => string;
  readonly limits: {
    readonly bodyBytes: number;
    /** Whole request, headers and body. */
    readonly requestMs: number;
    readonly connections: number;
    /** Requests being worked on; past it callers get OVERLOADED at once. */
    readonly requests: number;
  };
  readonly tls: { readonly certificate: Buffer; readonly key: Buffer } | null;
  /** Why this process should get no requests now; empty when it should. */
  readonly ready: () => Promise<readonly string[]>;
  readonly log: (level: 'info' | 'warn' | 'error', fields: Record<string, unknown>, message: string) => void;
}

/** Bodies up to this size are read before the caller is known; larger ones after. */
const SMALL_BODY = 64 * 1024;
/** Of the largest size, so many are held at once; each takes about two and a half times its size. */
const LARGE_BODIES = 2;
const EMPTY = Buffer.alloc(0);
const ONE_WRITE = 16 * 1024;
const PARSER = { maxHeaderSize: 16 * 1024, connectionsCheckingInterval: 1_000 };

export function gatewayListener(options: GatewayListenerOptions): FastifyInstance {
  const { door, limits, log } = options;
  let working = 0;
  /** Bytes that large bodies under way hold or have declared, and how those without a length ask for more. */
  let promised = 0;
  const claims = new WeakMap<IncomingMessage, (bytes: number) => boolean>();
  /** Connections on which a call is being carried out, and those on which nothing is believed any more. */
  const calling = new WeakSet<Socket>();
  const distrusted = new WeakSet<Socket>();
  /** Connections that were refused before there was a request, and are read to their end for a while. */
  const refused = new WeakSet<Socket>();

  const app = Fastify({
    logger: false,
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.requestMs,
    keepAliveTimeout: 72_000, // longer than the usual 60 s of load balancers, which must hang up first
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    clientErrorHandler: refuseSocket,
    // Fastify answers a bad request target before any route; ours has another shape.
    frameworkErrors: (error: unknown, _request: FastifyRequest, reply: FastifyReply) => {
      refuse(reply, unread(), asStrongroomError(error));
    },
    http: PARSER,
    ...(options.tls === null
      ? {}
      : {
          https: {
            ...PARSER,
            cert: options.tls.certificate,
            key: options.tls.key,
            minVersion: 'TLSv1.2' as const,
            handshakeTimeout: Math.min(limits.requestMs, 60_000),
          },
        }),
  } as FastifyServerOptions) as FastifyInstance;
  app.server.maxConnections = limits.connections;
  app.server.headersTimeout = Math.min(limits.requestMs, 60_000);

  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', (request, payload, done) => {
    collect(payload, limits.bodyBytes, claims.get(request.raw), done);
  });

  app.addHook('onRequest', (request, reply, done) => {
    const headers = request.headers;
    // Node's parser takes HTTP/0.9 and any coding before `chunked`. Whoever stands in front of us may read
    // such a request with other borders (RFC 9112 section 11.2), and what comes behind it as well.
    const coding = headers['transfer-encoding'];
    const odd = request.raw.httpVersionMajor !== 1 || (coding !== undefined && coding.toLowerCase() !== 'chunked');
    if (odd || distrusted.has(request.raw.socket)) {
      distrusted.add(request.raw.socket);
      return done(new StrongroomError('REQUEST_MALFORMED'));
    }
    if (headers['content-encoding'] !== undefined) return done(new StrongroomError('CONTENT_TYPE_REFUSED'));
    const length = headers['content-length'];
    const small = length === undefined ? coding === undefined : Number(length) <= SMALL_BODY;
    if (small) return done();
    // Memory is given only to callers that are known, and only so much to all of them together, since some
    // dozens of large bodies would take more than everything else. What is declared is promised before the
    // body begins: bodies that fill the room side by side would all be refused halfway.
    door
      .preauthenticate(headers, sourceOf(request))
      .then(() => {
        if (Number(length) > limits.bodyBytes) throw new StrongroomError('BODY_TOO_LARGE');
        const claim = claimFor(reply.raw);
        if (length === undefined) claims.set(request.raw, claim);
        else if (!claim(Number(length))) throw new StrongroomError('OVERLOADED');
      })
      .then(() => done(), done);
  });

  function claimFor(raw: ServerResponse): (bytes: number) => boolean {
    let mine = 0;
    raw.once('close', () => {
      promised -= mine;
    });
    return (bytes) => {
      if (promised + bytes > LARGE_BODIES * limits.bodyBytes) return false;
      promised += bytes;
      mine += bytes;
      return true;
    };
  }

  app.get('/healthz', (_request, reply) => reply.send({ status: 'alive' }));
  app.get('/readyz', async (_request, reply) => {
    const reasons = await options.ready();
    return reply.code(reasons.length === 0 ? 200 : 503).send({ ready: reasons.length === 0, reasons });
  });
  // One route: which paths exist is the endpoint table's business.
  app.all('/*', answer);
  app.setNotFoundHandler(answer);
  app.setErrorHandler((error, _request, reply) => refuse(reply, unread(), asStrongroomError(error)));

  async function answer(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const exchange: Exchange = { requestId: newRequestId(), started: performance.now(), trace: { ...NOWHERE } };
    if (working >= limits.requests) return refuse(reply, exchange, new StrongroomError('OVERLOADED'));
    working++;
    const { socket } = request.raw;
    calling.add(socket);
    try {
      const result = await door.handle(
        {
          requestId: exchange.requestId,
          method: request.method,
          path: request.raw.url ?? '',
          headers: request.headers,
          body: Buffer.isBuffer(request.body) ? request.body : EMPTY,
          source: sourceOf(request),
        },
        exchange.trace,
      );
      reply.hijack();
      let left: string | undefined;
      if (Buffer.isBuffer(result.body)) write(reply.raw, result.status, result.headers, result.body);
      else left = await stream(reply.raw, result.status, result.headers, result.body);
      log('info', { ...fieldsOf(exchange, result.status), ...(left && { reason: left }) }, 'answered');
    } catch (error) {
      refuse(reply, exchange, asStrongroomError(error));
    } finally {
      working--;
      calling.delete(socket);
    }
  }

  function refuse(reply: FastifyReply, exchange: Exchange, error: StrongroomError): void {
    const { status } = error;
    const level = error.code === 'INTERNAL' ? 'error' : status >= 500 ? 'warn' : 'info';
    const cause = level === 'info' ? {} : { err: error.cause ?? error };
    log(level, { ...error.facts, ...fieldsOf(exchange, status), code: error.code, ...cause }, 'refused');
    reply.hijack();
    if (reply.raw.headersSent || reply.raw.destroyed) {
      // An answer under way cannot be taken back: end the connection, so that the
      // client sees a cut answer and never a whole one.
      reply.raw.destroy();
      return;
    }
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (error.retryable && (status === 429 || status === 503)) headers['retry-after'] = '1';
    const body = Buffer.from(JSON.stringify(plaidShaped(error.code, exchange.requestId, error.detail)));
    const { raw } = reply.request;
    // What was not read of a refused request would be taken for the next one.
    if (!raw.complete || distrusted.has(raw.socket)) headers.connection = 'close';
    if (raw.complete) {
      write(reply.raw, status, headers, body);
      return;
    }
    reply.raw.writeHead(status, { ...headers, 'content-length': body.length });
    reply.raw.write(body);
    linger(raw, () => reply.raw.end());
  }

  /** What came could not be parsed, or did not come in time. */
  function refuseSocket(error: Error & { code?: string }, socket: Socket): void {
    // The parser complains anew about each piece that follows; those are dropped.
    if (error.code === 'ECONNRESET' || socket.destroyed || refused.has(socket)) return;
    // Garbage behind a good request: a refusal now would stand where that one's answer belongs, or in the
    // middle of it, and say that nothing was done. A cut connection says what is true: unknown.
    if (calling.has(socket)) return void socket.destroy();
    const late = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
    // No HTTP at all: TLS that failed or did not begin. What is written then is never sent, and whoever waits
    // for that holds the connection for ever.
    if (!late && error.code?.startsWith('HPE_') !== true) return void socket.destroy();
    const code = late ? 'BODY_TIMEOUT' : 'REQUEST_MALFORMED';
    const requestId = newRequestId();
    log('info', { request_id: requestId, code, reason: error.code }, 'refused');
    refused.add(socket);
    if (socket.writable) socket.end(rawRefusal(code, requestId));
    // Closed at once, with bytes unread, the connection would be reset, and the refusal lost on its way.
    const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref();
    socket.on('error', IGNORE).on('close', () => clearTimeout(timer));
  }

  function sourceOf(request: FastifyRequest): string {
    const forwarded = request.headers['x-forwarded-for'];
    return options.sourceOf(
      request.raw.socket.remoteAddress ?? '',
      Array.isArray(forwarded) ? forwarded.join(',') : forwarded,
    );
  }

  return app;
}

function write(raw: ServerResponse, status: number, headers: Readonly<Record<string, string>>, body: Buffer): void {
  raw.writeHead(status, { ...headers, 'content-length': body.length });
  // As a string of bytes a small body travels with the headers in one write to the kernel.
  if (body.length <= ONE_WRITE) raw.end(body.toString('latin1'), 'latin1');
  else raw.end(body);
}

/**
 * The body in one piece, copied as it comes. A list of chunks would let whoever
 * sends single bytes take some 400 of ours for each.
 */
function collect(
  payload: IncomingMessage,
  most: number,
  claim: ((bytes: number) => boolean) | undefined,
  done: (error: Error | null, body?: Buffer) => void,
): void {
  let body: Buffer = EMPTY;
  let length = 0;
  const onData = (chunk: Buffer) => {
    const before = length;
    length += chunk.length;
    if (length > most) return over(new StrongroomError('BODY_TOO_LARGE'));
    if (claim?.(chunk.length) === false) return over(new StrongroomError('OVERLOADED'));
    if (before === 0) {
      body = chunk; // nearly always all of it
      return;
    }
    if (length > body.length) {
      const larger = Buffer.allocUnsafe(Math.min(most, Math.max(length, 2 * body.length)));
      body.copy(larger, 0, 0, before);
      body = larger;
    }
    chunk.copy(body, before);
  };
  const onEnd = () => over(null);
  const onGone = () => over(new StrongroomError('REQUEST_MALFORMED', { reason: 'aborted' }));
  const over = (error: StrongroomError | null) => {
    payload.off('data', onData).off('end', onEnd).off('close', onGone);
    if (error === null) done(null, body.subarray(0, length));
    else done(error);
  };
  // An error is always followed by `close`; it only needs to be heard.
  payload.on('data', onData).on('end', onEnd).on('close', onGone).on('error', IGNORE);
}

const IGNORE = () => {};
/** Longest time for which the rest of a refused request is read and dropped. */
const LINGER_MS = 2_000;

/**
 * Waits until a refused request has come in whole, or for a while. Closing at once
 * would reset the connection, since there are bytes unread; a client that is busy
 * sending would then see a broken pipe and never why.
 */
function linger(request: IncomingMessage, then: () => void): void {
  const over = () => {
    clearTimeout(timer);
    request.off('end', over).off('close', over);
    then();
  };
  const timer = setTimeout(over, LINGER_MS);
  request.on('error', IGNORE).on('end', over).on('close', over).resume();
}

/** How a pipeline says that the caller is gone: nothing is wrong with the answer, nor with us. */
const CALLER_LEFT = new Set([
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_STREAM_UNABLE_TO_PIPE',
  'ERR_STREAM_DESTROYED',
  'ECONNRESET',
  'EPIPE',
]);

/**
 * Large and binary answers. A scanner that finds a secret destroys the source, and with it the connection.
 *
 * @returns why the answer did not arrive in whole, when the caller did not wait for it.
 */
function stream(
  raw: ServerResponse,
  status: number,
  headers: Readonly<Record<string, string>>,
  body: Readable,
): Promise<string | undefined> {
  if (raw.destroyed) {
    // A pipeline that never begins would leave the source as it is, and its connection open.
    body.destroy();
    return Promise.resolve('caller_left');
  }
  raw.writeHead(status, headers);
  return new Promise((resolve, reject) => {
    pipeline(body, raw, (error) => {
      if (!error) resolve(undefined);
      else if (CALLER_LEFT.has(error.code ?? '')) resolve('caller_left');
      else reject(error);
    });
  });
}

/** One request and its answer, for the log. */
interface Exchange {
  readonly requestId: string;
  readonly started: number;
  readonly trace: Trace;
}

const NOWHERE: Trace = { endpoint: null, application: null };

function unread(): Exchange {
  return { requestId: newRequestId(), started: performance.now(), trace: NOWHERE };
}

function fieldsOf({ requestId, started, trace }: Exchange, status: number): Record<string, unknown> {
  return {
    request_id: requestId,
    endpoint: trace.endpoint,
    application: trace.application,
    status,
    ms: Math.round((performance.now() - started) * 10) / 10,
  };
}

// Random bytes are drawn in bulk: one call to the kernel for some 270 request ids.
let pool = EMPTY;
let used = 0;

function newRequestId(): string {
  if (used + 15 > pool.length) {
    pool = randomBytes(4096);
    used = 0;
  }
  used += 15;
  return formatRequestId(pool.subarray(used - 15, used));
}
