/**
 * The images that this peer knows, each by its root; what is here of them is in local-image.ts.
 *
 * At most so many are open: one more takes the place of the one that was last used the longest ago, of those that nobody uses
 * (LocalImage.use). Whoever keeps one that it does not use hears of it (`onClosed`), or asks `isClosed`.
 *
 * Owns: the tables `images` (id -> root) and `nodes` (hash -> node of an index), and the images that are open.
 */
import { BLOCK_SIZE_BYTES, EAGER_INDEX_IMAGE_BYTES } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { nodeCount } from '../image/geometry.ts'
import { type Hash, toHex } from '../image/hash.ts'
import { decodeImageRoot, imageIdOf } from '../image/image-root.ts'
import { bytesCodec, type Catalog, type Operation, type Table } from './catalog.ts'
import { IndexTree } from './index-tree.ts'
import { LocalImage } from './local-image.ts'
import { PageUses } from './page-uses.ts'
import type { Pool } from './pool.ts'
import type { DroppedBlocks } from './pool-types.ts'

export type { NodeRef } from './index-tree.ts'
export { ABSENT, LocalImage, UNKNOWN, ZERO } from './local-image.ts'

/** Images open at once. */
export const MAX_OPEN_IMAGES = 1024
/** Nodes written to the catalog in one go: 8 MiB. */
const NODES_PER_WRITE = 256
/** Places of an index that are looked at between two turns of everybody else. */
const NODES_AT_A_STRETCH = 4096

/** An image that is being forgotten. */
interface Forgetting {
  readonly id: string
  /** Nodes that were asked for or written meanwhile: they stay, whatever the walk has found. */
  readonly touched: Set<string>
  /** The image was, before it was too late. */
  isAsked: boolean
  /** From when on it is too late. */
  written: Promise<void> | undefined
}

export class Images {
  /** When the pages of images were last used. */
  readonly uses: PageUses
  readonly #catalog: Catalog
  readonly #pool: Pool
  readonly #log: Log
  readonly #roots: Table<Uint8Array>
  /** As everybody uses it. */
  readonly #nodes: Table<Uint8Array>
  readonly #rawNodes: Table<Uint8Array>
  /** In the order of their last use. */
  readonly #open = new Map<string, LocalImage>()
  readonly #closedListeners = new Set<(image: LocalImage) => void>()
  readonly #lostListeners = new Set<(image: LocalImage, pages: readonly number[]) => void>()
  readonly #pageListeners = new Set<(image: LocalImage, page: number) => void>()
  readonly #stopListening: () => void
  /** Of images that are being made: what they have written is in no root's index yet. */
  readonly #writers = new Set<IndexWriter>()
  #forgetting: Forgetting | undefined

  constructor({ catalog, pool, log }: { catalog: Catalog; pool: Pool; log: Log }) {
    this.#catalog = catalog
    this.#pool = pool
    this.#log = log
    this.#roots = catalog.table('images', bytesCodec)
    this.#rawNodes = catalog.table('nodes', bytesCodec)
    this.#nodes = this.#watched(this.#rawNodes)
    this.uses = new PageUses(catalog)
    this.#stopListening = pool.onDropped(dropped => this.#dropped(dropped))
  }

  /** Called, synchronously, for an open image that lost blocks, with the pages where. Returns how to end that. */
  onLost(listener: (image: LocalImage, pages: readonly number[]) => void): () => void {
    this.#lostListeners.add(listener)
    return () => this.#lostListeners.delete(listener)
  }

  /** Called, synchronously, for a page of the index of an image that has just come. Returns how to end that. */
  onPage(listener: (image: LocalImage, page: number) => void): () => void {
    this.#pageListeners.add(listener)
    return () => this.#pageListeners.delete(listener)
  }

  /** Called, synchronously, for an image that nobody used and that was closed for another. Returns how to end that. */
  onClosed(listener: (image: LocalImage) => void): () => void {
    this.#closedListeners.add(listener)
    return () => this.#closedListeners.delete(listener)
  }

