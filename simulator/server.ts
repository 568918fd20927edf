/**
 * The HTTP side: reads a call, checks it in Plaid's order, runs its endpoint,
 * and answers, or does what a planted fault says instead.
 *
 * Between reading the body and the end of an endpoint nothing awaits, so a call
 * is either carried out as a whole or not at all, whatever becomes of the
 * connection.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { type Answer, Call, type Json, Reply } from './call.ts';
import { authenticate } from './credentials.ts';
import { errorBody, isPlaidCode, type PlaidCode, PlaidFailure } from './errors.ts';
import { type Fault, type Faults, fillPlaceholders, type Release } from './faults.ts';
import { checkFields } from './fields.ts';
import type { RateLimits } from './limits.ts';
import type { Mint } from './random.ts';
import { ROUTES, readsOnly } from './routes.ts';
import type { CallLog, CallRecord } from './truth.ts';
import type { World } from './world.ts';

const MOST_BODY = 10 * 1024 * 1024; // bytes
const API_VERSION = '2020-09-14';

export interface PlaidParts {
  readonly world: World;
  readonly faults: Faults;
  readonly log: CallLog;
  readonly limits: RateLimits;
  /** Request ids have a stream of their own, so that failed calls do not change the tokens of a seeded run. */
  readonly requestIds: Mint;
  /** Resolves when the state is on disk. */
  readonly saved: () => Promise<void>;
}

interface Rendered {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
  /** The answer before it became bytes, for placeholders. */
  readonly json: unknown;
}

export function plaidServer(parts: PlaidParts): Server {
  const server = createServer((request, response) => {
    serve(parts, request, response).catch(() => response.destroy());
  });
  server.keepAliveTimeout = 65_000; // longer than usual clients keep theirs, so that they close first
  return server;
}

async function serve(parts: PlaidParts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { world, faults, log } = parts;
  const path = (request.url ?? '/').split('?', 1)[0] as string;
  const record = log.open(path, request.method ?? '', Object.keys(request.headers), world.now());

  const early = faults.none ? null : faults.take(path, true, () => null);
  if (early !== null) {
    record.fault = early.id;
    if (early.kind === 'not_done' || (await faults.wait(early)) === 'destroy') return end(response, early);
  }

  const bytes = await readBody(request);
  if (bytes === null) return end(response, null); // the caller went away, or sent too much
  const body = parseBody(path, request, bytes);
  log.noteBody(record, bytes, body);

  const fault = faults.none ? null : faults.take(path, false, () => itemOf(world, body));
  if (fault !== null) record.fault = fault.id;
  const struck = (point: Fault['point']): boolean => fault !== null && (fault.point ?? 'before_commit') === point;

  if (fault?.kind === 'not_done') return end(response, fault);
  if (fault !== null && struck('before_commit') && (await faults.wait(fault)) === 'destroy')
    return end(response, fault);

  const replaced = fault?.kind === 'status' || fault?.kind === 'body';
  let answer: Rendered | null = null;
  if (replaced && struck('before_commit')) authenticateQuietly(parts, path, request, body, record);
  else {
    answer = carryOut(parts, path, request, body, record);
    // Durable before it is told: what a caller was promised survives a crash of ours.
    if (record.done && !readsOnly(path)) await parts.saved();
  }
  // From here on the call has been carried out; only its answer can still go wrong.

  let release: Release = 'continue';
  if (fault !== null && struck('after_commit')) release = await faults.wait(fault);
  if (release === 'destroy' || fault?.kind === 'answer_lost') return end(response, fault);
  if (fault !== null && replaced) answer = plantedAnswer(parts, fault, body, answer?.json);
  if (answer === null) return end(response, fault);
  record.status = answer.status;
  await send(response, answer, fault, faults);
}

function carryOut(
  parts: PlaidParts,
  path: string,
  request: IncomingMessage,
  body: unknown,
  record: CallRecord,
): Rendered {
  const requestId = parts.requestIds.requestId();
  try {
    const answer = run(parts, path, request, body, record);
    record.done = true;
    return render(answer, requestId);
  } catch (error) {
    const failure = error instanceof PlaidFailure ? error : new PlaidFailure('INTERNAL_SERVER_ERROR');
    if (!(error instanceof PlaidFailure)) process.emitWarning(error as Error); // a mistake of ours: say so, keep serving
    return render(new Reply(failure.status, errorBody(failure, requestId)), requestId);
  }
}

/** The order of checks is an assumption; docs/simulator.md says so. */
function run(parts: PlaidParts, path: string, request: IncomingMessage, body: unknown, record: CallRecord): Answer {
  const { world, limits } = parts;
  if (request.method !== 'POST') throw notFound(path);
  if (body instanceof PlaidFailure) throw body;
  const fields = body as Json;
  const version = request.headers['plaid-version'];
  if (version !== undefined && version !== API_VERSION) throw new PlaidFailure('INCOMPATIBLE_API_VERSION');
  const clientId = authenticate(path, request.headers, fields, world.state);
  record.credentialsOk = true;
  const endpoint = ROUTES.get(path);
  if (endpoint === undefined) throw notFound(path);
  if (path.startsWith('/sandbox/') && world.environment !== 'sandbox') {
    throw new PlaidFailure(
      'SANDBOX_ONLY',
      `access to ${path} is only available in the sandbox environment at https://sandbox.plaid.com/`,
    );
  }
  checkFields(path, fields);
  const call = new Call({ path, world, clientId, body: fields, headers: request.headers, limits });
  if (fields.access_token === undefined) call.spend(null);
  return endpoint(call);
}

