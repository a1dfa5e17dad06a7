import { Client, type ClientConfig } from 'pg';
import { ReconnectBackoff } from './backoff';
import { readInBinary } from './binary-rows';

export interface ClientOptions {
  /** The longest time to wait for the response to a statement, in milliseconds. */
  readonly answerTimeoutMs: number;
  /**
   * True if statements with parameters are prepared by name, so that each connection parses and
   * plans them once.
   */
  readonly named: boolean;
  /** Receives the error of a connection that could not be opened, if the one before it could. */
  readonly onConnectFailure?: (error: Error) => void;
}

type Query = (statement: object, onResult: (error: Error | null, result: unknown) => void) => void;

/**
 * Creates the class of a pool's clients, which share one reconnect backoff. They receive the rows
 * of parameterised statements in binary, and those of other statements (commands, catalogs) as
 * text. Only the calling conventions of Kysely and pg-pool are supported: `query` with a text and
 * values returns a promise, `connect` takes a callback.
 */
export function clientClass({ answerTimeoutMs, named, onConnectFailure }: ClientOptions): typeof Client {
  const reconnect = new ReconnectBackoff(undefined, undefined, onConnectFailure);
  return class extends Client {
    constructor(config?: ClientConfig) {
      super(config);
      readInBinary(this);
      const connect = this.connect.bind(this) as (callback: (error?: Error) => void) => void;
      const attempt = (callback: (error?: Error) => void) => reconnect.attempt(connect, callback);
      this.connect = attempt as typeof this.connect;
      const query = this.query.bind(this) as Query;
      this.query = ((text: string, values: readonly unknown[] = []) => {
        const asBinary = values.length > 0 ? { name: named ? nameOf(text) : undefined, binary: true } : {};
        return resultOf(query, { text, values, ...asBinary }, answerTimeoutMs);
      }) as typeof this.query;
    }
  };
}

/**
 * Returns a promise of the result, with a timeout, like pg's own promise and its query_timeout. pg
 * is not used for both, because it assigns a function to a property of the statement, and V8
 * allocates a function that is written in this way (`a.b = () => ...`) in the old space until the
 * surrounding function was optimized. Everything that it references would then live until the next
 * full collection: the rows, the parameters, and the 64 KiB buffers of which they are slices.
 */
function resultOf(query: Query, statement: object, timeoutMs: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`the database did not respond within ${timeoutMs} ms`)), timeoutMs);
    query(statement, (error, result) => {
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
