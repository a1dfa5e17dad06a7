const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const BYTES = 16;
/** The position of each byte's first digit in the text. */
const PLACES = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34] as const;
const DIGITS = Buffer.from('0123456789abcdef');
const { charCodeAt } = String.prototype;
const scratch = Buffer.from('00000000-0000-0000-0000-000000000000');

/** Returns true for the text form of RFC 9562, in any version and any case. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/**
 * Returns the text, in lower case, of the 16 bytes at `at`. Twice as fast as concatenating pieces of the hexadecimal text,
 * which V8 joins only when the result is read.
 */
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
 * Writes the 16 bytes of a UUID's text at `at`. Three times as fast as removing the dashes and Buffer.write. It calls
 * `charCodeAt` detached, because V8 would look up `text.charCodeAt` at every digit once it has seen strings of four internal
 * representations.
 */
export function writeUuid(bytes: Buffer, at: number, text: string): void {
  for (let index = 0; index < BYTES; index += 1) {
    const place = PLACES[index] ?? 0;
    bytes[at + index] = (digit(charCodeAt.call(text, place)) << 4) | digit(charCodeAt.call(text, place + 1));
  }
}

/** Returns the value of a hexadecimal digit in any case. */
function digit(code: number): number {
  return (code & 0xf) + (code >> 6) * 9;
}
