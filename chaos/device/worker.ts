import { randomBytes, randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';
import { type CoinName, type DeviceStorage, openDeviceStorage } from '../../device';
import { newCoin, newKey } from '../../testkit/device-contents';
import { DEVICES, type Step, toConfig, type WorkerOrder } from './history';

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
  const { vault, inventory, pendingRequests } = storage;
  const keys: string[] = [];
  await inventory.setPriority(contact, 'BESTIE');
  await pendingRequests.learnDevices(contact, DEVICES);
  for (;;) {
    const [dice = 0, which = 0] = randomBytes(2);
    const device = DEVICES[which % DEVICES.length] ?? '';
    if (dice < 90) {
      const key = newKey();
      await step({ step: 'put', contact, ids: [key.keyId] }, () => vault.storeKey(key));
      keys.push(key.keyId);
    } else if (dice < 140 && keys.length > 0) {
      const id = keys.splice(dice % keys.length, 1)[0] ?? randomUUID();
      await step({ step: 'burn', contact, ids: [id] }, () => vault.burnKey(id));
    } else if (dice < 200) {
      const coin = { ...newCoin(contact, 'GOLD'), deviceId: device };
      await step({ step: 'store', contact, device, ids: [coin.keyId] }, () => inventory.storeKey(coin));
    } else if (dice < 225) {
      const select = () => inventory.selectCoin(contact, 'GOLD', { deviceId: device });
      await takingStep({ step: 'select', contact, device }, async () => [await select()]);
    } else if (dice < 250) {
      const select = async () => (await inventory.selectCoins(contact, 'GOLD')).map(({ coin }) => coin);
      await takingStep({ step: 'selectAll', contact }, select);
    } else {
      const others = DEVICES.filter((one) => one !== device);
      const forget = async () => (await pendingRequests.learnDevices(contact, others)).removed;
      await takingStep({ step: 'forget', contact, device }, forget);
      await pendingRequests.learnDevices(contact, DEVICES);
    }
  }
}

async function step(about: Omit<Step, 'done'>, operation: () => Promise<unknown>): Promise<void> {
  print({ ...about, done: false });
  const result = await operation();
  print({ ...about, done: true, refused: result === false });
}

/** A step that takes coins out, whose ids are known when it is done. */
async function takingStep(
  about: Omit<Step, 'done' | 'ids'>,
  operation: () => Promise<readonly (CoinName | null)[]>,
): Promise<void> {
  print({ ...about, ids: [], done: false });
  const coins = await operation();
  print({ ...about, ids: coins.flatMap((coin) => (coin === null ? [] : [coin.keyId])), done: true });
}

function print(step: Step): void {
  writeSync(1, `${JSON.stringify(step)}\n`);
}

main().catch((error: Error) => {
  // The parent has killed the server. The error's name helps if the process fails for another reason.
  writeSync(2, `${error.name}: ${error.message}\n`);
  process.exit(3);
});
