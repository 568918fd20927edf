/**
 * The closed list of audit entries: each kind with the fields it may carry. To
 * add a kind, add a row (and run the docs test, which holds docs/formats/audit.md
 * against this table). Released kinds and fields keep their meaning.
 *
 * Fields are scalars and pseudonyms: ids of ours, paths of the endpoint table,
 * codes, counts, the address of a calling server. Never a token, a handle, a
 * body or anything about a consumer.
 */

/** What a field can hold. `?` behind the name in the table below: the field may be absent. */
export const TYPES = {
  uuid: { says: 'A UUID in lower case.', of: 'string', max: 36 },
  uuids: { says: 'One to 128 UUIDs in lower case, one space between.', of: 'string', max: 128 * 37 - 1 },
  application: { says: 'An application id: 24 lower-case hexadecimal digits.', of: 'string', max: 24 },
  hash: { says: 'A SHA-256: 64 lower-case hexadecimal digits.', of: 'string', max: 64 },
  code: { says: 'An error code: upper-case letters, digits and `_`.', of: 'string', max: 64 },
  word: { says: 'A name of ours: lower-case letters, digits and `_.:-`, a letter first.', of: 'string', max: 64 },
  address: { says: 'An IP address as text, IPv6 in lower case.', of: 'string', max: 45 },
  text: {
    says: 'Text that may come from outside. Longer text is cut and marked; whatever looks like a token is withheld.',
    of: 'string',
    max: 256,
  },
  count: { says: 'An integer from 0 to 2^53 - 1.', of: 'number', max: Number.MAX_SAFE_INTEGER },
  flag: { says: '`true` or `false`.', of: 'boolean', max: 1 },
} as const satisfies Record<string, { says: string; of: 'string' | 'number' | 'boolean'; max: number }>;

export type FieldType = keyof typeof TYPES;

interface KindRow {
  /** One sentence: what is true when this entry stands in the log. */
  readonly says: string;
  /** In the order in which they are written. */
  readonly fields: Readonly<Record<string, FieldType | `${FieldType}?`>>;
}

// A remote step whose outcome matters: exchange, rotation, removal.
const STEP = { operation: 'uuid?', application: 'application?', record: 'uuid?', version: 'count?' } as const;

