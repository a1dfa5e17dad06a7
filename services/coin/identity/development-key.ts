import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SignJWT } from 'jose';

/**
 * Returns the key pair that signs tokens on a developer's machine. There is one per data folder,
 * created at its first use. Processes that create it concurrently all get the same one. It is
 * accepted on loopback only (config.ts).
 */
export function developmentKey(dataDir: string): { privateKey: KeyObject; publicKey: KeyObject } {
  const path = join(dataDir, 'development-key.pem');
  const privateKey = createPrivateKey(readIfPresent(path) ?? create(path));
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

/** Signs a token that the service accepts. A negative `ttlSeconds` makes an expired one. */
export async function issueToken(
  privateKey: KeyObject,
  token: { userId: string; deviceId?: string | undefined; isAdmin: boolean; ttlSeconds: number; now: Date },
): Promise<string> {
  const issuedAt = Math.floor(token.now.getTime() / 1000);
  const claims = {
    ...(token.isAdmin ? { scope: 'admin' } : {}),
    ...(token.deviceId === undefined ? {} : { device_id: token.deviceId }),
  };
  return new SignJWT(claims)
    .setProtectedHeader({ alg: 'EdDSA' })
    .setSubject(token.userId)
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + token.ttlSeconds)
    .sign(privateKey);
}

function create(path: string): string {
  mkdirSync(join(path, '..'), { recursive: true });
  const { privateKey } = generateKeyPairSync('ed25519');
  const draft = `${path}.${randomUUID()}`;
  writeFileSync(draft, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  try {
    // link(2) is atomic and fails if the file exists, so it never replaces the key of a faster
    // process.
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft);
  }
  return readFileSync(path, 'utf8');
}

function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
