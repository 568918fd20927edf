import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fromBase32, parseHandle } from '../../src/base/ids.ts';
import { Needles } from './needles.ts';

/**
 * Knows the secrets of a run and looks for them everywhere. A secret has a group
 * (`vaulted`, `key`, `handle` ...); a place may hold the groups that it was made
 * to hold, by its exact name. Everything else is a finding, and so is a place
 * that was to hold a secret and does not: then the list, or the search, is wrong.
 */

export type Query = <R extends object>(text: string) => Promise<R[]>;

interface Place {
  readonly name: string;
  readonly bytes: Buffer;
}

export interface CanaryReport {
  readonly places: number;
  readonly bytes: number;
  readonly secrets: number;
  /** `place: secret (encoding, at offset)`. */
  readonly findings: readonly string[];
  /** Places that were to hold a secret, and do not. */
  readonly missing: readonly string[];
}

/** Stretches of a large file, so that memory stays small. */
const STRETCH = 8 * 1024 * 1024;

export class Canaries {
  readonly #needles = new Needles();
  readonly #allowed = new Map<string, Map<string, 'must' | 'may'>>();
  readonly #met = new Map<string, Set<string>>();
  readonly #kept: Place[] = [];
  readonly #findings: string[] = [];
  #places = 0;
  #bytes = 0;

  /** `group` or `group: which one`. */
  secret(name: string, value: string | Buffer): void {
    this.#needles.add(name, value);
  }

  /** One of Plaid's tokens, or an application key, or a handle: what follows its prefix. */
  token(name: string, token: string): void {
    this.secret(name, secretPart(token));
    const bytes = /^strongroom-key-/.test(token) ? fromBase32(secretPart(token)) : null;
    if (bytes !== null) this.secret(`${name} (as bytes)`, bytes);
    const handle = parseHandle(token);
    if (handle.ok) this.secret(`${name} (as bytes)`, handle.id);
  }

  /** The place holds secrets of these groups, and at least one of each is found there. */
  holds(place: string, ...groups: readonly string[]): void {
    this.#allow(place, groups, 'must');
  }

  /** The place may hold secrets of these groups. */
  mayHold(place: string, ...groups: readonly string[]): void {
    this.#allow(place, groups, 'may');
  }

  #allow(place: string, groups: readonly string[], how: 'must' | 'may'): void {
    const allowed = this.#allowed.get(place) ?? new Map<string, 'must' | 'may'>();
    for (const group of groups) allowed.set(group, how);
    this.#allowed.set(place, allowed);
  }

  /** Keeps what is small, to be looked at once all secrets are known. */
  keep(name: string, bytes: Buffer | string): void {
    if (bytes.length > 0) this.#kept.push({ name, bytes: Buffer.from(bytes as string) });
  }

  /** The command line and the environment of processes, as they are now. */
  keepProcesses(name: string, pids: readonly number[]): void {
    for (const pid of pids) {
      for (const file of ['cmdline', 'environ']) this.keep(`${name} /proc ${file}`, readOr(`/proc/${pid}/${file}`));
    }
  }

  /** Looks now. */
  look(name: string, bytes: Buffer): void {
    this.#places++;
    this.#bytes += bytes.length;
    const overlap = this.#needles.longest;
    for (let start = 0; start < bytes.length; start += STRETCH) {
      for (const hit of this.#needles.find(bytes.subarray(start, start + STRETCH + overlap))) {
        const group = hit.name.replace(/ \(as bytes\)$/, '').replace(/:.*/, '');
        if (this.#allowed.get(name)?.has(group)) this.#met.set(name, (this.#met.get(name) ?? new Set()).add(group));
        else this.#findings.push(`${name}: ${hit.name} (${hit.encoding}, at ${start + hit.at})`);
      }
    }
  }

  /** Every file below a folder, by name and content. Links are looked at, not followed. */
  lookAtFolder(name: string, folder: string): void {
    for (const entry of readdirSync(folder)) {
      const path = join(folder, entry);
      const place = `${name}/${entry}`;
      this.look(`${place} (its name)`, Buffer.from(entry));
      const stat = lstatSync(path);
      if (stat.isDirectory()) this.lookAtFolder(place, path);
      else if (stat.isSymbolicLink()) this.look(place, Buffer.from(readlinkSync(path)));
      else if (stat.isFile()) this.look(place, readFileSync(path));
    }
  }

  /**
   * Every row of every table, each value as bytes and as text, and what the server
   * says about its sessions, its roles and its settings.
   */
  async lookAtDatabase(name: string, query: Query): Promise<void> {
    const tables = await query<{ schema: string; table: string }>(
      `select n.nspname as schema, c.relname as table
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`,
    );
    const views = ['pg_authid', 'pg_stat_activity', 'pg_settings', 'pg_db_role_setting', 'pg_prepared_statements'];
    const all = [
      ...tables.map(({ schema, table }) => `"${schema}"."${table}"`),
      ...views.map((view) => `pg_catalog.${view}`),
    ];
    for (const table of all) {
      const rows = await query<Record<string, unknown>>(`select t.*, t::text as "whole row" from ${table} t`);
      const cells = rows.flatMap((row) => Object.values(row).flatMap(cellBytes));
      this.look(`${name} ${table.replaceAll('"', '')}`, Buffer.concat(cells));
    }
  }

  report(): CanaryReport {
    for (const { name, bytes } of this.#kept.splice(0)) this.look(name, bytes);
    const missing: string[] = [];
    for (const [place, groups] of this.#allowed) {
      for (const [group, how] of groups) {
        if (how === 'must' && !this.#met.get(place)?.has(group)) missing.push(`${place}: ${group}`);
      }
    }
    const { count: secrets } = this.#needles;
    return { places: this.#places, bytes: this.#bytes, secrets, findings: [...new Set(this.#findings)], missing };
  }
}

/** Cells are kept apart, so that two neighbours never make a secret. */
const APART = Buffer.from('\0');

function cellBytes(value: unknown): Buffer[] {
  if (value === null || value === undefined) return [];
  if (Buffer.isBuffer(value)) return [value, APART];
  return [Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)), APART];
}

function secretPart(token: string): string {
  return token.replace(/^(?:strongroom-key|handle-[a-z]+|[a-z-]+-(?:sandbox|production)|btok_|pd[ar]-)[-_]?/, '');
}

function readOr(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0); // ended meanwhile
  }
}

/** A process and everything below it, as /proc shows them now. */
export function family(root: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of readOrNone('/proc')) {
    const parent = /\) \S (\d+) /.exec(readOr(`/proc/${entry}/stat`).toString('latin1'))?.[1];
    if (/^\d+$/.test(entry) && parent !== undefined) parents.set(Number(entry), Number(parent));
  }
  const found = [root];
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child);
  return found;
}

function readOrNone(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
