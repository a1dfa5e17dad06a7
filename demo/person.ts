import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type DeviceStorage, openDeviceStorage } from '../device';
import { BACKENDS, type BackendName } from './backends';
import { createIdentity, type Identity } from './coin-signature';
import { HardwareKey } from './hardware-key';
import { connect, type ServiceConnection } from './network-layer';

/** A person with a device. Ids and keys are random in each run, so that runs can share one database. */
export interface Person {
  readonly name: string;
  readonly userId: string;
  readonly identity: Identity;
  readonly hardwareKey: HardwareKey;
  /** The folder that stands for the device's disk. */
  readonly disk: string;
  readonly storage: DeviceStorage;
  readonly service: ServiceConnection;
}

/** The identity of a person before the device is set up. */
export interface Account {
  readonly name: string;
  readonly userId: string;
}

export function createAccount(name: string): Account {
  return { name, userId: randomUUID() };
}

/** Creates the device of a person: a folder, an encrypted storage, a hardware key and a connection to the service. */
export async function setUpDevice(
  { name, userId }: Account,
  options: { backend: BackendName; folder: string; redisUrl: string; address: string; token: string },
): Promise<Person> {
  const disk = join(options.folder, name);
  await mkdir(disk, { mode: 0o700 });
  const { backend, redisUrl } = options;
  const config = BACKENDS[backend]({ name: `demo-${userId}`, folder: disk, key: randomBytes(32), redisUrl });
  return {
    name,
    userId,
    identity: createIdentity(),
    hardwareKey: new HardwareKey(),
    disk,
    storage: await openDeviceStorage(config),
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
