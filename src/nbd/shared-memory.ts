/**
 * What the buffers of all NBD servers of this process take: each disk has a thread and a server of its own, and together they
 * have one bound.
 *
 * Two counters over shared memory, in KiB: of all servers, and of this one, so that what a thread held that has died can be
 * taken off again. A server without others has counters of its own.
 */

const UNIT_BYTES = 1024

/** Counters that can be sent to another thread. */
export interface MemoryCounters {
  all: Int32Array
  own: Int32Array
}

export function newCounter(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
}

/** The thread that held it is gone. */
export function takeOff({ all, own }: MemoryCounters): void {
  Atomics.sub(all, 0, Atomics.exchange(own, 0, 0))
}

export class SharedMemory {
  readonly #counters: MemoryCounters

  constructor(counters: MemoryCounters = { all: newCounter(), own: newCounter() }) {
    this.#counters = counters
  }

  /** Of all servers. */
  get allBytes(): number {
    return Atomics.load(this.#counters.all, 0) * UNIT_BYTES
  }

  /** More is held here, or less. */
  change(bytes: number): void {
    const units = Math.sign(bytes) * Math.ceil(Math.abs(bytes) / UNIT_BYTES)
    Atomics.add(this.#counters.all, 0, units)
    Atomics.add(this.#counters.own, 0, units)
  }
}
