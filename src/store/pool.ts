/**
 * The pool: every verified block that this peer keeps, once, whatever images it belongs to.
 *
 * A block lies in a slot of a segment file (segment-files.ts). Which block is in which slot is kept twice: in the
 * catalog's table `pool` (slot-entries.ts), to be found again, and in memory (slot-table.ts), to be found fast.
 *
 * The way of a block in: a slot is reserved; the bytes are written; then the entry; then `find` knows it. So an entry
 * never leads to bytes that were not written, except after a power loss, when the one may have reached the disk and the
 * other not. Hence the mark: `open` is written at opening and `closed` at closing, after everything was synced. A pool
 * found `open` was not closed, and all its slots are *suspect*: each is hashed at its first touch. What is still
 * suspect when the pool closes is written down too.
 *
 * A slot that was dropped is *retired*, not free: a disk may still know its number. It is given out again only after
 * `reclaim`, or at the next opening.
 *
 * Owns: the segment files, the tables `pool` and `pool-suspects`, and its mark. Does not own: which blocks are wanted.
 */
import { BLOCK_SIZE_BYTES, HASH_SIZE_BYTES } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { type Hash, sameHash, sha256, toHex } from '../image/hash.ts'
import { bytesCodec, type Catalog, jsonCodec, MARKS_TABLE, type Operation } from './catalog.ts'
import { FreeSpace } from './free-space.ts'
import { type LoadedPool, loadPool, POOL_MARK, type PoolMark, SUSPECTS_TABLE } from './pool-load.ts'
import { SegmentFiles } from './segment-files.ts'
import type { SlotAllocator } from './slot-allocator.ts'
import type { SlotEntries } from './slot-entries.ts'
import type { SlotTable } from './slot-table.ts'
import type { Suspects } from './suspects.ts'

/** Blocks whose puts are under way: 1 GiB of the callers' memory. */
export const MAX_PENDING_BLOCKS = 16_384
/** Left free on the disk for the catalog, and for what machines write. */
export const DEFAULT_MIN_FREE_BYTES = 64 * 1024 * 1024

export interface PoolComponents {
  /** Folder of the segment files. */
  directory: string
  catalog: Catalog
  log: Log
}

export interface PoolSettings {
  quotaBytes: number
  minFreeBytes?: number
}

/** A block as its hash and its 64 KiB. */
export interface HashedBlock {
  hash: Hash
  block: Uint8Array
}

interface PendingBlock extends HashedBlock {
  key: string
  slot: number
}

