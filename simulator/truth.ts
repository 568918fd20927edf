/**
 * What really happened, for checks: every call that arrived, whether it was
 * carried out, and which token is alive. Tokens leave as SHA-256 only.
 */
import { createHash } from 'node:crypto';
import type { World } from './world.ts';
import { isoTime } from './world.ts';

/** Fields that hold a token, the most telling first. */
const TOKEN_FIELDS = [
  'access_token',
  'processor_token',
  'user_token',
  'asset_report_token',
  'audit_copy_token',
  'relay_token',
  'payment_profile_token',
  'third_party_user_token',
  'public_token',
  'link_token',
  'refresh_token',
  'subject_token',
  'token',
] as const;

/** Calls kept; older ones are dropped and counted. */
const KEPT_CALLS = 20_000;

export interface CallRecord {
  readonly seq: number;
  readonly endpoint: string;
  readonly method: string;
  readonly at: number;
  readonly headerNames: readonly string[];
  credentialsOk: boolean;
  tokenField: string | null;
  token: string | null;
  bodySha256: string | null;
  /** Whether the endpoint ran to its end without an error. */
  done: boolean;
  /** The HTTP status sent; null while under way and when the connection was ended. */
  status: number | null;
  fault: string | null;
}

export class CallLog {
  #calls: CallRecord[] = [];
  #seq = 0;
  #dropped = 0;

  open(endpoint: string, method: string, headerNames: readonly string[], at: number): CallRecord {
    const call: CallRecord = {
      seq: ++this.#seq,
      endpoint,
      method,
      at,
      headerNames,
      credentialsOk: false,
      tokenField: null,
      token: null,
      bodySha256: null,
      done: false,
      status: null,
      fault: null,
    };
    this.#calls.push(call);
    if (this.#calls.length > 2 * KEPT_CALLS) {
      // Dropped in blocks: shifting one at a time would cost more than the call.
      this.#dropped += this.#calls.length - KEPT_CALLS;
      this.#calls = this.#calls.slice(-KEPT_CALLS);
    }
    return call;
  }

  noteBody(call: CallRecord, bytes: Buffer, body: unknown): void {
    call.bodySha256 = createHash('sha256').update(bytes).digest('hex');
    if (typeof body !== 'object' || body === null) return;
    for (const field of TOKEN_FIELDS) {
      const value = (body as Record<string, unknown>)[field];
      if (typeof value !== 'string') continue;
      call.tokenField = field;
      call.token = value;
      return;
    }
  }

  render(after: number): { calls: unknown[]; calls_dropped: number; last_seq: number } {
    const calls = this.#calls.slice(-KEPT_CALLS).filter((call) => call.seq > after);
    return {
      calls: calls.map((call) => ({
        seq: call.seq,
        endpoint: call.endpoint,
        method: call.method,
        at: new Date(call.at).toISOString(),
        credentials_ok: call.credentialsOk,
        token_field: call.tokenField,
        token_sha256: call.token === null ? null : sha256(call.token),
        body_sha256: call.bodySha256,
        header_names: call.headerNames,
        done: call.done,
        status: call.status,
        fault: call.fault,
      })),
      calls_dropped: this.#dropped,
      last_seq: this.#seq,
    };
  }
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Every item that was ever linked, with the hash of its one live token. */
export function renderItems(world: World): unknown[] {
  return [...world.state.items.values()].map((item) => ({
    item_id: item.id,
    client_id: item.clientId,
    institution_id: item.institutionId,
    state: item.state,
    access_token_sha256: item.state === 'live' && item.accessToken !== null ? sha256(item.accessToken) : null,
    rotations: item.rotations,
    error_code: item.error?.error_code ?? null,
    webhook: item.webhook,
    user_id: item.userId,
    billed_products: item.billed,
    created_at: isoTime(item.createdAt),
  }));
}

/** How many live tokens of each kind there are. */
export function countGrants(world: World): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const grant of world.state.grants.values()) counts[grant.kind] = (counts[grant.kind] ?? 0) + 1;
  return counts;
}
