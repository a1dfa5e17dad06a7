import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import type { DeviceRecords, RecordKind } from '../contract/device-record';
import { BATCH_RECORDS } from '../contract/move-endpoint';
import { UNNAMED } from '../contract/validate';
import { StorageCorruptedError } from '../errors';
import { deviceIdOf } from './coin-cache';
import type { Connection } from './connection';
import type { ContactNames } from './contact-names';
import type { Keys } from './keys';
import type { RedisDevice } from './open';
import { bytesIn, listIn, numberIn, type Reply, rowsIn, textIn } from './reply';
import { scan } from './scan';

type Records<Kind extends RecordKind> = AsyncGenerator<DeviceRecords[Kind]>;

/** Reads everything that a device has in the server, as records. Keys that their TTL took are no longer there. */
export class RecordReader {
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #names: ContactNames;
  readonly #readers: { readonly [Kind in RecordKind]: () => Records<Kind> } = {
    vault_key: () => this.#vaultKeys(),
    vault_tombstone: () => this.#tombstones(),
    outbox: () => this.#outbox(),
    published_coin: () => this.#publishedCoins(),
    contact: () => this.#contacts(),
    contact_device: () => this.#contactDevices(),
    inventory_coin: () => this.#coins(),
    used_coin: () => this.#usedCoins(),
    open_request: () => this.#requests(),
  };

  constructor({ connection, keys, names }: RedisDevice) {
    this.#connection = connection;
    this.#keys = keys;
    this.#names = names;
  }

  async *read<Kind extends RecordKind>(kind: Kind): AsyncGenerator<readonly DeviceRecords[Kind][]> {
    let batch: DeviceRecords[Kind][] = [];
    for await (const record of this.#readers[kind]()) {
      batch.push(record);
      if (batch.length === BATCH_RECORDS) {
        yield batch;
        batch = [];
      }
    }
    if (batch.length > 0) yield batch;
  }

  /**
   * Lists every key of the device except its own record, by SCAN, which is fast enough for a move. May repeat a key.
   */
  async *ownKeys(): AsyncGenerator<string[]> {
    for (const pattern of this.#keys.everyPattern) yield* scan(this.#connection, pattern);
  }

  async *#vaultKeys(): Records<'vault_key'> {
    for (const id of listIn(await this.#connection.call('zrange', this.#keys.byCreation, 0, -1)).map(textIn)) {
      const fields = await this.#fields(this.#keys.vaultKey(id), VAULT_FIELDS);
      if (fields === null) continue;
      const [category, createdAt, expiresAt, iv, authTag, blob] = fields;
      yield {
        key_id: id,
        coin_category: textIn(category),
        created_at: numberIn(createdAt),
        expires_at: numberIn(expiresAt),
        encryption_iv: bytesIn(iv),
        auth_tag: bytesIn(authTag),
        encrypted_blob: bytesIn(blob),
      };
    }
  }

  async *#tombstones(): Records<'vault_tombstone'> {
    const inGrace = new Map(
      (await this.#scored(this.#keys.burnGrace)).map(([text, burnedAt]) => {
        const [id = '', category = '', createdAt = ''] = text.split(' ');
        return [id, { coin_category: category || null, created_at: Number(createdAt), burned_at: burnedAt }];
      }),
    );
    const bare = { coin_category: null, created_at: null, burned_at: null };
    for (const [id, expiresAt] of await this.#scored(this.#keys.burned)) {
      yield { key_id: id, expires_at: expiresAt, ...(inGrace.get(id) ?? bare) };
    }
  }

  async *#outbox(): Records<'outbox'> {
    for (const [id, sequence] of await this.#scored(this.#keys.outbox)) {
      const fields = await this.#fields(this.#keys.outboxCoin(id), OUTBOX_FIELDS);
      if (fields === null) throw new StorageCorruptedError();
      const [category, sentEpoch, publicKey, signature] = fields;
      yield {
        sequence,
        key_id: id,
        coin_category: textIn(category),
        sent_epoch: sentEpoch === null ? null : textIn(sentEpoch),
        public_key: bytesIn(publicKey),
        signature: bytesIn(signature),
      };
    }
  }

  async *#publishedCoins(): Records<'published_coin'> {
    for (const [id, expiresAt] of await this.#scored(this.#keys.published)) {
      const fields = await this.#fields(this.#keys.outboxCoin(id), OUTBOX_FIELDS);
      if (fields === null) continue;
      const [category, sentEpoch, publicKey, signature] = fields;
      yield {
        key_id: id,
        coin_category: textIn(category),
        expires_at: expiresAt,
        sent_epoch: textIn(sentEpoch),
        public_key: bytesIn(publicKey),
        signature: bytesIn(signature),
      };
    }
  }

  async *#contacts(): Records<'contact'> {
    for (const tag of await this.#tags()) {
      const fields = await this.#fields(this.#keys.contact(tag), ['contact_id', 'priority', 'last_used_at']);
      if (fields === null) throw new StorageCorruptedError();
      const [name, priority = null, lastUsedAt = null] = fields;
      yield {
        contact_id: this.#names.unseal(tag, bytesIn(name)),
        priority: priority === null ? null : textIn(priority),
        last_used_at: lastUsedAt === null ? null : numberIn(lastUsedAt),
      };
    }
  }

  async *#contactDevices(): Records<'contact_device'> {
    for (const tag of await this.#tags()) {
      const contactId = await this.#nameOf(tag);
      if (contactId === null) throw new StorageCorruptedError();
      for (const deviceId of (await this.#devicesOf(tag)).values()) {
        yield { contact_id: contactId, device_id: deviceId };
      }
    }
  }

  async *#coins(): Records<'inventory_coin'> {
    for (const tag of await this.#tags()) {
      const contactId = await this.#nameOf(tag);
      if (contactId === null) throw new StorageCorruptedError();
      const devices = await this.#devicesOf(tag);
      for (const category of COIN_CATEGORY_NAMES) {
        for (const member of listIn(
          await this.#connection.call('zrange', this.#keys.coinIndex(category, tag), 0, -1),
        )) {
          const { sequence, id, device } = readMember(textIn(member));
          const fields = await this.#fields(`${this.#keys.coinPrefix(tag)}${id}`, COIN_FIELDS);
          // The TTL took the coin, or a later coin with the same id has a member of its own.
          if (fields === null || textIn(fields[0]) !== sequence) continue;
          yield {
            sequence: Number(sequence),
            contact_id: contactId,
            device_id: deviceIn(devices, device),
            key_id: id,
            coin_category: category,
            expires_at: numberIn(fields[1]),
            public_key: bytesIn(fields[2]),
            signature: bytesIn(fields[3]),
          };
        }
      }
    }
  }

  async *#usedCoins(): Records<'used_coin'> {
    const names = new Map<string, string | null>();
    for (const [member, expiresAt] of await this.#scored(this.#keys.used)) {
      const [tag, id] = splitUsed(member);
      const known = names.get(tag);
      const contactId = known === undefined ? await this.#nameOf(tag) : known;
      names.set(tag, contactId);
      if (contactId !== null) yield { contact_id: contactId, key_id: id, expires_at: expiresAt };
      // The server keeps a name as long as any of the used ids that refer to it.
      else if (expiresAt > this.#connection.times().forgetMs) throw new StorageCorruptedError();
    }
  }

  async *#requests(): Records<'open_request'> {
    const seen = new Set<string>();
    const prefix = this.#keys.requests('');
    for await (const keys of scan(this.#connection, this.#keys.patternOf(prefix))) {
      for (const key of keys) {
        if (seen.has(key)) continue;
        seen.add(key);
        const tag = key.slice(prefix.length);
        for (const id of listIn(await this.#connection.call('hkeys', key))) {
          const request: StoredRequest = parse(textIn(await this.#connection.call('hget', key, textIn(id))));
          const unseal = (of: string, sealed: string) => this.#names.unseal(of, Buffer.from(sealed, 'base64'));
          yield {
            request_id: textIn(id),
            purpose: request.purpose,
            contact_id: unseal(tag, request.contact_name),
            user_id: unseal(request.user, request.user_name),
            device_id: deviceIdOf(this.#names, request.device ?? UNNAMED, request.device_name ?? ''),
            device_ids: this.#deviceIdsIn(request),
            coin_category: request.category,
            count: request.count,
            allow_lower_categories: Number(request.lower),
            asking: request.asking,
            asked_at: Number(request.asked_at),
          };
        }
      }
    }
  }

  #deviceIdsIn({ devices, device_names }: StoredRequest): string | null {
    if (devices === undefined || device_names === undefined) return null;
    const names: string[] = parse(device_names);
    const tags: string[] = parse(devices);
    return JSON.stringify(tags.map((tag, index) => deviceIdOf(this.#names, tag, names[index] ?? '')));
  }

  /** Returns the ids of a contact's known devices by their tags. */
  async #devicesOf(tag: string): Promise<Map<string, string>> {
    const record = this.#keys.contact(tag);
    const devices = new Map<string, string>();
    for (const field of listIn(await this.#connection.call('hkeys', record)).map(textIn)) {
      if (!field.startsWith(DEVICE_FIELD)) continue;
      const device = field.slice(DEVICE_FIELD.length);
      const name = textIn(await this.#connection.call('hget', record, field));
      devices.set(device, deviceIdOf(this.#names, device, name));
    }
    return devices;
  }

  async #tags(): Promise<string[]> {
    return listIn(await this.#connection.call('zrange', this.#keys.contacts, 0, -1)).map(textIn);
  }

  async #nameOf(tag: string): Promise<string | null> {
    const sealed = await this.#connection.call('hget', this.#keys.contact(tag), 'contact_id');
    return sealed === null ? null : this.#names.unseal(tag, bytesIn(sealed));
  }

  /** Reads fields of a hash; null if there is no such key. */
  async #fields(key: string, names: readonly string[]): Promise<readonly Reply[] | null> {
    const fields = listIn(await this.#connection.call('hmget', key, ...names));
    return fields.every((field) => field === null) ? null : fields;
  }

  async #scored(key: string): Promise<[string, number][]> {
    const members = rowsIn(await this.#connection.call('zrange', key, 0, -1, 'withscores'), 2);
    return members.map(([member, score]) => [textIn(member), numberIn(score)]);
  }
}

const VAULT_FIELDS = ['coin_category', 'created_at', 'expires_at', 'encryption_iv', 'auth_tag', 'encrypted_blob'];
const OUTBOX_FIELDS = ['coin_category', 'sent_epoch', 'public_key', 'signature'];
const COIN_FIELDS = ['sequence', 'expires_at', 'public_key', 'signature'];

/** A contact's record has such a field for each known device; the tag follows. */
export const DEVICE_FIELD = 'device:';

/** The length of an id, which is the last part of members that name a used coin. */
const ID_CHARACTERS = 36;

/** Splits `tag:id`, a used coin. A tag in the clear may hold colons. */
function splitUsed(member: string): [string, string] {
  return [member.slice(0, -ID_CHARACTERS - 1), member.slice(-ID_CHARACTERS)];
}

/** Splits `sequence:id` or `sequence:id:device`, a member of a coin index. The device is a tag. */
function readMember(member: string): { readonly sequence: string; readonly id: string; readonly device: string } {
  const [sequence = '', id = '', device = UNNAMED] = member.split(':');
  return { sequence, id, device };
}

function deviceIn(devices: ReadonlyMap<string, string>, tag: string): string {
  const deviceId = devices.get(tag);
  // Storing a coin makes its device known.
  if (deviceId === undefined) throw new StorageCorruptedError();
  return deviceId;
}

/** A pending request in the form in which pending-requests.lua stores it. */
export interface StoredRequest {
  readonly purpose: string;
  /** The tag of the user id. */
  readonly user: string;
  readonly category: string;
  readonly count: number;
  readonly lower: boolean;
  readonly asking: number;
  readonly asked_at: string;
  /** The contact's name as it is stored, in base64. */
  readonly contact_name: string;
  /** The user id as it is stored, in base64. */
  readonly user_name: string;
  /** The tag of the device of a top-up, and its name as it is stored. Absent in requests of earlier layouts. */
  readonly device?: string;
  readonly device_name?: string;
  /**
   * The tags of the devices of a fetch on demand, and their names as they are stored, each as the text of a JSON array.
   * Absent if the fetch is for the unnamed device alone.
   */
  readonly devices?: string;
  readonly device_names?: string;
}

function parse<Value>(text: string): Value {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new StorageCorruptedError({ cause });
  }
}
