import { readConfig } from '../config';
import { developmentKey, issueToken } from '../identity/development-key';
import { isUuid } from '../uuid';
import { UsageError } from './arguments';
import { type Command, JSON_OPTION, print } from './command';
import { EXIT } from './exit-codes';

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

export const command: Command = {
  options: {
    user: { value: '<uuid>', isMultiple: true, help: 'whose; a token for each, in this order' },
    admin: { help: 'with the scope that purges need' },
    ttl: { value: '<time>', help: 'how long they are valid: a number with s, m, h or d; 1h unless told' },
    ...JSON_OPTION,
  },
  details: `Prints one token a line, and nothing else. They are signed with the development key of AQM_DATA_DIR, which a service takes
where it is told of no other key, on loopback only.`,
  async run(args) {
    const users = args.texts('user');
    if (users.length === 0) throw new UsageError('At least one --user is needed');
    for (const user of users) if (!isUuid(user)) throw new UsageError(`"${user}" is not a UUID`);
    const ttl = args.text('ttl') ?? '1h';
    const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(ttl) ?? [];
    if (!amount || !unit) throw new UsageError(`--ttl is a number with s, m, h or d; "${ttl}" is not`);
    const ttlSeconds = Number(amount) * SECONDS[unit as keyof typeof SECONDS];

    const { privateKey } = developmentKey(readConfig(process.env).dataDir);
    const now = new Date();
    const isAdmin = args.has('admin');
    const tokens = await Promise.all(
      users.map(async (user) => {
        const userId = user.toLowerCase();
        return { userId, token: await issueToken(privateKey, { userId, isAdmin, ttlSeconds, now }) };
      }),
    );
    const lines = tokens.map(({ token }) => token);
    print(args, { tokens, expires: new Date(now.getTime() + ttlSeconds * 1000) }, lines);
    return EXIT.OK;
  },
};
