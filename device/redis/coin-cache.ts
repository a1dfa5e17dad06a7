import { type BudgetTable, CONTACT_PRIORITIES, DEFAULT_PRIORITY } from '../contract/budget';
import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import { RESERVATION_MS } from '../contract/pending-requests';
import { UNNAMED } from '../contract/validate';
import type { Argument, Arguments, Connection } from './connection';
import type { ContactNames } from './contact-names';
import type { Keys } from './keys';
import { type Reply, textIn } from './reply';
import type { ScriptName } from './scripts';

/**
 * Runs the scripts about contacts, which the inventory and the pending requests share. The rules (how many coins fit,
 * which ids were used, what storing a coin removes) are in scripts/coin-cache.lua.
 */
export class CoinCache {
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #names: ContactNames;
  readonly #rules: string;

  constructor(connection: Connection, keys: Keys, names: ContactNames, budgets: BudgetTable) {
    this.#connection = connection;
    this.#keys = keys;
    this.#names = names;
    this.#rules = JSON.stringify({
      categories: COIN_CATEGORY_NAMES,
      budgets: Object.fromEntries(CONTACT_PRIORITIES.map((priority) => [priority, budgets[priority]])),
      default_priority: DEFAULT_PRIORITY,
      reservation_ms: RESERVATION_MS,
    });
  }

  /** Returns the tag that stands for a contact or user id in keys and arguments. */
  tag(id: string): string {
    return this.#names.tag(id);
  }

  /** Returns tag and name of a contact, which the scripts need that may create its record. */
  tagAndName(contactId: string): readonly [string, Buffer] {
    return [this.#names.tag(contactId), this.#names.seal(contactId)];
  }

  /** Returns a contact or user id as it is stored, in base64. */
  nameOf(id: string): string {
    return this.#names.seal(id).toString('base64');
  }

  /** Returns tag and stored name of a contact's device. Both are empty for the unnamed one. */
  deviceTagAndName(deviceId: string): readonly [string, string] {
    return deviceId === UNNAMED ? [UNNAMED, UNNAMED] : [this.tag(deviceId), this.nameOf(deviceId)];
  }

  /** Returns the id of a contact's device from its tag and its stored name. */
  deviceIn(tag: Reply | undefined, name: Reply | undefined): string {
    return deviceIdOf(this.#names, textIn(tag), textIn(name));
  }

  /** Runs a script about these contacts, given by their tags. Time and rules precede the script's own arguments. */
  async run(script: ScriptName, tags: readonly string[], build: Arguments): Promise<Reply> {
    return this.#connection.run(script, this.#keys.ofContacts(...tags), this.#withRules(build));
  }

  /** Runs a script that iterates over all contacts. */
  async runOverAll(script: ScriptName, build: Arguments): Promise<Reply> {
    return this.#connection.run(script, this.#keys.ofEveryContact, this.#withRules(build));
  }

  #withRules(build: Arguments): Arguments {
    return (nowMs, forgetMs): readonly Argument[] => [nowMs, this.#rules, ...build(nowMs, forgetMs)];
  }
}

/** Returns the id of a contact's device from its tag and its stored name. */
export function deviceIdOf(names: ContactNames, tag: string, name: string): string {
  return tag === UNNAMED ? UNNAMED : names.unseal(tag, Buffer.from(name, 'base64'));
}

/** Sorts in ascending order of the devices' ids, the unnamed device first. Rows of one device keep their order. */
export function inOrderOfDevices<Row extends { readonly deviceId: string }>(rows: readonly Row[]): Row[] {
  return [...rows].sort((a, b) => Number(a.deviceId > b.deviceId) - Number(a.deviceId < b.deviceId));
}
