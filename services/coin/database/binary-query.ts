import type { Submittable } from 'pg';
import { prepareValue } from 'pg/lib/utils';
import { serialize } from 'pg-protocol';
import { Columns, type Field, type MessageReader } from './binary-rows';

/** The part of pg's private connection API that this module depends on. */
interface Connection {
  readonly stream: NodeJS.WritableStream;
  /** The texts of the statements that this connection has prepared, by name. */
  readonly parsedStatements: Readonly<Record<string, string>>;
}

/** A result, as Kysely expects it. */
export interface QueryResult {
  readonly command: string;
  readonly rowCount: number;
  readonly rows: readonly object[];
}

/** Receives the result of a statement, or its error. */
export type OnResult = (error: Error | null, result?: QueryResult) => void;

/** The state that the statements of one connection share. */
export class BinaryStatements {
  readonly #reader: MessageReader;
  /** The columns of the statements that this connection has prepared, by name. */
  readonly #columns = new Map<string, Columns>();

  constructor(reader: MessageReader) {
    this.#reader = reader;
  }

  /** Prepares the reader for the rows of a statement. @returns false if the statement must be described */
  begin(name: string | undefined): boolean {
    this.#reader.columns = name === undefined ? undefined : this.#columns.get(name);
    return this.#reader.columns !== undefined;
  }

  /** @throws TypeError for a type that cannot be decoded */
  described(name: string | undefined, fields: readonly Field[]): void {
    const columns = new Columns(fields);
    this.#reader.columns = columns;
    if (name !== undefined) this.#columns.set(name, columns);
  }
}

/**
 * A statement with parameters, whose rows arrive in binary (docs/adr/0019-binary-rows.md). It replaces
 * pg's own Query, which copies the statement, its fields and an empty row each time, and asks for a
 * description of the result even if the statement is prepared. A prepared statement always has the
 * same columns; where a migration changes them, PostgreSQL fails the statement.
 */
export class BinaryQuery implements Submittable {
  readonly name: string | undefined;
  readonly text: string;
  readonly callback: OnResult;
  readonly #statements: BinaryStatements;
  readonly #values: (string | Buffer | null)[];
  readonly #rows: object[] = [];
  /** The command tag of the result, such as `INSERT 0 5`: its last number is that of the rows. */
  #tag = '';
  #failure: Error | undefined;

  /**
   * @param name the name by which the connection prepares it; undefined: it is prepared for this once
   * @param values at least one
   */
  constructor(
    statements: BinaryStatements,
    name: string | undefined,
    text: string,
    values: readonly unknown[],
    callback: OnResult,
  ) {
    this.#statements = statements;
    this.name = name;
    this.text = text;
    this.#values = values.map((value) => prepareValue(value));
    this.callback = callback;
  }

  /** Called by the client when the connection is free. */
  submit(connection: unknown): void {
    const { stream, parsedStatements } = connection as Connection;
    const { name = '', text } = this;
    const messages: Buffer[] = [];
    if (parsedStatements[name] === undefined) messages.push(serialize.parse({ name, text }));
    messages.push(serialize.bind({ statement: name, values: this.#values, binary: true }));
    if (!this.#statements.begin(this.name)) messages.push(serialize.describe({ type: 'P', name: '' }));
    messages.push(serialize.execute(), serialize.sync());
    if (stream.writable) stream.write(Buffer.concat(messages));
  }

  // The client calls these for the messages of the server.

  handleRowDescription({ fields }: { readonly fields: readonly Field[] }): void {
    try {
      this.#statements.described(this.name, fields);
    } catch (error) {
      this.#failure = error as Error;
    }
  }

  handleDataRow({ row }: { readonly row: object }): void {
    this.#rows.push(row);
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    this.#tag = text;
  }

  handleReadyForQuery(): void {
    if (this.#failure) this.callback(this.#failure);
    else {
      const [command = '', ...counts] = this.#tag.split(' ');
      this.callback(null, { command, rowCount: Number(counts.at(-1)), rows: this.#rows });
    }
  }

  handleError(error: Error): void {
    this.callback(error);
  }
}
