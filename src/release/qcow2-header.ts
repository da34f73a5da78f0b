/**
 * Reads just enough of a qcow2 file to know that it stands on its own.
 *
 * A qcow2 image can name other files of the host, as backing file or as external data file; publishing such an image
 * would publish them. So the header is parsed here, before any tool opens the image, by the layout of QEMU's
 * docs/interop/qcow2.txt. Everything is bounded by the first 64 KiB of the file.
 */
import { MAX_IMAGE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'

/** As much of the file's beginning as the parser may look at. */
export const QCOW2_HEADER_BYTES = 64 * 1024
/** 'QFI' and 0xfb. */
const MAGIC = 0x514649fb
const V2_HEADER_BYTES = 72
const V3_HEADER_BYTES = 104
const MAX_EXTENSIONS = 64
/** What 8 TiB have in the usual clusters of 64 KiB. `qemu-img check` needs 2 bytes for each that the file has room for. */
const MAX_CLUSTERS = 2 ** 27

const INCOMPATIBLE = { dirty: 1n, corrupt: 2n, dataFile: 4n, compression: 8n, extendedL2: 16n }
/** Lazy reference counts, another compression and sub-clusters change how it is read, not what it refers to. */
const HARMLESS = INCOMPATIBLE.dirty | INCOMPATIBLE.compression | INCOMPATIBLE.extendedL2
const EXTENSION = { end: 0, dataFile: 0x44415441, fullDiskEncryption: 0x0537be77 }

export function isQcow(start: Uint8Array): boolean {
  return start.length >= 4 && view(start).getUint32(0) === MAGIC
}

/**
 * Checks that an image refers to nothing outside itself and can be read.
 *
 * @param start - the first bytes of the file, up to QCOW2_HEADER_BYTES
 * @param fileBytes - the size of the file
 * @param path - how to call the file in errors
 * @returns the size of the disk inside
 * @throws RowanError IMAGE_HAS_BACKING, IMAGE_FORMAT, IMAGE_EMPTY, IMAGE_TOO_LARGE
 */
export function checkQcow2(start: Uint8Array, fileBytes: number, path: string): { sizeBytes: number; version: 2 | 3 } {
  const refuse = (says: string): RowanError => new RowanError('IMAGE_FORMAT', `${path}: the qcow2 image ${says}`)
  if (start.length < V2_HEADER_BYTES) throw refuse('is cut short in its header')
  const header = view(start)
  const version = header.getUint32(4)
  if (version !== 2 && version !== 3) throw refuse(`has version ${version}; 2 and 3 can be read`)
  const backingOffset = header.getBigUint64(8)
  if (backingOffset !== 0n) {
    const name = quoted(start, backingOffset, header.getUint32(16))
    throw new RowanError('IMAGE_HAS_BACKING', `${path}: the qcow2 image names the backing file ${name}`)
  }
  const clusterBits = header.getUint32(20)
  if (clusterBits < 9 || clusterBits > 21) throw refuse(`has clusters of 2^${clusterBits} bytes`)
  const clusters = Math.ceil(fileBytes / 2 ** clusterBits)
  if (clusters > MAX_CLUSTERS) throw refuse(`has ${clusters} clusters; the limit is ${MAX_CLUSTERS}`)
  const encryption = header.getUint32(32)
  if (encryption !== 0) throw refuse(`is encrypted (method ${encryption})`)

  let extensionsAt = V2_HEADER_BYTES
  if (version === 3) {
    if (start.length < V3_HEADER_BYTES) throw refuse('is cut short in its header')
    const incompatible = header.getBigUint64(72)
    if ((incompatible & INCOMPATIBLE.dataFile) !== 0n) throw externalData(path, 'by its header')
    if ((incompatible & INCOMPATIBLE.corrupt) !== 0n)
      throw refuse('is marked as corrupt; repair it with `qemu-img check -r`')
    const unknown = incompatible & ~(HARMLESS | INCOMPATIBLE.dataFile | INCOMPATIBLE.corrupt)
    if (unknown !== 0n) throw refuse(`needs features that are not known (0x${unknown.toString(16)})`)
    extensionsAt = header.getUint32(100)
    if (extensionsAt < V3_HEADER_BYTES || extensionsAt % 8 !== 0 || extensionsAt > start.length) {
      throw refuse(`has a header length of ${extensionsAt}`)
    }
  }
  // As QEMU reads them: to the end of the first cluster at most.
  checkExtensions(start.subarray(0, 2 ** clusterBits), extensionsAt, path, refuse)

  // QEMU reads zeros behind the end of a file that was cut short, and so finds an empty disk where this table was.
  const tableEnd = header.getBigUint64(40) + BigInt(header.getUint32(36)) * 8n
  if (tableEnd > BigInt(fileBytes))
    throw refuse(`is cut short: it has ${fileBytes} bytes, its table ends at ${tableEnd}`)

  const sizeBytes = header.getBigUint64(24)
  if (sizeBytes === 0n) throw new RowanError('IMAGE_EMPTY', `${path}: the disk in the qcow2 image has no bytes`)
  if (sizeBytes > BigInt(MAX_IMAGE_BYTES)) {
    throw new RowanError(
      'IMAGE_TOO_LARGE',
      `${path}: the disk in the qcow2 image has ${sizeBytes} bytes, more than 8 TiB`
    )
  }
  return { sizeBytes: Number(sizeBytes), version }
}

/** Walks the header extensions: a type, a length, and data padded to 8 bytes, until the type 0. */
function checkExtensions(start: Uint8Array, from: number, path: string, refuse: (says: string) => RowanError): void {
  const header = view(start)
  let at = from
  for (let count = 0; ; count++) {
    if (count > MAX_EXTENSIONS) throw refuse(`has more than ${MAX_EXTENSIONS} header extensions`)
    // Where a larger cluster goes on behind what may be looked at, something could be hidden there.
    if (at === start.length && start.length < QCOW2_HEADER_BYTES) return
    if (at + 8 > start.length) throw refuse('is cut short in its header extensions')
    const type = header.getUint32(at)
    const lengthBytes = header.getUint32(at + 4)
    if (type === EXTENSION.end) return
    if (type === EXTENSION.dataFile) throw externalData(path, quoted(start, BigInt(at + 8), lengthBytes))
    if (type === EXTENSION.fullDiskEncryption) throw refuse('is encrypted')
    at += 8 + Math.ceil(lengthBytes / 8) * 8
  }
}

function externalData(path: string, name: string): RowanError {
  return new RowanError('IMAGE_HAS_BACKING', `${path}: the qcow2 image keeps its data in another file, ${name}`)
}

/** A file name from the header for a message: printable characters only, at most 200 of them. */
function quoted(start: Uint8Array, offset: bigint, lengthBytes: number): string {
  if (offset >= BigInt(start.length)) return '(its name is not in the header)'
  const bytes = start.subarray(Number(offset), Number(offset) + Math.min(lengthBytes, 200))
  return JSON.stringify(new TextDecoder().decode(bytes).replace(/[^\x20-\x7e]/g, '?'))
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
