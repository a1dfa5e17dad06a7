import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type DeviceStorage, openDeviceStorage } from '../device';
import { BACKENDS, type BackendName } from './backends';
import { createIdentity, type Identity } from './coin-signature';
import { HardwareKey } from './hardware-key';
import { connect, type ServiceConnection } from './network-layer';

/** A person's device, before it is set up. Ids and keys are random in each run, so that runs can share one database. */
export interface Account {
  readonly name: string;
  /** The name of the device in the story. */
  readonly device: string;
  readonly userId: string;
  /** Absent for a person with one device, which needs no name. */
  readonly deviceId?: string;
  /** All devices of a person sign with the same keys. */
  readonly identity: Identity;
}

/** A person's device, once it is set up. */
export interface Person extends Account {
  readonly hardwareKey: HardwareKey;
  /** The folder that stands for the device's disk. */
  readonly disk: string;
  readonly storage: DeviceStorage;
  readonly service: ServiceConnection;
}

/** Creates a person with one device. */
export function createAccount(name: string): Account {
  return { name, device: name, userId: randomUUID(), identity: createIdentity() };
}

/** Creates one of several devices of a person. */
export function addDevice(account: Account, device: string): Account {
  return { ...account, device, deviceId: randomUUID() };
}

/** Creates the device of a person: a folder, an encrypted storage, a hardware key and a connection to the service. */
export async function setUpDevice(
  account: Account,
  options: { backend: BackendName; folder: string; redisUrl: string; address: string; token: string },
): Promise<Person> {
  const { userId, deviceId } = account;
  const disk = join(options.folder, account.device);
  await mkdir(disk, { mode: 0o700 });
  const { backend, redisUrl } = options;
  const name = `demo-${deviceId ?? userId}`;
  const config = BACKENDS[backend]({ name, folder: disk, key: randomBytes(32), redisUrl });
  // The storage's owner says for which device the flows publish.
  const owner = { userId, ...(deviceId !== undefined && { deviceId }) };
  return {
    ...account,
    hardwareKey: new HardwareKey(),
    disk,
    storage: await openDeviceStorage({ ...config, owner }),
    service: connect(options.address, options.token),
  };
}

/** Closes the connection and the storage of a device. */
export async function switchOff({ storage, service }: Person): Promise<void> {
  service.calls.close();
  await storage.close();
}

/** Returns all bytes on the disk of the device. */
export async function readDisk({ disk }: Person): Promise<Buffer> {
  const files = await readdir(disk);
  return Buffer.concat(await Promise.all(files.map((file) => readFile(join(disk, file)))));
}
