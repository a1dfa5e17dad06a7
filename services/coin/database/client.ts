import { Client, type ClientConfig, type Submittable } from 'pg';
import { ReconnectBackoff } from './backoff';
import { BinaryQuery, BinaryStatements, type OnResult } from './binary-query';
import { MessageReader } from './binary-rows';
import { cancelStatement } from './cancel-statement';
import { isReadOnly, isTooManyConnections } from './sqlstate';

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
  /**
   * Called when the server refuses a connection because there are too many. Returns true if the pool has
   * others, for which callers wait.
   */
  readonly onTooMany?: () => boolean;
}

/**
 * Creates the class of a pool's clients, which share one reconnect backoff. They receive the rows
 * of parameterised statements in binary, and those of other statements (commands, catalogs) as
 * text. A client whose server did not respond in time, or is read only, ends itself, and the pool
 * does not hand it out again. Only the calling conventions of Kysely and pg-pool are supported: `query` with a text and
 * values returns a promise, `connect` takes a callback.
 */
export function clientClass({ answerTimeoutMs, named, onConnectFailure, onTooMany }: ClientOptions): typeof Client {
  const reconnect = new ReconnectBackoff(undefined, undefined, onConnectFailure);
  return class extends Client {
    constructor(config?: ClientConfig) {
      super(config);
      const statements = new BinaryStatements(new MessageReader(this));
      const connect = this.connect.bind(this) as (callback: (error?: Error) => void) => void;
      const isOutage = (error: Error) => !(isTooManyConnections(error) && onTooMany?.());
      const attempt = (callback: (error?: Error) => void) => reconnect.attempt(connect, callback, isOutage);
      this.connect = attempt as typeof this.connect;
      const query = this.query.bind(this) as (statement: string | Submittable, onResult?: OnResult) => void;
      this.query = ((text: string, values: readonly unknown[] = []) =>
        resultOf(
          this,
          (onResult) => {
            if (values.length === 0) query(text, onResult);
            else query(new BinaryQuery(statements, named ? nameOf(text) : undefined, text, values, onResult));
          },
          answerTimeoutMs,
          (error) => reconnect.failedLater(error),
        )) as typeof this.query;
    }
  };
}

/** The last part of the wait for a response, in milliseconds. It begins when the process runs. */
const LAST_WAIT_MS = 1000;

/**
 * Returns a promise of the result, with a timeout after which the client is ended, like pg's own
 * promise and its query_timeout. pg is not used for both, because it assigns a function to a property of the statement, and V8
 * allocates a function that is written in this way (`a.b = () => ...`) in the old space until the
 * surrounding function was optimized. Everything that it references would then live until the next
 * full collection: the rows, the parameters, and the 64 KiB buffers of which they are slices.
 */
function resultOf(
  client: Client,
  query: (onResult: OnResult) => void,
  timeoutMs: number,
  onReadOnly: (error: Error) => void,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    let isAnswered = false;
    let late = setTimeout(() => {
      // After a pause of the process, timers run before responses that have arrived are read. So it is
      // given another second, and the turn of the event loop that reads.
      late = setTimeout(setImmediate, LAST_WAIT_MS, () => {
        if (isAnswered) return;
        end(client);
        cancelStatement(client);
        reject(new Error(`the database did not respond within ${timeoutMs} ms`));
      });
    }, timeoutMs - LAST_WAIT_MS);
    query((error, result) => {
      isAnswered = true;
      clearTimeout(late);
      if (error) {
        if (isReadOnly(error)) {
          end(client);
          onReadOnly(error);
        }
        reject(error);
      } else resolve(result);
    });
  });
}

/**
 * Ends the connection. The pool does not hand it out again; otherwise later statements would wait on it, and begin when
 * no caller waits for them any more.
 */
function end(client: Client): void {
  client.end().catch(() => {});
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
