import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import type { DeviceRecords, RecordKind } from '../contract/device-record';
import { UNNAMED } from '../contract/validate';
import { StorageCorruptedError } from '../errors';
import type { Argument } from './connection';
import type { ContactNames } from './contact-names';
import type { Keys } from './keys';
import type { RedisDevice } from './open';
import { DEVICE_FIELD, type StoredRequest } from './record-reader';

type Command = Argument[];

/** The number of digits of a sequence in a member of a coin index, as in coin-cache.lua. */
const SEQUENCE_DIGITS = 16;

/** Turns the records of one move into commands. Must get each record once, in the order of RECORD_KINDS. */
export class RecordWriter {
  readonly #keys: Keys;
  readonly #names: ContactNames;
  readonly #contacts = new Set<string>();
  /** Forgotten contacts that are only needed for their used coins, with the latest expiry of those. */
  readonly #forgotten = new Map<string, number>();
  #lastOutbox = 0;
  #lastCoin = 0;
  readonly #writers: { readonly [Kind in RecordKind]: (record: DeviceRecords[Kind]) => Command[] } = {
    vault_key: (record) => this.#vaultKey(record),
    vault_tombstone: (record) => this.#tombstone(record),
    outbox: (record) => this.#outbox(record),
    published_coin: (record) => this.#publishedCoin(record),
    contact: (record) => this.#contact(record),
    contact_device: (record) => this.#contactDevice(record),
    inventory_coin: (record) => this.#coin(record),
    used_coin: (record) => this.#usedCoin(record),
    open_request: (record) => this.#request(record),
  };

  constructor({ keys, names }: RedisDevice) {
    this.#keys = keys;
    this.#names = names;
  }

  commands<Kind extends RecordKind>(kind: Kind, records: readonly DeviceRecords[Kind][]): Command[] {
    return records.flatMap((record) => this.#writers[kind](record));
  }

  #vaultKey(record: DeviceRecords['vault_key']): Command[] {
    const { key_id: id, expires_at: expiresAt, created_at: created, coin_category: name } = record;
    const key = this.#keys.vaultKey(id);
    const fields = ['coin_category', name, 'created_at', created, 'expires_at', expiresAt];
    const secrets = ['encryption_iv', Buffer.from(record.encryption_iv), 'auth_tag', Buffer.from(record.auth_tag)];
    return [
      ['hset', key, ...fields, ...secrets, 'encrypted_blob', Buffer.from(record.encrypted_blob)],
      ['zadd', this.#keys.byExpiry(categoryOf(name)), expiresAt, id],
      ['zadd', this.#keys.byCreation, created, id],
    ];
  }

  #tombstone({
    key_id: id,
    expires_at: expiresAt,
    burned_at: burned,
    ...rest
  }: DeviceRecords['vault_tombstone']): Command[] {
    const inGrace = `${id} ${rest.coin_category ?? ''} ${rest.created_at ?? ''}`;
    const grace: Command[] = burned === null ? [] : [['zadd', this.#keys.burnGrace, burned, inGrace]];
    return [['zadd', this.#keys.burned, expiresAt, id], ...grace];
  }

  #outbox(record: DeviceRecords['outbox']): Command[] {
    const { key_id: id, coin_category: name, sent_epoch: epoch, sequence } = record;
    this.#lastOutbox = Math.max(this.#lastOutbox, sequence);
    const halves = ['public_key', Buffer.from(record.public_key), 'signature', Buffer.from(record.signature)];
    const sent = epoch === null ? [] : ['sent_epoch', epoch];
    return [
      ['hset', this.#keys.outboxCoin(id), 'coin_category', name, ...halves, ...sent],
      ['zadd', this.#keys.outbox, sequence, id],
      ['set', this.#keys.outboxSequence, this.#lastOutbox],
    ];
  }

  #publishedCoin(record: DeviceRecords['published_coin']): Command[] {
    const { key_id: id, coin_category: name, sent_epoch: epoch, expires_at: expiresAt } = record;
    const halves = ['public_key', Buffer.from(record.public_key), 'signature', Buffer.from(record.signature)];
    const coin = this.#keys.outboxCoin(id);
    return [
      ['hset', coin, 'coin_category', name, ...halves, 'sent_epoch', epoch],
      ['zadd', this.#keys.published, expiresAt, id],
    ];
  }

  #contact({ contact_id: id, priority, last_used_at: lastUsed }: DeviceRecords['contact']): Command[] {
    const tag = this.#names.tag(id);
    this.#contacts.add(tag);
    const known = [...(priority === null ? [] : ['priority', priority])];
    const used = lastUsed === null ? [] : ['last_used_at', lastUsed];
    return [
      ['hset', this.#keys.contact(tag), 'contact_id', this.#names.seal(id), ...known, ...used],
      ['zadd', this.#keys.contacts, lastUsed ?? (priority === null ? 0 : '+inf'), tag],
    ];
  }

  #contactDevice({ contact_id: id, device_id: deviceId }: DeviceRecords['contact_device']): Command[] {
    const [device, name] = this.#deviceTagAndName(deviceId);
    return [['hset', this.#keys.contact(this.#names.tag(id)), `${DEVICE_FIELD}${device}`, name]];
  }

  #coin(record: DeviceRecords['inventory_coin']): Command[] {
    const { key_id: id, expires_at: expiresAt, coin_category: name, sequence } = record;
    const tag = this.#names.tag(record.contact_id);
    this.#lastCoin = Math.max(this.#lastCoin, sequence);
    const digits = String(sequence).padStart(SEQUENCE_DIGITS, '0');
    const key = `${this.#keys.coinPrefix(tag)}${id}`;
    const [device] = this.#deviceTagAndName(record.device_id);
    const ofDevice = device === UNNAMED ? '' : `:${device}`;
    const halves = ['public_key', Buffer.from(record.public_key), 'signature', Buffer.from(record.signature)];
    return [
      ['hset', key, 'sequence', digits, 'coin_category', name, 'expires_at', expiresAt, ...halves],
      ['zadd', this.#keys.coinIndex(categoryOf(name), tag), expiresAt, `${digits}:${id}${ofDevice}`],
      ['set', this.#keys.sequence, this.#lastCoin],
    ];
  }

  #usedCoin({ contact_id: contactId, key_id: id, expires_at: expiresAt }: DeviceRecords['used_coin']): Command[] {
    const tag = this.#names.tag(contactId);
    const used: Command = ['zadd', this.#keys.used, expiresAt, `${tag}:${id}`];
    if (this.#contacts.has(tag)) return [used];
    const latest = Math.max(this.#forgotten.get(tag) ?? expiresAt, expiresAt);
    this.#forgotten.set(tag, latest);
    const record = this.#keys.contact(tag);
    const name: Command = ['hset', record, 'contact_id', this.#names.seal(contactId)];
    return [used, name, ['zadd', this.#keys.forgotten, latest, tag]];
  }

  #request(record: DeviceRecords['open_request']): Command[] {
    const tag = this.#names.tag(record.contact_id);
    const [device, deviceName] = this.#deviceTagAndName(record.device_id);
    const request: StoredRequest = {
      purpose: record.purpose,
      user: this.#names.tag(record.user_id),
      category: record.coin_category,
      count: record.count,
      lower: record.allow_lower_categories === 1,
      asking: record.asking,
      asked_at: String(record.asked_at),
      contact_name: this.#names.seal(record.contact_id).toString('base64'),
      user_name: this.#names.seal(record.user_id).toString('base64'),
      device,
      device_name: deviceName,
      ...this.#devicesOf(record.device_ids),
    };
    return [['hset', this.#keys.requests(tag), record.request_id, JSON.stringify(request)]];
  }

  #devicesOf(deviceIds: string | null): Pick<StoredRequest, 'devices' | 'device_names'> {
    if (deviceIds === null) return {};
    const devices = (JSON.parse(deviceIds) as string[]).map((deviceId) => this.#deviceTagAndName(deviceId));
    return {
      devices: JSON.stringify(devices.map(([tag]) => tag)),
      device_names: JSON.stringify(devices.map(([, name]) => name)),
    };
  }

  #deviceTagAndName(deviceId: string): readonly [string, string] {
    if (deviceId === UNNAMED) return [UNNAMED, UNNAMED];
    return [this.#names.tag(deviceId), this.#names.seal(deviceId).toString('base64')];
  }
}

function categoryOf(name: string) {
  const category = COIN_CATEGORY_NAMES.find((known) => known === name);
  if (category === undefined) throw new StorageCorruptedError();
  return category;
}
