/**
 * The block source of a disk that runs in a thread of its own: it asks the main thread, where the swarm is.
 *
 * Not more than MAX_WANTS are asked for at a time; those that wait for their turn go in the order of their priorities.
 * How many may wait is limited by who asks: the requests in flight of NBD clients, the window of the read-ahead.
 */
import { RowanError } from '../errors.ts'
import {
  type BlockSource,
  type ObtainedBlock,
  PRIORITIES,
  type Priority,
  type WantOptions
} from '../store/block-source.ts'
import { type FromDisk, MAX_WANTS } from './disk-messages.ts'

interface Want {
  block: number
  priority: Priority
  asBytes: boolean
  resolve(obtained: ObtainedBlock): void
  reject(error: RowanError): void
  /** Its number, once it was asked for. */
  number?: number
}

export class BlockLink implements BlockSource {
  readonly #post: (message: FromDisk) => void
  readonly #asked = new Map<number, Want>()
  /** Those that wait for their turn, for each priority. */
  readonly #waiting: Set<Want>[] = PRIORITIES.map(() => new Set())
  #lastNumber = 0

  constructor(post: (message: FromDisk) => void) {
    this.#post = post
  }

  /** See BlockSource. The image is always the disk's. */
  want(_image: string, block: number, priority: Priority, options: WantOptions = {}): Promise<ObtainedBlock> {
    const { signal, asBytes = false } = options
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(notWanted(block))
        return
      }
      const giveUp = () => this.#giveUp(want)
      const ended = () => signal?.removeEventListener('abort', giveUp)
      const want: Want = {
        ...{ block, priority, asBytes },
        resolve: obtained => {
          ended()
          resolve(obtained)
        },
        reject: error => {
          ended()
          reject(error)
        }
      }
      signal?.addEventListener('abort', giveUp, { once: true })
      this.#waiting[PRIORITIES.indexOf(priority)]!.add(want)
      this.#askNext()
    })
  }

  /** The block is in the pool, and its slot in the page; or here are its bytes. */
  came(number: number, obtained: ObtainedBlock): void {
    this.#over(number)?.resolve(obtained)
  }

  notCame(number: number, error: RowanError): void {
    this.#over(number)?.reject(error)
  }

  #over(number: number): Want | undefined {
    const want = this.#asked.get(number)
    this.#asked.delete(number)
    this.#askNext()
    return want
  }

  #askNext(): void {
    while (this.#asked.size < MAX_WANTS) {
      const queue = this.#waiting.find(({ size }) => size > 0)
      if (queue === undefined) return
      const [want] = queue
      queue.delete(want!)
      const { block, priority, asBytes } = want!
      want!.number = ++this.#lastNumber
      this.#asked.set(want!.number, want!)
      this.#post({ type: 'want', want: want!.number, block, priority, asBytes })
    }
  }

  #giveUp(want: Want): void {
    for (const queue of this.#waiting) queue.delete(want)
    if (want.number !== undefined) {
      this.#post({ type: 'unwant', want: want.number })
      this.#over(want.number)
    }
    want.reject(notWanted(want.block))
  }
}

function notWanted(block: number): RowanError {
  return new RowanError('ABORTED', `block ${block} is not wanted any more`)
}
