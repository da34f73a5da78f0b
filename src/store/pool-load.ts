/**
 * How a pool finds its blocks again: from the catalog's table, or, where that is lost, from the segments themselves.
 *
 * The blocks are their own index: the hash of what lies in a slot says what it is. So a pool whose table was lost, or
 * whose catalog was repaired, reads every slot once (at about 1 GB/s) and is whole again.
 */
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { asRowanError } from '../errors.ts'
import { isZero } from '../image/block.ts'
import { sha256 } from '../image/hash.ts'
import { bytesCodec, type Catalog, jsonCodec, MARKS_TABLE, type Operation, type Table } from './catalog.ts'
import { type SegmentFiles, SLOTS_PER_SEGMENT } from './segment-files.ts'
import { SlotAllocator } from './slot-allocator.ts'
import { SlotEntries } from './slot-entries.ts'
import { SlotTable } from './slot-table.ts'
import { Suspects } from './suspects.ts'

/** Segment -> the bitmap of its slots that were still suspect when the pool was closed. */
const SUSPECTS_TABLE = 'pool-suspects'
/** The pool's entry in the table of marks. */
const POOL_MARK = 'pool'

export interface PoolMark {
  state: 'open' | 'closed'
  /** A sync failed: what is in the page cache may not be on the disk, though the system says so. */
  isInDoubt?: boolean
}

export interface LoadedPool {
  table: SlotTable
  entries: SlotEntries
  allocator: SlotAllocator
  suspects: Suspects
  /** The segments that have a file. */
  segments: number[]
}

/** Throws CATALOG_CORRUPT, DISK_FULL or STORE_IO. Leaves the pool marked as open. */
export async function loadPool(files: SegmentFiles, catalog: Catalog, log: Log): Promise<LoadedPool> {
  const segments = files.list()
  const marks = catalog.table(MARKS_TABLE, jsonCodec<PoolMark>())
  const suspectPages = catalog.table(SUSPECTS_TABLE, bytesCodec)
  const mark = await marks.get(POOL_MARK)
  const table = new SlotTable()
  const entries = new SlotEntries(catalog, table)
  const pool: LoadedPool = {
    table,
    entries,
    allocator: new SlotAllocator(),
    suspects: new Suspects(),
    segments: [...segments.keys()]
  }

  const operations: Operation[] = []
  if (mark === undefined && segments.size > 0) {
    await rebuild(pool, files, segments, catalog, log)
  } else {
    operations.push(...(await readTable(pool, segments, log)))
    await loadSuspects(pool, mark, suspectPages, log)
  }
  // What the process before has written is in the cache, and it did not stay to see it on the disk.
  if (mark?.state !== 'closed') files.mustSync(segments.keys())
  const isInDoubt = mark?.isInDoubt === true && !(await dropCache(files, segments, log))
  for await (const [page] of suspectPages.entries()) operations.push(suspectPages.deleteOp(page))
  operations.push(marks.putOp(POOL_MARK, { state: 'open', isInDoubt }))
  await catalog.write(operations, { sync: true })
  return pool
}

/** Before any block is hashed: it is the disk that is to be looked at. @returns whether that worked */
async function dropCache(files: SegmentFiles, segments: ReadonlyMap<number, number>, log: Log): Promise<boolean> {
  try {
    await files.dropCache(segments.keys())
    return true
  } catch (error) {
    log.warn('after a sync that failed the cache may show what is not on the disk; restart the computer', {
      error: asRowanError(error).message
    })
    return false
  }
}

/** @returns what to write: without the slots that are not in the files, or whose blocks came twice */
async function readTable(
  { table, entries, allocator }: LoadedPool,
  segments: ReadonlyMap<number, number>,
  log: Log
): Promise<Operation[]> {
  const gone: number[] = []
  for await (const { slot, hash } of entries.load()) {
    const slotsInFile = segments.get(Math.floor(slot / SLOTS_PER_SEGMENT)) ?? 0
    if (slot % SLOTS_PER_SEGMENT >= slotsInFile || table.find(hash) !== -1) {
      gone.push(slot)
      continue
    }
    table.set(slot, hash)
    allocator.mark(slot)
  }
  if (gone.length > 0) log.warn('blocks are not where the catalog says, and are dropped', { blocks: gone.length })
  return entries.operations(gone)
}

async function loadSuspects(
  { table, suspects }: LoadedPool,
  mark: PoolMark | undefined,
  pages: Table<Uint8Array>,
  log: Log
): Promise<void> {
  if (mark?.state === 'closed') {
    for await (const [page, bits] of pages.entries()) suspects.load(Number(page), bits)
    return
  }
  if (table.size === 0) return
  log.info('the pool was not closed; every block is checked when it is first used', { blocks: table.size })
  for (const slot of table.slots()) suspects.add(slot)
}

/** Reads and hashes every slot of every segment. A zero slot was never written, since zero blocks are not stored. */
async function rebuild(
  { table, entries, allocator }: LoadedPool,
  files: SegmentFiles,
  segments: ReadonlyMap<number, number>,
  catalog: Catalog,
  log: Log
): Promise<void> {
  log.warn('the table of the pool is lost; it is made again from the blocks', { segments: segments.size })
  await entries.clear()
  const block = Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES)
  for (const [segment, slotsInFile] of segments) {
    const found: number[] = []
    for (let slot = segment * SLOTS_PER_SEGMENT; slot < segment * SLOTS_PER_SEGMENT + slotsInFile; slot++) {
      await files.read(slot, block)
      if (isZero(block)) continue
      const hash = sha256(block)
      if (table.find(hash) !== -1) continue
      table.set(slot, hash)
      allocator.mark(slot)
      found.push(slot)
    }
    await catalog.write(entries.operations(found))
  }
  log.info('the table of the pool was made again', { blocks: table.size })
}

/** What is written when a sync has failed. */
export function doubtOperation(catalog: Catalog): Operation {
  return catalog.table(MARKS_TABLE, jsonCodec<PoolMark>()).putOp(POOL_MARK, { state: 'open', isInDoubt: true })
}

/** What is written when a pool is closed after everything in it was synced. */
export function closingOperations(catalog: Catalog, suspects: Suspects): Operation[] {
  const marks = catalog.table(MARKS_TABLE, jsonCodec<PoolMark>())
  const pages = catalog.table(SUSPECTS_TABLE, bytesCodec)
  const operations = [...suspects.pages()].map(([page, bits]) => pages.putOp(String(page), bits))
  return [...operations, marks.putOp(POOL_MARK, { state: 'closed' })]
}
