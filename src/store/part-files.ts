/**
 * What is written beside its place, to be given its name when it is whole; and what is left of it when it never was.
 *
 * A folder that others use, too, is no place to sweep: a file there may be somebody else's, or be written this very moment.
 * So each part has a name of its own, which nobody else ever chose, and this name is in the catalog before there is a file of it. Who
 * is killed leaves both; the next daemon of this home removes the file that the catalog names, and nothing else. Where
 * its folder is not there (a drive that is unplugged) that waits until it is.
 *
 * Owns: the table `parts` (path -> the place that it is for). Does not own: the files, while they are written.
 */
import { existsSync } from 'node:fs'
import { link, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Log, Random } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { toHex } from '../image/hash.ts'
import { type Catalog, jsonCodec, type Table } from './catalog.ts'

const SUFFIX = '.rowan-part'
/** Of the name of its place, so that a person knows it again; a name in a folder has 255 bytes at most. */
const MAX_NAME_BYTES = 200
/** Of the number that makes a name nobody else's. */
const NUMBER_BYTES = 8
/** Parts in folders that are not there, to be removed when they are. */
export const MAX_WAITING_PARTS = 256
/** What a file system says that has no second names for a file. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']

/** Something that is being written. */
export interface Part {
  /** Where; nothing is there yet. */
  readonly path: string
  /** Gives it its name, durably; it must be whole and synced. @throws FILE_EXISTS where something has come meanwhile; the system's error */
  finish(): Promise<void>
  /** To be called last, whatever became of it: what is still there goes. Never rejects. */
  end(): Promise<void>
}

export class PartFiles {
  readonly #table: Table<string>
  readonly #random: Random
  readonly #log: Log
  /** Those of this process. */
  readonly #written = new Set<string>()

  constructor({ catalog, random, log }: { catalog: Catalog; random: Random; log: Log }) {
    this.#table = catalog.table('parts', jsonCodec<string>())
    this.#random = random
    this.#log = log
  }

  /** @param place - absolute: the file or folder that it becomes. @throws DISK_FULL, STORE_IO */
  async begin(place: string): Promise<Part> {
    await this.sweep()
    const name = Buffer.from(basename(place)).subarray(0, MAX_NAME_BYTES).toString()
    const path = join(dirname(place), `.${name}.${toHex(this.#random.bytes(NUMBER_BYTES))}${SUFFIX}`)
    this.#written.add(path)
    try {
      await this.#table.put(path, place, { sync: true })
    } catch (error) {
      this.#written.delete(path)
      throw error
    }
    return { path, finish: () => giveName(path, place), end: () => this.#end(path) }
  }

  /** Removes what daemons before this one did not live to finish. Never rejects. */
  async sweep(): Promise<void> {
    let waiting = 0
    try {
      for await (const [path] of this.#table.entries()) {
        if (this.#written.has(path)) continue
        const isThere = existsSync(dirname(path))
        if (!isThere && ++waiting <= MAX_WAITING_PARTS) continue
        if (isThere) await this.#remove(path)
        else await this.#table.delete(path)
      }
    } catch (error) {
      this.#log.warn('what exports have left could not be looked for', { error: asRowanError(error, 'STORE_IO') })
    }
  }

  async #end(path: string): Promise<void> {
    await this.#remove(path)
    this.#written.delete(path)
  }

  async #remove(path: string): Promise<void> {
    try {
      await rm(path, { recursive: true, force: true })
      await this.#table.delete(path)
    } catch (error) {
      this.#log.warn('what was being written is not all gone', { path, error: asRowanError(error, 'STORE_IO') })
    }
  }
}

/** By a link where that can be had: a rename takes the place of a file that came meanwhile. A folder never does. */
async function giveName(path: string, place: string): Promise<void> {
  try {
    await link(path, place).catch(async (error: NodeJS.ErrnoException) => {
      if (!NO_LINKS.includes(error.code ?? '')) throw error
      if (existsSync(place)) throw exists(place)
      await rename(path, place)
    })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw code === 'EEXIST' || code === 'ENOTEMPTY' ? exists(place, error) : error
  }
  await syncFolder(dirname(place))
}

function exists(place: string, cause?: unknown): RowanError {
  return new RowanError('FILE_EXISTS', `${place} exists and is not overwritten`, { cause })
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
