/**
 * The pool: every verified block that this peer keeps, once, whatever images it belongs to.
 *
 * A block lies in a slot of a segment file (segment-files.ts). Which block is in which slot is kept twice: in the
 * catalog's table `pool` (slot-entries.ts), to be found again, and in memory (slot-table.ts), to be found fast.
 *
 * The way of a block in (pool-intake.ts): a slot is reserved; the bytes are written; then the entry; then `find` knows it. So an entry
 * never leads to bytes that were not written, except after a power loss, when the one may have reached the disk and the
 * other not. Hence the mark: `open` is written at opening and `closed` at closing, after everything was synced. A pool
 * found `open` was not closed, and all its slots are *suspect*: each is hashed at its first touch. What is still
 * suspect when the pool closes is written down too.
 *
 * After a sync that failed nobody knows what is on the disk, and the page cache does not tell (segment-files.ts). Then what was
 * not synced is dropped, nothing more is taken, and the next pool has the cache forgotten before it hashes anything. (Writing
 * again what the cache shows was tried: ext4 had the extents of a failed first write still down as unwritten, and they read as
 * zeros after a restart, though the second sync had ended well.)
 *
 * A slot that was dropped is *retired*, not free: a disk may still know its number. It is given out again only after
 * every reader has let go of it (slot-readers.ts), and a segment file that has become empty is unlinked then.
 *
 * Owns: the segment files, the tables `pool` and `pool-suspects`, and its mark. Does not own: which blocks are wanted,
 * and which go when it is full (evictor.ts, which makes room when asked).
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { type Hash, sameHash, sha256, toHex } from '../image/hash.ts'
import type { Catalog } from './catalog.ts'
import { EmptySegments } from './empty-segments.ts'
import { FreeSpace } from './free-space.ts'
import type { HashedBlock } from './pool-blocks.ts'
import { PoolIntake } from './pool-intake.ts'
import { closingOperations, doubtOperation, type LoadedPool, loadPool } from './pool-load.ts'
import type { DroppedBlocks, PoolComponents, PoolSettings, RoomMaker } from './pool-types.ts'
import { SegmentFiles, SLOTS_PER_SEGMENT } from './segment-files.ts'
import type { SlotAllocator } from './slot-allocator.ts'
import type { SlotEntries } from './slot-entries.ts'
import { SlotHold } from './slot-hold.ts'
import { SlotReaders } from './slot-readers.ts'
import type { SlotTable } from './slot-table.ts'
import type { Suspects } from './suspects.ts'

export type { HashedBlock } from './pool-blocks.ts'
export type { DroppedBlocks, PoolComponents, PoolSettings, RoomMaker } from './pool-types.ts'

/** Left free on the disk for the catalog, and for what machines write. */
const DEFAULT_MIN_FREE_BYTES = 64 * 1024 * 1024

export class Pool {
  /** Folder of the segment files. */
  readonly directory: string
  /** Where disks that are served by other threads join. */
  readonly readers = new SlotReaders()
  readonly #catalog: Catalog
  readonly #log: Log
  readonly #entries: SlotEntries
  readonly #files: SegmentFiles
  readonly #table: SlotTable
  readonly #allocator: SlotAllocator
  readonly #suspects: Suspects
  readonly #maxBlocks: number
  readonly #intake: PoolIntake
  readonly #dropListeners = new Set<(dropped: DroppedBlocks) => void>()
  readonly #slotHolds = new Set<SlotHold>()
  readonly #emptySegments: EmptySegments
  readonly #scratch = Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES)
  #retired = 0
  #isClosed = false
  /** Why the next opening must trust nothing: this pool is not marked as closed. */
  #uncleanBecause: RowanError | undefined

  /**
   * Finds the blocks again; rebuilds the table from the segments where the catalog has lost it.
   *
   * Throws HOME_UNUSABLE, CATALOG_CORRUPT, DISK_FULL or STORE_IO.
   */
  static async open(components: PoolComponents, settings: PoolSettings): Promise<Pool> {
    const files = new SegmentFiles(components.directory)
    try {
      const loaded = await loadPool(files, components.catalog, components.log)
      return new Pool(components, settings, files, loaded)
    } catch (error) {
      await files.close()
      throw asRowanError(error, 'STORE_IO', `the pool in ${components.directory} cannot be opened`)
    }
  }

