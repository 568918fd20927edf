import { codeOf, ERRORS, StrongroomError } from '../base/errors.ts';
import { type Command, EXIT, type Io } from './command.ts';

/**
 * `strongroom COMMAND [SUBCOMMAND] [...]`. Finds the command, runs it, turns what
 * went wrong into one line with a code and what to do.
 */

export async function run(argv: readonly string[], io: Io): Promise<number> {
  const [first, second] = argv;
  // The one that runs for months does not hold the code of all the others in memory.
  const COMMANDS = first === 'serve' ? [(await import('./serve.ts')).serve] : (await import('./commands.ts')).COMMANDS;
  if (first === undefined || first === '--help' || first === '-h' || first === 'help') {
    io.stdout.write(overview(COMMANDS));
    return first === undefined ? EXIT.usage : EXIT.ok;
  }
  if (first === '--version') {
    io.stdout.write(`${(await import('../version.ts')).VERSION}\n`);
    return EXIT.ok;
  }

  const two = COMMANDS.find((command) => command.name === `${first} ${second}`);
  const command = two ?? COMMANDS.find((candidate) => candidate.name === first);
  if (command === undefined) {
    const group = COMMANDS.filter((candidate) => candidate.name.startsWith(`${first} `));
    if (group.length > 0 && (second === undefined || second === '--help' || second === '-h')) {
      io.stdout.write(listing(group));
      return second === undefined ? EXIT.usage : EXIT.ok;
    }
    io.stderr.write(`strongroom: there is no command '${plain(argv.slice(0, 2).join(' '))}'. See strongroom --help.\n`);
    return EXIT.usage;
  }

  const rest = argv.slice(two === undefined ? 1 : 2);
  if (rest.includes('--help') || rest.includes('-h')) {
    io.stdout.write(`${command.usage.trimEnd()}\n`);
    return EXIT.ok;
  }
  try {
    return EXIT[await command.run([...rest], io)];
  } catch (error) {
    return explain(command, error, rest.includes('--json'), io);
  }
}

function explain(command: Command, error: unknown, json: boolean, io: Io): number {
  // node:util parseArgs speaks in codes of its own; its messages name the option, never a value of ours.
  const parse = (error as { code?: unknown } | null)?.code;
  if (typeof parse === 'string' && parse.startsWith('ERR_PARSE_ARGS')) {
    io.stderr.write(
      `strongroom ${command.name}: ${plain((error as Error).message)}\nSee strongroom ${command.name} --help.\n`,
    );
    return EXIT.usage;
  }
  const code = codeOf(error);
  const says = error instanceof StrongroomError ? error.message : ERRORS.INTERNAL.says;
  if (json) {
    io.stdout.write(`${JSON.stringify({ error: { code, message: says, remedy: ERRORS[code].remedy } })}\n`);
  } else {
    io.stderr.write(`strongroom ${command.name}: ${says}\n  ${code}. ${ERRORS[code].remedy}\n`);
  }
  // Facts hold no secret; a stack is for our own mistakes only.
  if (code === 'INTERNAL') io.stderr.write(`${plainStack(error)}\n`);
  return code === 'USAGE' || code === 'INPUT_INVALID' ? EXIT.usage : EXIT.failed;
}

function overview(commands: readonly Command[]): string {
  return `strongroom: keeps Plaid access tokens, so that applications never hold one.

usage: strongroom COMMAND [options]      strongroom COMMAND --help tells the rest

${listing(commands)}
Exit codes: 0 ok, 1 finding, 2 usage, 3 failed.
`;
}

function listing(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => command.name.length));
  return commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}\n`).join('');
}

/** Where it broke, without what was said: a message may hold what it was given. */
function plainStack(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  return stack
    .split('\n')
    .filter((line) => /^\s+at /.test(line))
    .slice(0, 8)
    .join('\n');
}

function plain(text: string): string {
  return text.slice(0, 300).replace(/[^\x20-\x7e]/g, '?');
}

if (import.meta.main) {
  process.exitCode = await run(process.argv.slice(2), process);
}
