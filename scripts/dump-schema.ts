/**
 * Writes migrations/schema.txt from a freshly migrated database; with --check
 * compares only, and fails with the first difference.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startEmbedded } from '../src/store/embedded.ts';
import { MIGRATIONS_FOLDER, migrate } from '../src/store/migrate.ts';
import { dumpSchema } from '../src/store/schema-dump.ts';
import { openSession } from '../src/store/session.ts';

const FILE = path.join(MIGRATIONS_FOLDER, 'schema.txt');

async function freshDump(): Promise<string> {
  const home = mkdtempSync(path.join(tmpdir(), 'strongroom-dump-'));
  try {
    const server = await startEmbedded({ home });
    try {
      await migrate(server.connection('owner'));
      const session = await openSession(server.connection('owner'));
      try {
        return await dumpSchema(session.sql);
      } finally {
        await session.close();
      }
    } finally {
      await server.stop();
    }
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

const fresh = await freshDump();
if (process.argv.includes('--check')) {
  const committed = await readFile(FILE, 'utf8').catch(() => '');
  if (committed !== fresh) {
    const [was, is] = [committed.split('\n'), fresh.split('\n')];
    const at = is.findIndex((line, i) => line !== was[i]);
    process.stderr.write(
      `migrations/schema.txt line ${at + 1} is not what the migrations make:\n- ${was[at] ?? ''}\n+ ${is[at] ?? ''}\n` +
        'Run bin/node24 scripts/dump-schema.ts and commit the result.\n',
    );
    process.exitCode = 1;
  }
} else {
  await writeFile(FILE, fresh);
}
