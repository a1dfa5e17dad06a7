import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { Logger } from 'pino';
import { ConfigError, type TlsFiles } from '../config';

/** Interval at which the files are read again, in milliseconds. */
const REFRESH_MS = 60_000;

interface Loaded {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
}

/**
 * Holds the server's certificate and key and, for mutual TLS, the certificate authority of its
 * clients. Renewed files take effect within a minute, for new connections. If the files are
 * unusable, such as a certificate whose key is not written yet, an error is logged and the previous
 * ones stay in use.
 */
export class Certificates {
  readonly #files: TlsFiles;
  readonly #log: Logger;
  readonly #listeners: ((current: SecureContextOptions) => void)[] = [];
  readonly #timer: NodeJS.Timeout;
  #loaded: Loaded;

  /** @throws ConfigError if the files are unusable */
  constructor(files: TlsFiles, log: Logger) {
    this.#files = files;
    this.#log = log;
    try {
      this.#loaded = load(files);
    } catch (error) {
      throw new ConfigError(`The files of AQM_TLS_… cannot be used: ${(error as Error).message}`);
    }
    this.#timer = setInterval(() => this.refresh(), REFRESH_MS).unref();
  }

  get current(): SecureContextOptions {
    return this.#loaded;
  }

  /** The end of validity of the server's certificate. */
  get expiry(): Date {
    return new Date(new X509Certificate(this.#loaded.cert).validTo);
  }

  /** True if clients must present a certificate (mutual TLS). */
  get isMutual(): boolean {
    return this.#files.clientCa !== undefined;
  }

  /** Calls `listener` whenever renewed files were loaded. */
  onChange(listener: (current: SecureContextOptions) => void): void {
    this.#listeners.push(listener);
  }

  /** Reads the files again now. */
  refresh(): void {
    try {
      const loaded = load(this.#files);
      if (isSame(loaded, this.#loaded)) return;
      this.#loaded = loaded;
      this.#log.info({ validTo: new X509Certificate(loaded.cert).validTo }, 'the TLS certificate has changed');
    } catch (error) {
      this.#log.error({ err: error }, 'cannot load the TLS files; keeping the previous certificate');
      return;
    }
    for (const listener of this.#listeners) listener(this.#loaded);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

function load({ certificate, key: keyPath, clientCa }: TlsFiles): Loaded {
  const cert = readFileSync(certificate);
  const key = readFileSync(keyPath);
  const ca = clientCa === undefined ? undefined : readFileSync(clientCa);
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    throw new Error(`the key in ${keyPath} does not belong to the certificate in ${certificate}`);
  }
  createSecureContext({ cert, key, ca });
  return { cert, key, ca };
}

function isSame(a: Loaded, b: Loaded): boolean {
  const same = (first: Buffer | undefined, second: Buffer | undefined) =>
    Buffer.compare(first ?? EMPTY, second ?? EMPTY) === 0;
  return same(a.cert, b.cert) && same(a.key, b.key) && same(a.ca, b.ca);
}

const EMPTY = Buffer.alloc(0);