const notFound = (path: string): PlaidFailure =>
  new PlaidFailure('NOT_FOUND', `the requested endpoint ${path} was not found`);

function authenticateQuietly(
  parts: PlaidParts,
  path: string,
  request: IncomingMessage,
  body: unknown,
  record: CallRecord,
): void {
  if (body instanceof PlaidFailure) return;
  try {
    authenticate(path, request.headers, body as Json, parts.world.state);
    record.credentialsOk = true;
  } catch {
    // The planted answer is sent all the same; the log shows that the credentials were wrong.
  }
}

function render(answer: Answer, requestId: string): Rendered {
  const reply = answer instanceof Reply ? answer : new Reply(200, answer);
  if (Buffer.isBuffer(reply.body)) {
    return {
      status: reply.status,
      headers: { 'Content-Type': reply.type, 'Plaid-Request-ID': requestId },
      body: reply.body,
      json: null,
    };
  }
  const json = { ...reply.body, request_id: requestId };
  return {
    status: reply.status,
    headers: { 'Content-Type': reply.type },
    body: Buffer.from(JSON.stringify(json)),
    json,
  };
}

function plantedAnswer(parts: PlaidParts, fault: Fault, request: unknown, answer: unknown): Rendered {
  const { items } = parts.world.state;
  // Looked up only when a placeholder names the item.
  const item = new Proxy({}, { get: (_, id) => items.get(id as string)?.accessToken ?? null });
  const sources = { request, answer, item };
  const headers: Record<string, string> = { 'Content-Type': 'application/json' };
  for (const [name, value] of Object.entries(fault.headers ?? {})) headers[name] = fillPlaceholders(value, sources);
  if (fault.body !== undefined) {
    const text = fillPlaceholders(typeof fault.body === 'string' ? fault.body : JSON.stringify(fault.body), sources);
    if (fault.gzip === true) headers['Content-Encoding'] = 'gzip';
    return {
      status: fault.status ?? 200,
      headers,
      body: fault.gzip === true ? gzipSync(text) : Buffer.from(text),
      json: null,
    };
  }
  const failure = new PlaidFailure(codeOf(fault));
  const json = errorBody(failure, parts.requestIds.requestId());
  return { status: fault.status ?? failure.status, headers, body: Buffer.from(JSON.stringify(json)), json };
}

function codeOf(fault: Fault): PlaidCode {
  if (fault.error_code !== undefined && isPlaidCode(fault.error_code)) return fault.error_code;
  if (fault.status === 429) return 'RATE_LIMIT';
  return fault.status === 503 ? 'PLANNED_MAINTENANCE' : 'INTERNAL_SERVER_ERROR';
}

async function send(response: ServerResponse, answer: Rendered, fault: Fault | null, faults: Faults): Promise<void> {
  const { body } = answer;
  const repeat = fault?.repeat ?? 1;
  // A planted answer may state its length wrongly, or none.
  const framed = Object.keys(answer.headers).some((name) => /^(content-length|transfer-encoding)$/i.test(name));
  response.writeHead(
    answer.status,
    framed ? answer.headers : { ...answer.headers, 'Content-Length': body.length * repeat },
  );
  if (fault === null) {
    response.end(body);
    return;
  }
  const cut = fault.kind === 'answer_cut';
  if (cut || fault.point === 'mid_answer') {
    const bytes = fault.bytes ?? 0;
    const first = body.subarray(0, bytes < 0 ? Math.max(0, body.length + bytes) : bytes);
    await write(response, first);
    if (cut || (await faults.wait(fault)) === 'destroy') return end(response, fault);
    response.end(body.subarray(first.length));
    return;
  }
  const piece = fault.chunk_bytes ?? body.length;
  for (let time = 0; time < repeat; time++) {
    for (let at = 0; at < body.length && !response.destroyed; at += piece)
      await write(response, body.subarray(at, at + piece));
  }
  response.end();
}

/** Resolves when the bytes were handed to the kernel; a gone client is no error here. */
function write(response: ServerResponse, bytes: Buffer): Promise<void> {
  // An empty write would keep the headers back.
  if (bytes.length === 0) response.flushHeaders();
  return new Promise((resolve) => {
    response.once('close', resolve);
    response.write(bytes, () => {
      response.off('close', resolve);
      resolve();
    });
  });
}

function end(response: ServerResponse, fault: Fault | null): void {
  const { socket } = response;
  if (fault?.reset === true && socket !== null && 'resetAndDestroy' in socket) socket.resetAndDestroy();
  else response.destroy();
}

/** Null when the caller went away or sent more than allowed. */
async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of request) {
      size += (chunk as Buffer).length;
      if (size > MOST_BODY) return null;
      chunks.push(chunk as Buffer);
    }
  } catch {
    return null;
  }
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
}

/** The parsed body, or the failure to answer with. */
function parseBody(path: string, request: IncomingMessage, bytes: Buffer): Json | PlaidFailure {
  const type = (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase();
  if (path.startsWith('/oauth/') && type === 'application/x-www-form-urlencoded')
    return Object.fromEntries(new URLSearchParams(bytes.toString()));
  if (type !== 'application/json' || request.headers['content-encoding'] !== undefined)
    return new PlaidFailure('INVALID_BODY');
  try {
    const body: unknown = JSON.parse(bytes.toString());
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Json;
  } catch {
    // answered below
  }
  return new PlaidFailure('INVALID_BODY');
}

function itemOf(world: World, body: unknown): string | null {
  const token = (body as Json).access_token;
  const grant = typeof token === 'string' ? world.state.grants.get(token) : undefined;
  return grant?.kind === 'access' ? grant.itemId : null;
}
