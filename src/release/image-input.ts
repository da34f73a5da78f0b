/**
 * An image file on its way in: checked, opened once, and watched for changes.
 *
 * The file is opened here and nowhere else; what hashes it and what converts it get the descriptor, so that nobody can
 * put another file under its name in between. A qcow2 image is parsed (qcow2-header.ts), then converted to a sparse
 * raw file without a name in the temporary folder; QEMU is told the format and `backing: null`, so that whatever the
 * header says it opens no other file.
 *
 * Owns: the descriptor and the temporary file. Does not own: reading the content (hash-worker.ts).
 */
import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { asRowanError, RowanError } from '../errors.ts'
import { checkSize } from '../image/names.ts'
import { imageFormat, TAIL_BYTES } from './image-format.ts'
import { checkQcow2, QCOW2_HEADER_BYTES } from './qcow2-header.ts'
import { FD_PATH, runTool } from './tool.ts'

/** Of images that were converted, and of boots that were recorded. */
const TEMPORARY = /^(publish-[0-9a-f-]{36}\.raw|recording-\w{6})$/
/** `qemu-img convert -p` writes its percentage over and over. */
const MAX_CONVERT_OUTPUT_BYTES = 1024 * 1024
const STAT_BLOCK_BYTES = 512
/** It says a line for each thing that is wrong. */
const MAX_CHECK_OUTPUT_BYTES = 1024 * 1024
/** What `qemu-img check` ends with when it found damage; less than that are leaked clusters, which harm nobody. */
const CHECK_FOUND_DAMAGE = 2

export interface ImageInput {
  readonly path: string
  readonly format: 'raw' | 'qcow2'
  /** A raw disk, whatever the format of `path`; valid until close(). */
  readonly fd: number
  readonly sizeBytes: number
  /** Whether the raw disk has holes worth looking for. */
  readonly isSparse: boolean
  /** @throws RowanError IMAGE_CHANGED when the file is not what it was when it was opened */
  checkUnchanged(): Promise<void>
  close(): Promise<void>
}

export interface OpenImageOptions {
  /** For a converted image; needs room for its data. */
  temporaryFolder: string
  signal?: AbortSignal | undefined
  /** Called with how much of a conversion is done, from 0 to 1. */
  onConverted?: ((fraction: number) => void) | undefined
  /** The program that converts; for tests. */
  qemuImg?: string | undefined
}

/**
 * Opens a raw or qcow2 image for publishing.
 *
 * @throws RowanError IMAGE_NOT_FOUND, IMAGE_NOT_A_FILE, IMAGE_UNREADABLE, IMAGE_EMPTY, IMAGE_TOO_LARGE, IMAGE_FORMAT,
 *   IMAGE_HAS_BACKING, IMAGE_CHANGED (while it was converted), TOOL_MISSING, DISK_FULL, ABORTED
 */
export async function openImage(path: string, options: OpenImageOptions): Promise<ImageInput> {
  const file = await openFile(path)
  try {
    const before = await identity(file)
    const sizeBytes = checkSize(Number(before.size), path)
    const start = await readAt(file, path, 0, Math.min(sizeBytes, QCOW2_HEADER_BYTES))
    const end = await readAt(file, path, Math.max(0, sizeBytes - TAIL_BYTES), Math.min(sizeBytes, TAIL_BYTES))
    const checkUnchanged = () => checkIdentity(file, before, path)
    if (imageFormat(start, end, path) === 'raw') {
      const isSparse = Number(before.blocks) * STAT_BLOCK_BYTES < sizeBytes
      return { path, format: 'raw', fd: file.fd, sizeBytes, isSparse, checkUnchanged, close: () => file.close() }
    }
    const disk = checkQcow2(start, sizeBytes, path)
    const raw = await convert(file, path, disk.sizeBytes, options)
    const input: ImageInput = {
      path,
      format: 'qcow2',
      fd: raw.fd,
      sizeBytes: disk.sizeBytes,
      isSparse: true,
      checkUnchanged,
      close: async () => {
        await raw.close()
        await file.close()
      }
    }
    try {
      await checkUnchanged()
    } catch (error) {
      await raw.close()
      throw error
    }
    return input
  } catch (error) {
    await file.close()
    throw error
  }
}

/** Removes what a crash left of a conversion, or of the recording of a boot. Call once at start. */
export async function removeLeftovers(temporaryFolder: string): Promise<void> {
  await mkdir(temporaryFolder, { recursive: true, mode: 0o700 })
  for (const name of await readdir(temporaryFolder)) {
    if (TEMPORARY.test(name)) await rm(join(temporaryFolder, name), { recursive: true, force: true })
  }
}

