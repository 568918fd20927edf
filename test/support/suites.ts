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
];
