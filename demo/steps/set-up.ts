import { publicIdentityOf } from '../coin-signature';
import { PostOffice } from '../network-layer';
import { addDevice, createAccount, setUpDevice } from '../person';
import type { RunContext, StoryContext } from '../story-context';

/** Starts the coin service. @returns the address that it listens on */
export function startService({ journal, service }: RunContext): Promise<string> {
  return journal.step(
    'start-service',
    'The coin service starts',
    'A server that keeps the public halves of one-time key pairs ("coins") and hands each out exactly once. It never ' +
      'sees a private half and never sees a message.',
    async () => {
      const address = await service.address();
      const database = process.env.DATABASE_URL ? 'the PostgreSQL of DATABASE_URL' : 'its own PostgreSQL';
      journal.note(`It runs as a separate process and uses ${database}.`);
      journal.check(`it accepts calls on ${address}, on this machine only`, /^127\.0\.0\.1:\d+$/.test(address), true);
      return address;
    },
  );
}

export function setUpDevices(
  { journal, backend, folder, redisUrl, service, people }: RunContext,
  address: string,
): Promise<StoryContext> {
  return journal.step(
    'set-up-devices',
    'Alice, Bob and Carol set up their devices',
    'Each device has its own encrypted storage and a hardware key that never leaves it. Bob, who has a phone and a laptop, ' +
      'gives the others his identity keys in person: they need not trust the server.',
    async () => {
      const bobsAccount = createAccount('Bob');
      const phoneAndLaptop = [addDevice(bobsAccount, 'Bob'), addDevice(bobsAccount, "Bob's laptop")];
      const accounts = [createAccount('Alice'), ...phoneAndLaptop, createAccount('Carol')];
      const tokens = await service.tokensFor(accounts.map(({ userId }) => userId));
      const [alice, bob, laptop, carol] = await Promise.all(
        accounts.map(async (account, index) => {
          const token = tokens[index];
          if (!token) throw new Error(`no token for ${account.device}`);
          const person = await setUpDevice(account, { backend, folder, redisUrl, address, token });
          people.push(person);
          return person;
        }),
      );
      if (!alice || !bob || !laptop || !carol) throw new Error('a device is missing');
      journal.check(
        'four devices, each with its own storage',
        people.map(({ storage }) => storage.backend),
        accounts.map(() => backend),
      );
      return {
        journal,
        backend,
        postOffice: new PostOffice(),
        alice,
        bob,
        laptop,
        carol,
        bobsIdentity: publicIdentityOf(bob),
        minted: new Map(),
        deliveries: [],
      };
    },
  );
}

export function stopService({ journal, service }: RunContext): Promise<void> {
  return journal.step(
    'stop-service',
    'The coin service stops',
    'On SIGTERM it finishes the calls that it has accepted, stops its processes, and exits.',
    async () => journal.check('its exit code is 0', await service.stop(), 0),
  );
}
