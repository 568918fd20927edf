import { digestOf, matchingKey } from '../access/credentials.ts';
import { type CompiledPolicy, compilePolicy } from '../access/decide.ts';
import { parsePolicy } from '../access/policy.ts';
import type { Refusals } from '../access/rate.ts';
import type { AuditWriter } from '../audit/writer.ts';
import type { Clock } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import { type ApplicationId, isApplicationKey } from '../base/ids.ts';
import type { Secret } from '../base/secret.ts';
import type { LoadedApplication } from '../store/applications.ts';

/**
 * Who is calling. Applications are kept in memory with their version; the version
 * is asked for at every request (custody/lookup.ts), so a copy is never used after
 * a change.
 *
 * Missing, wrong, expired, disabled and unknown are one answer, after the same work.
 */

/** An application as a request needs it. */
export interface Application {
  readonly id: ApplicationId;
  readonly name: string;
  readonly plaidClientId: string;
  readonly version: number;
  readonly policy: CompiledPolicy;
  readonly frozen: ReadonlySet<string>;
}

/** What a caller shows: header or body credentials. */
export interface Credentials {
  readonly id: string;
  readonly key: Secret<string>;
}

interface Known extends Application {
  readonly loaded: LoadedApplication;
}

const APPLICATION_ID = /^[0-9a-f]{24}$/;
/** Applications kept. Far more than any deployment has; a bound all the same. */
const KEPT = 10_000;

export class Authentication {
  readonly #loadFrom: (id: string) => Promise<LoadedApplication | null>;
  readonly #clock: Clock;
  readonly #audit: AuditWriter;
  readonly #refusals: Refusals;
  readonly #known = new Map<string, Known>();
  readonly #loading = new Map<string, Promise<Known | null>>();

  constructor(parts: {
    /** Reads an application, fresh. */
    load: (id: string) => Promise<LoadedApplication | null>;
    clock: Clock;
    audit: AuditWriter;
    refusals: Refusals;
  }) {
    this.#loadFrom = parts.load;
    this.#clock = parts.clock;
    this.#audit = parts.audit;
    this.#refusals = parts.refusals;
  }

  /**
   * Checks credentials against what is known, and against the database when they
   * do not fit: the application may be new, or its key may have changed.
   *
   * @throws CREDENTIALS_REFUSED, CREDENTIALS_THROTTLED, DATABASE_UNAVAILABLE.
   */
  async identify(credentials: Credentials | null, source: string): Promise<Application> {
    const name = credentials?.id ?? '';
    if (this.#refusals.throttled(source, name)) {
      this.#refuse(source, name, 'CREDENTIALS_THROTTLED');
    }
    if (credentials === null) return this.#refuse(source, name, 'CREDENTIALS_REFUSED');
    const digest = digestOf(credentials.key);
    const held = this.#known.get(credentials.id);
    if (held !== undefined && this.#fits(held, digest)) return held;
    // What cannot be right by its form does not cost a look at the database.
    if (!APPLICATION_ID.test(credentials.id) || !isApplicationKey(credentials.key.reveal())) {
      return this.#refuse(source, name, 'CREDENTIALS_REFUSED');
    }
    const fresh = await this.#load(credentials.id);
    if (fresh !== null && this.#fits(fresh, digest)) return fresh;
    if (fresh === null) this.#fits(null, digest);
    return this.#refuse(source, name, 'CREDENTIALS_REFUSED');
  }

  /**
   * The application as it stands at this moment, given the version that was just
   * read. When it has moved on, the credentials are checked again: a revoked key
   * does not pass on the strength of an older copy.
   */
  async current(
    application: Application,
    version: number | null,
    credentials: Credentials,
    source: string,
  ): Promise<Application> {
    if (version === application.version) return application;
    this.#known.delete(application.id);
    return this.identify(credentials, source);
  }

  #fits(known: Known | null, digest: Buffer): boolean {
    const key = matchingKey(known?.loaded.keys ?? [], digest, this.#clock.now());
    return key !== null && known !== null && !known.loaded.disabled;
  }

  async #load(id: string): Promise<Known | null> {
    let loading = this.#loading.get(id);
    if (loading === undefined) {
      loading = this.#fetch(id).finally(() => this.#loading.delete(id));
      this.#loading.set(id, loading);
    }
    return loading;
  }

  async #fetch(id: string): Promise<Known | null> {
    const loaded = await this.#loadFrom(id);
    if (loaded === null) return null;
    const known: Known = {
      id: loaded.id,
      name: loaded.name,
      plaidClientId: loaded.plaidClientId,
      version: loaded.version,
      policy: compilePolicy(parsePolicy(loaded.policy)),
      frozen: loaded.frozen,
      loaded,
    };
    if (this.#known.size >= KEPT) {
      const oldest = this.#known.keys().next().value;
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    this.#known.set(id, known);
    return known;
  }

  /** Unknown callers cannot fill the audit log: the first refusal of a source is told at once, the rest as a count. */
  #refuse(source: string, name: string, code: 'CREDENTIALS_REFUSED' | 'CREDENTIALS_THROTTLED'): never {
    if (this.#refusals.refused(source, name)) {
      this.#audit.note('access.refused', { source, code, count: 1 });
    }
    throw new StrongroomError(code, { source });
  }
}
