import { crc32 } from 'node:zlib';
import { COIN_LIFETIME_S, type UserDevice } from '../coin';
import { uuidAt, writeUuid } from '../uuid';
import type { DeletedUserLookup, SpentCoin } from './guard';

/**
 * The record of one coin that was handed out or retired, and of the database's activation at that
 * time.
 */
export interface WatermarkRecord extends SpentCoin {
  readonly activation: string;
}

/** The records of one ring file: the latest hand-outs of one process. */
export interface RingRecords {
  readonly file: string;
  readonly records: WatermarkRecord[];
  /** The time of the last write, in milliseconds by the clock of the file system. */
  readonly writeTime: number;
  /** The system identifier of the cluster whose hand-outs these are; undefined: the file does not say. */
  readonly cluster: string | undefined;
}

/** The key id of a record that has no coin, and only says that the activation exists. */
export const NO_COIN = '00000000-0000-0000-0000-000000000000';

/**
 * The key id of a record that says that a user was deleted. In the place of the user id it has the
 * keyed hash. It is void together with the database's own memory of the deletion, or earlier.
 */
export const DELETED_USER = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/** Returns the record of a deletion, without its activation. */
export function deletionRecord(userHash: string, expireTime: Date): SpentCoin {
  return { userId: userHash, keyId: DELETED_USER, coinCategory: 0, expireTime };
}

/**
 * The coin category of a record that says that a device was removed. In the place of the key id it
 * has the id of the device.
 */
export const REMOVED_DEVICE: number = 32_767;

/**
 * Returns the record of a removal, without its activation. It is void a day before the database
 * forgets the removal.
 * @param removeTime the time of the first removal, by the database's clock
 */
export function removalRecord({ userId, deviceId }: UserDevice, removeTime: Date): SpentCoin {
  const expireTime = new Date(removeTime.getTime() + COIN_LIFETIME_S * 1000);
  return { userId, keyId: deviceId, coinCategory: REMOVED_DEVICE, expireTime };
}

/** Returns the device and the time of its removal that a record says was removed; undefined: it says something else. */
export function removalOf({ userId, keyId, coinCategory, expireTime }: SpentCoin): RemovedDevice | undefined {
  if (coinCategory !== REMOVED_DEVICE) return undefined;
  return { userId, deviceId: keyId, removeTime: new Date(expireTime.getTime() - COIN_LIFETIME_S * 1000) };
}

/** A device that was removed. */
export interface RemovedDevice extends UserDevice {
  readonly removeTime: Date;
}

/**
 * The number of slots for coins that a statement handed out, in the order in which they were
 * recorded.
 */
export const CLAIM_SLOTS = 4096;
/** The number of slots for coins of answers to repeated requests. They keep the latest fetches. */
const REPEAT_SLOTS = 1024;
/** The slot that describes the process. It is also the heartbeat. */
const PROCESS_SLOT = CLAIM_SLOTS + REPEAT_SLOTS;
const SLOT_BYTES = 64;
/** The size of the file. */
export const FILE_BYTES = (PROCESS_SLOT + 1) * SLOT_BYTES;
const CHECKED_BYTES = 60;
/** Added to the sequence of a statement's last record. Sequences stay far below it. */
const STATEMENT_END = 2 ** 47;
/** The largest AQM_POOL_SIZE: the most statements in progress where a file does not say it. */
const MAX_STATEMENTS = 1000;
/**
 * The number of records of repeats by which a database is verified. The one of the latest fetch
 * is enough but for fetches that were committed at the same time.
 */
const NEWEST_REPEATS = 64;
const FREE = { key: '', fetchTime: 0 };

/** The facts in a file about the process that writes it. */
export interface RingProcess {
  /** The largest number of statements that it has in progress. */
  readonly maxStatements: number;
  /** The cluster of its database. */
  readonly systemIdentifier: string;
}

/** A part of the file, in bytes. */
export interface FilePart {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/**
 * The content of a file of fixed-size slots in which one process records its latest hand-outs.
 *
 * A slot has 64 bytes: activation, user id, key id (16 each), expire_time in seconds (4), sequence
 * (6), coin category (2), and the CRC-32 of all these (4). It begins at a multiple of 64, so no
 * slot crosses a page. A torn slot is no record. In the last record of a statement STATEMENT_END is
 * added to the sequence. The last slot of the file describes the process: the number of statements
 * that it may have in progress (4 bytes), the system identifier of the cluster (8), and the CRC-32
 * of these (4).
 */
export class RingFile {
  /** The whole file. */
  readonly content = Buffer.alloc(FILE_BYTES);
  readonly #repeats: { readonly key: string; readonly fetchTime: number }[] = Array(REPEAT_SLOTS).fill(FREE);
  /** The activation that was written last, in binary. Nearly every record has the same one. */
  readonly #activation = { text: '', bytes: Buffer.alloc(16) };
  #sequence = 0;
  /** The sequence up to which `takeChanges` has returned the records. */
  #taken = 0;
  /** Slots that were overwritten out of their order. */
  #changedSlots: number[] = [];
  #hasBeat = false;

