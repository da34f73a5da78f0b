/**
 * The few file operations that a layer needs, as an interface, and the real ones.
 *
 * A layer's promises are about the order of these operations and nothing else, so a test can stand a recorder here,
 * replay every prefix of what happened, reorder it between syncs, tear it, and make it fail.
 *
 * Reads and writes on the way of a guest's request are synchronous: from the page cache one Node thread does 150,000
 * preads a second, against 47,000 through the thread pool. What waits for the disk (`sync`) never is.
 */
import {
  closeSync,
  existsSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  write,
  writeSync
} from 'node:fs'
import { promisify } from 'node:util'
import { asRowanError, RowanError } from '../errors.ts'

export interface LayerFile {
  readonly path: string
  readonly sizeBytes: number
  /** Fills `length` bytes of `target` from `position`. STORE_IO, also where the file ends before. */
  readSync(target: Uint8Array, targetOffset: number, length: number, position: number): void
  /** DISK_FULL, STORE_IO. What was written before the error stays. */
  writeSync(source: Uint8Array, sourceOffset: number, length: number, position: number): void
  /** The same off the main thread; the caller leaves `source` alone until it is done. */
  write(source: Uint8Array, position: number): Promise<void>
  /** fdatasync: all that was written before the call survives power loss when it is done. */
  sync(): Promise<void>
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
  rename(from: string, to: string): void
  /** What was made, renamed or removed in the folder survives power loss. */
  syncFolder(path: string): void
  /** What may still be written on the disk that the folder is on; Infinity where the system does not tell. */
  freeBytes(path: string): number
}

const fdatasyncAsync = promisify(fdatasync)
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
  freeBytes(path) {
    const { blocks, bavail, bsize } = guarded(path, 'look at', () => statfsSync(path))
    return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize
  }
}

class SystemFile implements LayerFile {
  readonly path: string
  readonly sizeBytes: number
  readonly #descriptor: number

  constructor(path: string, descriptor: number, sizeBytes: number) {
    this.path = path
    this.sizeBytes = sizeBytes
    this.#descriptor = descriptor
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

  close(): void {
    guarded(this.path, 'close', () => closeSync(this.#descriptor))
  }
}

function guarded<T>(path: string, doing: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw asRowanError(error, 'STORE_IO', `${doing} ${path}`)
  }
}
