/**
 * The few file operations that a layer needs, as an interface, and the real ones.
 *
 * A layer's promises are about the order of these operations and nothing else, so a test can stand a recorder here,
 * replay every prefix of what happened, reorder it between syncs, tear it, and make it fail.
 *
 * Reads and writes on the way of a guest's request are synchronous: from the page cache one Node thread does 150,000
 * preads a second, against 47,000 through the thread pool. What waits for the disk (`sync`) is not, but where sync-place.ts
 * says that the wait is short and nobody's.
 */
import {
  closeSync,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  read,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  write,
  writeSync
} from 'node:fs'
import { rm } from 'node:fs/promises'
import { promisify } from 'node:util'
import { asRowanError, RowanError } from '../errors.ts'
import { forgetCached } from '../page-cache.ts'

export interface LayerFile {
  readonly path: string
  readonly sizeBytes: number
  /** What the file takes on the disk now; 0 where the system does not tell. */
  readonly allocatedBytes: number
  /** Fills `length` bytes of `target` from `position`. STORE_IO, also where the file ends before. */
  readSync(target: Uint8Array, targetOffset: number, length: number, position: number): void
  /** DISK_FULL, STORE_IO. What was written before the error stays. */
  writeSync(source: Uint8Array, sourceOffset: number, length: number, position: number): void
  /** `readSync` of all of `target`, off this thread. */
  read(target: Uint8Array, position: number): Promise<void>
  /** `writeSync` off this thread; the caller leaves `source` alone until it is done. */
  write(source: Uint8Array, position: number): Promise<void>
  /** fdatasync: all that was written before the call survives power loss when it is done. */
  sync(): Promise<void>
  /** `sync` on this thread. */
  syncSync(): void
  close(): void
}

export interface LayerFiles {
  exists(path: string): boolean
  /** A new, sparse file. */
  create(path: string, sizeBytes: number): LayerFile
  open(path: string): LayerFile
  makeFolder(path: string): void
  /** Removes a folder and all in it; one that does not exist is no error. */
  removeFolder(path: string): void
  /** Removes a file; one that does not exist is no error. */
  remove(path: string): void
  /** `removeFolder` off this thread: unlinking a large sparse file can take seconds. */
  deleteFolder(path: string): Promise<void>
  /** Names in a folder; none if there is no such folder. */
  list(path: string): string[]
  rename(from: string, to: string): void
  /** What was made, renamed or removed in the folder survives power loss. */
  syncFolder(path: string): void
  /** See forgetCached. */
  forget(path: string): Promise<void>
  /** What may still be written on the disk that the folder is on; Infinity where the system does not tell. */
  freeBytes(path: string): number
  /** What a file takes on the disk; 0 where there is none, or the system does not tell. */
  allocatedBytes(path: string): number
}

/** The unit of `blocks` in a stat, whatever the file system's own is (POSIX leaves it open; on Linux it is this). */
const STAT_BLOCK_BYTES = 512

const fdatasyncAsync = promisify(fdatasync)
const readAsync = promisify(read)
const writeAsync = promisify(write)

