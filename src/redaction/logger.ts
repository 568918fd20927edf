import { constants, openSync } from 'node:fs';
import { type DestinationStream, destination, type LevelWithSilent, type Logger, pino } from 'pino';
import { systemClock } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import { safeFields } from './fields.ts';
import { redactLine, redactText } from './text.ts';
import { redactValue } from './walk.ts';

/**
 * The log of the process: one JSON object a line, on stdout, stderr or in a file.
 *
 * Three nets, each enough for most cases alone: only listed fields with scalars
 * (fields.ts), a redacting walk over everything else that reaches a sentence
 * (walk.ts), and a gate over the finished line (text.ts). pino's own `redact`
 * option is not used: it knows paths, and misses tokens in messages and stacks.
 * What cannot be redacted is not written; a record says that one is missing.
 */

export type Log = Logger;

export interface LogOptions {
  /** Default `info`. */
  readonly level?: LevelWithSilent;
  /** `stdout`, `stderr`, or the path of a file, made with mode 0600. Default `stdout`. */
  readonly destination?: string;
  /** Fields of every record, for example `deployment`. Listed fields only. */
  readonly base?: Readonly<Record<string, string | number>>;
  /**
   * Bytes to gather before they are written; what is gathered is written after
   * 200 ms, at {@link LogSink.flush} and before a crash ends the process. Only
   * kill -9 loses it. Default 0: every record at once.
   */
  readonly bufferBytes?: number;
}

export interface LogSink {
  /** A pino logger; Fastify takes it as `loggerInstance`. */
  readonly log: Log;
  /** Writes what was gathered. Never throws. */
  flush(): void;
}

const WITHHELD = 'a log record could not be made safe and was withheld';

/**
 * @throws StrongroomError `CONFIG_INVALID` when the file cannot be opened.
 */
export function openLog(options: LogOptions = {}): LogSink {
  const fd = descriptor(options.destination ?? 'stdout');
  // Written by this thread: a worker thread would still hold records when the process crashes.
  const stream = destination({
    fd,
    sync: true,
    ...(options.bufferBytes ? { minLength: options.bufferBytes, periodicFlush: 200 } : {}),
  });
  const log = createLog(stream, options);
  return {
    log,
    flush() {
      try {
        stream.flushSync();
      } catch {
        // Nobody is left who could be told.
      }
    },
  };
}

function descriptor(target: string): number {
  if (target === 'stdout') return 1;
  if (target === 'stderr') return 2;
  try {
    return openSync(target, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const detail = `logging.destination: ${target} could not be opened (${code ?? 'unknown'}).`;
    throw new StrongroomError('CONFIG_INVALID', { setting: 'logging.destination', file: target, detail });
  }
}

/** The logger over any stream; {@link openLog} is what processes use. */
export function createLog(stream: DestinationStream, options: LogOptions = {}): Log {
  const log = pino(
    {
      level: options.level ?? 'info',
      base: safeFields({ pid: process.pid, ...options.base }),
      timestamp: () => `,"time":"${new Date(systemClock.now()).toISOString()}"`,
      // pino would call toJSON or print unknown objects; by then there are only scalars and described errors.
      serializers: { err: (described: unknown) => described },
      formatters: { level: (label) => ({ level: label }), log: safeRecord },
      hooks: {
        logMethod(args, method) {
          method.apply(this, args.map(safeArgument) as typeof args);
        },
        streamWrite: gate,
      },
    },
    stream,
  );
  return withSafeChildren(log);
}

/** The first argument may be the record's fields or an error; those are for {@link safeRecord}. */
function safeArgument(argument: unknown, index: number): unknown {
  if (typeof argument === 'string') return redactText(argument);
  if (index === 0 && typeof argument === 'object') return argument;
  const safe = redactValue(argument);
  // As text: pino's formatter asks objects for their toString, which may be missing or not a function.
  return typeof safe === 'object' && safe !== null ? JSON.stringify(safe) : safe;
}

function safeRecord(fields: object): Record<string, unknown> {
  try {
    return safeFields(fields);
  } catch {
    // A proxy with hostile traps.
    return { dropped: 1 };
  }
}

/** The last look at a finished line. Whatever goes wrong here, the line does not go out. */
function gate(line: string): string {
  try {
    const safe = redactLine(line);
    if (safe !== null) return safe;
  } catch {
    // Withheld, below.
  }
  return `${JSON.stringify({ level: 'error', time: new Date(systemClock.now()).toISOString(), msg: WITHHELD })}\n`;
}

/**
 * pino writes the bindings of a child past `formatters.log`. Fastify makes a
 * child for every request, and may add serializers; only the level is taken over.
 */
function withSafeChildren(log: Log): Log {
  const child = log.child;
  // Uncounted: the record has a count of its own, and a name stands once in it.
  const bound = (bindings: object): Record<string, unknown> => {
    const { dropped: _, ...fields } = safeRecord(bindings);
    return fields;
  };
  const setBindings = log.setBindings;
  const safe = {
    child(this: Log, bindings: object, options?: { level?: string }) {
      const level = options?.level === undefined ? {} : { level: options.level };
      return child.call(this, bound(bindings), level);
    },
    setBindings(this: Log, bindings: object) {
      setBindings.call(this, bound(bindings) as never);
    },
  };
  // Children inherit from the logger that made them.
  return Object.assign(log, safe) as Log;
}
