/**
 * Where a sparse file has data, by `qemu-img map`, for Node has no SEEK_HOLE.
 *
 * It saves reading: of a 100 GiB disk with 1 GiB in it, 99 GiB need not pass through memory to be found zero. Where the
 * tool is missing, fails, or finds so many extents that listing them is no gain, everything is read instead.
 */
import type { Log } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { ImageInput } from './image-input.ts'
import { FD_PATH, runTool } from './tool.ts'

/** About 65,000 extents of some 120 bytes each. */
const MAX_MAP_BYTES = 8 * 1024 * 1024

/**
 * The extents of the file as `qemu-img map` lists them, in JSON; data-ranges.ts parses it, off the main thread.
 *
 * @returns undefined when all of the file must be read
 * @throws RowanError ABORTED
 */
export async function mapExtents(
  input: Pick<ImageInput, 'fd' | 'isSparse' | 'path'>,
  options: { log: Log; signal?: AbortSignal | undefined; qemuImg?: string | undefined }
): Promise<Buffer | undefined> {
  if (!input.isSparse) return undefined
  const { log, signal, qemuImg = 'qemu-img' } = options
  try {
    const result = await runTool({
      file: qemuImg,
      args: ['map', '-U', '-f', 'raw', '--output=json', FD_PATH],
      package: 'qemu-utils',
      fd: input.fd,
      maxOutputBytes: MAX_MAP_BYTES,
      signal
    })
    if (result.status === 0) return result.output
    const why = result.overflowed ? `more than ${MAX_MAP_BYTES} bytes of extents` : result.errorText
    log.debug('reading the holes of an image too', { path: input.path, why })
  } catch (error) {
    if (!(error instanceof RowanError) || error.code !== 'TOOL_MISSING') throw error
    log.debug('reading the holes of an image too', { path: input.path, why: error.message })
  }
  return undefined
}
