const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const BYTES = 16;
/** Of the first digit of each byte in the text. */
const PLACES = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34] as const;
const DIGITS = Buffer.from('0123456789abcdef');
const { charCodeAt } = String.prototype;
const scratch = Buffer.from('00000000-0000-0000-0000-000000000000');

/** RFC 9562 text form, any version, any case. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** The text, in lower case, of the 16 bytes at `at`. Twice as fast as from pieces of the hexadecimal text, which are put together when it is read. */
export function uuidAt(bytes: Buffer, at: number): string {
  for (let index = 0; index < BYTES; index += 1) {
    const byte = bytes[at + index] ?? 0;
    const place = PLACES[index] ?? 0;
    scratch[place] = DIGITS[byte >> 4] ?? 0;
    scratch[place + 1] = DIGITS[byte & 0xf] ?? 0;
  }
  return scratch.toString('latin1');
}

/**
 * Writes the 16 bytes of a UUID's text at `at`. Three times as fast as without the dashes by Buffer.write. As `text.charCodeAt(place)` V8
 * would look for the method at every digit, once it has seen texts from four sources (it keeps them in so many ways).
 */
export function writeUuid(bytes: Buffer, at: number, text: string): void {
  for (let index = 0; index < BYTES; index += 1) {
    const place = PLACES[index] ?? 0;
    bytes[at + index] = (digit(charCodeAt.call(text, place)) << 4) | digit(charCodeAt.call(text, place + 1));
  }
}

/** Of a hexadecimal digit in any case. */
function digit(code: number): number {
  return (code & 0xf) + (code >> 6) * 9;
}
