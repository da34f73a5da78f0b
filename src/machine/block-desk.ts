/**
 * What the main thread does for a disk that runs in a thread of its own: it tells it where blocks lie, has those fetched
 * that are not here, and keeps slots from being used again while the disk may still read them.
 *
 * The order of messages is what the disk relies on: a slot page is sent before the answer to a want that it is needed for.
 *
 * Slots that were dropped are told of by their epoch. The disk looks slots up and reads them in one turn of its event
 * loop, so when it comes to the message it is in the midst of no read, and its look-ups from then on find the slot gone
 * from the page: it lets go just by answering. One epoch is on its way at a time; later ones become one message.
 *
 * A block that comes as bytes is the disk's from then on: its memory goes over with the message, and is not copied. Where a
 * pool is so small that a block is evicted again and again before the disk has read it, the disk asks for its bytes.
 *
 * Owns: the disk's place among the pool's readers, its wants. Does not own: the thread (disk-thread.ts).
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import type { BlockSource, ObtainedBlock } from '../store/block-source.ts'
import { type LocalImage, ZERO } from '../store/images.ts'
import type { Pool } from '../store/pool.ts'
import type { RetiredBatch, SlotReaderHandle } from '../store/slot-readers.ts'
import type { SharedImage } from '../store/slot-view.ts'
import type { FromDisk, SentPage, ToDisk } from './disk-messages.ts'
import { packError } from './packed-error.ts'

/** Slot pages made and sent ahead, in the background: 256 GiB of an image. Those beyond are made when they are read. */
export const PAGES_AHEAD = 4096
/** A slot page that is here, or comes at once, is not sent alone: this many go together. */
const PAGES_PER_MESSAGE = 64

export interface BlockDeskComponents {
  image: LocalImage
  source: BlockSource
  pool: Pick<Pool, 'readers' | 'readSync'>
  log: Log
}

/** @param transfer - memory that goes over with the message */
export type PostToDisk = (message: ToDisk, transfer?: ArrayBuffer[]) => void

export class BlockDesk {
  /** What the thread needs to know of the image. */
  readonly image: SharedImage
  readonly #components: BlockDeskComponents
  readonly #reader: SlotReaderHandle
  readonly #endSharing: () => void
  readonly #wants = new Map<number, AbortController>()
  #post: PostToDisk | undefined
  #pages: SentPage[] = []
  /** The epoch that the disk was told of and has not let go of. */
  #toldEpoch: number | undefined
  /** Later ones. */
  #nextEpoch: number | undefined
  #nextSegments: number[] = []
  #isClosed = false

  /** Joins the pool's readers; nothing is said before `open`. */
  constructor(components: BlockDeskComponents) {
    this.#components = components
    this.#reader = components.pool.readers.join(batch => this.#retired(batch))
    const { image, end } = components.image.share((page, slots) => this.#pageMade({ page, slots }))
    this.image = image
    this.#endSharing = end
  }

  /** The slot pages that are here, for the start of the thread. Later ones are sent. */
  takePages(): SentPage[] {
    const pages = this.#pages
    this.#pages = []
    return pages
  }

  /** From now on messages go to the thread. */
  open(post: PostToDisk): void {
    this.#post = post
    this.#tellEpoch()
    this.#components.image
      .makePages(PAGES_AHEAD, () => this.#isClosed)
      .then(
        () => this.#sendPages(),
        (error: unknown) => {
          const { code, message } = asRowanError(error)
          this.#components.log.warn('an index could not be read ahead', { image: this.image.id, code, message })
        }
      )
  }

  take(message: Extract<FromDisk, { type: 'want' | 'unwant' | 'suspect' | 'letGo' }>): void {
    if (this.#isClosed) return
    switch (message.type) {
      case 'want':
        void this.#want(message)
        return
      case 'unwant':
        this.#wants.get(message.want)?.abort()
        return
      case 'suspect':
        this.#recheck(message.block)
        return
      case 'letGo':
        this.#letGo(message.epoch)
    }
  }

  /** The thread is gone: nobody waits for it any more, and nobody fetches for it. */
  close(): void {
    this.#isClosed = true
    this.#post = undefined
    this.#endSharing()
    this.#reader.leave()
    for (const want of this.#wants.values()) want.abort()
  }

  async #want({ want, block, priority, asBytes }: Extract<FromDisk, { type: 'want' }>): Promise<void> {
    const { image, source } = this.#components
    const abort = new AbortController()
    this.#wants.set(want, abort)
    try {
      // The disk asks whenever a slot page is no plain answer: perhaps the block is here.
      const slot = image.locate(block)
      const { signal } = abort
      let obtained = slot >= ZERO ? { slot } : await source.want(image.id, block, priority, { signal, asBytes })
      if (asBytes && 'slot' in obtained) obtained = this.#copy(block) ?? obtained
      this.#say({ type: 'came', want, obtained }, memoryOf(obtained))
    } catch (error) {
      this.#say({ type: 'notCame', want, error: packError(error) })
    } finally {
      this.#wants.delete(want)
    }
  }

  /** The bytes of a block, if it still is where it was: nothing is evicted between looking it up and reading it here. */
  #copy(block: number): ObtainedBlock | undefined {
    const slot = this.#components.image.locate(block)
    if (slot < 0) return undefined
    const bytes = new Uint8Array(BLOCK_SIZE_BYTES)
    try {
      this.#components.pool.readSync(slot, 0, bytes)
    } catch {
      // The disk will fail at it as well, and have it checked.
      return undefined
    }
    return { bytes }
  }

  #recheck(block: number): void {
    const { image, log } = this.#components
    try {
      image.recheck(block)
    } catch (error) {
      const { code, message } = asRowanError(error)
      log.warn('a block that could not be read could not be checked', { image: image.id, block, code, message })
    }
  }

  #retired({ epoch, segment }: RetiredBatch): void {
    this.#nextEpoch = epoch
    if (segment !== undefined) this.#nextSegments.push(segment)
    this.#tellEpoch()
  }

  #letGo(epoch: number): void {
    this.#reader.letGo(epoch)
    if (epoch !== this.#toldEpoch) return
    this.#toldEpoch = undefined
    this.#tellEpoch()
  }

  #tellEpoch(): void {
    if (this.#post === undefined || this.#toldEpoch !== undefined || this.#nextEpoch === undefined) return
    this.#toldEpoch = this.#nextEpoch
    this.#say({ type: 'retired', epoch: this.#nextEpoch, segments: this.#nextSegments })
    this.#nextEpoch = undefined
    this.#nextSegments = []
  }

  #pageMade(page: SentPage): void {
    this.#pages.push(page)
    if (this.#pages.length >= PAGES_PER_MESSAGE) this.#sendPages()
  }

  #say(message: ToDisk, transfer: ArrayBuffer[] = []): void {
    this.#sendPages()
    this.#post?.(message, transfer)
  }

  #sendPages(): void {
    if (this.#post === undefined || this.#pages.length === 0) return
    this.#post({ type: 'pages', pages: this.takePages() })
  }
}

/** Nothing where it is a part of something larger, which others may use. */
function memoryOf(obtained: ObtainedBlock): ArrayBuffer[] {
  if (!('bytes' in obtained)) return []
  const { buffer, byteLength } = obtained.bytes
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : []
}
