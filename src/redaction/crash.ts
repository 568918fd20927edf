import { writeSync } from 'node:fs';
import type { LogSink } from './logger.ts';

/**
 * What a process says when it dies. Node's own crash output prints the error with
 * all its fields, and a line of the source; both may hold a secret. Ours is one
 * redacted record.
 */

/** Exit code of a command that failed; see docs/cli.md. */
const FAILED = 3;

/**
 * Takes over uncaught errors, rejections that nobody handles, and Node's
 * warnings, for the whole process. After an uncaught error nothing is known to
 * be sound, so the process ends, with code 3.
 *
 * @returns Gives the process back, for tests.
 */
export function guardProcess(sink: LogSink, exit: (code: number) => void = (code) => process.exit(code)): () => void {
  let dying = false;
  const die = (what: string) => (error: unknown) => {
    // An error while reporting an error: say so with nothing that could hold a secret.
    if (dying) return exit(FAILED);
    dying = true;
    try {
      sink.log.fatal({ err: error }, what);
      sink.flush();
    } catch {
      writeSync(2, `{"level":"fatal","msg":"${what}; its report could not be made safe"}\n`);
    }
    exit(FAILED);
  };
  const uncaught = die('uncaught error');
  const rejection = die('unhandled rejection');
  const warning = (given: Error): void => {
    sink.log.warn({ warning: given.name, reason: given.message }, 'warning of the runtime');
  };

  // Node prints warnings on stderr by a listener of its own.
  const printers = process.listeners('warning');
  process.removeAllListeners('warning');
  process.on('warning', warning);
  process.on('uncaughtException', uncaught);
  process.on('unhandledRejection', rejection);
  return () => {
    process.off('warning', warning);
    process.off('uncaughtException', uncaught);
    process.off('unhandledRejection', rejection);
    for (const printer of printers) process.on('warning', printer);
  };
}
