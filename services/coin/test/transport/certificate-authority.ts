import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A certificate authority for one test. Its files are stored in `folder`. */
export class CertificateAuthority {
  readonly #folder: string;
  readonly #name: string;

  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
    const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    openssl(...request, '-subj', `/CN=${name}`, '-keyout', this.#file('key'), '-out', this.certificateFile);
  }

  get certificateFile(): string {
    return this.#file('crt');
  }

  get certificate(): Buffer {
    return readFileSync(this.certificateFile);
  }

  /** Issues a certificate for 127.0.0.1, for servers and clients, signed by this authority; PEM. */
  issue(days = 2): { certificate: Buffer; key: Buffer } {
    const [key, request, extensions, certificate] = ['leaf.key', 'leaf.csr', 'leaf.ext', 'leaf.crt'].map((name) =>
      join(this.#folder, `${this.#name}-${name}`),
    ) as [string, string, string, string];
    const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', ...ec, '-subj', '/CN=leaf', '-keyout', key, '-out', request);
    writeFileSync(extensions, 'subjectAltName=IP:127.0.0.1');
    const signer = ['-CA', this.certificateFile, '-CAkey', this.#file('key'), '-CAcreateserial'];
    openssl('x509', '-req', '-in', request, '-days', `${days}`, ...signer, '-extfile', extensions, '-out', certificate);
    return { certificate: readFileSync(certificate), key: readFileSync(key) };
  }

  #file(extension: string): string {
    return join(this.#folder, `${this.#name}.${extension}`);
  }
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
