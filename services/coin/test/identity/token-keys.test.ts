import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { SignJWT } from 'jose';
import pino from 'pino';
import { eventually } from '../../../../testkit/eventually';
import { NO_RULES } from '../../../../testkit/service';
import type { TokenRules } from '../../config';
import { type FetchPace, fixedKey, keysOfFile, keysOfUrl } from '../../identity/token-keys';
import { verifyWith } from '../../identity/verify-token';

const USER = randomUUID();
const SILENT = pino({ level: 'silent' });

interface Signer {
  readonly kid: string;
  readonly alg: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

const PAIRS: Record<string, () => { privateKey: KeyObject; publicKey: KeyObject }> = {
  EdDSA: () => generateKeyPairSync('ed25519'),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
};

function signer(kid: string, alg = 'EdDSA'): Signer {
  const pair = PAIRS[alg]?.();
  if (!pair) throw new Error(`No key type for ${alg}.`);
  return { kid, alg, ...pair };
}

function keySet(...signers: Signer[]): string {
  const keys = signers.map(({ kid, alg, publicKey }) => ({ ...publicKey.export({ format: 'jwk' }), kid, alg }));
  return JSON.stringify({ keys });
}

let nowMs = Date.UTC(2026, 0, 15);
const now = () => new Date(nowMs);
const seconds = () => Math.floor(nowMs / 1000);

interface Claims {
  readonly [name: string]: unknown;
}

function sign({ kid, alg, privateKey }: Signer, claims: Claims = {}): Promise<string> {
  return new SignJWT({ sub: USER, exp: seconds() + 60, ...claims }).setProtectedHeader({ alg, kid }).sign(privateKey);
}

describe('the claims of a token', () => {
  const key = signer('a');
  const rules: TokenRules = { issuer: 'https://id.example.org', audience: 'coins', clockSkewSeconds: 30 };
  const verify = async (claims: Claims) => {
    const token = await sign(key, { iss: 'https://id.example.org', aud: 'coins', ...claims });
    return verifyWith(fixedKey(key.publicKey), rules, now)(token);
  };

  test.each([
    ['issuer and audience', {}],
    ['several audiences', { aud: ['mail', 'coins'] }],
    ['an expiry within the clock skew', { exp: seconds() - 29 }],
    ['a not-before time within the clock skew', { nbf: seconds() + 29 }],
  ])('a token with %s is accepted', async (_what, claims) => {
    expect(await verify(claims)).toEqual({ userId: USER, isAdmin: false });
  });

  test.each([
    ['another issuer', { iss: 'https://evil.example.org' }, 'TOKEN_INVALID', 'its "iss" is missing or wrong'],
    ['no issuer', { iss: undefined }, 'TOKEN_INVALID', 'its "iss" is missing or wrong'],
    ['another audience', { aud: 'mail' }, 'TOKEN_INVALID', 'its "aud" is missing or wrong'],
    ['no audience', { aud: undefined }, 'TOKEN_INVALID', 'its "aud" is missing or wrong'],
    ['no expiry', { exp: undefined }, 'TOKEN_INVALID', 'its "exp" is missing or wrong'],
    ['an expiry beyond the clock skew', { exp: seconds() - 31 }, 'TOKEN_EXPIRED', 'has expired'],
    [
      'a not-before time beyond the clock skew',
      { nbf: seconds() + 31 },
      'TOKEN_INVALID',
      'its "nbf" is missing or wrong',
    ],
  ])('a token with %s is refused', async (_what, claims, reason, sentence) => {
    await expect(verify(claims)).rejects.toMatchObject({ reason, message: expect.stringContaining(sentence) });
  });

  test('a cached token is refused once it has expired', async () => {
    const verifyCached = verifyWith(fixedKey(key.publicKey), { ...NO_RULES, clockSkewSeconds: 30 }, now);
    const token = await sign(key);
    await verifyCached(token);
    nowMs += 89_999;
    expect(await verifyCached(token)).toEqual({ userId: USER, isAdmin: false });
    nowMs += 1;
    await expect(verifyCached(token)).rejects.toMatchObject({ reason: 'TOKEN_EXPIRED' });
  });
});

test('a token is verified again when the keys change during its verification', async () => {
  const [old, fresh] = [signer('a'), signer('a')];
  let generation = 0;
  const find = async () => {
    generation += 1;
    return generation === 1 ? old.publicKey : fresh.publicKey;
  };
  const verify = verifyWith({ find, generation: () => generation }, NO_RULES, now);
  const token = await sign(old);
  await verify(token);
  await expect(verify(token)).rejects.toMatchObject({ reason: 'TOKEN_INVALID' });
});

describe('keys of a file', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'aqm-keys-'));
    path = join(folder, 'keys.json');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Replaces the file atomically, as an operator should. */
  const replace = (content: string) => {
    writeFileSync(`${path}.new`, content);
    renameSync(`${path}.new`, path);
  };
  const write = (content: string) => {
    writeFileSync(path, content);
    return path;
  };
  const open = () => verifyWith(keysOfFile(path, now, SILENT), NO_RULES, now);

  test.each(['EdDSA', 'ES256', 'RS256'])('a set, a JWK and a PEM of an %s key are read', async (alg) => {
    const key = signer('a', alg);
    for (const content of [
      keySet(key, signer('b', alg)),
      JSON.stringify(key.publicKey.export({ format: 'jwk' })),
      String(key.publicKey.export({ format: 'pem', type: 'spki' })),
    ]) {
      replace(content);
      expect(await open()(await sign(key))).toEqual({ userId: USER, isAdmin: false });
    }
  });

  test('a token that names no key is accepted if one of several keys signed it, as during a rotation', async () => {
    const [old, fresh, foreign] = [signer('a'), signer('b'), signer('c')];
    replace(keySet(old, fresh));
    const verify = open();
    const unnamed = (by: Signer) =>
      new SignJWT({ sub: USER, exp: seconds() + 60 }).setProtectedHeader({ alg: by.alg }).sign(by.privateKey);
    for (const by of [old, fresh]) expect(await verify(await unnamed(by))).toEqual({ userId: USER, isAdmin: false });
    await expect(verify(await unnamed(foreign))).rejects.toMatchObject({
      reason: 'TOKEN_INVALID',
      message: expect.stringContaining('its signature was made with another key'),
    });
  });

  test('a PEM file with several keys uses all of them, of any algorithm and whatever key a token names', async () => {
    const signers = [signer('a'), signer('b', 'ES256'), signer('c')];
    const text = signers
      .map(({ publicKey }) => publicKey.export({ type: 'spki', format: 'pem' }))
      .join('some comment\n');
    const verify = verifyWith(keysOfFile(write(text), now, SILENT), NO_RULES, now);
    for (const each of signers) expect(await verify(await sign(each))).toMatchObject({ userId: USER });
    await expect(verify(await sign(signer('a')))).rejects.toThrow('its signature was made with another key');
  });

  test('a token of an algorithm that the key does not fit is refused with that reason', async () => {
    const text = signer('a').publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const verify = verifyWith(keysOfFile(write(text), now, SILENT), NO_RULES, now);
    await expect(verify(await sign(signer('b', 'ES256')))).rejects.toThrow('no key for its algorithm is known here');
    await expect(verify('hello')).rejects.toThrow('it is not a signed JWT');
  });

  test('a PEM file with more keys than are tried for one token is refused', () => {
    const text = Array.from({ length: 5 }, () => signer('a').publicKey.export({ type: 'spki', format: 'pem' })).join(
      '',
    );
    expect(() => keysOfFile(write(text), now, SILENT)).toThrow('it holds 5 keys without ids, and at most 4 are tried');
  });

  test('at most four keys are tried for a token that names none', async () => {
    const signers = Array.from({ length: 5 }, (_, n) => signer(`${n}`));
    replace(keySet(...signers));
    const verify = open();
    const unnamed = ({ alg, privateKey }: Signer) =>
      new SignJWT({ sub: USER, exp: seconds() + 60 }).setProtectedHeader({ alg }).sign(privateKey);
    const [first, , , , last] = signers as [Signer, Signer, Signer, Signer, Signer];
    await verify(await unnamed(first));
    await expect(verify(await unnamed(last))).rejects.toMatchObject({
      reason: 'TOKEN_INVALID',
      message: expect.stringContaining('it names no key, and there are several'),
    });
  });

  test.each([
    [
      'a PEM of a key that fits no algorithm',
      () => String(signer('a', 'ES384').publicKey.export({ format: 'pem', type: 'spki' })),
    ],
    ['a JWK of such a key', () => JSON.stringify(signer('a', 'ES384').publicKey.export({ format: 'jwk' }))],
    ['a set of such keys', () => keySet(signer('a', 'ES384'))],
    ['an empty set', () => '{"keys":[]}'],
  ])('a file with %s is refused', (_what, content) => {
    replace(content());
    expect(open).toThrow('EdDSA (Ed25519), ES256 (P-256) or RS256 (RSA of at least 2048 bits)');
  });

  test('another algorithm is refused, also when its key is in the set', async () => {
    const key = signer('a', 'ES384');
    replace(keySet(key, signer('b')));
    await expect(open()(await sign(key))).rejects.toMatchObject({
      reason: 'TOKEN_INVALID',
      message: expect.stringContaining('its algorithm is not one of EdDSA, ES256, RS256'),
    });
  });

  test('an HS256 token signed with a public key as shared secret is refused', async () => {
    const key = signer('a', 'RS256');
    const pem = String(key.publicKey.export({ format: 'pem', type: 'spki' }));
    replace(pem);
    const forged = await new SignJWT({ sub: USER, exp: seconds() + 60 })
      .setProtectedHeader({ alg: 'HS256' })
      .sign(Buffer.from(pem));
    await expect(open()(forged)).rejects.toMatchObject({ reason: 'TOKEN_INVALID' });
  });

  test('rotation: a new key is accepted and the old one refused within 5 s, also for cached tokens', async () => {
    const [old, fresh] = [signer('old'), signer('fresh')];
    replace(keySet(old));
    const verify = open();
    const accepted = await sign(old);
    await verify(accepted);
    replace(keySet(fresh));
    nowMs += 4_999;
    await verify(accepted);
    nowMs += 1;
    await expect(verify(accepted)).rejects.toMatchObject({
      reason: 'TOKEN_INVALID',
      message: expect.stringContaining('it names a key that is not known here'),
    });
    await verify(await sign(fresh));
  });

  test('the previous keys stay in use when the file becomes unusable', async () => {
    const key = signer('a');
    replace(keySet(key));
    const verify = open();
    for (const damage of [() => replace('{ "keys": ['), () => rmSync(path)]) {
      damage();
      nowMs += 5_000;
      expect(await verify(await sign(key))).toEqual({ userId: USER, isAdmin: false });
    }
  });
});

