import { EXIT } from '../src/cli/command.ts';
import { COMMANDS } from '../src/cli/commands.ts';

/** docs/cli.md, from the commands themselves. */
export function cliDocument(): string {
  const rows = COMMANDS.map(
    ({ name, summary }) => `| [\`strongroom ${name}\`](#strongroom-${name.replaceAll(' ', '-')}) | ${summary} |`,
  );
  const sections = COMMANDS.map(
    ({ name, summary, usage }) => `## strongroom ${name}\n\n${summary}\n\n\`\`\`text\n${usage.trimEnd()}\n\`\`\`\n`,
  );
  return `${HEAD}\n| command | what it does |\n|---|---|\n${rows.join('\n')}\n\n${sections.join('\n')}`;
}

const HEAD = `# Command line

<!-- Made by scripts/generate.ts from src/cli/commands.ts. Do not edit. -->

\`bin/strongroom\` finds a Node that fits. What is written here is what \`--help\` prints.

- **Exit codes**, of every command: ${EXIT.ok} ok, ${EXIT.finding} a finding (a check said no), ${EXIT.usage} usage, ${EXIT.failed} failed. What went wrong is one line with a code from
  [errors.md](errors.md) and what to do, on standard error; with \`--json\` it is \`{"error": {"code", "message", "remedy"}}\` on standard output.
- **Secrets never stand in an argument**, where every user of the machine could read them: a command that takes one takes a
  file, or \`-\` for standard input.
- \`--json\` prints one JSON value for programs. Text for people may change with any release; JSON fields only grow.
- **Which installation**: \`serve\`, \`migrate\` and \`doctor\` take \`--config\` (or \`STRONGROOM_CONFIG\`). Commands that talk to a running
  one take \`--admin-url\` and \`--token-file\`, or find what \`strongroom dev\` left in \`STRONGROOM_HOME\` (default \`.strongroom/\`).
`;
