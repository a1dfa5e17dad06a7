import { isDeviceId } from '../coin';
import { readConfig } from '../config';
import { developmentKey, issueToken } from '../identity/development-key';
import { isUuid } from '../uuid';
import { type CommandDefinition, type JsonOption, jsonOption, listOption, print, valueOption } from './command';
import { EXIT } from './exit-codes';
import { UsageError } from './usage-error';

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

interface Options extends JsonOption {
  readonly user?: readonly string[];
  readonly device?: string;
  readonly admin?: boolean;
  readonly ttl?: string;
}

export const command: CommandDefinition = {
  define: (command) =>
    command
      .addOption(listOption('--user <uuid>', 'the user of the token; repeat it for more tokens, in this order'))
      .addOption(valueOption('--device <uuid>', 'the device for which the callers upload, count and reconcile'))
      .option('--admin', 'add the scope that purges need')
      .addOption(valueOption('--ttl <time>', 'lifetime, a number with s, m, h or d (default 1h)'))
      .addOption(jsonOption()),
  details: `Prints one token a line, and nothing else. Tokens are signed with the development key in AQM_DATA_DIR,
which a service uses if it has no other key, on loopback only.`,
  async run({ json, user: users = [], device, admin: isAdmin = false, ttl = '1h' }: Options) {
    if (users.length === 0) throw new UsageError('At least one --user is needed');
    for (const user of users) if (!isUuid(user)) throw new UsageError(`"${user}" is not a UUID`);
    if (device !== undefined && !isDeviceId(device)) {
      throw new UsageError(`"${device}" is not a device id, which is a UUID other than the nil UUID`);
    }
    const deviceId = device?.toLowerCase();
    const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(ttl) ?? [];
    if (!amount || !unit) throw new UsageError(`--ttl must be a number with s, m, h or d, such as 1h; it is "${ttl}"`);
    const ttlSeconds = Number(amount) * SECONDS[unit as keyof typeof SECONDS];

    const { privateKey } = developmentKey(readConfig(process.env).dataDir);
    const now = new Date();
    const tokens = await Promise.all(
      users.map(async (user) => {
        const userId = user.toLowerCase();
        const token = await issueToken(privateKey, { userId, deviceId, isAdmin, ttlSeconds, now });
        return { userId, ...(deviceId === undefined ? {} : { deviceId }), token };
      }),
    );
    const lines = tokens.map(({ token }) => token);
    print({ json }, { tokens, expires: new Date(now.getTime() + ttlSeconds * 1000) }, lines);
    return EXIT.OK;
  },
};
