import type { KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { calculateJwkThumbprint } from 'jose';
import { isJson, isUsable, parseJwks, parsePem } from '../identity/parse-keys';
import type { CommandDefinition } from './command';
import { EXIT } from './exit-codes';
import { UsageError } from './usage-error';

const ALGORITHMS: Readonly<Record<string, string>> = { ed25519: 'EdDSA', ec: 'ES256', rsa: 'RS256' };

export const command: CommandDefinition = {
  define: (command) => command.argument('<files...>', 'PEM, JWK or JWK Set files of public keys'),
  details: `Prints one JWK Set (RFC 7517) with the public keys of all files, for AQM_TOKEN_PUBLIC_KEY_FILE or for your
issuer's URL. The key id (kid) of a key from a PEM file is its thumbprint (RFC 7638). Tokens that name
another kid are refused; tokens that name none are accepted from any of the keys. Private keys are
refused: a set of public keys is published.`,
  exitCodes: { [EXIT.USAGE]: 'wrong usage, or a file that cannot be used; nothing was printed' },
  async run(_options: object, ...files: string[]) {
    const keys = await Promise.all(files.map(keysOf));
    process.stdout.write(`${JSON.stringify({ keys: keys.flat() }, null, 2)}\n`);
    return EXIT.OK;
  },
};

async function keysOf(path: string): Promise<object[]> {
  const text = read(path);
  try {
    if (isJson(text)) return publicJwks(text);
    if (text.includes('PRIVATE KEY-----')) throw new Error('it holds a private key');
    return await Promise.all(parsePem(text).map(toJwk));
  } catch (error) {
    throw new UsageError(`${path} cannot be used: ${(error as Error).message}`);
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`);
  }
}

function publicJwks(text: string): object[] {
  const keys = parseJwks(text);
  if (keys.some(({ d }) => d !== undefined)) throw new Error('it holds a private key');
  if (!keys.every(isUsable)) throw new Error('it holds a key of another kind');
  return keys;
}

async function toJwk(key: KeyObject): Promise<object> {
  const jwk = key.export({ format: 'jwk' });
  const alg = ALGORITHMS[key.asymmetricKeyType ?? ''];
  return {
    ...jwk,
    kid: await calculateJwkThumbprint(jwk as Parameters<typeof calculateJwkThumbprint>[0]),
    alg,
    use: 'sig',
  };
}
