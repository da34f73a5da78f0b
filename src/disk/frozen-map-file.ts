/**
 * The saved map of a disk's frozen layers: what frozen-map.ts would have to put together from all of them.
 *
 *     0        header: checksum, length, JSON with the hash of the chain's part that it covers; 4 KiB
 *     4096     directory: for each page its code (2 bytes), or PAGED and where its record is (4 bytes, in 512 bytes)
 *     …        records: checksum, number of the page, number of fine cells; codes, fine codes; zeros to 512 bytes
 *
 * It is a copy of what the layers say, never the only one. It is believed if its hash is that of the lowest layers of
 * the chain with their order and revisions, and if the checksum of the part that is read fits; else it is made anew in
 * the background. So it needs no order of writes: only the rename at the end, lest a half one be found.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { RowanError } from '../errors.ts'
import type { ChainLayer, DiskName } from './chain.ts'
import type { FrozenMap, SavedPages } from './frozen-map.ts'
import type { LayerFile, LayerFiles } from './layer-files.ts'
import type { MergePace } from './layer-merge.ts'
import { CELLS_PER_PAGE, CODE_FINE, CODE_FIRST_LAYER, OwnerPage, SECTORS_PER_CELL } from './owner-page.ts'

/** Which layers it covers. */
export interface SavedIdentity {
  machine: string
  disk: DiskName
  sizeBytes: number
  /** Lowest first. */
  layers: readonly Pick<ChainLayer, 'name' | 'revision'>[]
}

const HEADER_BYTES = 4096
const ENTRY_BYTES = 6
const PAGED = 0xffff
const RECORD_HEADER_BYTES = 12
const ALIGN_BYTES = 512
/** Records are gathered to this much before they are written. */
const WRITE_BYTES = 256 * 1024
/** Pages that are put together before a guest has its turn: one takes some 0.1 ms, more where many layers have it. */
const PAGES_PER_TURN = 8
const FORMAT = 1

export function frozenMapPath(folder: string, disk: DiskName): string {
  return join(folder, `frozen-${disk}.map`)
}

export class FrozenMapFile implements SavedPages {
  readonly covers: number
  readonly #file: LayerFile
  readonly #directory: Buffer

  private constructor(file: LayerFile, directory: Buffer, covers: number) {
    this.#file = file
    this.#directory = directory
    this.covers = covers
  }

  /**
   * The saved map of a disk, if there is one that fits its layers.
   *
   * @param identity - of all layers that are frozen now
   * @throws RowanError STORE_IO
   */
  static open(
    files: LayerFiles,
    folder: string,
    identity: SavedIdentity,
    pageCount: number
  ): FrozenMapFile | undefined {
    const path = frozenMapPath(folder, identity.disk)
    if (!files.exists(path)) return undefined
    const file = files.open(path)
    let opened: ReturnType<typeof readDirectory>
    try {
      opened = readDirectory(file, identity, pageCount)
    } finally {
      if (opened === undefined) file.close()
    }
    return opened === undefined ? undefined : new FrozenMapFile(file, opened.directory, opened.covers)
  }

  /**
   * Saves a map, a part at a time. Gives up, and says false, when the layers change meanwhile or `stop` fires.
   *
   * @throws RowanError DISK_FULL, STORE_IO; the old one is then as it was
   */
  static async save(
    files: LayerFiles,
    folder: string,
    map: FrozenMap,
    identity: SavedIdentity,
    pace: MergePace
  ): Promise<boolean> {
    const path = frozenMapPath(folder, identity.disk)
    const aside = `${path}.new`
    const { generation } = map
    files.remove(aside)
    // Its size is known only at the end: pages that stand alone need nothing but their place in the directory.
    const file = files.create(aside, 0)
    try {
      const writer = new Writer(file, map.pageCount)
      for (let page = 0; page < map.pageCount; page++) {
        if (writer.add(page, map.pageToSave(page))) {
          await pace.breathe(await writer.write())
        } else if (page % PAGES_PER_TURN === PAGES_PER_TURN - 1 && map.isPaged(page)) {
          await pace.breathe(0)
        }
        if (map.generation !== generation || pace.signal.aborted) return false
      }
      await writer.finish(identity)
      await file.sync()
      if (map.generation !== generation || pace.signal.aborted) return false
      files.rename(aside, path)
      return true
    } finally {
      file.close()
      files.remove(aside)
    }
  }

  uniform(page: number): number | undefined {
    const code = this.#directory.readUInt16LE(page * ENTRY_BYTES)
    return code === PAGED ? undefined : code
  }

  read(page: number): OwnerPage {
    const position = this.#directory.readUInt32LE(page * ENTRY_BYTES + 2) * ALIGN_BYTES
    const damaged = () => new RowanError('LAYER_CORRUPT', `${this.#file.path}: the record of page ${page} is damaged`)
    const head = Buffer.alloc(RECORD_HEADER_BYTES + CELLS_PER_PAGE * 2)
    this.#file.readSync(head, 0, head.length, position)
    const fineCells = head.readUInt32LE(8)
    if (fineCells > CELLS_PER_PAGE) throw damaged()
    const record = Buffer.alloc(head.length + fineCells * SECTORS_PER_CELL * 2)
    head.copy(record)
    this.#file.readSync(record, head.length, record.length - head.length, position + head.length)
    if (crc32(record.subarray(4)) !== record.readUInt32LE(0) || record.readUInt32LE(4) !== page) throw damaged()
    const codes = readCodes(record.subarray(RECORD_HEADER_BYTES))
    const limit = CODE_FIRST_LAYER + this.covers
    const cells = codes.slice(0, CELLS_PER_PAGE)
    const fine = codes.slice(CELLS_PER_PAGE)
    if (cells.some(code => (code < CODE_FINE ? code >= limit : code - CODE_FINE >= fineCells))) throw damaged()
    if (fine.some(code => code >= limit)) throw damaged()
    return new OwnerPage(cells, fine)
  }

