/**
 * Sends webhooks the way Plaid documents it: 10 s for an
 * answer, only 200 counts, retries after 30 s and then four times as long each,
 * for 24 hours; none for a receiver that refuses nearly everything.
 *
 * Waiting is measured on the simulated clock, so moving that clock runs what
 * has fallen due. Redirects are not followed.
 */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { WebhookEvent } from './state.ts';
import { type SigningQuirks, signWebhook } from './webhook-keys.ts';
import type { Outgoing, World } from './world.ts';

const ANSWER_WITHIN = 10_000; // ms
const FIRST_RETRY = 30_000; // ms
const RETRY_FACTOR = 4;
const GIVE_UP_AFTER = 24 * 3_600_000; // ms
const LONGEST_RETRY_AFTER = 4 * 3_600_000; // ms
/** A receiver that refused more than this part of at least so many webhooks in 24 hours gets no retries. */
const REJECTED_PART = 0.9;
const REJECTED_SAMPLE = 10;
const KEPT_FOR = 7 * 24 * 3_600_000; // ms
const KEPT_EVENTS = 10_000;

export interface Quirks extends SigningQuirks {
  /** How many more times the same bytes are sent. */
  readonly duplicates?: number;
  /** One byte of the body is changed after signing. */
  readonly tamper?: boolean;
  /** Sent without a signature. */
  readonly unsigned?: boolean;
}

interface Job {
  readonly event: WebhookEvent;
  readonly quirks: Quirks;
  /** When the first attempt was due. */
  readonly begun: number;
  due: number;
  jwt: string | null;
}

export interface DeliveryEngine {
  send(webhook: Outgoing, quirks?: Quirks): string;
  /** Runs what is due: after the clock moved. */
  wake(): void;
  /** Keeps webhooks back until they are released, in their order or the other way round. */
  hold(): void;
  release(order: 'sent' | 'reverse'): number;
  /** Resolves when no attempt is under way. */
  idle(): Promise<void>;
  close(): Promise<void>;
}

/** What goes over the wire: two-space JSON with sorted keys, no newline at the end. */
export function webhookBody(payload: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.from(
    JSON.stringify(Object.fromEntries(Object.entries(payload).sort(([a], [b]) => (a < b ? -1 : 1))), null, 2),
  );
}

function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return (
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}

