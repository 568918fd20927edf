import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A client of bytes: says over one connection whatever a test wants said, and
 * returns every byte that came back. No HTTP library stands between, so nothing
 * is mended, joined or left out on either way.
 */

export interface RawAnswer {
  readonly status: number;
  /** Lower-case names; of repeated ones the last. */
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  /** False when the connection ended before the answer did. */
  readonly whole: boolean;
}

export interface Conversation {
  /** Everything that was received. */
  readonly bytes: Buffer;
  readonly answers: readonly RawAnswer[];
  /** Whether the other side ended the connection before we did. */
  readonly closed: boolean;
}

export interface TalkOptions {
  /** Pause between two parts, in milliseconds. Default 0. */
  readonly pauseMs?: number;
  /**
   * Sent once the first answer has come, or after `settleMs`: an innocent request
   * that asks for the connection to be closed, so that the end is not guessed.
   */
  readonly closing?: boolean;
  readonly settleMs?: number;
  /** Longest wait for the other side to end the connection; then we do. Default 20 s. */
  readonly patienceMs?: number;
}

const GOODBYE = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';

/** Says the parts, then listens until the connection ends. */
export async function talk(
  url: string,
  parts: string | Buffer | Iterable<string | Buffer> | AsyncIterable<string | Buffer>,
  { pauseMs = 0, closing = true, settleMs = 250, patienceMs = 20_000 }: TalkOptions = {},
): Promise<Conversation> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname.replace(/^\[|\]$/g, ''));
  socket.setNoDelay(true);
  const received: Buffer[] = [];
  let closed = false;
  let heard: () => void = () => {};
  const first = new Promise<void>((resolve) => {
    heard = resolve;
  });
  const ended = new Promise<void>((resolve) => {
    socket.on('close', resolve);
    socket.on('end', () => {
      closed = true;
    });
    // A reset is one way to be shown the door.
    socket.on('error', () => {
      closed = true;
    });
  });
  socket.on('data', (chunk) => {
    received.push(chunk);
    heard();
  });
  await Promise.race([new Promise<void>((resolve) => socket.once('connect', () => resolve())), ended]);

  const all = typeof parts === 'string' || Buffer.isBuffer(parts) ? [parts] : parts;
  for await (const part of all) {
    if (socket.destroyed || !socket.writable) break;
    await write(socket, part);
    if (pauseMs > 0) await sleep(pauseMs);
  }
  if (closing) {
    await Promise.race([first, ended, sleep(settleMs, undefined, { ref: false })]);
    if (socket.writable) await write(socket, GOODBYE);
  }
  await Promise.race([ended, sleep(patienceMs, undefined, { ref: false })]);
  socket.destroy();
  const bytes = Buffer.concat(received);
  return { bytes, answers: answersIn(bytes), closed };
}

function write(socket: Socket, part: string | Buffer): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', resolve);
    socket.write(typeof part === 'string' ? Buffer.from(part, 'latin1') : part, () => {
      socket.off('close', resolve);
      resolve();
    });
  });
}

/** The HTTP answers in a stretch of bytes, one after the other; 1xx ones are left out. */
export function answersIn(bytes: Buffer): RawAnswer[] {
  const answers: RawAnswer[] = [];
  let rest = bytes.toString('latin1');
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) break;
    const [line = '', ...lines] = rest.slice(0, end).split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(line)?.[1] ?? Number.NaN);
    const headers = Object.fromEntries(
      lines.map((header) => {
        const colon = header.indexOf(':');
        return [header.slice(0, colon).toLowerCase(), header.slice(colon + 1).trim()];
      }),
    );
    rest = rest.slice(end + 4);
    if (status >= 100 && status < 200) continue;
    const length = headers['content-length'];
    if (length !== undefined) {
      const text = rest.slice(0, Number(length));
      answers.push({ status, headers, text, whole: text.length === Number(length) });
      rest = rest.slice(Number(length));
    } else if (headers['transfer-encoding'] === 'chunked') {
      const { text, whole, after } = unchunked(rest);
      answers.push({ status, headers, text, whole });
      rest = after;
    } else {
      answers.push({ status, headers, text: rest, whole: true });
      rest = '';
    }
  }
  return answers;
}

function unchunked(rest: string): { text: string; whole: boolean; after: string } {
  let text = '';
  for (;;) {
    const line = rest.indexOf('\r\n');
    const size = line < 0 ? Number.NaN : Number.parseInt(rest.slice(0, line), 16);
    if (Number.isNaN(size)) return { text: text + rest, whole: false, after: '' };
    if (size === 0) return { text, whole: true, after: rest.slice(line + 4) };
    text += rest.slice(line + 2, line + 2 + size);
    rest = rest.slice(line + 2 + size + 2);
  }
}

/** A request as a well-behaved client would write it, for tests to bend. */
export function request(
  path: string,
  headers: Readonly<Record<string, string>>,
  body: string,
  method = 'POST',
): string {
  const all: Record<string, string> = {
    Host: 'localhost',
    'Content-Type': 'application/json',
    'Content-Length': String(Buffer.byteLength(body)),
    ...headers,
  };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${head.join('')}\r\n${body}`;
}