  private constructor(components: PoolComponents, settings: PoolSettings, files: SegmentFiles, loaded: LoadedPool) {
    this.directory = components.directory
    this.#catalog = components.catalog
    this.#log = components.log
    this.#entries = loaded.entries
    this.#files = files
    this.#table = loaded.table
    this.#allocator = loaded.allocator
    this.#suspects = loaded.suspects
    files.onFailure(slots => this.#syncFailed(slots))
    const { allocator, segments } = loaded
    this.#emptySegments = new EmptySegments({ files, allocator, readers: this.readers, log: this.#log })
    this.#emptySegments.freed(segments.map(segment => segment * SLOTS_PER_SEGMENT))
    this.#maxBlocks = Math.floor(settings.quotaBytes / BLOCK_SIZE_BYTES)
    const freeSpace = new FreeSpace(components.directory, settings.minFreeBytes ?? DEFAULT_MIN_FREE_BYTES)
    this.#intake = new PoolIntake(
      { files, freeSpace, ...loaded },
      {
        level: () => this.level,
        mustTakeWrites: () => this.#mustTakeWrites(),
        noted: written => this.#write(written),
        stored: slots => {
          // A sync failed behind their bytes, and before their entries: they were not there yet to be dropped with the others.
          if (this.#files.failure !== undefined) this.#dropUnsynced(slots)
        }
      }
    )
  }

  /** What is kept. */
  get usage(): { blocks: number; bytes: number } {
    return { blocks: this.#table.size, bytes: this.#table.size * BLOCK_SIZE_BYTES }
  }

  /** Slots that are taken, with those on their way in, and those retired; and how many the quota allows. */
  get level(): { takenBlocks: number; retiredBlocks: number; maxBlocks: number } {
    const takenBlocks = this.#table.size + this.#intake.blocks + this.#retired
    return { takenBlocks, retiredBlocks: this.#retired, maxBlocks: this.#maxBlocks }
  }

  /** All slots in use are below this. */
  get slotLimit(): number {
    return this.#allocator.limit
  }

  /** This one makes room from now on. */
  useRoomMaker(roomMaker: RoomMaker): void {
    this.#intake.useRoomMaker(roomMaker)
  }

  /** A view of this pool whose blocks are not evicted before it is released. */
  hold(): SlotHold {
    const hold = new SlotHold(this, ended => this.#slotHolds.delete(ended))
    this.#slotHolds.add(hold)
    return hold
  }

  /** The slot of the block with this hash, or -1. */
  find(hash: Hash): number {
    return this.#table.find(hash)
  }

  has(slot: number): boolean {
    return this.#table.has(slot)
  }

  /** The hash of the block in `slot`, undefined if there is none. */
  hashOf(slot: number): Hash | undefined {
    return this.#table.hashOf(slot)
  }

  /** As putMany, of one block. */
  async put(hash: Hash, block: Uint8Array): Promise<number> {
    const [slot] = await this.putMany([{ hash, block }])
    return slot!
  }

  /**
   * Keeps blocks that the caller has verified, and returns their slots in the same order. What is known already, or on
   * its way in, is not written again. The bytes must not change until the promise is settled. Survives the death of
   * the process when it resolves, and power loss after sync().
   *
   * Throws POOL_FULL, DISK_FULL, STORE_IO, BLOCK_INVALID (not 64 KiB) or LIMIT_EXCEEDED; then none of the blocks that
   * were new is kept, their slots are free, and the call can be repeated.
   *
   * A slot may be dropped again before its caller looks at it: `find` tells.
   *
   * @param slotsKnown - called with the slots as soon as they are reserved, before anything is written
   */
  putMany(entries: readonly HashedBlock[], slotsKnown?: (slots: readonly number[]) => void): Promise<number[]> {
    return this.#intake.putMany(entries, slotsKnown)
  }

  /**
   * One `pread` into `target`, which must lie within the block. Neither hashes nor looks at whether the slot is suspect:
   * LocalImage.locate has done that. Throws STORE_IO.
   */
  readSync(slot: number, offsetInBlock: number, target: Uint8Array): void {
    this.#files.readSync(slot, offsetInBlock, target)
  }

  /** Brings a part of a block into the page cache, off this thread, and calls `done`, whatever came of it. */
  warm(slot: number, offsetInBlock: number, lengthBytes: number, done: () => void): void {
    this.#files.warm(slot, offsetInBlock, lengthBytes, done)
  }

  /** A whole block, hashed just now; undefined if it is rotten, and then it is dropped. Throws STORE_IO. */
  async readVerified(slot: number, hash: Hash): Promise<Uint8Array | undefined> {
    const block = Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES)
    await this.#files.read(slot, block)
    if (sameHash(sha256(block), hash)) {
      if (this.#holds(slot, hash)) this.#suspects.clear(slot)
      return block
    }
    this.#dropRotten(slot, hash)
    return undefined
  }

  isSuspect(slot: number): boolean {
    return this.#suspects.has(slot)
  }

  /** Whether `slot` really holds the block with this hash. If not, or if it cannot be read, the block is dropped. */
  confirm(slot: number, hash: Hash): boolean {
    try {
      this.#files.readSync(slot, 0, this.#scratch)
      if (sameHash(sha256(this.#scratch), hash)) {
        if (this.#holds(slot, hash)) this.#suspects.clear(slot)
        return true
      }
    } catch (error) {
      this.#log.warn('a block cannot be read', { slot, error: asRowanError(error).message })
    }
    this.#dropRotten(slot, hash)
    return false
  }

  /** Forgets a block; its slot, or -1. Call `reclaim` once nobody uses that number any more. */
  async drop(hash: Hash): Promise<number> {
    const slot = this.#table.find(hash)
    if (slot === -1) return slot
    this.#retire(new Map([[slot, hash]]))
    await this.#write(this.#entries.remove([slot]))
    return slot
  }

  /**
   * Forgets blocks, except those that are held; their slots are given out again once every reader has let go. Returns
   * how many went. Throws STORE_IO or DISK_FULL; they are gone all the same.
   */
  async evict(slots: readonly number[]): Promise<number> {
    const dropped = new Map<number, Hash>()
    for (const slot of slots) {
      const hash = this.#table.hashOf(slot)
      if (hash !== undefined && !this.isHeld(slot)) dropped.set(slot, hash)
    }
    if (dropped.size > 0) await this.#forget(dropped)
    return dropped.size
  }

  isHeld(slot: number): boolean {
    for (const hold of this.#slotHolds) if (hold.has(slot)) return true
    return false
  }

  /** `slot`, which was dropped, may hold another block. */
  reclaim(slot: number): void {
    if (this.#table.hashOf(slot) !== undefined || !this.#allocator.isTaken(slot)) return
    if (this.#intake.isTaking(slot)) return
    this.#allocator.free(slot)
    this.#retired--
  }

  /** Called, synchronously, for blocks that are dropped. Returns how to end that. */
  onDropped(listener: (dropped: DroppedBlocks) => void): () => void {
    this.#dropListeners.add(listener)
    return () => this.#dropListeners.delete(listener)
  }

  /** All that was put before the call survives power loss afterwards. Throws STORE_IO or DISK_FULL. */
  async sync(): Promise<void> {
    await this.#intake.settled()
    await this.#files.sync()
    await this.#catalog.write([], { sync: true })
  }

  /** Syncs, leaves the mark of a clean stop, and closes the files. Throws what sync() throws, closed all the same. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    try {
      await this.sync()
      const operations = closingOperations(this.#catalog, this.#suspects)
      if (this.#uncleanBecause === undefined) await this.#catalog.write(operations, { sync: true })
      else this.#log.warn('the pool is not marked as closed', { because: this.#uncleanBecause.message })
    } finally {
      await this.#files.close()
    }
  }

  #mustTakeWrites(): void {
    if (this.#isClosed) throw new RowanError('STORE_IO', 'the pool is closed')
    if (this.#files.failure !== undefined) throw this.#files.failure
  }

  #syncFailed(slots: readonly number[]): void {
    this.#log.warn(
      'the pool could not be synced: it takes no more blocks until the next start, and drops what is not on the disk',
      {
        error: this.#files.failure?.message,
        blocks: slots.length
      }
    )
    this.#catalog.write([doubtOperation(this.#catalog)], { sync: true }).catch((error: unknown) => {
      this.#log.warn('that the pool could not be synced is not written down', { error: asRowanError(error).message })
    })
    this.#dropUnsynced(slots)
  }

  /** Also what is held, or pinned: whoever needs it has not been told yet that it is durable. */
  #dropUnsynced(slots: readonly number[]): void {
    const dropped = new Map<number, Hash>()
    for (const slot of slots) {
      const hash = this.#table.hashOf(slot)
      if (hash !== undefined) dropped.set(slot, hash)
    }
    if (dropped.size === 0) return
    this.#forget(dropped).catch((error: unknown) => {
      this.#log.warn('blocks that are not on the disk could not be forgotten', { error: asRowanError(error).message })
    })
  }

  #holds(slot: number, hash: Hash): boolean {
    return this.#table.find(hash) === slot
  }

  #dropRotten(slot: number, hash: Hash): void {
    // Another block may be in the slot by now, or the block have been dropped already.
    if (!this.#holds(slot, hash)) return
    this.#log.warn('a block has rotted, and is dropped', { slot, hash: toHex(hash) })
    this.#forget(new Map([[slot, hash]])).catch((error: unknown) => {
      this.#log.warn('a rotten block could not be forgotten', { slot, error: asRowanError(error).message })
    })
  }

  /** After a failure the entries may not be what is in the slots: then nothing is trusted at the next opening. */
  async #write(written: Promise<void>): Promise<void> {
    try {
      await written
    } catch (error) {
      this.#uncleanBecause ??= asRowanError(error, 'STORE_IO')
      throw error
    }
  }

  /** Drops blocks whose slots are free once every reader has let go of them, and no entry leads there any more. */
  async #forget(dropped: DroppedBlocks): Promise<void> {
    this.#retire(dropped)
    const slots = [...dropped.keys()]
    try {
      await this.#write(this.#entries.remove(slots))
    } finally {
      this.readers.retire({ slots }, () => {
        for (const slot of slots) this.#allocator.free(slot)
        this.#retired -= slots.length
        this.#emptySegments.freed(slots)
      })
    }
  }

  #retire(dropped: DroppedBlocks): void {
    for (const slot of dropped.keys()) {
      this.#table.delete(slot)
      this.#suspects.clear(slot)
    }
    this.#retired += dropped.size
    for (const listener of this.#dropListeners) listener(dropped)
  }
}
