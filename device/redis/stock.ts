import { type BudgetTable, CONTACT_PRIORITIES, DEFAULT_PRIORITY } from '../contract/budget';
import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import type { Argument, Arguments, Connection } from './connection';
import type { ContactNames } from './contact-names';
import type { Keys } from './keys';
import type { Reply } from './reply';
import type { ScriptName } from './scripts';

/**
 * What the inventory and the open requests share: the scripts about contacts. Their rules (what fits, what was used,
 * what goes in) stand in scripts/stock.lua.
 */
export class Stock {
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
      stranger: DEFAULT_PRIORITY,
    });
  }

  /** Stands for a contact or user id in keys and arguments. */
  tag(id: string): string {
    return this.#names.tag(id);
  }

  /** Tag and name of a contact, as the scripts that may make its record take them. */
  person(contactId: string): readonly [string, Buffer] {
    return [this.#names.tag(contactId), this.#names.seal(contactId)];
  }

  /** A contact or user id as it is stored, in base64. */
  nameOf(id: string): string {
    return this.#names.seal(id).toString('base64');
  }

  /** A script about these contacts, each by its tag. Time and rules come before the arguments. */
  async run(script: ScriptName, tags: readonly string[], build: Arguments): Promise<Reply> {
    return this.#connection.run(script, this.#keys.ofContacts(...tags), this.#ruled(build));
  }

  /** A script that walks the contacts. */
  async runOverAll(script: ScriptName, build: Arguments): Promise<Reply> {
    return this.#connection.run(script, this.#keys.ofEveryContact, this.#ruled(build));
  }

  #ruled(build: Arguments): Arguments {
    return (nowMs): readonly Argument[] => [nowMs, this.#rules, ...build(nowMs)];
  }
}
