/** What the control API takes: unknown or mistyped fields are refused by name. */
import { isPlaidCode } from './errors.ts';
import { FAULT_KINDS, type FaultRequest, POINTS } from './faults.ts';

export class ControlError extends Error {
  override readonly name = 'ControlError';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const invalid = (message: string): ControlError => new ControlError(400, 'INVALID', message);

type Type = 'string' | 'number' | 'boolean' | 'object' | 'any';

/** The fields of an input, each of its type or undefined. */
export function fieldsOf<const T extends Readonly<Record<string, Type>>>(
  input: Readonly<Record<string, unknown>>,
  types: T,
): { readonly [K in keyof T]: unknown } {
  for (const [name, value] of Object.entries(input)) {
    const type = Object.hasOwn(types, name) ? types[name] : undefined;
    if (type === undefined) throw invalid(`${name} is not known here; known: ${Object.keys(types).join(', ')}`);
    if (type !== 'any' && typeof value !== type) throw invalid(`${name} must be a ${type}`);
  }
  return input as { readonly [K in keyof T]: unknown };
}

/** Points at which a kind of fault can strike; the first is the default. */
const POINTS_OF: Readonly<Record<FaultRequest['kind'], readonly string[]>> = {
  not_done: ['before_commit', 'before_read'],
  answer_lost: ['after_commit'],
  answer_cut: ['after_commit'],
  delay: ['before_commit', 'before_read', 'after_commit', 'mid_answer'],
  hold: ['before_commit', 'before_read', 'after_commit', 'mid_answer'],
  status: ['before_commit', 'after_commit'],
  body: ['before_commit', 'after_commit'],
};

/** Throws a ControlError that says what a fault takes. */
export function parseFault(input: Readonly<Record<string, unknown>>): FaultRequest {
  fieldsOf(input, {
    endpoint: 'string',
    kind: 'string',
    times: 'number',
    after: 'number',
    item_id: 'string',
    bytes: 'number',
    ms: 'number',
    status: 'number',
    error_code: 'string',
    body: 'any',
    headers: 'object',
    gzip: 'boolean',
    repeat: 'number',
    chunk_bytes: 'number',
    point: 'string',
    reset: 'boolean',
  });
  const fault = input as unknown as FaultRequest;
  if (typeof fault.endpoint !== 'string' || !(fault.endpoint === '*' || fault.endpoint.startsWith('/'))) {
    throw invalid('endpoint must be a path such as /item/get, or *');
  }
  if (!FAULT_KINDS.includes(fault.kind)) throw invalid(`kind must be one of ${FAULT_KINDS.join(', ')}`);
  for (const name of ['times', 'repeat', 'chunk_bytes'] as const) {
    const value = fault[name];
    if (value !== undefined && !(Number.isInteger(value) && value > 0))
      throw invalid(`${name} must be a positive integer`);
  }
  if (fault.after !== undefined && !(Number.isInteger(fault.after) && fault.after >= 0))
    throw invalid('after must not be negative');
  if (fault.point !== undefined && !POINTS.includes(fault.point))
    throw invalid(`point must be one of ${POINTS.join(', ')}`);
  if (fault.point !== undefined && !POINTS_OF[fault.kind].includes(fault.point)) {
    throw invalid(`a fault of kind ${fault.kind} strikes at ${POINTS_OF[fault.kind].join(' or ')}`);
  }
  if (fault.kind === 'answer_cut' && fault.bytes === undefined) throw invalid('answer_cut needs bytes');
  if (fault.kind === 'body' && fault.body === undefined) throw invalid('body needs a body');
  if (fault.kind === 'status' && fault.status === undefined && fault.error_code === undefined)
    throw invalid('status needs status or error_code');
  if (fault.status !== undefined && !(Number.isInteger(fault.status) && fault.status >= 200 && fault.status <= 599)) {
    throw invalid('status must be between 200 and 599');
  }
  if (fault.error_code !== undefined && !isPlaidCode(fault.error_code))
    throw invalid('error_code is not an error that the simulator knows');
  if (fault.item_id !== undefined && fault.point === 'before_read') throw invalid('before_read cannot know the item');
  for (const [name, value] of Object.entries(fault.headers ?? {})) {
    if (typeof value !== 'string' || !/^[\w-]+$/.test(name)) throw invalid('headers must be an object of strings');
  }
  return { ...fault, point: fault.point ?? (POINTS_OF[fault.kind][0] as NonNullable<FaultRequest['point']>) };
}
