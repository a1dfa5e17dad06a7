/** Records every answer that clients got over the whole rehearsal. The verdict is based on it. */
export class Ledger {
  /** The number of times that each coin was handed out, by key id. A repeat with the same request_id does not count. */
  readonly #times = new Map<string, number>();
  readonly #requests = new Map<string, string>();

  record(requestId: string, keyIds: readonly string[]): void {
    const answer = keyIds.join();
    const before = this.#requests.get(requestId);
    if (before === answer) return;
    this.#requests.set(requestId, answer);
    for (const keyId of keyIds) this.#times.set(keyId, (this.#times.get(keyId) ?? 0) + 1);
  }

  get handedOut(): ReadonlySet<string> {
    return new Set(this.#times.keys());
  }

  get twice(): readonly string[] {
    return [...this.#times].filter(([, times]) => times > 1).map(([keyId]) => keyId);
  }
}

/** One line of the verdict. */
export interface Finding {
  readonly what: string;
  readonly holds: boolean;
  readonly seen: string;
}
