import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { compiled } from '../../testkit/root';

const MAIN = compiled('chaos/siege/main');

async function siege(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, ...args]);
  return stdout;
}

test('10,000 idle connections are held while calls are answered', async () => {
  expect(await siege('--only', 'idle')).toContain('the service withstood every part');
});

// How many and how slow calls may become is judged by the long form alone: here, other tests run beside it.
test.each(['reflection', 'streams', 'tokens', 'anonymous', 'malformed', 'caller', 'fan-out'])(
  'honest users are served during the attack "%s"',
  async (name) => {
    const output = await siege('--only', name, '--seconds', '4', '--success', '0.5', '--slowdown', '1000');
    expect(output).toContain('the service withstood every part');
  },
);
