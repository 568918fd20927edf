/** What a shell script can branch on. The numbers are documented in docs/cli.md. */
export const EXIT = { ok: 0, finding: 1, usage: 2, failed: 3 } as const;
export type Outcome = keyof typeof EXIT;

export interface Io {
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}

/** A command is a value: its streams are passed in, its exit code has a name. */
export interface Command {
  /** One or two words: `dev`, `audit verify`. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** The whole text of `--help`. */
  readonly usage: string;
  run(argv: string[], io: Io): Promise<Outcome>;
}
