import { CONTACT_PRIORITIES, type ContactPriority } from '../contract/budget';
import { COIN_CATEGORY_NAMES, type CoinCategoryName } from '../contract/coin-category';
import { StorageCorruptedError } from '../errors';

/** What a command with a Buffer reply answers. */
export type Reply = Buffer | number | null | readonly Reply[];

/** The readers below answer StorageCorruptedError to what this library never wrote. */
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

/** A whole number, as the server's own or as text in a field. */
export function numberIn(reply: Reply | undefined): number {
  const number = typeof reply === 'number' ? reply : Number(textIn(reply) || Number.NaN);
  if (!Number.isSafeInteger(number)) throw new StorageCorruptedError();
  return number;
}

export function dateIn(reply: Reply | undefined): Date {
  return new Date(numberIn(reply));
}

/** A text of those that there are. */
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