  close(): void {
    this.#file.close()
  }
}

class Writer {
  readonly #file: LayerFile
  readonly #directory: Buffer
  #position: number
  #waiting: Buffer[] = []
  #waitingBytes = 0

  constructor(file: LayerFile, pageCount: number) {
    this.#file = file
    this.#directory = Buffer.alloc(align(pageCount * ENTRY_BYTES + 4))
    this.#position = HEADER_BYTES + this.#directory.length
  }

  /** Takes a page. Returns whether it is time to write. */
  add(number: number, page: OwnerPage | number): boolean {
    if (typeof page === 'number') {
      this.#directory.writeUInt16LE(page, number * ENTRY_BYTES)
      return false
    }
    const position = this.#position + this.#waitingBytes
    this.#directory.writeUInt16LE(PAGED, number * ENTRY_BYTES)
    this.#directory.writeUInt32LE(position / ALIGN_BYTES, number * ENTRY_BYTES + 2)
    const length = RECORD_HEADER_BYTES + (CELLS_PER_PAGE + page.fineCells * SECTORS_PER_CELL) * 2
    const record = Buffer.alloc(align(length))
    record.writeUInt32LE(number, 4)
    record.writeUInt32LE(page.fineCells, 8)
    writeCodes(page.cells, record, RECORD_HEADER_BYTES)
    const fine = page.fine.subarray(0, page.fineCells * SECTORS_PER_CELL)
    writeCodes(fine, record, RECORD_HEADER_BYTES + CELLS_PER_PAGE * 2)
    record.writeUInt32LE(crc32(record.subarray(4, length)), 0)
    this.#waiting.push(record)
    this.#waitingBytes += record.length
    return this.#waitingBytes >= WRITE_BYTES
  }

  async write(): Promise<number> {
    const bytes = Buffer.concat(this.#waiting.splice(0))
    this.#waitingBytes = 0
    await this.#file.write(bytes, this.#position)
    this.#position += bytes.length
    return bytes.length
  }

  async finish(identity: SavedIdentity): Promise<void> {
    await this.write()
    const directory = this.#directory
    directory.writeUInt32LE(crc32(directory.subarray(0, -4)), directory.length - 4)
    await this.#file.write(directory, HEADER_BYTES)
    const text = JSON.stringify({ format: FORMAT, covers: identity.layers.length, sha256: hashOf(identity) })
    const header = Buffer.alloc(HEADER_BYTES)
    header.writeUInt32LE(header.write(text, 8), 4)
    header.writeUInt32LE(crc32(header.subarray(4)), 0)
    await this.#file.write(header, 0)
  }
}

function readDirectory(
  file: LayerFile,
  identity: SavedIdentity,
  pageCount: number
): { directory: Buffer; covers: number } | undefined {
  const directory = Buffer.alloc(align(pageCount * ENTRY_BYTES + 4))
  if (file.sizeBytes < HEADER_BYTES + directory.length) return undefined
  const header = Buffer.alloc(HEADER_BYTES)
  file.readSync(header, 0, HEADER_BYTES, 0)
  const length = header.readUInt32LE(4)
  if (crc32(header.subarray(4)) !== header.readUInt32LE(0) || length > HEADER_BYTES - 8) return undefined
  const { format, covers, sha256 } = parseHeader(header.toString('utf8', 8, 8 + length))
  if (format !== FORMAT || typeof covers !== 'number' || !(covers >= 1 && covers <= identity.layers.length)) {
    return undefined
  }
  if (sha256 !== hashOf({ ...identity, layers: identity.layers.slice(0, covers) })) return undefined
  file.readSync(directory, 0, directory.length, HEADER_BYTES)
  if (crc32(directory.subarray(0, -4)) !== directory.readUInt32LE(directory.length - 4)) return undefined
  for (let page = 0; page < pageCount; page++) {
    const code = directory.readUInt16LE(page * ENTRY_BYTES)
    if (code !== PAGED && code >= CODE_FIRST_LAYER + covers) return undefined
  }
  return { directory, covers }
}

function parseHeader(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    // Written by somebody else: as good as none.
    return {}
  }
}

/** The part of the chain that the map is of. */
function hashOf({ machine, disk, sizeBytes, layers }: SavedIdentity): string {
  const part = [machine, disk, sizeBytes, layers.map(({ name, revision }) => [name, revision])]
  return createHash('sha256').update(JSON.stringify(part)).digest('hex')
}

function readCodes(bytes: Buffer): Uint16Array {
  const codes = new Uint16Array(bytes.length / 2)
  for (let index = 0; index < codes.length; index++) codes[index] = bytes.readUInt16LE(index * 2)
  return codes
}

function writeCodes(codes: Uint16Array, target: Buffer, offset: number): void {
  for (let index = 0; index < codes.length; index++) target.writeUInt16LE(codes[index]!, offset + index * 2)
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGN_BYTES) * ALIGN_BYTES
}
