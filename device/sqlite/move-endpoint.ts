import {
  DEVICE_FACTS,
  type DeviceFacts,
  type DeviceRecords,
  RECORD_COLUMNS,
  RECORD_KINDS,
  type RecordKind,
} from '../contract/device-record';
import { BATCH_RECORDS, type MoveEndpoint, type MoveState, sameState } from '../contract/move-endpoint';
import { MoveOvertakenError, StorageBusyError, TargetNotEmptyError } from '../errors';
import type { Connection } from './connection';
import { readMoveState, tableName, writeMoveState } from './move-state';
import { openConnection, type SqliteSettings } from './open';

/** Opens a storage as an endpoint of a move. A missing file is created, or with `mustExist` is a StorageMissingError. */
export function openSqliteMoveEndpoint(
  settings: SqliteSettings,
  { mustExist }: { readonly mustExist: boolean },
): MoveEndpoint {
  const connection = openConnection(mustExist ? { ...settings, create: false } : settings);
  return new SqliteMoveEndpoint(connection, settings.path);
}

class SqliteMoveEndpoint implements MoveEndpoint {
  readonly backend = 'sqlite';
  readonly shown: string;
  readonly #connection: Connection;

  constructor(connection: Connection, path: string) {
    this.#connection = connection;
    this.shown = path;
  }

  async readState(): Promise<MoveState> {
    return this.#connection.read(() => readMoveState(this.#connection));
  }

  async changeState(from: MoveState, to: MoveState): Promise<void> {
    await this.#writeIn(from, () => {
      if (to.state === 'RECEIVING' && from.state !== 'RECEIVING' && this.#count() > 0) {
        throw new TargetNotEmptyError(this.shown);
      }
      writeMoveState(this.#connection, to);
    });
  }

  async isEmpty(): Promise<boolean> {
    return this.#connection.readTogether(() => this.#count() === 0);
  }

  async *read<Kind extends RecordKind>(kind: Kind): AsyncGenerator<readonly DeviceRecords[Kind][]> {
    const columns = RECORD_COLUMNS[kind].join(', ');
    for (let offset = 0; ; offset += BATCH_RECORDS) {
      const records = this.#connection.readTogether(() =>
        this.#connection
          .prepare<[number, number], DeviceRecords[Kind]>(
            `SELECT ${columns} FROM ${this.#table(kind)} ORDER BY ${columns} LIMIT ? OFFSET ?`,
          )
          .all(BATCH_RECORDS, offset),
      );
      if (records.length > 0) yield records;
      if (records.length < BATCH_RECORDS) return;
    }
  }

  async put<Kind extends RecordKind>(
    state: MoveState,
    kind: Kind,
    records: readonly DeviceRecords[Kind][],
  ): Promise<void> {
    const columns = RECORD_COLUMNS[kind];
    await this.#writeIn(state, () => {
      const insert = this.#connection.prepare<unknown[]>(
        `INSERT INTO ${this.#table(kind)} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
      );
      for (const record of records) insert.run(...columns.map((column) => record[column]));
    });
  }

  async readFacts(): Promise<DeviceFacts> {
    const facts = this.#connection.read(() =>
      this.#connection.prepare<[], { name: string; value: string }>('SELECT name, value FROM device_record').all(),
    );
    return Object.fromEntries(
      facts.filter(({ name }) => DEVICE_FACTS.some((fact) => fact === name)).map(({ name, value }) => [name, value]),
    );
  }

  async putFacts(state: MoveState, facts: DeviceFacts): Promise<void> {
    const remove = this.#connection.prepare<[string]>('DELETE FROM device_record WHERE name = ?');
    const insert = this.#connection.prepare<[string, string]>('INSERT INTO device_record (name, value) VALUES (?, ?)');
    await this.#writeIn(state, () => {
      for (const name of DEVICE_FACTS) {
        remove.run(name);
        const value = facts[name];
        if (value !== undefined) insert.run(name, value);
      }
    });
  }

  async wipe(state: MoveState): Promise<void> {
    await this.#writeIn(state, () => {
      for (const kind of RECORD_KINDS) this.#connection.prepare(`DELETE FROM ${this.#table(kind)}`).run();
    });
    // Deleted records are overwritten in their pages; this also drops the pages, and their older images in the WAL.
    this.#unlessBusy(() => this.#connection.read(() => this.#connection.prepare('VACUUM').run()));
    this.#unlessBusy(() => this.#connection.checkpoint());
  }

  async settle(): Promise<void> {
    // Nothing to do: every commit was synced.
  }

  async close(): Promise<void> {
    this.#connection.close();
  }

  async #writeIn(state: MoveState, work: () => void): Promise<void> {
    await this.#connection.write(() => {
      if (!sameState(readMoveState(this.#connection), state)) throw new MoveOvertakenError(this.shown);
      work();
    });
  }

  #table(kind: RecordKind): string {
    return tableName(kind, readMoveState(this.#connection).state !== 'ACTIVE');
  }

  #count(): number {
    const counts = RECORD_KINDS.map((kind) =>
      this.#connection
        .prepare<[], number>(`SELECT count(*) FROM ${this.#table(kind)}`)
        .pluck()
        .get(),
    );
    return counts.reduce<number>((sum, count) => sum + (count ?? 0), 0);
  }

  /** Ignores a busy file: another process may still have it open, and drops the pages when it closes the file. */
  #unlessBusy(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof StorageBusyError)) throw error;
    }
  }
}
