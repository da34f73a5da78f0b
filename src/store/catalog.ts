/**
 * The catalog: everything small that must be found again, in named tables of one LevelDB.
 *
 * All writes pass through here one group at a time: what is asked for while a write is under way goes into the next
 * batch. That is fast (one log record, one fsync for many callers), and it is needed: after a failed append LevelDB
 * acknowledges further writes into a log that it cannot read back (seen with level 10: a full disk, then 100 writes
 * acknowledged, none of them there after reopening). So after a failure nothing is written before the log was changed.
 *
 * Owns: the folder. Does not own: what the tables mean (pool.ts, images.ts and other rooms).
 */
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Level } from 'level'
import { asRowanError, RowanError } from '../errors.ts'
import { catalogError, openError } from './catalog-errors.ts'
import { type Codec, CodedTable, type Operation, type Table } from './table.ts'

export { bytesCodec, type Codec, jsonCodec, type Operation, type Table } from './table.ts'

/** Statements about the store as a whole (see pool.ts). A repair may lose entries, so it empties this table. */
export const MARKS_TABLE = 'marks'

/** Operations that may wait for the next batch. */
const MAX_WAITING_OPERATIONS = 1_000_000
/** A write is refused with DISK_FULL rather than begun with less than this free: LevelDB needs room to compact. */
const MIN_FREE_BYTES = 2 * 1024 * 1024
/** How often the free space is looked at. */
const FREE_CHECK_OPERATIONS = 1024

/** What `level` has under Node, beyond the types that it shares with browsers. */
interface NativeLevel extends Level<string, Uint8Array> {
  compactRange(start: string, end: string): Promise<void>
}

interface Group {
  operations: Operation[]
  isSync: boolean
  written: PromiseWithResolvers<void>
}

export class Catalog {
  readonly #directory: string
  readonly #level: NativeLevel
  #next: Group | undefined
  #writing: Promise<void> | undefined
  #logIsDamaged = false
  #operationsUntilCheck = 0

  /** Throws HOME_IN_USE (another process has it), CATALOG_CORRUPT or HOME_UNUSABLE. Makes the folder if needed. */
  static async open(directory: string): Promise<Catalog> {
    checkNotGutted(directory)
    await makeFolder(directory)
    const level = newLevel(directory)
    try {
      await level.open()
    } catch (error) {
      throw openError(error, directory)
    }
    return new Catalog(directory, level)
  }

  /**
   * Brings a corrupt catalog back as far as LevelDB can. Entries may be lost: blocks are found again by their content
   * when the pool is opened next (because this empties the table of marks).
   */
  static async repair(directory: string): Promise<void> {
    await makeFolder(directory)
    try {
      await (Level as unknown as { repair(location: string): Promise<void> }).repair(directory)
    } catch (error) {
      throw openError(error, directory)
    }
    const catalog = await Catalog.open(directory)
    try {
      const operations: Operation[] = []
      const marks = catalog.#level.keys({ gt: `${MARKS_TABLE}!`, lt: `${MARKS_TABLE}"` })
      for await (const key of marks) operations.push({ type: 'del', key })
      await catalog.write(operations, { sync: true })
    } finally {
      await catalog.close()
    }
  }

  private constructor(directory: string, level: NativeLevel) {
    this.#directory = directory
    this.#level = level
  }

  /** A view of the entries of one table. Two with one name see the same entries. */
  table<V>(name: string, codec: Codec<V>): Table<V> {
    return new CodedTable(name, codec, this.#level, this, this.#directory)
  }

  /**
   * All or nothing, in this order, after everything written before. With `sync` this and all writes before it survive
   * power loss. Throws DISK_FULL or STORE_IO, and then nothing of it was done.
   */
  async write(operations: readonly Operation[], options: { sync?: boolean } = {}): Promise<void> {
    if (operations.length === 0 && options.sync !== true) return
    this.#next ??= { operations: [], isSync: false, written: Promise.withResolvers() }
    const group = this.#next
    if (group.operations.length + operations.length > MAX_WAITING_OPERATIONS) {
      throw new RowanError('LIMIT_EXCEEDED', `more than ${MAX_WAITING_OPERATIONS} operations wait for the catalog`)
    }
    for (const operation of operations) group.operations.push(operation)
    group.isSync ||= options.sync === true
    this.#writing ??= this.#writeGroups()
    return group.written.promise
  }

  /** Waits for the writes under way. Throws STORE_IO. */
  async close(): Promise<void> {
    await this.#writing
    try {
      await this.#level.close()
    } catch (error) {
      throw catalogError(error, this.#directory)
    }
  }

  /** Never rejects: every group's own promise tells its callers. */
  async #writeGroups(): Promise<void> {
    for (let group = this.#next; group !== undefined; group = this.#next) {
      this.#next = undefined
      try {
        await this.#writeGroup(group)
        group.written.resolve()
      } catch (error) {
        group.written.reject(catalogError(error, this.#directory))
      }
    }
    this.#writing = undefined
  }

  async #writeGroup({ operations, isSync }: Group): Promise<void> {
    this.#operationsUntilCheck -= operations.length
    if (this.#operationsUntilCheck < 0 || this.#logIsDamaged) {
      await checkFreeSpace(this.#directory)
      this.#operationsUntilCheck = FREE_CHECK_OPERATIONS
    }
    if (this.#logIsDamaged) await this.#changeLog()
    // LevelDB syncs its log with a write, and an empty batch is none.
    const batch = operations.length > 0 ? operations : [{ type: 'del' as const, key: 'synced!' }]
    try {
      await this.#level.batch(batch as Operation[], { sync: isSync })
    } catch (error) {
      this.#logIsDamaged = true
      throw error
    }
  }

  /** Compacting an empty range moves what is in memory into a table of its own and begins a new log. */
  async #changeLog(): Promise<void> {
    try {
      await this.#level.compactRange('', '')
    } catch {
      // LevelDB refuses everything after a failed compaction. Reads fail with STORE_IO while it is opened again.
      await this.#level.close()
      await this.#level.open()
    }
    this.#logIsDamaged = false
  }
}

function newLevel(directory: string): NativeLevel {
  return new Level<string, Uint8Array>(directory, { keyEncoding: 'utf8', valueEncoding: 'view' }) as NativeLevel
}

async function makeFolder(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw asRowanError(error, 'HOME_UNUSABLE', `${directory} cannot be made`)
  }
}

/** LevelDB takes a folder without CURRENT for a new one, and would delete the tables that it finds there. */
function checkNotGutted(directory: string): void {
  if (!existsSync(directory) || existsSync(join(directory, 'CURRENT'))) return
  let files: string[]
  try {
    files = readdirSync(directory)
  } catch (error) {
    throw asRowanError(error, 'HOME_UNUSABLE', `${directory} cannot be read`)
  }
  const orphan = files.find(file => file.endsWith('.ldb') || file.startsWith('MANIFEST-'))
  if (orphan === undefined) return
  throw new RowanError('CATALOG_CORRUPT', `the catalog in ${directory} has lost its file CURRENT, but has ${orphan}`)
}

async function checkFreeSpace(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(directory))
  if (bavail * bsize >= MIN_FREE_BYTES) return
  throw new RowanError('DISK_FULL', `${bavail * bsize} bytes are free on the disk of ${directory}, too few to write`)
}