export const KINDS = {
  // The log itself
  'writer.started': {
    says: 'A process began to write. Names the last entry that it saw of the writer before it in the same role.',
    fields: { role: 'word', reason: 'word', previous: 'uuid?', previous_n: 'count?', previous_hash: 'hash?' },
  },
  'writer.stopped': { says: 'A process stopped in order: its chain ends here.', fields: { role: 'word' } },
  'writer.recovered': {
    says: 'The database took entries again. The callers of `entries` entries from `first` on were refused before; `landed` says whether those entries became part of the log all the same.',
    fields: { first: 'count', entries: 'count', landed: 'flag' },
  },
  'audit.shed': {
    says: 'While the log could not be written, `callers` were refused and `notes`, which nobody waited for, were lost.',
    fields: { callers: 'count', notes: 'count' },
  },
  'audit.gap': {
    says: 'The sequencer found entries of a writer missing, altered or doubled before they had an index.',
    fields: { writer: 'uuid', reason: 'word', n: 'count', entries: 'count?' },
  },
  'audit.exported': { says: 'The log was exported.', fields: { size: 'count', by: 'word?', source: 'address?' } },

  // The installation
  'deployment.stamped': {
    says: 'The database was stamped as belonging to this deployment.',
    fields: { environment: 'word', plaid_environment: 'word', kek: 'text?' },
  },
  'schema.migrated': { says: 'The schema was brought forward.', fields: { from: 'count', to: 'count' } },

  // Calls of applications
  'access.admitted': {
    says: 'An application was allowed this call. Written before anything is opened or sent.',
    fields: {
      application: 'application',
      endpoint: 'text',
      source: 'address?',
      records: 'uuids?',
      class: 'word?',
      subjects: 'count?',
      request: 'text?',
    },
  },
  'access.denied': {
    says: 'An application was refused this call.',
    fields: {
      application: 'application?',
      endpoint: 'text?',
      source: 'address?',
      records: 'uuids?',
      code: 'code',
      reason: 'text?',
      request: 'text?',
    },
  },
  'access.outcome': {
    says: 'How an admitted call ended. Names the admitting entry; an admission without outcome ended in a crash.',
    fields: {
      admitted: 'count',
      admitted_by: 'uuid?',
      application: 'application?',
      status: 'count?',
      code: 'code?',
      plaid_request: 'text?',
      milliseconds: 'count?',
      sealed: 'count?',
    },
  },
  'access.refused': {
    says: 'Callers without valid credentials were refused: the first at once, the rest of a window as one count.',
    fields: { source: 'text', code: 'code', count: 'count', name: 'text?' },
  },
  'raw_token.refused': {
    says: 'An application sent a Plaid token where a handle belongs.',
    fields: { application: 'application?', endpoint: 'text', class: 'word?', source: 'address?' },
  },
  'budget.exceeded': {
    says: 'An application went past a safety budget and was frozen for that class of calls.',
    fields: { application: 'application', budget: 'word', class: 'word?', limit: 'count?', used: 'count?' },
  },
  'upstream.leak': {
    says: 'An answer of Plaid held a secret where none belongs and was withheld.',
    fields: { application: 'application?', endpoint: 'text', class: 'word?', rule: 'word?', request: 'text?' },
  },

  // Records
  'record.sealed': {
    says: 'This ciphertext is this version of the record. Any other ciphertext for it is a rollback.',
    fields: {
      record: 'uuid',
      version: 'count',
      record_kind: 'word',
      ciphertext_sha256: 'hash',
      data_key: 'uuid',
      // Whose it is, and what else the row says that the ciphertext is not bound to (store/records.ts, rowSha256).
      application: 'application?',
      row_sha256: 'hash?',
    },
  },
  'record.shredded': {
    says: 'The ciphertext of a record was destroyed.',
    fields: { record: 'uuid', version: 'count?', reason: 'word?' },
  },
  'token.released': {
    says: 'A token that is made to leave was handed to an application.',
    fields: {
      application: 'application',
      class: 'word',
      endpoint: 'text?',
      record: 'uuid?',
      released: 'count?',
      count: 'count?',
    },
  },
  'health.changed': {
    says: 'What we believe about an item at Plaid changed.',
    fields: { record: 'uuid', from: 'word?', to: 'word', code: 'text?' },
  },
  'state.changed': {
    says: 'The custody state of a record changed.',
    fields: { record: 'uuid', from: 'word?', to: 'word', reason: 'text?', by: 'word?' },
  },

  // Remote steps whose outcome matters
  'exchange.intended': { says: 'A public token is about to be exchanged.', fields: { ...STEP } },
  'exchange.settled': { says: 'The exchange is over and its outcome known.', fields: { ...STEP, code: 'text?' } },
  'exchange.uncertain': {
    says: 'It is not known whether Plaid exchanged: a possible orphan.',
    fields: { ...STEP, code: 'text?' },
  },
  'rotation.intended': { says: 'A token is about to be replaced at Plaid.', fields: { ...STEP, reason: 'text?' } },
  'rotation.settled': { says: 'The rotation is over and its outcome known.', fields: { ...STEP, code: 'text?' } },
  'rotation.uncertain': {
    says: 'It is not known whether Plaid replaced the token.',
    fields: { ...STEP, code: 'text?' },
  },
  'rotation.refused': { says: 'Plaid refused the rotation: nothing changed.', fields: { ...STEP, code: 'text?' } },
  'removal.intended': { says: 'An item is about to be removed at Plaid.', fields: { ...STEP, reason: 'text?' } },
  'removal.settled': { says: 'The removal is over and its outcome known.', fields: { ...STEP, code: 'text?' } },
  'removal.uncertain': { says: 'It is not known whether Plaid removed the item.', fields: { ...STEP, code: 'text?' } },

  // Applications and their keepers
  'application.created': {
    says: 'An application was added.',
    fields: {
      application: 'application',
      name: 'text?',
      policy_sha256: 'hash?',
      by: 'word?',
      key: 'text?',
      // SHA-256 of what is stored of the key: its SHA-256.
      key_check: 'hash?',
    },
  },
  'application.policy_changed': {
    says: 'What an application may do changed.',
    fields: { application: 'application', policy_sha256: 'hash?', previous_sha256: 'hash?', by: 'word?' },
  },
  'application.key_rotated': {
    says: 'An application got a new key.',
    fields: { application: 'application', key: 'text?', valid_keys: 'count?', by: 'word?', key_check: 'hash?' },
  },
  'application.disabled': {
    says: 'An application was shut out for good.',
    fields: { application: 'application', by: 'word?' },
  },
  'application.unfrozen': {
    says: 'A freeze of an application was lifted.',
    fields: { application: 'application', class: 'word?', by: 'word?' },
  },
  'admin.called': {
    says: 'Somebody with the right to do so called the admin API.',
    fields: { method: 'code', route: 'text', status: 'count?', code: 'code?', by: 'word?', source: 'text?' },
  },
  'admin.refused': {
    says: 'A call of the admin API was refused; `count` of them when they were collapsed.',
    fields: { route: 'text?', code: 'code', source: 'text?', count: 'count?' },
  },

  // Keys and secrets
  'key.created': { says: 'A data key was made.', fields: { data_key: 'uuid', purpose: 'word', kek: 'text?' } },
  'key.unwrapped': {
    says: 'The key service was asked to unwrap a data key for this process; with a code, it was refused or failed.',
    fields: { data_key: 'uuid', purpose: 'word?', kek: 'text?', code: 'code?' },
  },
  'secret.fetched': {
    says: 'A secret was read from its manager. Names the setting, never the value.',
    fields: { name: 'text', manager: 'word?' },
  },
} as const satisfies Record<string, KindRow>;

export type EntryKind = keyof typeof KINDS;

type ValueOf<T extends string> = T extends `${infer Base}?`
  ? ValueOf<Base>
  : T extends 'count'
    ? number
    : T extends 'flag'
      ? boolean
      : string;
type Row<K extends EntryKind> = (typeof KINDS)[K]['fields'];
type Optional<F> = { [N in keyof F]: F[N] extends `${string}?` ? N : never }[keyof F];

/** The fields of one kind. Null and undefined mean absent, and are allowed where the table says `?`. */
export type EntryFields<K extends EntryKind> = {
  readonly [N in Exclude<keyof Row<K>, Optional<Row<K>>>]: ValueOf<Row<K>[N] & string>;
} & {
  readonly [N in Optional<Row<K>>]?: ValueOf<Row<K>[N] & string> | null | undefined;
};

export function isEntryKind(kind: string): kind is EntryKind {
  return Object.hasOwn(KINDS, kind);
}
