/**
 * Suites that `npm test` leaves out because they need something that a fresh
 * machine may lack, or take long. `.ci/run` runs every one of them.
 */
export interface Suite {
  readonly name: string;
  readonly command: string;
  /** What must be there. */
  readonly needs: string;
}

export const SUITES: readonly Suite[] = [
  {
    name: "all of these tests on Debian's PostgreSQL",
    command: 'npm run test:postgres',
    needs: 'Debian package postgresql-15 or newer',
  },
  {
    name: 'the official plaid-python SDK as a client',
    command: 'npm run test:sdk-python',
    needs: 'python3 with venv, and a package index',
  },
  {
    name: 'the whole canary run: a search for every secret in everything that is written or answered',
    command: 'npm run test:canary',
    needs: 'a minute',
  },
  {
    name: '50 rounds of kill -9 under load',
    command: 'npm run test:kill',
    needs: 'five minutes',
  },
];
