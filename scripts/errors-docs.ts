import { ERRORS } from '../src/base/errors.ts';

/** docs/errors.md, from the error table. */
export function errorsDocument(): string {
  const rows = Object.entries(ERRORS).map(([code, { status, retryable, says, remedy }]) => {
    const cells = [`<a id="${code}"></a>\`${code}\``, status, retryable ? 'yes' : 'no', cell(says), cell(remedy)];
    return `| ${cells.join(' | ')} |`;
  });
  return `${HEAD}\n| code | status | try again | what the caller is told | what to do |\n|---|---|---|---|---|\n${rows.join('\n')}\n`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

const HEAD = `# Errors

<!-- Made by scripts/generate.ts from src/base/errors.ts. Do not edit. -->

Every failure that a caller can see. A code keeps its meaning once it is released.

- **At the gateway** a refusal has Plaid's shape, so that SDKs read it: \`error_type: "STRONGROOM_ERROR"\`, \`error_code\` from
  this table, \`error_message\`, \`display_message: null\`, \`request_id\`. Plaid's own errors pass as Plaid sent them, with
  tokens replaced by handles.
- **At the admin API and the command line** the same code, with a sentence that names the field, line or object.
- **status** is the HTTP status. Codes of starting and of the command line never travel over HTTP; there the command
  ends with exit code 3 (failed) or 2 (usage) and the code in its message.
- **try again** says whether the same call, unchanged, may succeed later. Where it says no, and the sentence says that the
  call may have been carried out, look before you repeat it.
- The sentence never holds a token, a handle, or anything of another application. What else is known is in the log and
  the audit log, under the \`request_id\`.
`;
