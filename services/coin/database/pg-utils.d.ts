/** A part of the driver that its types omit. */
declare module 'pg/lib/utils' {
  /** Returns a parameter as the server reads it: null, text, or the bytes of a bytea or of a binary array. */
  export function prepareValue(value: unknown): string | Buffer | null;
}
