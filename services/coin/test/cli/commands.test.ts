import { createPublicKey, randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { logMessages, runCommand } from '../../../../testkit/command';
import { NO_RULES } from '../../../../testkit/service';
import { UNNAMED_DEVICE } from '../../coin';
import { developmentKey } from '../../identity/development-key';
import { fixedKey } from '../../identity/token-keys';
import { verifyWith } from '../../identity/verify-token';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'aqm-commands-'));
});
afterEach(() => rmSync(dataDir, { recursive: true }));

const token = (...args: string[]) => runCommand('token', args, { AQM_DATA_DIR: dataDir });

describe('token', () => {
  const verify = (text: string, now = new Date()) =>
    verifyWith(fixedKey(createPublicKey(developmentKey(dataDir).privateKey)), NO_RULES, () => now)(text);

  test('prints one token a line and nothing else', async () => {
    const users = [randomUUID(), randomUUID().toUpperCase()];
    const { code, stdout, stderr } = await token('--user', users[0] ?? '', '--user', users[1] ?? '');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n');
    const callers = await Promise.all(lines.map((line) => verify(line)));
    expect(callers).toEqual(users.map((user) => ({ userId: user.toLowerCase(), isAdmin: false })));
  });

  test('--admin adds the scope, --ttl sets the lifetime', async () => {
    const { stdout } = await token('--user', randomUUID(), '--admin', '--ttl', '90s');
    const text = stdout.trim();
    expect(await verify(text)).toMatchObject({ isAdmin: true });
    await expect(verify(text, new Date(Date.now() + 91_000))).rejects.toMatchObject({ reason: 'TOKEN_EXPIRED' });
  });

  test('--device names the device of every token', async () => {
    const [user, device] = [randomUUID(), randomUUID()];
    const { stdout } = await token('--user', user, '--user', randomUUID(), '--device', device.toUpperCase());
    const callers = await Promise.all(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => verify(line)),
    );
    expect(callers.map(({ deviceId }) => deviceId)).toEqual([device, device]);
    const { tokens } = JSON.parse((await token('--user', user, '--device', device, '--json')).stdout);
    expect(tokens).toEqual([{ userId: user, deviceId: device, token: expect.any(String) }]);
  });

  test('--json adds the user of each token and the expiry', async () => {
    const user = randomUUID();
    const { stdout } = await token('--user', user, '--ttl', '10m', '--json');
    const { tokens, expires } = JSON.parse(stdout);
    expect(tokens).toEqual([{ userId: user, token: expect.any(String) }]);
    expect(await verify(tokens[0].token)).toMatchObject({ userId: user });
    expect(Date.parse(expires)).toBeGreaterThan(Date.now());
  });

  test.each([
    ['no user', [], 'At least one --user is needed'],
    ['a user that is not a UUID', ['--user', 'bob'], '"bob" is not a UUID'],
    ['a device that is not a UUID', ['--user', randomUUID(), '--device', 'phone'], '"phone" is not a device id'],
    [
      'the nil UUID',
      ['--user', randomUUID(), '--device', UNNAMED_DEVICE],
      'is not a device id, which is a UUID other than the nil UUID',
    ],
    [
      'a life that is none',
      ['--user', randomUUID(), '--ttl', 'long'],
      '--ttl must be a number with s, m, h or d, such as 1h; it is "long"',
    ],
    ['an unknown option', ['--root'], '--root'],
  ])('%s ends with exit code 2 and one sentence', async (_what, args, sentence) => {
    const { code, stdout, stderr } = await token(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(sentence);
    expect(stderr).not.toContain('    at ');
  });

  test('many processes at once agree on one development key, readable by its owner only', async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => token('--user', randomUUID())));
    for (const { stdout } of answers) await verify(stdout.trim());
    expect(readdirSync(dataDir)).toEqual(['development-key.pem']);
    expect(statSync(join(dataDir, 'development-key.pem')).mode & 0o777).toBe(0o600);
  });
});

describe('settings that cannot be used', () => {
  test.each([
    [
      { DATABASE_URL: 'postgresql://127.0.0.1:1/aqm', AQM_START_TIMEOUT_MS: '0' },
      1,
      'The database of DATABASE_URL cannot be reached: connect ECONNREFUSED',
    ],
    [{ AQM_POSTGRES_PACKAGE: 'postgres-nowhere' }, 1, 'There is no embedded PostgreSQL for '],
    [{ AQM_LISTEN: '0.0.0.0:0' }, 2, 'the development key is for loopback only'],
    [{ AQM_TLS_CERT_FILE: '/nowhere', AQM_TLS_KEY_FILE: '/nowhere' }, 2, 'The files of AQM_TLS_… cannot be used'],
    [{ AQM_TOKEN_PUBLIC_KEY_FILE: '/nowhere' }, 2, 'AQM_TOKEN_PUBLIC_KEY_FILE must name a PEM, JWK or JWK Set'],
  ])('the service with %j ends with exit code %i and one sentence', async (env, expected, sentence) => {
    const { code, stdout, stderr } = await runCommand('serve', [], {
      AQM_DATA_DIR: dataDir,
      AQM_LOG_LEVEL: 'silent',
      ...env,
    });
    expect({ code, stdout }).toEqual({ code: expected, stdout: '' });
    expect(logMessages(stderr)).toContain(sentence);
    expect(stderr).not.toContain('    at ');
  });
});
