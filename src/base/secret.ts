import { inspect } from 'node:util';

/**
 * A value that must not reach a log, an error or an answer. Printing or
 * serialising it gives a placeholder; `reveal` is the only way in, so a search
 * for `.reveal(` lists every place that touches plaintext (the list is held by
 * test/architecture.test.ts).
 *
 * It guards against accidents, not against code that wants the value. Strings
 * in JavaScript cannot be wiped; docs/threat-model.md says so.
 */
export class Secret<T> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [inspect.custom](): string {
    return '[secret]';
  }
}
