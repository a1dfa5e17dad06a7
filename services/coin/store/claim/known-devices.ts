/** The number of users whose devices are remembered twice over: the recent ones, and those before them. */
const MAX_USERS = 5000;

/** Remembers the devices of the latest answers. They are hints: devices may have come or gone since. */
export class KnownDevices {
  #recent = new Map<string, readonly string[]>();
  #before = new Map<string, readonly string[]>();

  of(userId: string): readonly string[] {
    return this.#recent.get(userId) ?? this.#before.get(userId) ?? [];
  }

  learn(userId: string, deviceIds: readonly string[]): void {
    if (this.#recent.size >= MAX_USERS && !this.#recent.has(userId)) {
      this.#before = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(userId, deviceIds);
  }
}
