import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { NO_RULES } from '../../../../testkit/service';
import { issueToken } from '../../identity/development-key';
import { verifyWith } from '../../identity/verify-token';

test('10,500 users who call in turn are each verified once', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  let verified = 0;
  const find = async () => {
    verified += 1;
    return publicKey;
  };
  const verify = verifyWith({ find, generation: () => 0 }, NO_RULES, () => new Date());
  const tokens = await Promise.all(
    Array.from({ length: 10_500 }, () =>
      issueToken(privateKey, { userId: randomUUID(), isAdmin: false, ttlSeconds: 3600, now: new Date() }),
    ),
  );
  for (let round = 0; round < 2; round += 1) for (const token of tokens) await verify(token);
  expect(verified).toBe(10_500);
});
