/**
 * How a pool finds its blocks again: from the catalog's table, or, where that is lost, from the segments themselves.
 *
 * The blocks are their own index: the hash of what lies in a slot says what it is. So a pool whose table was lost, or
 * whose catalog was repaired, reads every slot once (at about 1 GB/s) and is whole again.
 */
import { BLOCK_SIZE_BYTES, HASH_SIZE_BYTES } from '../cluster.ts'
import type { Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import { isZero } from '../image/block.ts'
import { sha256 } from '../image/hash.ts'
import { bytesCodec, type Catalog, jsonCodec, MARKS_TABLE, type Operation, type Table } from './catalog.ts'
import { type SegmentFiles, SLOTS_PER_SEGMENT } from './segment-files.ts'
import { SlotAllocator } from './slot-allocator.ts'
import { SlotTable } from './slot-table.ts'
import { Suspects } from './suspects.ts'

/** Slot, as slotKey() writes it -> the hash of the block in it. */
export const POOL_TABLE = 'pool'
/** Segment -> the bitmap of its slots that were still suspect when the pool was closed. */
export const SUSPECTS_TABLE = 'pool-suspects'
/** The pool's entry in the table of marks. */
export const POOL_MARK = 'pool'

export interface PoolMark {
  state: 'open' | 'closed'
}

export interface LoadedPool {
  table: SlotTable
  allocator: SlotAllocator
  suspects: Suspects
}

/** Slots fit into 31 bits; as text they sort as numbers, so what is put later lies later and LevelDB need not merge. */
export function slotKey(slot: number): string {
  return slot.toString(16).padStart(8, '0')
}

/** Throws CATALOG_CORRUPT, DISK_FULL or STORE_IO. Leaves the pool marked as open. */
export async function loadPool(files: SegmentFiles, catalog: Catalog, log: Log): Promise<LoadedPool> {
  const segments = files.list()
  const entries = catalog.table(POOL_TABLE, bytesCodec)
  const marks = catalog.table(MARKS_TABLE, jsonCodec<PoolMark>())
  const suspectPages = catalog.table(SUSPECTS_TABLE, bytesCodec)
  const mark = await marks.get(POOL_MARK)
  const pool: LoadedPool = { table: new SlotTable(), allocator: new SlotAllocator(), suspects: new Suspects() }

  const operations: Operation[] = []
  if (mark === undefined && segments.size > 0) {
    await rebuild(pool, files, segments, entries, catalog, log)
  } else {
    operations.push(...(await readTable(pool, segments, entries, log)))
    await loadSuspects(pool, mark, suspectPages, log)
  }
  for await (const [page] of suspectPages.entries()) operations.push(suspectPages.deleteOp(page))
  operations.push(marks.putOp(POOL_MARK, { state: 'open' }))
  await catalog.write(operations, { sync: true })
  return pool
}

/** @returns what to delete from the table: entries whose slots are not in the files, or whose blocks came twice */
async function readTable(
  { table, allocator }: LoadedPool,
  segments: ReadonlyMap<number, number>,
  entries: Table<Uint8Array>,
  log: Log
): Promise<Operation[]> {
  const gone: Operation[] = []
  for await (const [key, hash] of entries.entries()) {
    const slot = /^[0-7][0-9a-f]{7}$/.test(key) ? Number.parseInt(key, 16) : undefined
    if (slot === undefined || hash.byteLength !== HASH_SIZE_BYTES) {
      throw new RowanError('CATALOG_CORRUPT', `the entry ${JSON.stringify(key)} of the table ${POOL_TABLE} is no slot`)
    }
    const slotsInFile = segments.get(Math.floor(slot / SLOTS_PER_SEGMENT)) ?? 0
    if (slot % SLOTS_PER_SEGMENT >= slotsInFile || table.find(hash) !== -1) {
      gone.push(entries.deleteOp(key))
      continue
    }
    table.set(slot, hash)
    allocator.mark(slot)
  }
  if (gone.length > 0) log.warn('blocks are not where the catalog says, and are dropped', { blocks: gone.length })
  return gone
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
  { table, allocator }: LoadedPool,
  files: SegmentFiles,
  segments: ReadonlyMap<number, number>,
  entries: Table<Uint8Array>,
  catalog: Catalog,
  log: Log
): Promise<void> {
  log.warn('the table of the pool is lost; it is made again from the blocks', { segments: segments.size })
  const lost: Operation[] = []
  for await (const [key] of entries.entries()) lost.push(entries.deleteOp(key))
  await catalog.write(lost)
  const block = Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES)
  for (const [segment, slotsInFile] of segments) {
    const found: Operation[] = []
    for (let slot = segment * SLOTS_PER_SEGMENT; slot < segment * SLOTS_PER_SEGMENT + slotsInFile; slot++) {
      await files.read(slot, block)
      if (isZero(block)) continue
      const hash = sha256(block)
      if (table.find(hash) !== -1) continue
      table.set(slot, hash)
      allocator.mark(slot)
      found.push(entries.putOp(slotKey(slot), hash))
    }
    await catalog.write(found)
  }
  log.info('the table of the pool was made again', { blocks: table.size })
}