export function startDelivery(world: World, changed: () => void): DeliveryEngine {
  const waiting: Job[] = [];
  const underWay = new Set<Promise<void>>();
  /** Attempts of the last day per URL, for the rule about receivers that refuse. */
  const outcomes = new Map<string, { at: number; refused: boolean }[]>();
  let timer: NodeJS.Timeout | undefined;
  let held: Job[] | null = null;
  let closed = false;

  for (const event of world.state.webhookEvents.values()) {
    // Left over from an earlier run of this state.
    if (event.status === 'PENDING')
      waiting.push({ event, quirks: {}, begun: event.createdAt, due: world.now(), jwt: null });
  }
  schedule();

  function send(webhook: Outgoing, quirks: Quirks = {}): string {
    const now = world.now();
    forget(now);
    const event: WebhookEvent = {
      id: world.mint.uuid(),
      clientId: webhook.clientId,
      itemId: webhook.itemId,
      url: webhook.url,
      payload: webhook.payload,
      createdAt: webhook.at ?? now,
      status: 'PENDING',
      attempts: 0,
      lastStatus: null,
      lastAttemptAt: null,
    };
    world.state.webhookEvents.set(event.id, event);
    const { webhooks } = world.settings;
    if (webhooks === 'none' || (webhooks === 'loopback' && !isLoopback(webhook.url))) {
      event.status = 'FAILED';
      return event.id;
    }
    for (let copy = 0; copy <= (quirks.duplicates ?? 0); copy++) {
      const job: Job = { event, quirks, begun: event.createdAt, due: event.createdAt, jwt: null };
      (held ?? waiting).push(job);
    }
    schedule();
    return event.id;
  }

  function forget(now: number): void {
    for (const [id, event] of world.state.webhookEvents) {
      if (world.state.webhookEvents.size < KEPT_EVENTS && event.createdAt > now - KEPT_FOR) break;
      world.state.webhookEvents.delete(id);
    }
  }

  /** One timer, set to whatever is due first. */
  function schedule(): void {
    clearTimeout(timer);
    if (closed || waiting.length === 0) return;
    const first = Math.min(...waiting.map((job) => job.due));
    timer = setTimeout(wake, Math.min(Math.max(0, first - world.now()), 2_147_483_647));
    timer.unref();
  }

  function wake(): void {
    if (closed) return;
    const now = world.now();
    const due = waiting.filter((job) => job.due <= now);
    for (const job of due) {
      waiting.splice(waiting.indexOf(job), 1);
      const attempt = deliver(job).finally(() => underWay.delete(attempt));
      underWay.add(attempt);
    }
    schedule();
  }

  async function deliver(job: Job): Promise<void> {
    const { event, quirks } = job;
    const body = webhookBody(event.payload);
    if (job.jwt === null || world.settings.resignRetries) job.jwt = signWebhook(world, body, quirks);
    if (quirks.tamper === true) body[body.length - 2] = 0x20; // the newline before the closing brace
    const answer = await post(event.url, body, quirks.unsigned === true ? null : job.jwt);
    if (closed) return; // still PENDING in the state: the next run sends it again
    const now = world.now();
    event.attempts++;
    event.lastStatus = answer.status;
    event.lastAttemptAt = now;
    const list = (outcomes.get(event.url) ?? []).filter((outcome) => outcome.at > now - GIVE_UP_AFTER);
    list.push({ at: now, refused: answer.status !== 200 });
    outcomes.set(event.url, list);
    if (answer.status === 200) event.status = 'DELIVERED';
    else retry(job, answer.retryAfter, now);
    changed();
  }

  function retry(job: Job, retryAfter: string | null, now: number): void {
    const list = outcomes.get(job.event.url) ?? [];
    const refused = list.filter((outcome) => outcome.refused).length;
    const hopeless = list.length >= REJECTED_SAMPLE && refused / list.length > REJECTED_PART;
    const wait = job.event.lastStatus === 429 ? waitOf(retryAfter, now) : null;
    const due = now + (wait ?? FIRST_RETRY * RETRY_FACTOR ** (job.event.attempts - 1));
    if (hopeless || due > job.begun + GIVE_UP_AFTER) {
      if (job.event.status === 'PENDING') job.event.status = 'FAILED';
      return;
    }
    job.due = due;
    waiting.push(job);
    schedule();
  }

  return {
    send,
    wake,
    hold() {
      held ??= [];
    },
    release(order) {
      const jobs = held ?? [];
      held = null;
      if (order === 'reverse') jobs.reverse();
      // One after the other: sent at the same moment they would race.
      const all = jobs.reduce((before, job) => before.then(() => deliver(job)), Promise.resolve());
      underWay.add(all.finally(() => underWay.delete(all)));
      return jobs.length;
    },
    async idle() {
      while (underWay.size > 0) await Promise.all(underWay);
    },
    async close() {
      closed = true;
      clearTimeout(timer);
      await Promise.all(underWay);
    },
  };
}

/** Milliseconds to wait by a Retry-After in seconds, HTTP date or ISO 8601; at most 4 hours. Null: not understood. */
export function waitOf(retryAfter: string | null, now: number): number | null {
  if (retryAfter === null) return null;
  const ms = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(0, ms), LONGEST_RETRY_AFTER);
}

interface WebhookAnswer {
  /** Null when nothing came in time. */
  readonly status: number | null;
  readonly retryAfter: string | null;
}

function post(url: string, body: Buffer, jwt: string | null): Promise<WebhookAnswer> {
  return new Promise((resolve) => {
    const nothing = { status: null, retryAfter: null };
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    const headers: Record<string, string | number> = {
      'Content-Type': 'application/json',
      'Content-Length': body.length,
      'User-Agent': 'Plaid-Simulator',
    };
    if (jwt !== null) headers['Plaid-Verification'] = jwt;
    const outgoing = send(
      url,
      { method: 'POST', headers, agent: false, signal: AbortSignal.timeout(ANSWER_WITHIN) },
      (incoming) => {
        incoming.resume();
        resolve({ status: incoming.statusCode ?? null, retryAfter: incoming.headers['retry-after'] ?? null });
      },
    );
    outgoing.on('error', () => resolve(nothing));
    outgoing.end(body);
  });
}
