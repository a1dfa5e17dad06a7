import { randomBytes, randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';
import { type DeviceStorage, openDeviceStorage } from '../../device';
import { newCoin, newKey } from '../../testkit/device-contents';
import { type Step, toConfig, type WorkerOrder } from './history';

/**
 * Runs a device process that writes until it is killed or its storage fails. It prints a line before every step, and
 * one with the result after it. The pipe is written synchronously, so that a SIGKILL loses no line that was printed
 * before.
 */
async function main(): Promise<void> {
  const order: WorkerOrder = JSON.parse(process.argv[2] ?? '');
  const storage = await openDeviceStorage(toConfig(order.storage));
  await Promise.all(order.contacts.map((contact) => work(storage, contact)));
}

/**
 * Acts as one caller with a contact of its own, so that at most one of its steps is incomplete when the process dies.
 */
async function work(storage: DeviceStorage, contact: string): Promise<void> {
  const { vault, inventory } = storage;
  const keys: string[] = [];
  await inventory.setPriority(contact, 'BESTIE');
  for (;;) {
    const dice = randomBytes(1)[0] ?? 0;
    if (dice < 90) {
      const key = newKey();
      await step({ step: 'put', contact, id: key.keyId }, () => vault.storeKey(key));
      keys.push(key.keyId);
    } else if (dice < 140 && keys.length > 0) {
      const id = keys.splice(dice % keys.length, 1)[0] ?? randomUUID();
      await step({ step: 'burn', contact, id }, () => vault.burnKey(id));
    } else if (dice < 200) {
      const coin = newCoin(contact, 'GOLD');
      await step({ step: 'store', contact, id: coin.keyId }, () => inventory.storeKey(coin));
    } else {
      await step({ step: 'select', contact, id: '' }, async () => (await inventory.selectCoin(contact, 'GOLD'))?.keyId);
    }
  }
}

async function step(about: Omit<Step, 'done'>, operation: () => Promise<unknown>): Promise<void> {
  print({ ...about, done: false });
  const result = await operation();
  if (about.step === 'select') print({ ...about, id: typeof result === 'string' ? result : '', done: true });
  else print({ ...about, done: true, refused: result === false });
}

function print(step: Step): void {
  writeSync(1, `${JSON.stringify(step)}\n`);
}

main().catch((error: Error) => {
  // The parent has killed the server. The error's name helps if the process fails for another reason.
  writeSync(2, `${error.name}: ${error.message}\n`);
  process.exit(3);
});
