import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Agent, request } from 'undici';
import { ERRORS, type ErrorCode, StrongroomError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';
import { environment } from '../config.ts';
import { readSecret } from '../secrets/read.ts';
import { referenceOf } from '../secrets/reference.ts';
import type { Io, Outcome } from './command.ts';

/**
 * The way of the command line to the admin API. It finds URL and token, speaks
 * JSON, and turns refusals into the same errors that the server had.
 *
 * The token comes from a file or from standard input, never from an argument:
 * arguments stand in the process list and in shell histories.
 */

/** For `parseArgs`: what every command that talks to a server takes. */
export const ADMIN_OPTIONS = {
  'admin-url': { type: 'string' },
  'token-file': { type: 'string' },
} as const;

export const ADMIN_USAGE = `  --admin-url URL     Admin API: http://127.0.0.1:PORT, https://... or unix:/path/to/socket.
  --token-file FILE   File with the admin token (0600), or - for standard input.
                      Without both: the running \`strongroom dev\` of STRONGROOM_HOME.`;

export interface AdminOptions {
  readonly 'admin-url'?: string | undefined;
  readonly 'token-file'?: string | undefined;
}

export interface AdminClient {
  /** The answer's JSON. Throws the server's refusal as a StrongroomError of the same code. */
  call<T>(method: 'GET' | 'POST' | 'PUT', path: string, body?: unknown): Promise<T>;
  /** A large answer as it arrives. The caller reads it to the end or destroys it. */
  stream(path: string): Promise<Readable>;
  close(): Promise<void>;
}

const PATIENCE_MS = 30_000;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

interface Place {
  /** With a scheme that undici knows. */
  readonly origin: string;
  readonly socketPath: string | null;
}

/**
 * @throws StrongroomError `NOT_RUNNING` when nothing was found to talk to, `USAGE`
 *   for options that do not fit together, `SECRET_UNREADABLE` for the token file.
 */
export async function openAdmin(options: AdminOptions, stdin: NodeJS.ReadableStream): Promise<AdminClient> {
  const { place, token } = await find(options, stdin);
  const dispatcher = new Agent({
    headersTimeout: PATIENCE_MS,
    bodyTimeout: PATIENCE_MS,
    connect: { timeout: 5_000, ...(place.socketPath === null ? {} : { socketPath: place.socketPath }) },
  });

  const send = async (method: 'GET' | 'POST' | 'PUT', path: string, body: unknown) => {
    try {
      return await request(place.origin + path, {
        dispatcher,
        method,
        headers: {
          authorization: `Bearer ${token.reveal()}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      throw unreachable(error);
    }
  };

  return {
    call: async <T>(method: 'GET' | 'POST' | 'PUT', path: string, body?: unknown) => {
      const answer = await send(method, path, body);
      const json = await readJson(answer.body);
      if (answer.statusCode >= 300) throw refusalOf(json);
      return json as T;
    },
    stream: async (path) => {
      const answer = await send('GET', path, undefined);
      if (answer.statusCode >= 300) throw refusalOf(await readJson(answer.body));
      return answer.body;
    },
    close: () => dispatcher.destroy(),
  };
}

/** Runs a command's work with a client and closes it, whatever happens. */
export async function withAdmin(
  options: AdminOptions,
  io: Pick<Io, 'stdin'>,
  work: (admin: AdminClient) => Promise<Outcome>,
): Promise<Outcome> {
  const admin = await openAdmin(options, io.stdin);
  try {
    return await work(admin);
  } finally {
    await admin.close();
  }
}

async function find(
  options: AdminOptions,
  stdin: NodeJS.ReadableStream,
): Promise<{ place: Place; token: Secret<string> }> {
  const url = options['admin-url'];
  const file = options['token-file'];
  if (url === undefined && file === undefined) return fromDevFile(join(environment().home, 'dev.json'));
  if (url === undefined || file === undefined) {
    throw new StrongroomError('USAGE', { detail: '--admin-url and --token-file go together.' });
  }
  const token = file === '-' ? await fromStandardInput(stdin) : await readSecret(referenceOf(`file:${file}`));
  return { place: placeOf(url), token };
}

function fromDevFile(path: string): { place: Place; token: Secret<string> } {
  let admin: { url?: unknown; token?: unknown } | undefined;
  try {
    admin = (JSON.parse(readFileSync(path, 'utf8')) as { admin?: typeof admin }).admin;
  } catch {
    // Not there, or about to be put in place: either way nothing answers yet.
  }
  if (typeof admin?.url !== 'string' || typeof admin.token !== 'string') throw notRunning();
  return { place: placeOf(admin.url), token: new Secret(admin.token) };
}

/** The token would be readable on the way: plain HTTP stays on this machine. */
function placeOf(text: string): Place {
  if (text.startsWith('unix:/')) return { origin: 'http://localhost', socketPath: text.slice('unix:'.length) };
  const url = URL.parse(text);
  const local = url !== null && ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname);
  if (url === null || !(url.protocol === 'https:' || (url.protocol === 'http:' && local))) {
    throw new StrongroomError('USAGE', {
      detail: '--admin-url takes http:// to this machine, https://, or unix:/path.',
    });
  }
  return { origin: url.origin, socketPath: null };
}

async function fromStandardInput(stdin: NodeJS.ReadableStream): Promise<Secret<string>> {
  const token = (await readText(stdin, 4_096)).trim();
  if (token === '') throw new StrongroomError('USAGE', { detail: 'Standard input holds no token.' });
  return new Secret(token);
}

/** Reads a whole stream as UTF-8. @throws StrongroomError `USAGE` beyond `limit` bytes. */
export async function readText(stream: NodeJS.ReadableStream, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk as Buffer | string);
    size += bytes.length;
    if (size > limit) throw new StrongroomError('USAGE', { detail: `More than ${limit} bytes.` });
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function readJson(body: Readable): Promise<unknown> {
  try {
    return JSON.parse(await readText(body, MAX_ANSWER_BYTES));
  } catch (error) {
    throw new StrongroomError('INTERNAL', { detail: "The server's answer is not understood." }, error);
  }
}

function refusalOf(json: unknown): StrongroomError {
  const { error_code: code, error_message: message } = (json ?? {}) as {
    error_code?: unknown;
    error_message?: unknown;
  };
  if (typeof code !== 'string' || !Object.hasOwn(ERRORS, code)) {
    return new StrongroomError('INTERNAL', { detail: "The server's answer is not understood." });
  }
  const { says } = ERRORS[code as ErrorCode];
  const detail = typeof message === 'string' && message.startsWith(`${says} `) ? message.slice(says.length + 1) : null;
  return new StrongroomError(code as ErrorCode, detail === null ? {} : { detail });
}

const NOBODY_THERE = new Set(['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_SOCKET']);

function unreachable(error: unknown): StrongroomError {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && NOBODY_THERE.has(code)
    ? notRunning()
    : new StrongroomError('INTERNAL', { reason: typeof code === 'string' ? code : 'request failed' }, error);
}

function notRunning(): StrongroomError {
  return new StrongroomError('NOT_RUNNING', {
    detail: 'Start `strongroom dev`, set STRONGROOM_HOME to its home, or give --admin-url and --token-file.',
  });
}