describe('keys of a URL', () => {
  let server: Server;
  let url: string;
  let served: string;
  let requests: number;

  beforeEach(async () => {
    requests = 0;
    server = createServer((_request, response) => {
      requests += 1;
      response.setHeader('content-type', 'application/json').end(served);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
  });
  afterEach(() => {
    keys.remote.close();
    server.closeAllConnections();
    server.close();
  });

  /** A silent server is not given up before the end of a test. */
  const FAST = { timeoutMs: 3_600_000, refreshMs: 20, cooldownMs: 20 };
  let keys: ReturnType<typeof keysOfUrl>;
  const open = (pace?: FetchPace) => {
    keys = keysOfUrl(url, SILENT, pace);
    return verifyWith(keys, NO_RULES, now);
  };
  /** Lets the server accept requests and answer none. */
  const silence = () => {
    server.removeAllListeners('request');
    server.on('request', () => {
      requests += 1;
    });
  };

  test('the set is fetched once for several tokens', async () => {
    const key = signer('a');
    served = keySet(key, signer('b'));
    const verify = open();
    for (const claims of [{}, { scope: 'mail admin' }]) await verify(await sign(key, claims));
    expect(requests).toBe(1);
  });

  test('unknown key ids do not cause repeated fetches of the set', async () => {
    served = keySet(signer('a'));
    const verify = open();
    for (let n = 0; n < 20; n += 1) {
      await expect(verify(await sign(signer(`unknown-${n}`)))).rejects.toMatchObject({ reason: 'TOKEN_INVALID' });
    }
    expect(requests).toBe(1);
  });

  test('a new set takes effect, and the last one stays in use while the URL serves none', async () => {
    const [old, fresh] = [signer('old'), signer('fresh')];
    served = keySet(old);
    const verify = open(FAST);
    const accepted = await sign(old);
    await verify(accepted);
    served = keySet(fresh);
    await eventually('the new key is accepted', async () =>
      Promise.resolve(verify(await sign(fresh))).then(Boolean, () => false),
    );
    // Tokens accepted under the old set are no longer cached.
    await expect(verify(accepted)).rejects.toMatchObject({ reason: 'TOKEN_INVALID' });
    served = 'not json';
    await eventually('a fetch has failed', () => !keys.remote.isUp);
    await verify(await sign(fresh, { scope: 'mail' }));
  });

  test('a new set takes effect even while only cached tokens arrive', async () => {
    const [old, fresh] = [signer('old'), signer('fresh')];
    served = keySet(old);
    const verify = open(FAST);
    const accepted = await sign(old);
    await verify(accepted);
    served = keySet(fresh);
    while (await Promise.resolve(verify(accepted)).catch(() => undefined)) await setImmediate();
    await expect(verify(accepted)).rejects.toMatchObject({ reason: 'TOKEN_INVALID' });
  });

  test('while the URL is silent, no call waits whose key is known, and a new key is a retryable error', async () => {
    const key = signer('a');
    served = keySet(key);
    const verify = open(FAST);
    await verify(await sign(key));
    silence();
    await eventually('the set is fetched again', () => requests > 1);
    const asked = requests;
    for (let n = 0; n < 3; n += 1) await verify(await sign(key, { scope: `scope${n}` }));
    await expect(verify(await sign(signer('b')))).rejects.toMatchObject({ reason: 'TOKEN_KEYS_UNAVAILABLE' });
    // All of them shared the fetch that is under way.
    expect(requests).toBe(asked);
  });

  test('after a failed fetch, an unknown key is refused without another one until the pause is over', async () => {
    const key = signer('a');
    served = keySet(key);
    const verify = open({ ...FAST, cooldownMs: 3_600_000 });
    await verify(await sign(key));
    served = 'not json';
    await eventually('a fetch has failed', () => !keys.remote.isUp);
    const asked = requests;
    for (let n = 0; n < 3; n += 1) {
      await expect(verify(await sign(signer(`unknown-${n}`)))).rejects.toMatchObject({
        reason: 'TOKEN_KEYS_UNAVAILABLE',
        retryAfterMs: 1000,
      });
    }
    expect(requests).toBe(asked);
  });

  test.each(['down', 'serving something else'])(
    'while the URL is %s from the start, calls fail with a retryable error',
    async (state) => {
      served = 'not json';
      if (state === 'down') server.close();
      const verify = open();
      const unavailable = { reason: 'TOKEN_KEYS_UNAVAILABLE', retryAfterMs: 1000 };
      await expect(keys.remote.fetch()).rejects.toMatchObject(unavailable);
      await expect(verify(await sign(signer('a')))).rejects.toMatchObject(unavailable);
    },
  );
});
