/**
 * Where the next sync of a layer's log is made: in the disk's own thread, or aside on one of libuv's.
 *
 * Aside costs two hops between threads, 30 µs beside some 120 for the sync itself, and a busy host makes them longer; a guest's
 * journal writes one block with FUA at a time and waits for each of them. In place nothing else of this machine is served
 * meanwhile. So it is in place only while nobody else is being served (few requests since the last sync) and syncs
 * are quick; a disk that turns, or a store that is busy, has them aside.
 *
 * Owns: how long syncs took of late.
 */

/** Slower ones are made aside. It bounds for how long requests that come meanwhile wait. */
const QUICK_MS = 1
/** Of the latest sync, in the running mean. */
const WEIGHT = 0.25
/** Requests between two syncs, those included that wait for the second. More is somebody who would be held up. */
const LONE_REQUESTS = 4

/** Counts the requests of a machine's disks. */
export interface DiskTraffic {
  requests: number
}

export class SyncPlace {
  readonly #monotonicMs: () => number
  readonly #traffic: DiskTraffic
  #requestsBefore = 0
  /** Nothing is known yet. */
  #meanMs = 2 * QUICK_MS

  constructor(monotonicMs: () => number, traffic: DiskTraffic) {
    this.#monotonicMs = monotonicMs
    this.#traffic = traffic
  }

  /** Syncs a file, here or aside. */
  async sync(file: { syncSync(): void; sync(): Promise<void> }): Promise<void> {
    if (this.isHere) return this.syncHere(file)
    const startedMs = this.#begin()
    await file.sync()
    this.#end(startedMs)
  }

  /** Whether the next sync is to be made in this thread. */
  get isHere(): boolean {
    return this.#traffic.requests - this.#requestsBefore <= LONE_REQUESTS && this.#meanMs <= QUICK_MS
  }

  /** Syncs a file before it returns. */
  syncHere(file: { syncSync(): void }): void {
    const startedMs = this.#begin()
    file.syncSync()
    this.#end(startedMs)
  }

  #begin(): number {
    this.#requestsBefore = this.#traffic.requests
    return this.#monotonicMs()
  }

  #end(startedMs: number): void {
    this.#meanMs += (this.#monotonicMs() - startedMs - this.#meanMs) * WEIGHT
  }
}
