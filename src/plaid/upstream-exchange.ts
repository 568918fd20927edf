/**
 * One call on one connection: collects the answer, or turns into a stream when
 * it is too large to hold, and names what went wrong by what may have happened.
 *
 * A handler of undici's lowest layer, without streams for the usual small
 * answer: this runs for every call.
 */
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { type ErrorCode, StrongroomError } from '../base/errors.ts';
import type { Endpoint } from './endpoints.ts';
import type { UpstreamAnswer } from './upstream.ts';

export interface ExchangeLimits {
  readonly totalMs: number;
  readonly bufferBytes: number;
  readonly answerBytes: number;
}

type Headers = Record<string, string | string[] | undefined>;

/** What of Plaid's headers an application may see. */
const SHOWN = ['content-type', 'plaid-request-id', 'retry-after'];

export class Exchange implements Dispatcher.DispatchHandler {
  readonly answer: Promise<UpstreamAnswer>;
  readonly #endpoint: Endpoint;
  readonly #limits: ExchangeLimits;
  readonly #signal: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout;
  #resolve!: (answer: UpstreamAnswer) => void;
  #reject!: (error: StrongroomError) => void;
  /** Set from the moment a connection is there and the request is about to be written. */
  #controller: Dispatcher.DispatchController | null = null;
  #status = 0;
  #headers: Readonly<Record<string, string>> = {};
  #chunks: Buffer[] = [];
  #length = 0;
  #stream: Readable | null = null;
  /** No more of this call is wanted. */
  #done = false;

  constructor(endpoint: Endpoint, limits: ExchangeLimits, signal: AbortSignal | undefined) {
    this.#endpoint = endpoint;
    this.#limits = limits;
    this.#signal = signal;
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#timer = setTimeout(() => this.#giveUp('total'), limits.totalMs);
    if (signal !== undefined) {
      if (signal.aborted) queueMicrotask(this.#aborted);
      else signal.addEventListener('abort', this.#aborted, { once: true });
    }
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // Given up while it waited for a connection: abort before the first byte is written.
    if (this.#done) controller.abort(new Error('given up'));
    else this.#controller = controller;
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: Headers): void {
    if (status < 200 || this.#done) return;
    this.#status = status;
    const odd = this.#oddity(status, headers);
    if (odd !== null) {
      this.#fail('UPSTREAM_BROKEN', odd);
      return;
    }
    this.#headers = shown(headers);
    const length = headers['content-length'];
    if (length !== undefined && Number(length) > this.#limits.bufferBytes) this.#becomeStream();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#done) return;
    this.#length += chunk.length;
    if (this.#length > this.#limits.answerBytes) {
      this.#fail('UPSTREAM_BROKEN', 'too_large');
    } else if (this.#stream === null) {
      this.#chunks.push(chunk);
      if (this.#length > this.#limits.bufferBytes) this.#becomeStream();
    } else if (!this.#stream.push(chunk)) {
      controller.pause();
    }
  }

  onResponseEnd(): void {
    if (!this.#finish()) return;
    if (this.#stream !== null) {
      this.#stream.push(null);
      return;
    }
    const [first] = this.#chunks;
    const body = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks);
    this.#resolve({ kind: 'buffered', status: this.#status, headers: this.#headers, body });
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    const code = (error as { code?: string }).code ?? error.name;
    if (this.#controller === null) this.#fail('UPSTREAM_UNAVAILABLE', code);
    else if (/TIMEOUT/.test(code)) this.#fail('UPSTREAM_TIMEOUT', code);
    else this.#fail('UPSTREAM_BROKEN', code);
  }

  /** Why an answer is not one to read, from its head alone; null when it is. */
  #oddity(status: number, headers: Headers): string | null {
    if (status >= 300 && status < 400) return 'redirect';
    const encoding = headers['content-encoding'];
    // We asked for none, and could not look into it.
    if (encoding !== undefined && encoding !== 'identity') return 'content_encoding';
    if (SHOWN.some((name) => Array.isArray(headers[name]))) return 'repeated_header';
    const length = headers['content-length'];
    // Without either, the end of the connection is the end of the answer, and a cut one looks whole.
    if (length === undefined && headers['transfer-encoding'] === undefined && status !== 204) return 'no_length';
    if (length !== undefined && Number(length) > this.#limits.answerBytes) return 'too_large';
    return null;
  }

  #becomeStream(): void {
    const controller = this.#controller;
    const stream = new Readable({
      highWaterMark: 256 * 1024,
      read: () => controller?.resume(),
      destroy: (error, callback) => {
        if (this.#finish()) controller?.abort(new Error('given up'));
        callback(error);
      },
    });
    // An answer that nobody reads any more fails too, and must not end the process with it.
    stream.on('error', () => {});
    this.#stream = stream;
    for (const chunk of this.#chunks) stream.push(chunk);
    this.#chunks = [];
    controller?.pause();
    this.#resolve({ kind: 'stream', status: this.#status, headers: this.#headers, body: stream });
  }

  readonly #aborted = () => this.#giveUp('aborted');

  #giveUp(reason: string): void {
    this.#fail(this.#controller === null ? 'UPSTREAM_UNAVAILABLE' : 'UPSTREAM_TIMEOUT', reason);
  }

  #fail(code: ErrorCode, reason: string): void {
    if (!this.#finish()) return;
    // undici's error is not kept as the cause: it may hold the request.
    const error = new StrongroomError(code, { endpoint: this.#endpoint.path, reason, answered: this.#status !== 0 });
    this.#controller?.abort(error);
    if (this.#stream === null) this.#reject(error);
    else this.#stream.destroy(error);
  }

  /** True for the first caller only. */
  #finish(): boolean {
    if (this.#done) return false;
    this.#done = true;
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#aborted);
    return true;
  }
}

function shown(headers: Headers): Readonly<Record<string, string>> {
  const allowed: Record<string, string> = {};
  for (const name of SHOWN) {
    const value = headers[name];
    if (typeof value === 'string') allowed[name] = value;
  }
  return allowed;
}