  /** Keeps a root, and opens its image. Known ones are just opened. Throws INDEX_INVALID, DISK_FULL, STORE_IO. */
  async create(rootBytes: Uint8Array): Promise<LocalImage> {
    const own = Uint8Array.from(rootBytes)
    decodeImageRoot(own)
    const id = imageIdOf(own)
    const known = await this.open(id)
    if (known !== undefined) return known
    this.#asked(id)
    await this.#roots.put(id, own)
    return this.#opened(id, own)
  }

  /** The image with this id, undefined if its root is not here. One object while it is open. */
  async open(id: string): Promise<LocalImage | undefined> {
    const open = this.#open.get(id)
    if (open !== undefined) {
      this.#toTheEnd(open)
      return open
    }
    await this.#asked(id)
    const rootBytes = await this.#root(id)
    return rootBytes === undefined ? undefined : this.#opened(id, rootBytes)
  }

  /** The index of an image, to walk through without opening it; undefined if its root is not here. */
  async index(id: string): Promise<IndexTree | undefined> {
    const rootBytes = this.#open.get(id)?.rootBytes ?? (await this.#root(id))
    return rootBytes === undefined ? undefined : new IndexTree(decodeImageRoot(rootBytes), this.#nodes, this.#log)
  }

  /** The ids of all images whose root is here. */
  async *list(): AsyncIterable<string> {
    for await (const [id] of this.#roots.entries()) yield id
  }

  /**
   * Keeps an image that was made here: its nodes in any order, then its root. All of it, and everything that was
   * written to the catalog before, survives power loss when it resolves; the pool's blocks need Pool.sync() before.
   *
   * @param nodes - as IndexBuilder emits them; for an image larger than memory use IndexWriter
   */
  async keep(rootBytes: Uint8Array, nodes: Iterable<[Hash, Uint8Array]>): Promise<LocalImage> {
    const writer = this.writer()
    try {
      for (const [hash, bytes] of nodes) {
        writer.add(hash, bytes)
        if (writer.isFull) await writer.drain()
      }
      return await writer.finish(rootBytes)
    } finally {
      writer.close()
    }
  }

  /** For an image that is being made here, node by node. To be closed. */
  writer(): IndexWriter {
    const writer = new IndexWriter(
      this.#catalog,
      this.#nodes,
      (id, rootBytes) => {
        this.#asked(id)
        return this.#roots.putOp(id, rootBytes)
      },
      (id, rootBytes) => this.#open.get(id) ?? this.#opened(id, rootBytes),
      closed => {
        this.#writers.delete(closed)
        // Its root may have come too late to be seen by the walk.
        if (this.#forgetting !== undefined) for (const key of closed.keys) this.#forgetting.touched.add(key)
      }
    )
    this.#writers.add(writer)
    return writer
  }

  /**
   * Forgets an image: its root, its uses, and the nodes of its index that no other image has. All in one, synced write.
   * Whoever has it open must have let go of it; its blocks are nobody's from then on.
   *
   * @param more - what is to be written with it; asked for when it is certain
   * @returns false, and nothing was changed, when somebody asked for the image meanwhile
   * @throws CATALOG_CORRUPT, DISK_FULL, STORE_IO
   */
  async forget(id: string, more: () => readonly Operation[] = () => []): Promise<boolean> {
    if (this.#forgetting !== undefined) throw new RowanError('INTERNAL', 'another image is being forgotten')
    const forgetting: Forgetting = { id, touched: new Set(), isAsked: false, written: undefined }
    this.#forgetting = forgetting
    try {
      this.#open.get(id)?.close()
      this.#open.delete(id)
      const own = await this.#nodeKeys(id)
      for await (const other of this.list()) {
        if (other !== id && own.size > 0) for (const key of await this.#nodeKeys(other)) own.delete(key)
      }
      if (forgetting.isAsked) return false
      const isNeeded = (key: string) =>
        forgetting.touched.has(key) || [...this.#writers].some(({ keys }) => keys.has(key))
      const operations = [...own].filter(key => !isNeeded(key)).map(key => this.#rawNodes.deleteOp(key))
      operations.push(...this.uses.forgetOps(id), this.#roots.deleteOp(id), ...more())
      forgetting.written = this.#catalog.write(operations, { sync: true })
      await forgetting.written
      return true
    } finally {
      this.#forgetting = undefined
    }
  }

  /** Somebody wants an image: it is not forgotten, or, where that is being written already, was not here. */
  async #asked(id: string): Promise<void> {
    const forgetting = this.#forgetting
    if (forgetting?.id !== id) return
    if (forgetting.written === undefined) forgetting.isAsked = true
    else await forgetting.written.catch(() => undefined)
  }

  /** The names of the nodes that an image's index has, as far as they are here. */
  async #nodeKeys(id: string): Promise<Set<string>> {
    const keys = new Set<string>()
    const rootBytes = await this.#root(id)
    if (rootBytes === undefined) return keys
    const tree = new IndexTree(decodeImageRoot(rootBytes), this.#rawNodes, this.#log)
    let untilRest = NODES_AT_A_STRETCH
    for (let level = tree.root.height; level >= 0; level--) {
      for (let position = 0; position < nodeCount(level, tree.root.blocks); position++) {
        const place = tree.hashAt(level, position)
        if (typeof place !== 'string') keys.add(toHex(place))
        if (--untilRest > 0) continue
        untilRest = NODES_AT_A_STRETCH
        await new Promise(resolve => setImmediate(resolve))
      }
    }
    return keys
  }

  #watched(nodes: Table<Uint8Array>): Table<Uint8Array> {
    const touch = (key: string) => this.#forgetting?.touched.add(key)
    return {
      get: key => {
        touch(key)
        return nodes.get(key)
      },
      getSync: key => {
        touch(key)
        return nodes.getSync(key)
      },
      put: (key, value, options) => {
        touch(key)
        return nodes.put(key, value, options)
      },
      putOp: (key, value) => {
        touch(key)
        return nodes.putOp(key, value)
      },
      delete: (key, options) => nodes.delete(key, options),
      deleteOp: key => nodes.deleteOp(key),
      entries: options => nodes.entries(options)
    }
  }

  /** Ends what open images do in the background. Nothing may be asked of them any more. */
  close(): void {
    this.#stopListening()
    for (const image of this.#open.values()) image.close()
    this.#open.clear()
  }

  async #root(id: string): Promise<Uint8Array | undefined> {
    const rootBytes = await this.#roots.get(id)
    if (rootBytes === undefined || imageIdOf(rootBytes) === id) return rootBytes
    throw new RowanError('CATALOG_CORRUPT', `the root of the image ${id} in the table images has another hash`)
  }

  #dropped(dropped: DroppedBlocks): void {
    for (const image of [...this.#open.values()]) {
      const { pages, isStale } = image.blocksDropped(dropped)
      if (isStale) this.#recount(image)
      if (pages.length > 0) for (const listener of this.#lostListeners) listener(image, pages)
    }
  }

  /** Synchronous, so that two callers never get two objects. */
  #opened(id: string, rootBytes: Uint8Array): LocalImage {
    const open = this.#open.get(id)
    if (open !== undefined) return open
    if (this.#open.size >= MAX_OPEN_IMAGES) this.#closeOne()
    const tree = new IndexTree(decodeImageRoot(rootBytes), this.#nodes, this.#log)
    const uses = { minutes: this.uses.open(id, nodeCount(0, tree.root.blocks)), clock: this.uses.clock }
    const onPage = (image: LocalImage, page: number) => {
      for (const listener of this.#pageListeners) listener(image, page)
    }
    const onUnused = () => this.#toTheEnd(image)
    const image = new LocalImage({ id, rootBytes, tree, pool: this.#pool, uses, onPage, onUnused })
    this.#open.set(id, image)
    if (image.root.blocks * BLOCK_SIZE_BYTES <= EAGER_INDEX_IMAGE_BYTES) image.countNow()
    else this.#recount(image)
    return image
  }

  /** Just used. */
  #toTheEnd(image: LocalImage): void {
    if (this.#open.get(image.id) !== image) return
    this.#open.delete(image.id)
    this.#open.set(image.id, image)
  }

  /** Makes room for one more. @throws LIMIT_EXCEEDED where all are used */
  #closeOne(): void {
    const unused = firstUnused(this.#open.values())
    if (unused === undefined) {
      throw new RowanError('LIMIT_EXCEEDED', `${MAX_OPEN_IMAGES} images are in use, which is the limit`)
    }
    this.#open.delete(unused.id)
    unused.close()
    this.#catalog.write(this.uses.close(unused.id)).catch((error: unknown) => {
      this.#log.warn('when an image was used could not be written down', { id: unused.id, error: asRowanError(error) })
    })
    for (const listener of this.#closedListeners) listener(unused)
  }

  #recount(image: LocalImage): void {
    image.recount().catch((error: unknown) => {
      const { message } = asRowanError(error)
      this.#log.warn('the blocks of an image could not be counted', { id: image.id, error: message })
    })
  }
}

function firstUnused(images: Iterable<LocalImage>): LocalImage | undefined {
  for (const image of images) if (!image.isUsed) return image
  return undefined
}

/** Takes the nodes of an image that is being made, and keeps few of them in memory; of the others their names. */
class IndexWriter {
  /** What it has taken: of no root's index yet, and needed all the same. */
  readonly keys = new Set<string>()
  readonly #catalog: Catalog
  readonly #nodes: Table<Uint8Array>
  readonly #rootOp: (id: string, rootBytes: Uint8Array) => Operation
  readonly #open: (id: string, rootBytes: Uint8Array) => LocalImage
  readonly #closed: (writer: IndexWriter) => void
  #waiting: Operation[] = []

  constructor(
    catalog: Catalog,
    nodes: Table<Uint8Array>,
    rootOp: (id: string, rootBytes: Uint8Array) => Operation,
    open: (id: string, rootBytes: Uint8Array) => LocalImage,
    closed: (writer: IndexWriter) => void
  ) {
    this.#catalog = catalog
    this.#nodes = nodes
    this.#rootOp = rootOp
    this.#open = open
    this.#closed = closed
  }

  /** Fits as what IndexBuilder emits to. The bytes are kept as they are. */
  readonly add = (hash: Hash, nodeBytes: Uint8Array): void => {
    const key = toHex(hash)
    this.keys.add(key)
    this.#waiting.push(this.#nodes.putOp(key, nodeBytes))
  }

  /** Whether `drain` should be called before more nodes come. */
  get isFull(): boolean {
    return this.#waiting.length >= NODES_PER_WRITE
  }

  /** Writes what has come so far. Throws DISK_FULL or STORE_IO. */
  async drain(): Promise<void> {
    const operations = this.#waiting
    this.#waiting = []
    await this.#catalog.write(operations)
  }

  /** Writes the rest and the root, synced, and opens the image. Throws INDEX_INVALID, DISK_FULL or STORE_IO. */
  async finish(rootBytes: Uint8Array): Promise<LocalImage> {
    const own = Uint8Array.from(rootBytes)
    decodeImageRoot(own)
    const id = imageIdOf(own)
    const operations = [...this.#waiting, this.#rootOp(id, own)]
    this.#waiting = []
    await this.#catalog.write(operations, { sync: true })
    return this.#open(id, own)
  }

  /** To be called at the end, finished or not: its nodes stay only for a root's sake from then on. */
  close(): void {
    this.#closed(this)
  }
}
