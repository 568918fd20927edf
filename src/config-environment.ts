/**
 * What the process was started with, outside the configuration file: environment
 * variables and Node flags that open an inspector, write secrets to a file, load
 * foreign code, weaken TLS or steer the database driver. Node takes them from
 * whoever can set a variable, so staging and production refuse to start with them.
 *
 * Deny by default where a list exists: a Node flag that is not known to be
 * harmless is refused.
 */

export interface Hostility {
  /** Name of the variable or flag; never its value. */
  readonly name: string;
  readonly problem: string;
}

/** Node flags that neither show memory nor load code nor weaken anything. */
const HARMLESS_FLAGS = new Set([
  ...['--max-semi-space-size', '--min-semi-space-size', '--semi-space-growth-factor', '--max-old-space-size'],
  ...['--max-old-space-size-percentage', '--max-heap-size', '--stack-size', '--v8-pool-size'],
  ...['--disable-sigusr1', '--disable-proto', '--disallow-code-generation-from-strings', '--frozen-intrinsics'],
  ...['--enable-source-maps', '--strip-types', '--experimental-strip-types', '--disable-warning', '--no-warnings'],
  ...['--no-addons', '--secure-heap', '--secure-heap-min', '--enable-fips', '--force-fips', '--jitless'],
  ...['--dns-result-order', '--report-exclude-env', '--report-exclude-network', '--unhandled-rejections'],
  ...['--no-global-search-paths', '--no-node-snapshot', '--optimize-for-size', '--single-threaded-gc'],
]);

const VARIABLES: readonly { readonly name: RegExp; readonly unless?: RegExp; readonly problem: string }[] = [
  { name: /^NODE_TLS_REJECT_UNAUTHORIZED$/, unless: /^$|^1$/, problem: 'switches certificate checks off' },
  {
    name: /^NODE_EXTRA_CA_CERTS$/,
    problem: 'lets another authority speak for Plaid; for the database use database.ca',
  },
  { name: /^NODE_USE_SYSTEM_CA$/, unless: /^0?$/, problem: 'lets every authority of this machine speak for Plaid' },
  { name: /^(SSL_CERT_FILE|SSL_CERT_DIR|OPENSSL_CONF|OPENSSL_MODULES)$/, problem: 'changes what TLS trusts or does' },
  { name: /^SSLKEYLOGFILE$/, problem: 'asks for TLS session keys to be written to a file' },
  { name: /^NODE_DEBUG(_NATIVE)?$/, problem: 'prints requests, headers included' },
  { name: /^NODE_V8_COVERAGE$/, problem: 'writes what ran to files' },
  { name: /^NODE_(PATH|REPL_EXTERNAL_MODULE)$/, problem: 'loads code from another place' },
  // The launcher names this one folder, beside the packages themselves.
  {
    name: /^NODE_COMPILE_CACHE$/,
    unless: /\/node_modules\/\.cache\/strongroom$/,
    problem: 'loads code from another place',
  },
  { name: /^NODE_USE_ENV_PROXY$/, unless: /^0?$/, problem: 'sends calls through a proxy' },
  { name: /^NODE_REDIRECT_WARNINGS$/, problem: 'sends warnings around the log' },
  { name: /^(LD_PRELOAD|LD_AUDIT|LD_LIBRARY_PATH|DYLD_.+)$/, problem: 'puts foreign code into the process' },
  // The driver reads PG* as defaults; the configuration file alone shall decide.
  { name: /^PG[A-Z]+$/, problem: 'steers the database driver beside the configuration' },
];

/**
 * Finds what must not be there. Pure; the caller decides: staging and production
 * refuse to start, development warns.
 *
 * @param execArgv - `process.execArgv`: Node's own flags.
 */
export function hostileEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  execArgv: readonly string[],
): readonly Hostility[] {
  const found: Hostility[] = [];
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || value === '') continue;
    for (const variable of VARIABLES) {
      if (variable.name.test(name) && variable.unless?.test(value) !== true) {
        found.push({ name, problem: variable.problem });
      }
    }
  }
  for (const flag of flagsIn(optionsOf(env.NODE_OPTIONS ?? ''))) {
    found.push({ name: `NODE_OPTIONS ${flag}`, problem: 'is not among the Node flags that are known to be harmless' });
  }
  for (const flag of flagsIn(execArgv)) {
    found.push({ name: flag, problem: 'is not among the Node flags that are known to be harmless' });
  }
  return found;
}

/** NODE_OPTIONS as Node splits it: by spaces, double quotes keep spaces together. */
function optionsOf(text: string): string[] {
  return [...text.matchAll(/"(?:[^"\\]|\\.)*"|[^\s"]+/g)].map(([word]) => word.replace(/^"|"$/g, ''));
}

/** Names of the flags that are not harmless; values are cut off. */
function flagsIn(words: readonly string[]): string[] {
  return (
    words
      .filter((word) => word.startsWith('-'))
      .map((word) => word.split('=', 1)[0] as string)
      // V8 takes _ for -, and so does Node.
      .filter((flag) => !HARMLESS_FLAGS.has(flag.replaceAll('_', '-')))
      .map((flag) => (/^[-\w]{1,40}$/.test(flag) ? flag : 'a flag'))
  );
}
