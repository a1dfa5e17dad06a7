import { randomBytes, randomUUID } from 'node:crypto';

/**
 * Recognisable secrets, and the search for them in whatever left a process: as text, raw, in hex, in base64, and as the
 * lists that inspect and JSON make of bytes.
 */
export class Secrets {
  /** What to look for, and what it is. */
  readonly #needles = new Map<string, string>();

  /** Bytes of this size: twelve printable ones over and over, so that every piece of 24 shows them, in base64 too. */
  bytes(what: string, size: number): Buffer {
    const twelve = Buffer.from(randomBytes(6).toString('hex'));
    this.#lookFor(what, twelve);
    return Buffer.alloc(size, twelve);
  }

  uuid(what: string): string {
    const uuid = randomUUID();
    this.#add(what, uuid, uuid.toUpperCase());
    this.#lookFor(what, Buffer.from(uuid.replaceAll('-', ''), 'hex'));
    return uuid;
  }

  /** Text such as a password, that can be part of a URL as it is. */
  text(what: string): string {
    const text = `canary-${randomBytes(9).toString('hex')}`;
    this.known(what, text);
    return text;
  }

  /** Text that is made elsewhere. */
  known(what: string, text: string): void {
    this.#lookFor(what, Buffer.from(text));
  }

  /** A JWT: its claims and its signature, also the first characters of them. Its header says nothing. */
  token(what: string, token: string): string {
    const [, claims = '', signature = ''] = token.split('.');
    this.#add(`claims of ${what}`, claims.slice(10, 40));
    if (signature !== '') this.#add(`signature of ${what}`, signature.slice(0, 20));
    return token;
  }

  /** What of it is in there. */
  foundIn(...texts: readonly (string | Uint8Array)[]): string[] {
    const all = texts
      .map((text) => (typeof text === 'string' ? text : Buffer.from(text).toString('latin1')))
      .join('\n');
    return [...new Set([...this.#needles].filter(([needle]) => all.includes(needle)).map(([, what]) => what))].sort();
  }

  #lookFor(what: string, bytes: Buffer): void {
    const hex = bytes.toString('hex');
    this.#add(what, bytes.toString('latin1'), hex, hex.toUpperCase(), hex.match(/../g)?.join(' ') ?? hex);
    this.#add(what, bytes.toString('base64').replace(/=+$/, ''), bytes.toString('base64url'));
    this.#add(what, [...bytes].join(), [...bytes].join(', '));
  }

  #add(what: string, ...needles: readonly string[]): void {
    for (const needle of needles) this.#needles.set(needle, what);
  }
}
