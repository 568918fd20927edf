import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { StrongroomError } from '../base/errors.ts';
import { errnoOf } from './home.ts';

/**
 * As whom the embedded server runs. PostgreSQL refuses to be root; when we are
 * not root, it simply runs as us.
 */

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

export interface Accounts {
  /** Owns the data folder and runs the server. */
  readonly server: Account;
  /** Runs initdb, which insists on an account that has a name. */
  readonly initdb: Account;
}

/**
 * Chosen by hash from a range that neither distributions nor systemd hand out
 * (systemd, UIDS-GIDS.md: 60578 to 61183), so that no other process on this
 * machine runs under it. A number is enough: the server needs no entry in
 * /etc/passwd.
 */
const PRIVATE_FIRST = 60_578;
const PRIVATE_COUNT = 606;
const NOBODY = 65_534;

/**
 * Null when this process is not root. A data folder that exists keeps its owner.
 *
 * @throws StrongroomError `EMBEDDED_FAILED` when root may not become anybody else
 *   here, as in a container with a single user or without the capability.
 */
export function chooseAccounts(home: string, dataFolder: string): Accounts | null {
  if (process.getuid?.() !== 0) return null;
  const named = namedAccounts();
  const initdb = named.find(({ uid }) => uid === NOBODY) ?? named.find(({ uid }) => uid !== 0);
  const owner = ownerOf(dataFolder);
  if (owner !== null && owner.uid !== 0) return { server: owner, initdb: initdb ?? owner };
  if (initdb === undefined) throw cannotDropRoot('/etc/passwd names nobody but root');

  const taken = new Set(named.map(({ uid }) => uid));
  const start = createHash('sha256').update(home).digest().readUInt32BE(0);
  for (let i = 0; i < PRIVATE_COUNT; i++) {
    const uid = PRIVATE_FIRST + ((start + i) % PRIVATE_COUNT);
    if (taken.has(uid)) continue;
    // A container may map only some user ids; then the named account must do.
    return { server: canOwn(home, uid) ? { uid, gid: uid } : initdb, initdb };
  }
  return { server: initdb, initdb };
}

function namedAccounts(): Account[] {
  let text: string;
  try {
    text = fs.readFileSync('/etc/passwd', 'utf8');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => {
    const [name, , uid, gid] = line.split(':');
    return name !== undefined && uid !== undefined && gid !== undefined && /^\d+$/.test(uid) && /^\d+$/.test(gid)
      ? [{ uid: Number(uid), gid: Number(gid) }]
      : [];
  });
}

function ownerOf(folder: string): Account | null {
  try {
    const { uid, gid } = fs.statSync(folder);
    return { uid, gid };
  } catch {
    return null;
  }
}

function canOwn(home: string, uid: number): boolean {
  const probe = fs.mkdtempSync(path.join(home, 'probe-'));
  try {
    fs.chownSync(probe, uid, uid);
    return fs.statSync(probe).uid === uid;
  } catch {
    return false;
  } finally {
    fs.rmdirSync(probe);
  }
}

/** Gives a folder and everything in it to an account. Links themselves, never what they point to. */
export function giveTo(target: string, { uid, gid }: Account): void {
  try {
    fs.lchownSync(target, uid, gid);
  } catch (error) {
    throw cannotDropRoot(`${errnoOf(error)} when giving files to user ${uid}`);
  }
  if (!fs.lstatSync(target).isDirectory()) return;
  for (const entry of fs.readdirSync(target)) giveTo(path.join(target, entry), { uid, gid });
}

export function cannotDropRoot(why: string): StrongroomError {
  return new StrongroomError('EMBEDDED_FAILED', {
    detail: `PostgreSQL does not run as root, and here root cannot become another user (${why}). Start Strongroom as an ordinary user.`,
  });
}
