/**
 * Circuits: the bytes that pass from one stream to the other, and no faster than they may.
 *
 * The library joins the two streams of a circuit with a queue that has no end: whatever one side sends is taken, however slowly the other
 * reads. For a hello that does little harm, for blocks it would fill the memory. So each side is paused here while too much of it
 * waits for the other, and all sides while the relay's rate is used up.
 *
 * Which two streams are joined the library tells nobody: it opens the second while it answers the first. That is how they
 * are found (`serve`, `opened`).
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Stream } from '@libp2p/interface'
import type { Clock, Timer } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { TokenBucket } from '../swarm/token-bucket.ts'

/** Of one direction of a circuit: taken from one side, and not yet by the other. */
export const MAX_WAITING_BYTES = 256 * 1024
/** What may pass at once after a silence. */
const BURST_SECONDS = 0.05
const MIN_BURST_BYTES = 64 * 1024

export type CircuitStream = Pick<
  Stream,
  'addEventListener' | 'send' | 'pause' | 'resume' | 'abort' | 'status' | 'readStatus' | 'writeBufferLength'
>

export class Circuits {
  readonly #clock: Clock
  readonly #bucket: TokenBucket
  readonly #first = new AsyncLocalStorage<CircuitStream>()
  /** One for each direction of each circuit that is open: it pauses its side, or lets it go on. */
  readonly #directions = new Map<CircuitStream, () => void>()
  #timer: Timer | undefined
  #bytes = 0

  constructor(components: { clock: Clock }, settings: { maxBytesPerSecond: number }) {
    const { maxBytesPerSecond: rate } = settings
    this.#clock = components.clock
    this.#bucket = new TokenBucket(rate, Math.max(MIN_BURST_BYTES, rate * BURST_SECONDS), this.#clock.monotonicMs())
  }

  /** All that has passed. */
  get bytes(): number {
    return this.#bytes
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** Ends all circuits. */
  cut(): void {
    for (const stream of [...this.#directions.keys()]) {
      stream.abort(new RowanError('LIMIT_EXCEEDED', 'this relay passes nothing on now'))
    }
  }

  /** Answers whoever wants a circuit. */
  serve<T>(stream: CircuitStream, answer: () => T): T {
    return this.#first.run(stream, answer)
  }

  /** The other side of the circuit that is being made was reached. */
  opened(other: CircuitStream): void {
    const stream = this.#first.getStore()
    if (stream === undefined) return
    this.join(stream, other)
    this.join(other, stream)
  }

  /** What comes from one side goes to the other. */
  join(from: CircuitStream, to: CircuitStream): void {
    let waitingBytes = 0
    const look = (): void => {
      if (from.status !== 'open') return
      const isFull = waitingBytes + (to.writeBufferLength ?? 0) > MAX_WAITING_BYTES
      const waitMs = this.#bucket.waitMs(this.#clock.monotonicMs())
      if (isFull || waitMs > 0) {
        if (from.readStatus === 'readable') from.pause()
      } else if (from.readStatus === 'paused') from.resume()
      if (waitMs > 0) this.#lookIn(waitMs)
    }
    const send = to.send.bind(to)
    to.send = data => {
      waitingBytes -= data.byteLength
      const hasRoom = send(data)
      look()
      return hasRoom
    }
    from.addEventListener('message', ({ data }) => {
      waitingBytes += data.byteLength
      this.#bytes += data.byteLength
      this.#bucket.take(data.byteLength, this.#clock.monotonicMs())
      look()
    })
    to.addEventListener('drain', look)
    this.#directions.set(from, look)
    from.addEventListener('close', () => this.#directions.delete(from), { once: true })
  }

  #lookIn(waitMs: number): void {
    this.#timer ??= this.#clock.after(waitMs, () => {
      this.#timer = undefined
      for (const look of this.#directions.values()) look()
    })
  }
}
