/**
 * Who needs something that is closed when nobody does.
 */

export class Users {
  readonly #onLess: () => void
  /** Each says whether it needs it now. */
  readonly #users = new Set<() => boolean>()

  /** @param onLess - called when somebody needs it no longer */
  constructor(onLess: () => void) {
    this.#onLess = onLess
  }

  /**
   * @param isNeeded - for who keeps it, but needs it only at times: whether now
   * @returns what ends it
   */
  add(isNeeded: () => boolean = () => true): () => void {
    // Of its own, so that one function may be given twice.
    const user = () => isNeeded()
    this.#users.add(user)
    return () => {
      if (this.#users.delete(user)) this.#onLess()
    }
  }

  get anyNeeds(): boolean {
    for (const isNeeded of this.#users) if (isNeeded()) return true
    return false
  }
}
