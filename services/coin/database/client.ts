import { Client, type ClientConfig } from 'pg';
import { ReconnectBackoff } from './backoff';
import { readInBinary } from './binary-rows';

export interface ClientOptions {
  /** How long to wait for the answer to a statement, in milliseconds. */
  readonly answerTimeoutMs: number;
  /** Statements with parameters get names, so that PostgreSQL parses and plans each once per connection. */
  readonly named: boolean;
}

type Ask = (statement: object, answered: (error: Error | null, result: unknown) => void) => void;

/**
 * The connections of a pool, which share one patience with a server that cannot be reached. They get the rows of every parameterised
 * statement in binary; those of the others, of commands and catalogs, as text. They are asked as Kysely asks: by a text and its
 * parameters, for a promise; and connected as the pool does it, with a callback.
 */
export function clientClass({ answerTimeoutMs, named }: ClientOptions): typeof Client {
  const reconnect = new ReconnectBackoff();
  return class extends Client {
    constructor(config?: ClientConfig) {
      super(config);
      readInBinary(this);
      const connect = this.connect.bind(this) as (callback: (error?: Error) => void) => void;
      const patient = (callback: (error?: Error) => void) => reconnect.attempt(connect, callback);
      this.connect = patient as typeof this.connect;
      const ask = this.query.bind(this) as Ask;
      this.query = ((text: string, values: readonly unknown[] = []) => {
        const asBinary = values.length > 0 ? { name: named ? nameOf(text) : undefined, binary: true } : {};
        return answerOf(ask, { text, values, ...asBinary }, answerTimeoutMs);
      }) as typeof this.query;
    }
  };
}

/**
 * As pg makes a promise itself and keeps its query_timeout, but for this: there it assigns a function to a property of the statement, and V8
 * makes a function that is written so (`a.b = () => ...`) among the old objects, until its surroundings were optimized. Whatever it
 * reaches then lasts until the next full collection: the rows, the parameters, and the 64 KiB that each of them was cut from.
 */
function answerOf(ask: Ask, statement: object, timeoutMs: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    ask(statement, (error, result) => {
      clearTimeout(late);
      if (error) reject(error);
      else resolve(result);
    });
  });
}

const names = new Map<string, string>();

function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `aqm_${names.size + 1}`;
    names.set(text, name);
  }
  return name;
}
