import { createPrivateKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config, TlsFiles } from '../config';
import { isJson, isUsable, parseJwks, parsePem } from '../identity/parse-keys';
import { Certificates } from '../transport/certificates';
import { type Check, fail, ok, warn } from './check';
import { certificatesIn, daysLeft, endingSoon, expiryOf } from './expiry';

const FETCH_TIMEOUT_MS = 5000;

/** Checks that the keys that verify tokens can be read and used by this version. */
export async function checkTokenKeys(
  { tokenKeys, dataDir }: Pick<Config, 'tokenKeys' | 'dataDir'>,
  now: () => Date,
): Promise<Check> {
  if (!tokenKeys) return developmentKey(join(dataDir, 'development-key.pem'));
  if ('file' in tokenKeys) {
    const advice = 'set AQM_TOKEN_PUBLIC_KEY_FILE to a PEM, JWK or JWK Set of public keys, readable by the service';
    return judge(tokenKeys.file, advice, now, async () => readFileSync(tokenKeys.file, 'utf8'));
  }
  const { origin, pathname } = new URL(tokenKeys.url);
  // Shown without its query, which may be a secret.
  const place = origin + pathname;
  return judge(place, 'set AQM_TOKEN_JWKS_URL to a JWK Set that can be fetched from this machine', now, async () => {
    const response = await fetch(tokenKeys.url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const text = await response.text();
    if (!Array.isArray(JSON.parse(text).keys)) throw new Error('not a JWK Set');
    return text;
  });
}

function developmentKey(path: string): Check {
  const advice =
    'set AQM_TOKEN_PUBLIC_KEY_FILE or AQM_TOKEN_JWKS_URL to the keys of your tokens before other machines call';
  if (!existsSync(path)) return warn('tokens', 'no keys are set; the service will create a development key', advice);
  try {
    createPrivateKey(readFileSync(path));
  } catch (error) {
    return fail('tokens', `the development key cannot be used: ${(error as Error).message}`, `remove ${path}`);
  }
  return warn('tokens', 'verified with the development key, on loopback only', advice);
}

async function judge(place: string, advice: string, now: () => Date, read: () => Promise<string>): Promise<Check> {
  try {
    const text = await read();
    const keys = parse(text);
    const usable = keys.filter((key) => key.isUsable).length;
    if (usable === 0) return fail('tokens', `no usable key in ${place}, so no token is accepted`, advice);
    if (keys.some((key) => key.isPrivate)) {
      return fail(
        'tokens',
        `${place} holds a private key: everyone who can read it can make tokens`,
        `${advice}; replace the key`,
      );
    }
    const ending = endingSoon(isJson(text) ? chainsOf(text) : text, now);
    if (ending)
      return warn('tokens', `${place}: ${ending}`, 'replace the key; the service itself does not check this date');
    return ok('tokens', `${usable} public ${usable === 1 ? 'key' : 'keys'} in ${place}`);
  } catch (error) {
    // fetch reports "fetch failed" and has the reason in the cause.
    const { message, cause } = error as Error;
    const reason = (cause as Error | undefined)?.message || message;
    return fail('tokens', `${place} cannot be used: ${reason}`, advice);
  }
}

/** Returns the certificates of a JWK Set (x5c) as PEM. */
function chainsOf(text: string): string {
  const certificates = parseJwks(text).flatMap(({ x5c }) => (Array.isArray(x5c) ? x5c.slice(0, 1) : []));
  return certificates.map((base64) => `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----`).join('\n');
}

function parse(text: string): { readonly isPrivate: boolean; readonly isUsable: boolean }[] {
  if (isJson(text)) return parseJwks(text).map((key) => ({ isPrivate: key.d !== undefined, isUsable: isUsable(key) }));
  const isPrivate = text.includes('PRIVATE KEY-----');
  return parsePem(text).map(() => ({ isPrivate, isUsable: true }));
}

/** Checks the server's own certificate: readable, valid now, and not about to expire. */
export function checkTls(tls: TlsFiles | undefined, now: () => Date, log: Logger): Check {
  if (!tls) {
    return ok('tls', 'off: connections are in plain text, on loopback or behind a proxy that ends TLS');
  }
  try {
    new Certificates(tls, log).close();
  } catch (error) {
    return fail(
      'tls',
      (error as Error).message,
      'set AQM_TLS_CERT_FILE and AQM_TLS_KEY_FILE to the PEM files of a certificate and its key',
    );
  }
  const chain = readFileSync(tls.certificate, 'utf8');
  const [own] = certificatesIn(chain);
  if (own && own.validFromDate > now())
    return fail('tls', `the certificate is not valid before ${own.validFromDate.toISOString()}`, 'check the clock');
  const found = `the certificate expires at ${own?.validToDate.toISOString()}`;
  const advice = 'renew it; new files are loaded within a minute, without a restart';
  if (own && daysLeft(own, now) < 0) return fail('tls', found, advice);
  const ending = endingSoon(chain, now) ?? (tls.clientCa && expiryOf(tls.clientCa, now));
  return ending ? warn('tls', ending, advice) : ok('tls', found);
}
