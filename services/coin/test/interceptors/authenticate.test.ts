import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Metadata } from '@grpc/grpc-js';
import { pino } from 'pino';
import { NO_RULES } from '../../../../testkit/service';
import { TokenKeysUnavailableError } from '../../errors';
import { callerOf } from '../../identity/caller';
import { issueToken } from '../../identity/development-key';
import { verifyWith } from '../../identity/verify-token';
import { authenticate } from '../../interceptors/authenticate';
import { CallLimits } from '../../limits/call-limits';
import { LimitHits } from '../../limits/limit-hits';
import { networkOf } from '../../transport/listener';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const forger = generateKeyPairSync('ed25519').privateKey;
const BURST = 100;

let nowMs: number;
/** The number of tokens whose signature was verified. */
let verified: number;
let isAvailable: boolean;
let call: (token: string, remoteAddress?: string) => Promise<string>;
let callWithout: (path: string, remoteAddress?: string) => undefined | Promise<unknown>;
/** Lines of the log about limits. */
let logged: string[];
beforeEach(() => {
  [nowMs, verified, isAvailable, logged] = [1000, 0, true, []];
  const find = async () => {
    if (!isAvailable) throw new TokenKeysUnavailableError({ cause: 'an outage' });
    verified += 1;
    return publicKey;
  };
  const verify = verifyWith({ find, generation: () => 0 }, NO_RULES, () => new Date());
  const limits = new CallLimits(
    { perHour: 3_600_000, burst: 1000 },
    new LimitHits(pino({}, { write: (line) => logged.push(line) })),
    () => nowMs,
  );
  const check = authenticate(verify, limits, networkOf);
  call = async (token, remoteAddress = '192.0.2.1') => {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    await check('/aqm.coin.v1.CoinService/FetchCoins', metadata, { getConnectionInfo: () => ({ remoteAddress }) });
    return callerOf({ metadata }).userId;
  };
  callWithout = (path, remoteAddress = '192.0.2.1') =>
    check(path, new Metadata(), { getConnectionInfo: () => ({ remoteAddress }) })?.catch(({ reason }) => reason);
});

const token = (key = privateKey, userId: string = randomUUID(), ttlSeconds = 600) =>
  issueToken(key, { userId, isAdmin: false, ttlSeconds, now: new Date() });
const reasonOf = (answer: Promise<string>) =>
  answer.then(
    () => 'accepted',
    ({ reason }) => reason,
  );

async function forge(count: number, addressOf?: (n: number) => string): Promise<void> {
  for (let n = 0; n < count; n += 1)
    expect(await reasonOf(call(await token(forger), addressOf?.(n)))).toBe('TOKEN_INVALID');
}

test('after many forged tokens from one address its new tokens are not verified, until a while later', async () => {
  const [known, fresh] = [await token(), await token()];
  await call(known);
  await forge(BURST);
  expect(verified).toBe(1 + BURST);
  const answers = await Promise.all([fresh, await token(forger)].map((each) => reasonOf(call(each))));
  expect(answers).toEqual(['RATE_LIMITED', 'RATE_LIMITED']);
  expect(verified).toBe(1 + BURST);
  // Whoever was verified before is served, and so are all other addresses.
  await call(known);
  await call(fresh, '192.0.2.2');
  // 50 refill in a second.
  nowMs += 20;
  await call(await token());
});

test('all addresses of one IPv6 network share the budget', async () => {
  await forge(BURST, (n) => `2001:db8:0:1::${n.toString(16)}`);
  expect(await reasonOf(call(await token(), '2001:db8:0:1::ffff'))).toBe('RATE_LIMITED');
  await call(await token(), '2001:db8:0:2::1');
});

test('of forged tokens that arrive at the same time few more than the budget are verified', async () => {
  const tokens = await Promise.all(Array.from({ length: BURST + 40 }, () => token(forger)));
  const answers = await Promise.all(tokens.map((each) => reasonOf(call(each))));
  const invalid = answers.filter((reason) => reason === 'TOKEN_INVALID').length;
  expect(invalid).toBe(verified);
  expect(invalid).toBeGreaterThanOrEqual(BURST);
  expect(invalid).toBeLessThan(BURST + 16);
  expect(answers.filter((reason) => reason === 'RATE_LIMITED')).toHaveLength(BURST + 40 - invalid);
});

test('many new tokens that arrive at the same time are all accepted, as after a restart behind a proxy', async () => {
  const tokens = await Promise.all(Array.from({ length: 4 * BURST }, () => token()));
  await Promise.all(tokens.map((each) => call(each)));
  expect(verified).toBe(4 * BURST);
});

test('while the keys are unavailable, no token is counted against its address', async () => {
  isAvailable = false;
  for (let n = 0; n < 2 * BURST; n += 1)
    expect(await reasonOf(call(await token()))).toBe(new TokenKeysUnavailableError({}).reason);
  isAvailable = true;
  await call(await token());
});

test('valid new tokens are not counted against the address', async () => {
  for (let n = 0; n < 2 * BURST; n += 1) await call(await token());
  expect(verified).toBe(2 * BURST);
});

test.each([
  ['an expired token', () => token(privateKey, randomUUID(), -60), 'TOKEN_EXPIRED'],
  ['a token without a UUID', () => token(privateKey, 'bob'), 'TOKEN_INVALID'],
  ['no JWT', async () => 'a.b.c', 'TOKEN_INVALID'],
])('%s is refused without a look at its signature, and not counted', async (_what, make, reason) => {
  for (let n = 0; n < BURST + 1; n += 1) expect(await reasonOf(call(await make()))).toBe(reason);
  expect(verified).toBe(0);
  await call(await token());
});

test('many calls without a token are answered late, and health and reflection are not', async () => {
  const COUNT = '/aqm.coin.v1.CoinService/GetInventoryCount';
  for (let n = 0; n < BURST; n += 1) expect(await callWithout(COUNT)).toBe('TOKEN_MISSING');
  expect(logged).toEqual([]);
  const refused = callWithout(COUNT);
  expect(logged).toEqual([expect.stringContaining('"refused":{"anonymous":1},"network":"192.0.2.1"')]);
  for (const path of ['/grpc.health.v1.Health/Check', '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo']) {
    expect(callWithout(path)).toBeUndefined();
  }
  // Those with a valid token are served.
  await call(await token());
  expect(await refused).toBe('TOKEN_MISSING');
});
