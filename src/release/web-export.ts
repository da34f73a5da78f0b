/**
 * Writes an image as files for a web server (image/web-pack.ts): DIR/IMAGE/root and what belongs to it.
 *
 * All of it is written into a folder beside its place (store/part-files.ts), synced, and only then given its name: a server never shows half of an image.
 * Several images may lie in one folder, which is then the web seed of all of them. Each block is read from the pool and hashed.
 */
import { existsSync } from 'node:fs'
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { INDEX_FANOUT } from '../cluster.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { childCount, nodeCount } from '../image/geometry.ts'
import { encodeRangeIndex, nodeFile, packFile, profileFile, rangeIndexBytes, rootFile } from '../image/web-pack.ts'
import type { LocalImage } from '../store/images.ts'
import type { Part, PartFiles } from '../store/part-files.ts'
import { compressBlock } from '../swarm/compression.ts'

export interface WebExportRequest {
  /** Absolute; it may exist. */
  folder: string
  signal: AbortSignal
  /** Encoded; none if absent. */
  profile?: Uint8Array | undefined
  /** Data blocks that are written. */
  onProgress(done: number, of: number): void
}

export interface WebExport {
  files: number
  /** Of all files. */
  bytes: number
}

/** @throws RowanError IMAGE_INCOMPLETE, FILE_EXISTS, DISK_FULL, FILE_UNWRITABLE, ABORTED; the image has no folder there then */
export async function exportWeb(
  image: LocalImage,
  parts: Pick<PartFiles, 'begin'>,
  request: WebExportRequest
): Promise<WebExport> {
  const { folder } = request
  if (!image.complete) throw incomplete(image)
  const place = join(folder, image.id)
  if (existsSync(place)) throw new RowanError('FILE_EXISTS', `${place} exists and is not overwritten`)
  const endUse = image.use()
  try {
    return await write(image, await parts.begin(place), request)
  } catch (error) {
    if (request.signal.aborted) throw new RowanError('ABORTED', 'the export was stopped', { cause: error })
    throw asRowanError(error, 'FILE_UNWRITABLE', `cannot write ${place}`)
  } finally {
    endUse()
  }
}

async function write(image: LocalImage, part: Part, request: WebExportRequest): Promise<WebExport> {
  try {
    await mkdir(request.folder, { recursive: true })
    await mkdir(part.path)
    const written = await new WebWriter(image, part.path, request).all()
    await sync(part.path)
    await part.finish()
    return written
  } finally {
    await part.end()
  }
}

class WebWriter {
  readonly #image: LocalImage
  readonly #folder: string
  readonly #request: WebExportRequest
  #done = 0
  #written: WebExport = { files: 0, bytes: 0 }

  constructor(image: LocalImage, folder: string, request: WebExportRequest) {
    this.#image = image
    this.#folder = folder
    this.#request = request
  }

  async all(): Promise<WebExport> {
    const { id, root, rootBytes } = this.#image
    await this.#file(rootFile(id), file => writeAt(file, rootBytes, 0))
    const { profile } = this.#request
    if (profile !== undefined) await this.#file(profileFile(id), file => writeAt(file, profile, 0))
    for (let level = root.height; level >= 0; level--) {
      const count = nodeCount(level, root.blocks)
      for (let position = 0; position < count; position++) await this.#node(level, position)
    }
    return this.#written
  }

  /** A node that is not there is of zeros, as the image is complete. */
  async #node(level: number, position: number): Promise<void> {
    const bytes = this.#image.nodeBytes(level, position)
    if (bytes === undefined) return
    await this.#file(nodeFile(this.#image.id, level, position), file => writeAt(file, bytes, 0))
    if (level === 0) await this.#file(packFile(this.#image.id, position), file => this.#pack(file, position))
  }

  /** @returns its length */
  async #pack(file: FileHandle, page: number): Promise<number> {
    const { signal, onProgress } = this.#request
    const { root } = this.#image
    const count = childCount(0, page, root.blocks)
    const lengths: number[] = []
    let at = rangeIndexBytes(count)
    for (let block = page * INDEX_FANOUT; lengths.length < count; block++) {
      signal.throwIfAborted()
      if (this.#image.hashOf(block) === undefined) {
        lengths.push(0)
        continue
      }
      const plain = await this.#image.verified(block)
      // It was evicted, or found rotten, since the export began.
      if (plain === undefined) throw incomplete(this.#image)
      const stored = compressBlock(plain) ?? plain
      at = await writeAt(file, stored, at)
      lengths.push(stored.byteLength)
      onProgress(++this.#done, root.blocks - root.zeroBlocks)
    }
    await writeAt(file, encodeRangeIndex(page, lengths), 0)
    return at
  }

  async #file(name: string, fill: (file: FileHandle) => Promise<number>): Promise<void> {
    // Names begin with the image's folder, which is this one.
    const file = await open(join(this.#folder, name.slice(name.indexOf('/') + 1)), 'wx')
    try {
      this.#written.bytes += await fill(file)
      this.#written.files++
      await file.sync()
    } finally {
      await file.close()
    }
  }
}

/** @returns where it ends */
async function writeAt(file: FileHandle, bytes: Uint8Array, at: number): Promise<number> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done, at + done)
    done += bytesWritten
  }
  return at + bytes.byteLength
}

async function sync(folder: string): Promise<void> {
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function incomplete(image: LocalImage): RowanError {
  const { blocks, of } = image.local
  return new RowanError('IMAGE_INCOMPLETE', `${blocks} of ${of} blocks of the image ${image.id} are here`)
}
