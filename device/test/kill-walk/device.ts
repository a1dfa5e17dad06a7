import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Redis } from 'ioredis';
import { RedisServer } from '../../../testkit/redis-server';
import type { ChildConfig } from '../../conformance/harness';
import { CONTACT, KILL_WALK_KEY } from './job';

/** The key ids of everything that a device has on disk. */
export interface DeviceContents {
  readonly coins: string[];
  readonly used: string[];
  readonly keys: string[];
  readonly outbox: string[];
}

/** Creates the devices of a kill walk in one backend, and reads them without the library. */
export interface WalkedBackend {
  start(): Promise<void>;
  stop(): Promise<void>;
  device(name: string): ChildConfig;
  read(device: ChildConfig): Promise<DeviceContents>;
}

/** Keeps each device in an encrypted file of a temporary folder. */
export class WalkedSqlite implements WalkedBackend {
  #folder = '';

  async start(): Promise<void> {
    this.#folder = mkdtempSync(join(tmpdir(), 'aqm-kill-'));
  }

  async stop(): Promise<void> {
    rmSync(this.#folder, { recursive: true });
  }

  device(name: string): ChildConfig {
    return { backend: 'sqlite', path: join(this.#folder, `${name}.db`), key: [...KILL_WALK_KEY] };
  }

  async read({ path = '' }: ChildConfig): Promise<DeviceContents> {
    const database = new Database(path);
    try {
      database.pragma("cipher = 'sqlcipher'");
      database.pragma('legacy = 4');
      database.pragma(`key = "x'${Buffer.from(KILL_WALK_KEY).toString('hex')}'"`);
      const ids = (sql: string, ...params: string[]) =>
        database
          .prepare(sql)
          .pluck()
          .all(...params) as string[];
      return {
        coins: ids('SELECT key_id FROM inventory_coin WHERE contact_id = ?', CONTACT),
        used: ids('SELECT key_id FROM used_coin WHERE contact_id = ?', CONTACT),
        keys: ids('SELECT key_id FROM vault_key'),
        outbox: ids('SELECT key_id FROM outbox'),
      };
    } finally {
      database.close();
    }
  }
}

/** Keeps each device in a namespace of one server, which is not killed. */
export class WalkedRedis implements WalkedBackend {
  #server: RedisServer | undefined;
  #client: Redis | undefined;

  async start(): Promise<void> {
    this.#server = await RedisServer.start();
    this.#client = this.#server.client();
  }

  async stop(): Promise<void> {
    await this.#server?.destroy();
  }

  device(name: string): ChildConfig {
    return { backend: 'redis', url: this.#server?.url, namespace: name };
  }

  async read({ namespace }: ChildConfig): Promise<DeviceContents> {
    const client = this.#client;
    if (client === undefined) throw new Error('Redis is not started.');
    const inventory = `inv:v1:{${namespace}}`;
    const vault = `vault:v1:{${namespace}}`;
    const idsOf = async (prefix: string) => (await client.keys(`${prefix}*`)).map((name) => name.slice(prefix.length));
    const used = await client.zrange(`${inventory}:used`, '0', '-1');
    return {
      coins: await idsOf(`${inventory}:coin:${CONTACT}:`),
      used: used.map((member) => member.slice(CONTACT.length + 1)),
      keys: await idsOf(`${vault}:key:`),
      outbox: await client.zrange(`${vault}:outbox`, '0', '-1'),
    };
  }
}

/** The minimum number of boundaries that each flow has in a backend: fewer would mean that some are not watched. */
export interface Expected {
  readonly opening: number;
  readonly operation: number;
  readonly publish: number;
  readonly topUp: number;
  readonly onDemand: number;
}

export const WALKED_BACKENDS: [string, WalkedBackend, Expected][] = [
  ['SQLite', new WalkedSqlite(), { opening: 11, operation: 4, publish: 26, topUp: 41, onDemand: 12 }],
  ['Redis', new WalkedRedis(), { opening: 12, operation: 3, publish: 13, topUp: 20, onDemand: 8 }],
];
