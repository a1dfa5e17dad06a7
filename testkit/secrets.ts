import { randomBytes, randomUUID } from 'node:crypto';

/**
 * Creates recognisable secrets and searches for them in the output of a process: as text, raw, in hex, in base64, and as the
 * lists that inspect and JSON make of bytes.
 */
export class Secrets {
  /** The texts to search for, each with the name of its secret. */
  readonly #needles = new Map<string, string>();

  /** Creates bytes of this size: twelve printable ones repeated, so that every piece of 24 contains them, in base64 too. */
  bytes(what: string, size: number): Buffer {
    const twelve = Buffer.from(randomBytes(6).toString('hex'));
    this.#addAllForms(what, twelve);
    return Buffer.alloc(size, twelve);
  }

  uuid(what: string): string {
    const uuid = randomUUID();
    this.#add(what, uuid, uuid.toUpperCase());
    this.#addAllForms(what, Buffer.from(uuid.replaceAll('-', ''), 'hex'));
    return uuid;
  }

  /** Creates text, such as a password, that needs no escaping in a URL. */
  text(what: string): string {
    const text = `canary-${randomBytes(9).toString('hex')}`;
    this.known(what, text);
    return text;
  }

  /** Adds a text that was made elsewhere. */
  known(what: string, text: string): void {
    this.#addAllForms(what, Buffer.from(text));
  }

  /** Adds the claims and the signature of a JWT, and their first characters. Its header is no secret. */
  token(what: string, token: string): string {
    const [, claims = '', signature = ''] = token.split('.');
    this.#add(`claims of ${what}`, claims.slice(10, 40));
    if (signature !== '') this.#add(`signature of ${what}`, signature.slice(0, 20));
    return token;
  }

  /** Returns the names of the secrets that the texts contain. */
  foundIn(...texts: readonly (string | Uint8Array)[]): string[] {
    const all = texts
      .map((text) => (typeof text === 'string' ? text : Buffer.from(text).toString('latin1')))
      .join('\n');
    return [...new Set([...this.#needles].filter(([needle]) => all.includes(needle)).map(([, what]) => what))].sort();
  }

  #addAllForms(what: string, bytes: Buffer): void {
    const hex = bytes.toString('hex');
    this.#add(what, bytes.toString('latin1'), hex, hex.toUpperCase(), hex.match(/../g)?.join(' ') ?? hex);
    this.#add(what, bytes.toString('base64').replace(/=+$/, ''), bytes.toString('base64url'));
    this.#add(what, [...bytes].join(), [...bytes].join(', '));
  }

  #add(what: string, ...needles: readonly string[]): void {
    for (const needle of needles) this.#needles.set(needle, what);
  }
}