  /**
   * @param content the file as it was left by its previous owner; empty: a new file
   */
  constructor(content: Buffer, process: RingProcess) {
    content.copy(this.content, 0, 0, PROCESS_SLOT * SLOT_BYTES);
    encodeProcess(this.content, process);
    decode(this.content, (record, sequence, slot) => {
      if (slot < CLAIM_SLOTS) this.#sequence = Math.max(this.#sequence, (sequence % STATEMENT_END) + 1);
      else this.#repeats[slot - CLAIM_SLOTS] = { key: keyOf(record), fetchTime: sequence };
    });
    this.#taken = this.#sequence;
  }

  /** Overwrites the oldest records with records of these coins, which one statement made spent. */
  append(activation: string, coins: readonly SpentCoin[]): void {
    const bytes = this.#bytesOf(activation);
    const last = coins.length - 1;
    for (let index = 0; index <= last; index += 1) {
      const sequence = this.#sequence++;
      const coin = coins[index] as SpentCoin;
      encode(this.content, sequence % CLAIM_SLOTS, bytes, coin, index === last ? sequence + STATEMENT_END : sequence);
    }
  }

  /**
   * Keeps a record of an earlier fetch, unless all kept ones are of later fetches. Never overwrites
   * a claim's record.
   */
  keep(record: WatermarkRecord, fetchTime: Date): void {
    const key = keyOf(record);
    if (this.#repeats.some((kept) => kept.key === key)) return;
    const times = this.#repeats.map((kept) => kept.fetchTime);
    const oldest = times.indexOf(Math.min(...times));
    if ((times[oldest] ?? 0) >= fetchTime.getTime()) return;
    this.#repeats[oldest] = { key, fetchTime: fetchTime.getTime() };
    encode(this.content, CLAIM_SLOTS + oldest, this.#bytesOf(record.activation), record, fetchTime.getTime());
    this.#changedSlots.push(CLAIM_SLOTS + oldest);
  }

  /** Replaces each record of a deleted user by a record of the deletion, in the same slot. */
  replaceUsers(lookup: DeletedUserLookup): void {
    decode(this.content, ({ activation, userId, keyId, expireTime }, sequence, slot) => {
      const userHash = keyId === NO_COIN || keyId === DELETED_USER ? undefined : lookup(userId);
      if (userHash === undefined) return;
      const record = deletionRecord(userHash, expireTime);
      encode(this.content, slot, this.#bytesOf(activation), record, sequence);
      if (slot >= CLAIM_SLOTS) this.#repeats[slot - CLAIM_SLOTS] = { key: keyOf(record), fetchTime: sequence };
      this.#changedSlots.push(slot);
    });
  }

  /** Returns the parts of the file that changed since the last call. */
  takeChanges(): FilePart[] {
    const parts: FilePart[] = [];
    for (let from = Math.max(this.#taken, this.#sequence - CLAIM_SLOTS); from < this.#sequence; ) {
      const slot = from % CLAIM_SLOTS;
      const slots = Math.min(CLAIM_SLOTS - slot, this.#sequence - from);
      parts.push(this.#part(slot, slots));
      from += slots;
    }
    this.#taken = this.#sequence;
    for (const slot of this.#changedSlots) parts.push(this.#part(slot, 1));
    if (this.#changedSlots.length > 0) this.#changedSlots = [];
    if (this.#hasBeat) parts.push(this.#part(PROCESS_SLOT, 1));
    this.#hasBeat = false;
    return parts;
  }

  /** Marks the last slot as changed, so that something is written. */
  beat(): void {
    this.#hasBeat = true;
  }

  #part(slot: number, slots: number): FilePart {
    return { at: slot * SLOT_BYTES, bytes: this.content.subarray(slot * SLOT_BYTES, (slot + slots) * SLOT_BYTES) };
  }

  #bytesOf(activation: string): Buffer {
    if (activation !== this.#activation.text) {
      writeUuid(this.#activation.bytes, 0, activation);
      this.#activation.text = activation;
    }
    return this.#activation.bytes;
  }
}

/** Returns the records in a ring file's bytes, without torn and unknown slots. */
export function readRecords(bytes: Buffer): WatermarkRecord[] {
  const records: WatermarkRecord[] = [];
  decode(bytes, (record) => records.push(record));
  return records;
}

/**
 * Returns the records by which a database is verified: one of each of the latest statements, as many
 * as the process may have had in progress, and those of the latest repeats. Records can be written
 * in another order than that of their commits, but only statements that were in progress together
 * can change places. So the latest commit is one of these, and a database that has it has all.
 * Every record is returned of a file in which the ends of statements are not marked.
 */
export function newestRecords(bytes: Buffer): WatermarkRecord[] {
  const ends: [sequence: number, slot: number][] = [];
  const repeats: [fetchTime: number, slot: number][] = [];
  const slots = Math.min(PROCESS_SLOT, Math.floor(bytes.length / SLOT_BYTES));
  for (let slot = 0; slot < slots; slot += 1) {
    const sequence = bytes.readUIntLE(slot * SLOT_BYTES + 52, 6);
    if (slot >= CLAIM_SLOTS) repeats.push([sequence, slot]);
    else if (sequence >= STATEMENT_END) ends.push([sequence, slot]);
  }
  if (ends.length === 0) return readRecords(bytes);
  const newest = [
    ...latest(ends, processOf(bytes)?.maxStatements ?? MAX_STATEMENTS),
    ...latest(
      repeats.filter(([fetchTime]) => fetchTime > 0),
      NEWEST_REPEATS,
    ),
  ];
  return newest.flatMap((slot) => recordAt(bytes, slot * SLOT_BYTES) ?? []);
}

function latest(found: [order: number, slot: number][], count: number): number[] {
  return found
    .sort(([one], [other]) => other - one)
    .slice(0, count)
    .map(([, slot]) => slot);
}

const PROCESS_BYTES = 12;

function encodeProcess(bytes: Buffer, { maxStatements, systemIdentifier }: RingProcess): void {
  const at = PROCESS_SLOT * SLOT_BYTES;
  bytes.writeUInt32LE(maxStatements, at);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(systemIdentifier)), at + 4);
  bytes.writeUInt32LE(crc32(bytes.subarray(at, at + PROCESS_BYTES)), at + PROCESS_BYTES);
}

/** Returns what the file says about its process; undefined: nothing. */
export function processOf(bytes: Buffer): RingProcess | undefined {
  const at = PROCESS_SLOT * SLOT_BYTES;
  if (bytes.length < FILE_BYTES) return undefined;
  if (bytes.readUInt32LE(at + PROCESS_BYTES) !== crc32(bytes.subarray(at, at + PROCESS_BYTES))) return undefined;
  return { maxStatements: bytes.readUInt32LE(at), systemIdentifier: String(bytes.readBigInt64LE(at + 4)) };
}

function encode(slots: Buffer, slot: number, activation: Buffer, coin: SpentCoin, sequence: number): void {
  const at = slot * SLOT_BYTES;
  slots.set(activation, at);
  writeUuid(slots, at + 16, coin.userId);
  writeUuid(slots, at + 32, coin.keyId);
  slots.writeUInt32LE(Math.ceil(coin.expireTime.getTime() / 1000), at + 48);
  slots.writeUIntLE(sequence, at + 52, 6);
  slots.writeUInt16LE(coin.coinCategory, at + 58);
  slots.writeUInt32LE(crc32(slots.subarray(at, at + CHECKED_BYTES)), at + CHECKED_BYTES);
}

function decode(bytes: Buffer, found: (record: WatermarkRecord, sequence: number, slot: number) => void): void {
  const end = Math.min(bytes.length, PROCESS_SLOT * SLOT_BYTES);
  for (let at = 0; at + SLOT_BYTES <= end; at += SLOT_BYTES) {
    const record = recordAt(bytes, at);
    if (record) found(record, bytes.readUIntLE(at + 52, 6), at / SLOT_BYTES);
  }
}

function recordAt(bytes: Buffer, at: number): WatermarkRecord | undefined {
  const checksum = bytes.readUInt32LE(at + CHECKED_BYTES);
  if (checksum !== crc32(bytes.subarray(at, at + CHECKED_BYTES))) return undefined;
  return {
    activation: uuidAt(bytes, at),
    userId: uuidAt(bytes, at + 16),
    keyId: uuidAt(bytes, at + 32),
    expireTime: new Date(bytes.readUInt32LE(at + 48) * 1000),
    coinCategory: bytes.readUInt16LE(at + 58),
  };
}

function keyOf({ userId, keyId }: SpentCoin): string {
  return `${userId} ${keyId}`;
}