async function openFile(path: string): Promise<FileHandle> {
  let file: FileHandle
  try {
    // O_NONBLOCK: a FIFO without a writer must not block us before we can see that it is one.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EACCES' || code === 'EPERM') {
      throw new RowanError('IMAGE_UNREADABLE', `${path} may not be read by this user`, { cause: error })
    }
    if (code === 'ENXIO' || code === 'ENODEV') {
      throw new RowanError('IMAGE_NOT_A_FILE', `${path} is a special file, not an image`, { cause: error })
    }
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP' || code === 'ENAMETOOLONG') {
      throw new RowanError('IMAGE_NOT_FOUND', `there is no file ${path}`, { cause: error })
    }
    throw asRowanError(error, 'IMAGE_UNREADABLE', `cannot open ${path}`)
  }
  const stats = await file.stat()
  if (stats.isFile()) return file
  await file.close()
  const kind = stats.isDirectory() ? 'a directory' : 'a special file'
  throw new RowanError('IMAGE_NOT_A_FILE', `${path} is ${kind}, not an image`)
}

async function readAt(file: FileHandle, path: string, position: number, lengthBytes: number): Promise<Buffer> {
  const bytes = Buffer.alloc(lengthBytes)
  try {
    const { bytesRead } = await file.read(bytes, 0, lengthBytes, position)
    if (bytesRead === lengthBytes) return bytes
  } catch (error) {
    throw asRowanError(error, 'IMAGE_UNREADABLE', `cannot read ${path}`)
  }
  throw new RowanError('IMAGE_CHANGED', `${path} became shorter while it was read`)
}

interface Identity {
  size: bigint
  mtimeNs: bigint
  ctimeNs: bigint
  blocks: bigint
}

function identity(file: FileHandle): Promise<Identity> {
  return file.stat({ bigint: true })
}

async function checkIdentity(file: FileHandle, before: Identity, path: string): Promise<void> {
  const now = await identity(file)
  if (now.size !== before.size) {
    throw new RowanError('IMAGE_CHANGED', `${path} went from ${before.size} to ${now.size} bytes while it was read`)
  }
  if (now.mtimeNs !== before.mtimeNs || now.ctimeNs !== before.ctimeNs) {
    throw new RowanError('IMAGE_CHANGED', `${path} was written to while it was read`)
  }
}

/** Converts the qcow2 image in `file` to a raw one that has no name, and so is gone when it is closed. */
async function convert(
  file: FileHandle,
  path: string,
  sizeBytes: number,
  options: OpenImageOptions
): Promise<FileHandle> {
  const { temporaryFolder, signal, onConverted, qemuImg = 'qemu-img' } = options
  const target = join(temporaryFolder, `publish-${randomUUID()}.raw`)
  const source = `json:${JSON.stringify({ driver: 'qcow2', backing: null, file: { driver: 'file', filename: FD_PATH } })}`
  const tool = { file: qemuImg, package: 'qemu-utils', fd: file.fd, signal }
  // Converting takes a file that was cut short for one with zeros at its end; only the check sees the
  // difference (from one cluster on: files that end within their last one are in order).
  const check = await runTool({ ...tool, args: ['check', source], maxOutputBytes: MAX_CHECK_OUTPUT_BYTES })
  if (check.overflowed || check.status === CHECK_FOUND_DAMAGE) {
    throw convertFailed(path, `it is damaged or was cut short; ${check.errorText}`)
  }
  try {
    const result = await runTool({
      ...tool,
      args: ['convert', '-p', '-S', '64k', '-O', 'raw', source, target],
      maxOutputBytes: MAX_CONVERT_OUTPUT_BYTES,
      onOutput: text => {
        const percent = /\(([0-9.]+)\/100%\)[^(]*$/.exec(text)?.[1]
        if (percent !== undefined) onConverted?.(Number(percent) / 100)
      }
    })
    if (result.status !== 0) throw convertFailed(path, result.errorText || `qemu-img ended with ${result.status}`)
    const raw = await open(target, constants.O_RDONLY)
    const { size } = await raw.stat()
    if (size === sizeBytes) return raw
    await raw.close()
    throw new RowanError('IMAGE_FORMAT', `${path} became a disk of ${size} bytes; its header says ${sizeBytes}`)
  } finally {
    await rm(target, { force: true })
  }
}

function convertFailed(path: string, errorText: string): RowanError {
  const says = errorText.replaceAll(FD_PATH, path).split('\n').at(-1)!
  if (/No space left|Disk quota/.test(errorText)) return new RowanError('DISK_FULL', `cannot convert ${path}: ${says}`)
  if (/ lock/.test(errorText)) return new RowanError('IMAGE_CHANGED', `${path} is in use: ${says}`)
  return new RowanError('IMAGE_FORMAT', `cannot convert ${path}: ${says}`)
}