export class Pool {
  readonly #catalog: Catalog
  readonly #log: Log
  readonly #entries: SlotEntries
  readonly #files: SegmentFiles
  readonly #table: SlotTable
  readonly #allocator: SlotAllocator
  readonly #suspects: Suspects
  readonly #freeSpace: FreeSpace
  readonly #maxBlocks: number
  /** Blocks on their way in, by the text of their hash: a second put of one waits for the first. */
  readonly #pending = new Map<string, { slot: number; job: Promise<void> }>()
  readonly #jobs = new Set<Promise<void>>()
  readonly #dropListeners = new Set<(slot: number, hash: Hash) => void>()
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
    this.#catalog = components.catalog
    this.#log = components.log
    this.#entries = loaded.entries
    this.#files = files
    this.#table = loaded.table
    this.#allocator = loaded.allocator
    this.#suspects = loaded.suspects
    this.#freeSpace = new FreeSpace(components.directory, settings.minFreeBytes ?? DEFAULT_MIN_FREE_BYTES)
    this.#maxBlocks = Math.floor(settings.quotaBytes / BLOCK_SIZE_BYTES)
  }

  /** What is kept. */
  get usage(): { blocks: number; bytes: number } {
    return { blocks: this.#table.size, bytes: this.#table.size * BLOCK_SIZE_BYTES }
  }

  /** The slot of the block with this hash, or -1. */
  find(hash: Hash): number {
    return this.#table.find(hash)
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
   */
  async putMany(entries: readonly HashedBlock[]): Promise<number[]> {
    this.#mustTakeWrites()
    const slots: number[] = []
    const jobs = new Set<Promise<void>>()
    const fresh = new Map<string, HashedBlock>()
    const keys = entries.map(entry => keyOf(entry))
    for (const [index, entry] of entries.entries()) {
      if (this.#table.find(entry.hash) === -1 && !this.#pending.has(keys[index]!)) fresh.set(keys[index]!, entry)
    }
    if (fresh.size > 0) this.#begin(fresh)
    for (const [index, entry] of entries.entries()) {
      const pending = this.#pending.get(keys[index]!)
      if (pending !== undefined) jobs.add(pending.job)
      slots.push(pending?.slot ?? this.#table.find(entry.hash))
    }
    await Promise.all(jobs)
    return slots
  }

  /**
   * One `pread` into `target`, which must lie within the block. Neither hashes nor looks at whether the slot is suspect:
   * LocalImage.locate has done that. Throws STORE_IO.
   */
  readSync(slot: number, offsetInBlock: number, target: Uint8Array): void {
    this.#files.readSync(slot, offsetInBlock, target)
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
    } catch (error) {
      this.#log.warn('a block cannot be read', { slot, error: asRowanError(error).message })
      this.#dropRotten(slot, hash)
      return false
    }
    if (sameHash(sha256(this.#scratch), hash)) {
      if (this.#holds(slot, hash)) this.#suspects.clear(slot)
      return true
    }
    this.#dropRotten(slot, hash)
    return false
  }

  /**
   * Forgets a block. Its slot is retired: call `reclaim` once nobody uses its number any more.
   *
   * @returns the slot that it was in, or -1 if it was not here
   */
  async drop(hash: Hash): Promise<number> {
    const slot = this.#table.find(hash)
    if (slot === -1) return slot
    this.#retire(slot, hash)
    await this.#write(this.#entries.remove(slot))
    return slot
  }

  /** `slot`, which was dropped, may hold another block from now on. */
  reclaim(slot: number): void {
    if (this.#table.hashOf(slot) !== undefined || !this.#allocator.isTaken(slot)) return
    for (const pending of this.#pending.values()) if (pending.slot === slot) return
    this.#allocator.free(slot)
    this.#retired--
  }

  /** Called, synchronously, for each block that is dropped. Returns how to end that. */
  onDropped(listener: (slot: number, hash: Hash) => void): () => void {
    this.#dropListeners.add(listener)
    return () => this.#dropListeners.delete(listener)
  }

  /** All that was put before the call survives power loss afterwards. Throws STORE_IO or DISK_FULL. */
  async sync(): Promise<void> {
    // A put that fails tells its own caller.
    await Promise.allSettled([...this.#jobs])
    await this.#files.sync()
    await this.#catalog.write([], { sync: true })
  }

  /** Syncs, leaves the mark of a clean stop, and closes the files. Throws what sync() throws, closed all the same. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    try {
      await this.sync()
      if (this.#uncleanBecause === undefined) await this.#catalog.write(this.#closingOperations(), { sync: true })
      else this.#log.warn('the pool is not marked as closed', { because: this.#uncleanBecause.message })
    } finally {
      await this.#files.close()
    }
  }

  /** Reserves slots and starts to store. Throws POOL_FULL or LIMIT_EXCEEDED before anything has changed. */
  #begin(fresh: ReadonlyMap<string, HashedBlock>): void {
    const taken = this.#table.size + this.#pending.size + this.#retired
    if (taken + fresh.size > this.#maxBlocks) {
      throw new RowanError(
        'POOL_FULL',
        `${fresh.size} more blocks do not fit: ${taken} of the ${this.#maxBlocks} of 64 KiB in its quota are taken`
      )
    }
    if (this.#pending.size + fresh.size > MAX_PENDING_BLOCKS) {
      throw new RowanError(
        'LIMIT_EXCEEDED',
        `more than ${MAX_PENDING_BLOCKS} blocks would be on their way into the pool`
      )
    }
    const blocks: PendingBlock[] = []
    for (const [key, { hash, block }] of fresh) blocks.push({ key, hash, block, slot: this.#allocator.take() })
    // Begins in a microtask, so that `finally` below comes after the entries of `pending`.
    const job = Promise.resolve().then(() => this.#store(blocks))
    for (const { key, slot } of blocks) this.#pending.set(key, { slot, job })
    this.#jobs.add(job)
    const ended = () => {
      for (const { key } of blocks) this.#pending.delete(key)
      this.#jobs.delete(job)
    }
    job.then(ended, ended)
  }

  async #store(blocks: readonly PendingBlock[]): Promise<void> {
    try {
      await this.#freeSpace.take(blocks.length * BLOCK_SIZE_BYTES)
      for (const run of runsOf(blocks)) {
        await this.#files.write(
          run[0]!.slot,
          run.map(({ block }) => block)
        )
      }
      // Still set where an entry led nowhere when the pool was opened.
      for (const { slot } of blocks) this.#suspects.clear(slot)
      await this.#write(this.#entries.add(blocks))
    } catch (error) {
      for (const { slot } of blocks) this.#allocator.free(slot)
      throw error
    }
  }

  #mustTakeWrites(): void {
    if (this.#isClosed) throw new RowanError('STORE_IO', 'the pool is closed')
    if (this.#files.failure !== undefined) throw this.#files.failure
  }

  #holds(slot: number, hash: Hash): boolean {
    return this.#table.find(hash) === slot
  }

  #dropRotten(slot: number, hash: Hash): void {
    // Another block may be in the slot by now, or the block have been dropped already.
    if (!this.#holds(slot, hash)) return
    this.#log.warn('a block has rotted, and is dropped', { slot, hash: toHex(hash) })
    this.#retire(slot, hash)
    this.#write(this.#entries.remove(slot)).catch((error: unknown) => {
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

  #retire(slot: number, hash: Hash): void {
    this.#table.delete(slot)
    this.#suspects.clear(slot)
    this.#retired++
    for (const listener of this.#dropListeners) listener(slot, hash)
  }

  #closingOperations(): Operation[] {
    const marks = this.#catalog.table(MARKS_TABLE, jsonCodec<PoolMark>())
    const suspects = this.#catalog.table(SUSPECTS_TABLE, bytesCodec)
    const operations = [...this.#suspects.pages()].map(([page, bits]) => suspects.putOp(String(page), bits))
    return [...operations, marks.putOp(POOL_MARK, { state: 'closed' })]
  }
}

/** The text of a hash, as a key of a Map. Throws BLOCK_INVALID for what cannot be a block. */
function keyOf({ hash, block }: HashedBlock): string {
  if (hash.byteLength !== HASH_SIZE_BYTES || block.byteLength !== BLOCK_SIZE_BYTES) {
    throw new RowanError('BLOCK_INVALID', `a block of ${block.byteLength} bytes with a hash of ${hash.byteLength}`)
  }
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString('latin1')
}

/** Blocks whose slots follow each other, to be written in one go. */
function* runsOf(blocks: readonly PendingBlock[]): Iterable<PendingBlock[]> {
  let run: PendingBlock[] = []
  for (const block of blocks) {
    if (run.length > 0 && run.at(-1)!.slot + 1 !== block.slot) {
      yield run
      run = []
    }
    run.push(block)
  }
  if (run.length > 0) yield run
}
