import { generateKeyPairSync, type JsonWebKey, type KeyObject, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SignJWT } from 'jose';
import { KEY_LEARNT_MS, type Millis } from './history';

/** A token, and the number of the key that signed it; undefined for a key that never changes. */
export interface SignedToken {
  readonly token: string;
  readonly key: number | undefined;
}

/** The caller that a token names. */
export interface TokenOwner {
  readonly userId: string;
  readonly isAdmin: boolean;
  /** The claim `device_id`. Absent: none. */
  readonly deviceId?: string;
}

const TOKEN_TTL = '1h';
/** The time between two rotations while the issuer answers. A service fetches the keys at most every 30 s. */
const ROTATE_EVERY_MS: Millis = 20_000;

/**
 * Signs the tokens of the clients, and serves the keys to the services as a JWK Set. Publishes a new key from time to
 * time. Old keys stay in the set, because their tokens are valid for longer than a run.
 */
export class TokenIssuer {
  /** The fetches that were answered, by the clock of performance.now(). */
  readonly fetches: { readonly server: number; readonly newestKey: number; readonly at: Millis }[] = [];
  readonly #services: number;
  readonly #server: Server;
  readonly #privateKeys: KeyObject[] = [];
  readonly #published: JsonWebKey[] = [];
  readonly #unanswered = new Set<ServerResponse>();
  readonly #timer: NodeJS.Timeout;
  #isSilent = false;

  private constructor(services: number) {
    this.#services = services;
    this.#server = createServer(({ url = '' }, response) => {
      if (this.#isSilent) this.#unanswered.add(response);
      else this.#answer(Number(url.slice(1)), response);
    });
    this.rotate();
    this.#timer = setInterval(() => {
      if (!this.#isSilent) this.rotate();
    }, ROTATE_EVERY_MS).unref();
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(services: number): Promise<TokenIssuer> {
    const issuer = new TokenIssuer(services);
    await once(issuer.#server.listen(0, '127.0.0.1'), 'listening');
    return issuer;
  }

  /** Returns the URL of the JWK Set for one service, by which its fetches are told apart. */
  urlFor(server: number): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/${server}`;
  }

  /** Publishes a new key. */
  rotate(): void {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    this.#published.push({ ...publicKey.export({ format: 'jwk' }), kid: String(this.#privateKeys.length) });
    this.#privateKeys.push(privateKey);
  }

  /** Accepts connections and requests from now on, but answers none of them. */
  silence(): void {
    this.#isSilent = true;
  }

  /** Ends the requests that are unanswered, and answers new ones. */
  speak(): void {
    this.#isSilent = false;
    for (const response of this.#unanswered) response.destroy();
    this.#unanswered.clear();
  }

  /**
   * Signs a new token.
   * @param signer `known`: the newest key that every service has fetched; `newest`: the newest key, which a careful
   *   issuer would not use yet
   */
  async sign({ userId, isAdmin, deviceId }: TokenOwner, signer: 'known' | 'newest'): Promise<SignedToken> {
    const key = signer === 'newest' ? this.#privateKeys.length - 1 : this.#knownKey();
    const claims = { ...(isAdmin && { scope: 'admin' }), ...(deviceId !== undefined && { device_id: deviceId }) };
    const token = await new SignJWT({ jti: randomUUID(), ...claims })
      .setProtectedHeader({ alg: 'EdDSA', kid: String(key) })
      .setSubject(userId)
      .setExpirationTime(TOKEN_TTL)
      .sign(this.#privateKeys[key] as KeyObject);
    return { token, key };
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(server: number, response: ServerResponse): void {
    // A connection that is kept could be closed while the next request is on its way.
    response.setHeader('connection', 'close');
    response.end(JSON.stringify({ keys: this.#published }));
    this.fetches.push({ server, newestKey: this.#privateKeys.length - 1, at: performance.now() });
  }

  #knownKey(): number {
    const newest = Array<number>(this.#services).fill(0);
    const learntBy = performance.now() - KEY_LEARNT_MS;
    for (const { server, newestKey, at } of this.fetches) if (at <= learntBy) newest[server] = newestKey;
    return Math.min(...newest);
  }
}
