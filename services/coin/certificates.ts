import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { experimental, type ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { ConfigError, type TlsFiles } from './config';

type IdentityListener = experimental.IdentityCertificateUpdateListener;
type CaListener = experimental.CaCertificateUpdateListener;

/** How often the files are read again, in milliseconds. */
const REFRESH_MS = 60_000;

interface Loaded {
  readonly certificate: Buffer;
  readonly privateKey: Buffer;
  readonly clientCa: Buffer | undefined;
}

/**
 * The certificate and key of the server, and the authority of its clients where they must show a certificate too
 * (mutual TLS). Renewed files are taken within a minute, for new connections; files that cannot be used, such as a
 * certificate whose key is not there yet, are said in the log and those of before stay.
 */
export class Certificates implements experimental.CertificateProvider {
  readonly #files: TlsFiles;
  readonly #log: Logger;
  readonly #identityListeners = new Set<IdentityListener>();
  readonly #caListeners = new Set<CaListener>();
  readonly #timer: NodeJS.Timeout;
  #loaded: Loaded;

  /** @throws ConfigError when the files cannot be used */
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

  serverCredentials(): ServerCredentials {
    const mutual = this.#files.clientCa !== undefined;
    // The declared names of the first two parameters are the wrong way round (grpc-js 1.14).
    return experimental.createCertificateProviderServerCredentials(this, mutual ? this : null, mutual);
  }

  /** Reads the files now. */
  refresh(): void {
    try {
      const loaded = load(this.#files);
      if (isSame(loaded, this.#loaded)) return;
      this.#loaded = loaded;
      this.#log.info({ ends: new X509Certificate(loaded.certificate).validTo }, 'the TLS certificate has changed');
    } catch (error) {
      this.#log.error({ err: error }, 'the TLS files cannot be used; those of before stay');
      return;
    }
    for (const listener of this.#identityListeners) listener(this.#loaded);
    for (const listener of this.#caListeners) listener(this.#ca());
  }

  close(): void {
    clearInterval(this.#timer);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener);
    // Not at once: the server listens to its credentials only after this.
    process.nextTick(listener, this.#loaded);
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener);
    process.nextTick(listener, this.#ca());
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
  }

  #ca(): { caCertificate: Buffer } | null {
    const { clientCa } = this.#loaded;
    return clientCa === undefined ? null : { caCertificate: clientCa };
  }
}

function load({ certificate: certificatePath, key, clientCa: clientCaPath }: TlsFiles): Loaded {
  const certificate = readFileSync(certificatePath);
  const privateKey = readFileSync(key);
  const clientCa = clientCaPath === undefined ? undefined : readFileSync(clientCaPath);
  if (!new X509Certificate(certificate).checkPrivateKey(createPrivateKey(privateKey))) {
    throw new Error(`the key in ${key} does not belong to the certificate in ${certificatePath}`);
  }
  createSecureContext({ cert: certificate, key: privateKey, ca: clientCa });
  return { certificate, privateKey, clientCa };
}

function isSame(a: Loaded, b: Loaded): boolean {
  const same = (one: Buffer | undefined, other: Buffer | undefined) =>
    Buffer.compare(one ?? EMPTY, other ?? EMPTY) === 0;
  return same(a.certificate, b.certificate) && same(a.privateKey, b.privateKey) && same(a.clientCa, b.clientCa);
}

const EMPTY = Buffer.alloc(0);
