import type { Config } from '../../src/config.ts';
import { type Check, examine } from '../../src/main.ts';
import type { DatabaseRole } from '../../src/store/connection.ts';
import type { Kit } from './strongroom.ts';

/** Every check of `strongroom doctor` on an installation of the kit, by name. */
export async function doctorOn(
  kit: Kit,
  {
    config = kit.config,
    logins = ['auditor', 'worker', 'gateway', 'admin'],
    settleMs = 100,
  }: { config?: Config; logins?: readonly DatabaseRole[]; settleMs?: number } = {},
): Promise<Readonly<Record<string, Check>>> {
  const checks: Record<string, Check> = {};
  const connection = async (login: DatabaseRole) => (logins.includes(login) ? kit.database.connection(login) : null);
  for await (const check of examine({ config, connection, settleMs })) checks[check.name] = check;
  return checks;
}

/** Code and id of every finding, over all checks. */
export function findingsOf(checks: Readonly<Record<string, Check>>): string[] {
  return Object.values(checks)
    .filter(({ outcome }) => outcome === 'finding')
    .flatMap(({ name, details }) => details.map(({ code, id }) => `${name}: ${code} ${id}`));
}
