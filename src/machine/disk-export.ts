/**
 * Writes a machine's disk, as it was at a snapshot, to a file that stands alone.
 *
 * The file is written beside its place (store/part-files.ts), synced, and only then given its name: nobody ever finds half of it,
 * and of two exports to one place one is told that it is taken. Blocks of the
 * image that are not here are fetched as they come up, behind everything that a guest waits for. What is known to be zero
 * is neither read nor written.
 */
import { constants, existsSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { BLOCK_SIZE_BYTES } from '../cluster.ts'
import type { SnapshotReader } from '../disk/snapshot-reader.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { isZero } from '../image/block.ts'
import type { PartFiles } from '../store/part-files.ts'
import { type DiskWriter, Qcow2Writer, RawWriter } from './disk-writers.ts'

export const EXPORT_FORMATS = ['raw', 'qcow2'] as const
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

export interface ExportRequest {
  /** Absolute; nothing may be there yet. */
  file: string
  format: ExportFormat
  signal: AbortSignal
  /** Bytes of the disk that are done. */
  onProgress(done: number, of: number): void
}

/** Read with one request: 64 blocks, all of which may be on their way at once. */
const CHUNK_BYTES = 64 * BLOCK_SIZE_BYTES

/**
 * @returns bytes of blocks that are not zero
 * @throws RowanError FILE_EXISTS, FILE_UNWRITABLE, DISK_FULL, STORE_IO, ABORTED, NO_REPLICA; there is no file then
 */
export async function exportDisk(
  disk: SnapshotReader,
  parts: Pick<PartFiles, 'begin'>,
  request: ExportRequest
): Promise<number> {
  const { file: path, format } = request
  if (existsSync(path)) throw new RowanError('FILE_EXISTS', `${path} exists and is not overwritten`)
  const part = await parts.begin(path)
  // A block that nobody has would be waited for, however long.
  const stop = () => disk.stop()
  request.signal.addEventListener('abort', stop, { once: true })
  let file: FileHandle | undefined
  try {
    file = await open(part.path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600).catch(
      (cause: unknown) => {
        throw asRowanError(cause, 'FILE_UNWRITABLE', `cannot write ${path}`)
      }
    )
    const writer = format === 'raw' ? new RawWriter(file, disk.sizeBytes) : new Qcow2Writer(file, disk.sizeBytes)
    const bytes = await copy(disk, writer, request)
    await writer.finish()
    await file.sync()
    await part.finish()
    return bytes
  } catch (error) {
    if (request.signal.aborted) throw asRowanError(request.signal.reason, 'ABORTED')
    throw asRowanError(error, 'STORE_IO', `cannot write ${path}`)
  } finally {
    request.signal.removeEventListener('abort', stop)
    try {
      await file?.close()
    } finally {
      await part.end()
    }
  }
}

async function copy(disk: SnapshotReader, writer: DiskWriter, request: ExportRequest): Promise<number> {
  const { signal, onProgress } = request
  const chunk = new Uint8Array(CHUNK_BYTES)
  let bytes = 0
  for (let at = await disk.nextData(0, signal); at < disk.sizeBytes; ) {
    signal.throwIfAborted()
    const length = Math.min(CHUNK_BYTES, disk.sizeBytes - at)
    chunk.fill(0, length)
    await disk.read(at, chunk.subarray(0, length))
    for (let inChunk = 0; inChunk < length; inChunk += BLOCK_SIZE_BYTES) {
      // Behind the end of the disk the chunk has what an earlier one left there.
      const block = chunk.subarray(inChunk, Math.min(inChunk + BLOCK_SIZE_BYTES, length))
      if (isZero(block)) continue
      await writer.block((at + inChunk) / BLOCK_SIZE_BYTES, block)
      bytes += block.length
    }
    at = await disk.nextData(at + length, signal)
    onProgress(Math.min(at, disk.sizeBytes), disk.sizeBytes)
  }
  return bytes
}
