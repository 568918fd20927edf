import type { AuditWriter } from '../audit/writer.ts';
import type { Clock } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import type { Secret } from '../base/secret.ts';

/**
 * The Plaid clients in whose name calls are made. Secrets come from where they are
 * kept, are held briefly, and each fetch is an audit entry.
 */

export interface PlaidClient {
  readonly name: string;
  readonly clientId: string;
  /** Reads the secret anew. */
  readonly fetch: () => Promise<Secret<string>>;
}

/** A changed secret works after this long without a restart. */
const HELD_MS = 30_000;

interface Held {
  readonly secret: Secret<string>;
  readonly until: number;
}

export class PlaidClients {
  readonly #clients: ReadonlyMap<string, PlaidClient>;
  readonly #audit: Pick<AuditWriter, 'append'>;
  readonly #clock: Clock;
  readonly #held = new Map<string, Held>();
  readonly #fetching = new Map<string, Promise<Held>>();

  constructor(clients: readonly PlaidClient[], audit: Pick<AuditWriter, 'append'>, clock: Clock) {
    this.#clients = new Map(clients.map((client) => [client.clientId, client]));
    this.#audit = audit;
    this.#clock = clock;
  }

  /**
   * The same object for as long as the secret is the same and held: whoever looks
   * for it in answers prepares the search once.
   *
   * @throws SECRET_UNREADABLE, AUDIT_UNAVAILABLE; INTERNAL for a client that is not configured.
   */
  async secretOf(clientId: string): Promise<Secret<string>> {
    const held = this.#held.get(clientId);
    if (held !== undefined && this.#clock.monotonic() < held.until) return held.secret;
    let fetching = this.#fetching.get(clientId);
    if (fetching === undefined) {
      fetching = this.#fetch(clientId).finally(() => this.#fetching.delete(clientId));
      this.#fetching.set(clientId, fetching);
    }
    return (await fetching).secret;
  }

  async #fetch(clientId: string): Promise<Held> {
    const client = this.#clients.get(clientId);
    if (client === undefined) throw new StrongroomError('INTERNAL', { reason: 'unknown Plaid client' });
    const fresh = await client.fetch();
    await this.#audit.append('secret.fetched', { name: `plaid.clients.${client.name}.secret`, manager: 'file' });
    const before = this.#held.get(clientId)?.secret;
    const held = {
      secret: before !== undefined && before.reveal() === fresh.reveal() ? before : fresh,
      until: this.#clock.monotonic() + HELD_MS,
    };
    this.#held.set(clientId, held);
    return held;
  }
}
