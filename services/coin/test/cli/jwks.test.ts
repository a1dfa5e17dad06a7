import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { calculateJwkThumbprint, SignJWT } from 'jose';
import pino from 'pino';
import { runCommand } from '../../../../testkit/command';
import { NO_RULES } from '../../../../testkit/service';
import { keysOfFile } from '../../identity/token-keys';
import { verifyWith } from '../../identity/verify-token';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-jwks-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const pair = () => generateKeyPairSync('ed25519');
type Pair = ReturnType<typeof pair>;
const pem = ({ publicKey }: Pair) => publicKey.export({ type: 'spki', format: 'pem' }).toString();

test('prints one set of the keys of all files, which the service accepts', async () => {
  const [a, b, c] = [pair(), pair(), pair()];
  const jwk = { ...c.publicKey.export({ format: 'jwk' }), kid: 'c' };
  const files = [file('ab.pem', pem(a) + pem(b)), file('c.json', JSON.stringify({ keys: [jwk] }))];
  const { code, stdout, stderr } = await runCommand('jwks', files, {});
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const { keys } = JSON.parse(stdout);
  const kid = await calculateJwkThumbprint(a.publicKey.export({ format: 'jwk' }) as { kty: string });
  expect(keys[0]).toEqual({ ...a.publicKey.export({ format: 'jwk' }), kid, alg: 'EdDSA', use: 'sig' });
  expect(keys[2]).toEqual(jwk);

  const found = keysOfFile(file('set.json', stdout), () => new Date(), pino({ level: 'silent' }));
  const verify = verifyWith(found, NO_RULES, () => new Date());
  const sub = 'a3bb189e-8bf9-4888-9912-ace4e6543002';
  for (const [signer, header] of [
    [a, { alg: 'EdDSA', kid }],
    [b, { alg: 'EdDSA' }],
    [c, { alg: 'EdDSA', kid: 'c' }],
  ] as const) {
    const token = new SignJWT({ sub }).setProtectedHeader(header).setExpirationTime('1h');
    expect(await verify(await token.sign(signer.privateKey))).toMatchObject({ userId: sub });
  }
});

test.each([
  [
    'a private key',
    () => pair().privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    'it holds a private key',
  ],
  ['a private JWK', () => JSON.stringify(pair().privateKey.export({ format: 'jwk' })), 'it holds a private key'],
  ['no key', () => 'hello\n', 'it holds neither a PEM block ("-----BEGIN PUBLIC KEY-----") nor JSON'],
  ['a damaged key', () => pem(pair()).replace('MC', 'XX'), 'its key (PUBLIC KEY) cannot be read'],
  ['a key of another kind', () => JSON.stringify({ kty: 'oct', k: 'AA' }), 'it holds a key of another kind'],
])('a file with %s is refused with one sentence', async (_what, text, sentence) => {
  const path = file('key', text());
  const { code, stdout, stderr } = await runCommand('jwks', [file('good.pem', pem(pair())), path], {});
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(`${path} cannot be used: ${sentence}.`);
  expect(stderr).not.toContain('    at ');
});
