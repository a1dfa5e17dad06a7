import { createHash } from 'node:crypto';

/**
 * Everything that a storage holds, in the neutral form in which moveDeviceStorage passes it from one backend to
 * another: the tables and columns of the SQLite layout. Times are milliseconds since 1970, ids and names are in the
 * clear, and null stands for an unknown value.
 */
export interface DeviceRecords {
  readonly vault_key: {
    readonly key_id: string;
    readonly coin_category: string;
    readonly created_at: number;
    readonly expires_at: number;
    readonly encryption_iv: Uint8Array;
    readonly auth_tag: Uint8Array;
    readonly encrypted_blob: Uint8Array;
  };
  readonly vault_tombstone: {
    readonly key_id: string;
    readonly expires_at: number;
    readonly coin_category: string | null;
    readonly created_at: number | null;
    readonly burned_at: number | null;
  };
  readonly outbox: {
    readonly sequence: number;
    readonly key_id: string;
    readonly coin_category: string;
    readonly sent_epoch: string | null;
    readonly public_key: Uint8Array;
    readonly signature: Uint8Array;
  };
  readonly published_coin: {
    readonly key_id: string;
    readonly coin_category: string;
    readonly expires_at: number;
    readonly sent_epoch: string;
    readonly public_key: Uint8Array;
    readonly signature: Uint8Array;
  };
  readonly contact: {
    readonly contact_id: string;
    readonly priority: string | null;
    readonly last_used_at: number | null;
  };
  readonly contact_device: {
    readonly contact_id: string;
    /** Empty for the unnamed device. */
    readonly device_id: string;
  };
  readonly inventory_coin: {
    readonly sequence: number;
    readonly contact_id: string;
    readonly device_id: string;
    readonly key_id: string;
    readonly coin_category: string;
    readonly expires_at: number;
    readonly public_key: Uint8Array;
    readonly signature: Uint8Array;
  };
  readonly used_coin: {
    readonly contact_id: string;
    readonly key_id: string;
    readonly expires_at: number;
  };
  readonly open_request: {
    readonly request_id: string;
    readonly purpose: string;
    readonly contact_id: string;
    readonly user_id: string;
    readonly device_id: string;
    /** A JSON array, or null. */
    readonly device_ids: string | null;
    readonly coin_category: string;
    readonly count: number;
    readonly allow_lower_categories: number;
    readonly asking: number;
    readonly asked_at: number;
  };
}

/** Facts about the storage itself that move with it, by name. Times are milliseconds since 1970, as text. */
export const DEVICE_FACTS = ['trusted_at', 'owner_user_id', 'owner_device_id', 'owner_is_removed'] as const;
export type DeviceFacts = { readonly [Name in (typeof DEVICE_FACTS)[number]]?: string };

export type RecordKind = keyof DeviceRecords;

/** The columns of each kind, starting with those that identify a record. Digests follow this order. */
export const RECORD_COLUMNS: { readonly [Kind in RecordKind]: readonly (keyof DeviceRecords[Kind] & string)[] } = {
  vault_key: ['key_id', 'coin_category', 'created_at', 'expires_at', 'encryption_iv', 'auth_tag', 'encrypted_blob'],
  vault_tombstone: ['key_id', 'expires_at', 'coin_category', 'created_at', 'burned_at'],
  outbox: ['sequence', 'key_id', 'coin_category', 'sent_epoch', 'public_key', 'signature'],
  published_coin: ['key_id', 'coin_category', 'expires_at', 'sent_epoch', 'public_key', 'signature'],
  contact: ['contact_id', 'priority', 'last_used_at'],
  contact_device: ['contact_id', 'device_id'],
  inventory_coin: [
    'sequence',
    'contact_id',
    'device_id',
    'key_id',
    'coin_category',
    'expires_at',
    'public_key',
    'signature',
  ],
  used_coin: ['contact_id', 'key_id', 'expires_at'],
  open_request: [
    'request_id',
    'purpose',
    'contact_id',
    'user_id',
    'device_id',
    'device_ids',
    'coin_category',
    'count',
    'allow_lower_categories',
    'asking',
    'asked_at',
  ],
};

export const RECORD_KINDS = Object.keys(RECORD_COLUMNS) as readonly RecordKind[];

/** Counts and digests all records of one kind. The order in which they are added makes no difference. */
export class RecordDigest {
  readonly #digests: string[] = [];

  add<Kind extends RecordKind>(kind: Kind, record: DeviceRecords[Kind]): void {
    const values = RECORD_COLUMNS[kind].map((column) => {
      const value: unknown = record[column];
      return value instanceof Uint8Array ? { bytes: Buffer.from(value).toString('base64') } : value;
    });
    this.#digests.push(createHash('sha256').update(JSON.stringify(values)).digest('base64'));
  }

  get count(): number {
    return this.#digests.length;
  }

  /** SHA-256 over the sorted SHA-256 digests of all records, in base64. */
  get value(): string {
    const all = createHash('sha256');
    for (const digest of this.#digests.sort()) all.update(digest);
    return all.digest('base64');
  }
}