export const systemFiles: LayerFiles = {
  exists: existsSync,
  create(path, sizeBytes) {
    return guarded(path, 'create', () => {
      const descriptor = openSync(path, 'wx+', 0o600)
      try {
        ftruncateSync(descriptor, sizeBytes)
        return new SystemFile(path, descriptor, sizeBytes)
      } catch (error) {
        closeSync(descriptor)
        throw error
      }
    })
  },
  open(path) {
    return guarded(path, 'open', () => {
      const descriptor = openSync(path, 'r+')
      try {
        return new SystemFile(path, descriptor, fstatSync(descriptor).size)
      } catch (error) {
        closeSync(descriptor)
        throw error
      }
    })
  },
  makeFolder(path) {
    guarded(path, 'make', () => mkdirSync(path, { recursive: true, mode: 0o700 }))
  },
  removeFolder(path) {
    guarded(path, 'remove', () => rmSync(path, { recursive: true, force: true }))
  },
  remove(path) {
    guarded(path, 'remove', () => rmSync(path, { force: true }))
  },
  async deleteFolder(path) {
    try {
      await rm(path, { recursive: true, force: true })
    } catch (error) {
      throw asRowanError(error, 'STORE_IO', `remove ${path}`)
    }
  },
  list(path) {
    return guarded(path, 'list', () => (existsSync(path) ? readdirSync(path) : []))
  },
  rename(from, to) {
    guarded(from, 'rename', () => renameSync(from, to))
  },
  syncFolder(path) {
    guarded(path, 'sync', () => {
      const descriptor = openSync(path, 'r')
      try {
        fsyncSync(descriptor)
      } finally {
        closeSync(descriptor)
      }
    })
  },
  forget: forgetCached,
  allocatedBytes(path) {
    const found = guarded(path, 'look at', () => statSync(path, { throwIfNoEntry: false }))
    return (found?.blocks ?? 0) * STAT_BLOCK_BYTES
  },
  freeBytes(path) {
    const { blocks, bavail, bsize } = guarded(path, 'look at', () => statfsSync(path))
    return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize
  }
}

/** No descriptor: that of a closed file is another file's soon. */
const CLOSED = -1

class SystemFile implements LayerFile {
  readonly path: string
  readonly sizeBytes: number
  #descriptor: number

  constructor(path: string, descriptor: number, sizeBytes: number) {
    this.path = path
    this.sizeBytes = sizeBytes
    this.#descriptor = descriptor
  }

  get allocatedBytes(): number {
    return guarded(this.path, 'look at', () => fstatSync(this.#descriptor).blocks * STAT_BLOCK_BYTES)
  }

  readSync(target: Uint8Array, targetOffset: number, length: number, position: number): void {
    try {
      let done = 0
      while (done < length) {
        const got = readSync(this.#descriptor, target, targetOffset + done, length - done, position + done)
        if (got === 0) throw new RowanError('STORE_IO', `${this.path} ends at ${position + done}`)
        done += got
      }
    } catch (error) {
      throw asRowanError(error, 'STORE_IO', `read ${this.path}`)
    }
  }

  async read(target: Uint8Array, position: number): Promise<void> {
    try {
      let done = 0
      while (done < target.length) {
        const { bytesRead } = await readAsync(this.#descriptor, target, done, target.length - done, position + done)
        if (bytesRead === 0) throw new RowanError('STORE_IO', `${this.path} ends at ${position + done}`)
        done += bytesRead
      }
    } catch (error) {
      throw asRowanError(error, 'STORE_IO', `read ${this.path}`)
    }
  }

  writeSync(source: Uint8Array, sourceOffset: number, length: number, position: number): void {
    try {
      let done = 0
      while (done < length) {
        done += writeSync(this.#descriptor, source, sourceOffset + done, length - done, position + done)
      }
    } catch (error) {
      throw asRowanError(error, 'STORE_IO', `write ${this.path}`)
    }
  }

  async write(source: Uint8Array, position: number): Promise<void> {
    try {
      let done = 0
      while (done < source.length) {
        const written = await writeAsync(this.#descriptor, source, done, source.length - done, position + done)
        done += written.bytesWritten
      }
    } catch (error) {
      throw asRowanError(error, 'STORE_IO', `write ${this.path}`)
    }
  }

  async sync(): Promise<void> {
    try {
      await fdatasyncAsync(this.#descriptor)
    } catch (error) {
      throw asRowanError(error, 'STORE_IO', `fdatasync ${this.path}`)
    }
  }

  syncSync(): void {
    guarded(this.path, 'fdatasync', () => fdatasyncSync(this.#descriptor))
  }

  close(): void {
    const descriptor = this.#descriptor
    this.#descriptor = CLOSED
    guarded(this.path, 'close', () => closeSync(descriptor))
  }
}

function guarded<T>(path: string, doing: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw asRowanError(error, 'STORE_IO', `${doing} ${path}`)
  }
}
