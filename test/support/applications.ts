import { randomUUID } from 'node:crypto';
import type { ApplicationId } from '../../src/base/ids.ts';
import { insertApplication } from '../../src/store/applications.ts';
import type { Sql } from '../../src/store/sql.ts';

let named = 0;

/** A new application in the tables, for tests that need one to exist and nothing of it. */
export async function someApplication(admin: Sql): Promise<ApplicationId> {
  const id = randomUUID().replaceAll('-', '').slice(0, 24) as ApplicationId;
  await insertApplication(admin, {
    id,
    name: `application ${named++}`,
    plaidClientId: 'client',
    policy: {},
    keyId: randomUUID(),
    keySha256: Buffer.alloc(32, 1),
  });
  return id;
}
