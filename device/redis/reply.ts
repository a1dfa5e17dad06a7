import { CONTACT_PRIORITIES, type ContactPriority } from '../contract/budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName } from '../contract/coin-category';
import { StorageCorruptedError } from '../errors';

/** A reply of the server, with texts as Buffers. */
export type Reply = Buffer | number | null | readonly Reply[];

/** Reads a list. Like all readers below, it throws StorageCorruptedError for what this library never writes. */
export function listIn(reply: Reply | undefined): readonly Reply[] {
  if (!Array.isArray(reply)) throw new StorageCorruptedError();
  return reply;
}

export function bytesIn(reply: Reply | undefined): Uint8Array {
  if (!Buffer.isBuffer(reply)) throw new StorageCorruptedError();
  return new Uint8Array(reply);
}

export function textIn(reply: Reply | undefined): string {
  if (!Buffer.isBuffer(reply)) throw new StorageCorruptedError();
  return reply.toString('utf8');
}

/** Reads a whole number, which the server sends as a number or as text in a field. */
export function numberIn(reply: Reply | undefined): number {
  const number = typeof reply === 'number' ? reply : Number(textIn(reply) || Number.NaN);
  if (!Number.isSafeInteger(number)) throw new StorageCorruptedError();
  return number;
}

export function dateIn(reply: Reply | undefined): Date {
  return new Date(numberIn(reply));
}

/** Returns the text if it is one of the names. */
export function oneOf<Name extends string>(names: readonly Name[], text: string): Name {
  const found = names.find((name) => name === text);
  if (found === undefined) throw new StorageCorruptedError();
  return found;
}

export function categoryIn(reply: Reply | undefined): CoinCategoryName {
  return oneOf(COIN_CATEGORY_NAMES, textIn(reply));
}

export function priorityIn(reply: Reply | undefined): ContactPriority {
  return oneOf(CONTACT_PRIORITIES, textIn(reply));
}

/** Cuts a flat reply into rows. */
export function rowsIn(reply: Reply | undefined, columns: number): Reply[][] {
  const flat = listIn(reply);
  return Array.from({ length: flat.length / columns }, (_, row) => flat.slice(row * columns, (row + 1) * columns));
}
