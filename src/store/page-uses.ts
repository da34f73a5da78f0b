/**
 * When the pages of images were last used: one number of minutes for each page of 1,024 blocks.
 *
 * A use is a store into an array, if that: `locate` notes it for every read, and most reads find the minute noted
 * already. The arrays are in shared memory, for disks that are served by threads. They are written down every few
 * minutes, as far as they changed, so a crash forgets some minutes of use and nothing else.
 *
 * Owns: the table `uses` (image/group of 1,024 pages -> minutes as little-endian uint32).
 */
import { BLOCK_SIZE_BYTES, INDEX_FANOUT, MAX_IMAGE_BYTES } from '../cluster.ts'
import { bytesCodec, type Catalog, type Operation, type Table } from './catalog.ts'

const PAGES_PER_ENTRY = 1024
const MINUTE_MS = 60_000

/** The minute that a use is noted with: one, in shared memory, kept up to date by whoever has a clock (evictor.ts). */
export class UseClock {
  readonly shared = new Uint32Array(new SharedArrayBuffer(Uint32Array.BYTES_PER_ELEMENT))

  get minute(): number {
    return this.shared[0]!
  }

  set minute(minute: number) {
    this.shared[0] = minute
  }
}

export function minuteOf(wallMs: number): number {
  return Math.max(0, Math.floor(wallMs / MINUTE_MS))
}

interface Uses {
  minutes: Uint32Array
  /** As written down. */
  saved: Uint32Array
}

export class PageUses {
  readonly clock = new UseClock()
  readonly #catalog: Catalog
  readonly #table: Table<Uint8Array>
  readonly #open = new Map<string, Uses>()

  constructor(catalog: Catalog) {
    this.#catalog = catalog
    this.#table = catalog.table('uses', bytesCodec)
  }

  /** The last uses of an image's pages, to be kept up to date from now on. */
  open(image: string, pages: number): Uint32Array {
    const minutes = new Uint32Array(new SharedArrayBuffer(pages * Uint32Array.BYTES_PER_ELEMENT))
    minutes.set(this.read(image, pages))
    this.#open.set(image, { minutes, saved: minutes.slice() })
    return minutes
  }

  /** The last uses of an image's pages as they are now, of one that is not open from the catalog. */
  read(image: string, pages: number): Uint32Array {
    const open = this.#open.get(image)
    if (open !== undefined) return open.minutes
    const minutes = new Uint32Array(pages)
    for (let first = 0; first < pages; first += PAGES_PER_ENTRY) {
      const bytes = this.#table.getSync(keyOf(image, first))
      if (bytes === undefined) continue
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      const count = Math.min(PAGES_PER_ENTRY, pages - first, Math.floor(bytes.byteLength / 4))
      for (let index = 0; index < count; index++) minutes[first + index] = view.getUint32(index * 4, true)
    }
    return minutes
  }

  /** Keeps an image's uses up to date no longer. Returns what writes them down. */
  close(image: string): Operation[] {
    const uses = this.#open.get(image)
    this.#open.delete(image)
    return uses === undefined ? [] : this.#changes(image, uses)
  }

  /** What forgets an image's uses; nothing of it is written down after this call. */
  forgetOps(image: string): Operation[] {
    const pages = this.#open.get(image)?.minutes.length ?? MAX_IMAGE_BYTES / BLOCK_SIZE_BYTES / INDEX_FANOUT
    this.#open.delete(image)
    const entries = Math.ceil(pages / PAGES_PER_ENTRY)
    return Array.from({ length: entries }, (_, i) => this.#table.deleteOp(keyOf(image, i * PAGES_PER_ENTRY)))
  }

  /** Writes down what has changed. Throws DISK_FULL or STORE_IO. */
  async save(): Promise<void> {
    await this.#catalog.write([...this.#open].flatMap(([image, uses]) => this.#changes(image, uses)))
  }

  /** What writes down what has changed since the last time. */
  #changes(image: string, { minutes, saved }: Uses): Operation[] {
    const operations: Operation[] = []
    for (let first = 0; first < minutes.length; first += PAGES_PER_ENTRY) {
      const end = Math.min(first + PAGES_PER_ENTRY, minutes.length)
      const now = minutes.slice(first, end)
      if (now.every((minute, index) => minute === saved[first + index])) continue
      operations.push(this.#table.putOp(keyOf(image, first), encode(now)))
      saved.set(now, first)
    }
    return operations
  }
}

function keyOf(image: string, firstPage: number): string {
  return `${image}/${(firstPage / PAGES_PER_ENTRY).toString(16).padStart(4, '0')}`
}

function encode(minutes: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(minutes.length * 4)
  const view = new DataView(bytes.buffer)
  for (const [index, minute] of minutes.entries()) view.setUint32(index * 4, minute, true)
  return bytes
}
