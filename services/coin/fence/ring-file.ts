import {
  closeSync,
  fdatasync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { uuidAt, writeUuid } from '../uuid';
import type { DeletedUserLookup, SpentCoin } from './guard';

/**
 * The record of one coin that was handed out or retired, and of the database's activation at that
 * time.
 */
export interface WatermarkRecord extends SpentCoin {
  readonly activation: string;
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
 * The number of slots for coins that a statement handed out, in the order in which they were
 * recorded.
 */
export const CLAIM_SLOTS = 4096;
/** The number of slots for coins of answers to repeated requests. They keep the latest fetches. */
const REPEAT_SLOTS = 1024;
const SLOT_BYTES = 64;
const CHECKED_BYTES = 60;
const CLOSED = -1;
const FREE = { key: '', fetchTime: 0 };

/**
 * A file of fixed-size slots in which one process records its latest hand-outs. When `append` or
 * `keep` returns, the kernel has the record, so it survives the death of the process. `sync` writes
 * it to the disk.
 *
 * A slot has 64 bytes: activation, user id, key id (16 each), expire_time in seconds (4), sequence
 * (6), coin category (2), and the CRC-32 of all these (4). It begins at a multiple of 64, so no
 * slot crosses a page. A torn slot is no record.
 */
export class RingFile {
  readonly path: string;
  readonly #slots: Buffer;
  readonly #repeats: { readonly key: string; readonly fetchTime: number }[];
  /** The activation that was written last, in binary. Nearly every record has the same one. */
  readonly #activation = { text: '', bytes: Buffer.alloc(16) };
  #file: number;
  #sequence = 0;
  #dirty = false;
  #syncing = false;

  /** Opens the file at `path` with its records, or creates it. */
  constructor(path: string) {
    this.path = path;
    this.#file = openSync(path, 'a+', 0o600);
    closeSync(this.#file);
    this.#file = openSync(path, 'r+');
    this.#repeats = Array(REPEAT_SLOTS).fill(FREE);
    this.#slots = Buffer.alloc((CLAIM_SLOTS + REPEAT_SLOTS) * SLOT_BYTES);
    readFileSync(this.#file).copy(this.#slots);
    ftruncateSync(this.#file, this.#slots.length);
    decode(this.#slots, (record, sequence, slot) => {
      if (slot < CLAIM_SLOTS) this.#sequence = Math.max(this.#sequence, sequence + 1);
      else this.#repeats[slot - CLAIM_SLOTS] = { key: keyOf(record), fetchTime: sequence };
    });
  }

  /** Overwrites the oldest records with records of these coins. */
  append(activation: string, coins: readonly SpentCoin[]): void {
    let from = this.#sequence % CLAIM_SLOTS;
    let slot = from;
    for (const coin of coins) {
      encode(this.#slots, slot, this.#bytesOf(activation), coin, this.#sequence++);
      slot++;
      if (slot < CLAIM_SLOTS) continue;
      this.#write(from, slot);
      slot = from = 0;
    }
    this.#write(from, slot);
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
    encode(this.#slots, CLAIM_SLOTS + oldest, this.#bytesOf(record.activation), record, fetchTime.getTime());
    this.#write(CLAIM_SLOTS + oldest, CLAIM_SLOTS + oldest + 1);
  }

  /** Replaces each record of a deleted user by a record of the deletion, in the same slot. */
  replaceUsers(lookup: DeletedUserLookup): void {
    let isChanged = false;
    decode(this.#slots, ({ activation, userId, keyId, expireTime }, sequence, slot) => {
      const userHash = keyId === NO_COIN || keyId === DELETED_USER ? undefined : lookup(userId);
      if (userHash === undefined) return;
      const record = deletionRecord(userHash, expireTime);
      encode(this.#slots, slot, this.#bytesOf(activation), record, sequence);
      if (slot >= CLAIM_SLOTS) this.#repeats[slot - CLAIM_SLOTS] = { key: keyOf(record), fetchTime: sequence };
      isChanged = true;
    });
    if (isChanged) this.#write(0, CLAIM_SLOTS + REPEAT_SLOTS);
  }

  /**
   * Returns the records from memory. They are right even if the file was replaced by an older copy
   * with the database.
   */
  records(): WatermarkRecord[] {
    return readRecords(this.#slots);
  }

  /** Writes the records to the disk. Creates the file again if it was removed or replaced. */
  sync(onError: (error: unknown) => void): void {
    if (this.#syncing) return;
    try {
      if (statSync(this.path, { throwIfNoEntry: false })?.ino !== fstatSync(this.#file).ino) {
        mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
        const file = openSync(this.path, 'w', 0o600);
        closeSync(this.#file);
        this.#file = file;
        this.#write(0, CLAIM_SLOTS + REPEAT_SLOTS);
      }
      if (!this.#dirty) return;
      this.#dirty = false;
      this.#syncing = true;
      const file = this.#file;
      fdatasync(file, (error) => {
        this.#syncing = false;
        // `close` was called meanwhile, and left the file open for this sync.
        if (this.#file !== file) closeSync(file);
        if (error) onError(error);
      });
    } catch (error) {
      onError(error);
    }
  }

  close(): void {
    // A sync in progress closes the file when it ends.
    if (this.#file !== CLOSED && !this.#syncing) closeSync(this.#file);
    this.#file = CLOSED;
  }

  #bytesOf(activation: string): Buffer {
    if (activation !== this.#activation.text) {
      writeUuid(this.#activation.bytes, 0, activation);
      this.#activation.text = activation;
    }
    return this.#activation.bytes;
  }

  #write(from: number, to: number): void {
    if (from === to) return;
    this.#dirty = true;
    const bytes = (to - from) * SLOT_BYTES;
    const written = writeSync(this.#file, this.#slots, from * SLOT_BYTES, bytes, from * SLOT_BYTES);
    if (written !== bytes) throw new Error(`wrote only ${written} of ${bytes} bytes to ${this.path}`);
  }
}

/** Returns the records in a ring file's bytes, without torn and unknown slots. */
export function readRecords(bytes: Buffer): WatermarkRecord[] {
  const records: WatermarkRecord[] = [];
  decode(bytes, (record) => records.push(record));
  return records;
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
  for (let at = 0; at + SLOT_BYTES <= bytes.length; at += SLOT_BYTES) {
    const checksum = bytes.readUInt32LE(at + CHECKED_BYTES);
    if (checksum !== crc32(bytes.subarray(at, at + CHECKED_BYTES))) continue;
    const record: WatermarkRecord = {
      activation: uuidAt(bytes, at),
      userId: uuidAt(bytes, at + 16),
      keyId: uuidAt(bytes, at + 32),
      expireTime: new Date(bytes.readUInt32LE(at + 48) * 1000),
      coinCategory: bytes.readUInt16LE(at + 58),
    };
    found(record, bytes.readUIntLE(at + 52, 6), at / SLOT_BYTES);
  }
}

function keyOf({ userId, keyId }: SpentCoin): string {
  return `${userId} ${keyId}`;
}
