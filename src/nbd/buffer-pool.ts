/**
 * Buffers for replies and payloads, lent and given back.
 *
 * Memory is what an NBD client could exhaust: 256 connections with a 32-MiB read each would be 8 GiB. So all
 * connections of a server share one pool with a limit, and all pools of the process another one (shared-memory.ts). Below both
 * everybody gets what it asks for. Above, each connection still gets the share that it is guaranteed, and a pool of which
 * nothing is lent lends one buffer, so that no guest stands still because of another; all else waits until something is given
 * back. The last buffer given back is the first lent: it is still in the cache.
 */
import { SharedMemory } from './shared-memory.ts'

/** The smallest buffer: a batch of small replies. */
export const SMALL_BUFFER_BYTES = 256 * 1024

/** Room for the header of a reply in front of a whole number of MiB. */
const HEADER_ROOM_BYTES = 4096
const MIB = 1024 * 1024
const SIZE_CLASSES: readonly number[] = [
  SMALL_BUFFER_BYTES,
  MIB + HEADER_ROOM_BYTES,
  8 * MIB + HEADER_ROOM_BYTES,
  32 * MIB + HEADER_ROOM_BYTES
]

const NOBODY: (() => void)[] = []

export class BufferPool {
  readonly #maxBytes: number
  readonly #maxIdleBytes: number
  readonly #guaranteedBytes: number
  readonly #maxAllBytes: number
  readonly #memory: SharedMemory
  readonly #idle: Buffer[][] = SIZE_CLASSES.map(() => [])
  #idleBytes = 0
  #lentBytes = 0
  /** Who waits for a buffer, in the order of coming; each at most once, so never more than there are connections. */
  readonly #waiting = new Set<() => void>()

  /** Called when somebody begins to wait. */
  onWait: () => void = () => undefined

  constructor(
    settings: {
      maxBufferBytes: number
      maxAllBufferBytes: number
      maxIdleBufferBytes: number
      guaranteedBufferBytes: number
    },
    memory = new SharedMemory()
  ) {
    this.#memory = memory
    this.#maxAllBytes = settings.maxAllBufferBytes
    this.#guaranteedBytes = settings.guaranteedBufferBytes
    this.#maxBytes = settings.maxBufferBytes
    this.#maxIdleBytes = settings.maxIdleBufferBytes
  }

  get lentBytes(): number {
    return this.#lentBytes
  }

  get idleBytes(): number {
    return this.#idleBytes
  }

  /** How many wait for a buffer. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Whether `sizeBytes` may be taken now by a connection that holds `heldBytes` already. */
  allows(sizeBytes: number, heldBytes: number): boolean {
    if (heldBytes + sizeBytes <= this.#guaranteedBytes || this.#lentBytes === 0) return true
    if (this.#lentBytes + sizeBytes > this.#maxBytes) return false
    return this.#idleBytes >= sizeBytes || this.#memory.allBytes + sizeBytes <= this.#maxAllBytes
  }

  /** Calls `resume` once, after something was given back; what was wanted may be gone again by then. */
  wait(resume: () => void): void {
    this.#waiting.add(resume)
    this.onWait()
  }

  stopWaiting(resume: () => void): void {
    this.#waiting.delete(resume)
  }

  /** A buffer of at least `sizeBytes`, with whatever was in it. */
  take(sizeBytes: number): Buffer {
    const index = SIZE_CLASSES.findIndex(size => size >= sizeBytes)
    const buffer = this.#idle[index]?.pop()
    if (buffer !== undefined) this.#idleBytes -= buffer.length
    const lent = buffer ?? this.#allocate(SIZE_CLASSES[index] ?? sizeBytes)
    this.#lentBytes += lent.length
    return lent
  }

  /** Takes back a buffer that nobody reads or writes any more. */
  give(buffer: Buffer): void {
    this.#lentBytes -= buffer.length
    const index = SIZE_CLASSES.indexOf(buffer.length)
    if (index >= 0 && this.#mayKeep(buffer.length)) {
      this.#idle[index]?.push(buffer)
      this.#idleBytes += buffer.length
    } else {
      this.#memory.change(-buffer.length)
    }
    // Not in the midst of whatever gave the buffer back.
    for (const resume of this.#noLongerWaiting()) queueMicrotask(resume)
  }

  /** Calls everybody who waits: what another server gave back is told to nobody here. */
  lookAgain(): void {
    for (const resume of this.#noLongerWaiting()) resume()
  }

  #noLongerWaiting(): (() => void)[] {
    if (this.#waiting.size === 0) return NOBODY
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    return waiting
  }

  #allocate(sizeBytes: number): Buffer {
    this.#memory.change(sizeBytes)
    return Buffer.allocUnsafeSlow(sizeBytes)
  }

  /** What nobody uses must not keep others from what they need. */
  #mayKeep(sizeBytes: number): boolean {
    return this.#idleBytes + sizeBytes <= this.#maxIdleBytes && this.#memory.allBytes <= this.#maxAllBytes / 2
  }
}
