import { existsSync, globSync } from 'node:fs';

/**
 * The folder of Debian's PostgreSQL programs: the oldest version that we support
 * and that is installed, since the newest is what the embedded server runs.
 * `startEmbedded({ binaries })` then runs it with the same care: fsync on, an
 * account that is not root, a temporary folder.
 */
export function debianPostgres(): string {
  const versions = globSync('/usr/lib/postgresql/*')
    .map((folder) => ({ folder, major: Number(folder.split('/').pop()) }))
    .filter(({ folder, major }) => major >= 15 && existsSync(`${folder}/bin/postgres`))
    .sort((a, b) => a.major - b.major);
  const [oldest] = versions;
  if (oldest === undefined)
    throw new Error('no PostgreSQL 15 or newer under /usr/lib/postgresql; install Debian package postgresql-15');
  return oldest.folder;
}
