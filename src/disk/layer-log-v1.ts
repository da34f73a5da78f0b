/**
 * The log of a layer in its first format, to be read once: opening a layer brings it into the map file, and puts a log
 * of the present format in its place (layer.ts).
 *
 *     0        identity (512 bytes), zeros up to 4 KiB
 *     4096     area A: header (512 bytes), records of 24 bytes
 *     …        area B
 *
 * It was never synced, and had no content: under another boot id it says nothing. The records of the older area come
 * first, unless they are of another boot.
 */
import { crc32 } from 'node:zlib'
import type { LayerFile } from './layer-files.ts'
import { checkIdentity, checkSize, checksumSeed, encodeIdentity, type LayerIdentity } from './layer-identity.ts'
import type { LogRecord } from './layer-log.ts'
import type { SectorState } from './layer-map.ts'

const FORMAT = 1
const AREAS_OFFSET = 4096
const HEADER_BYTES = 512
const RECORD_BYTES = 24
const BOOT_ID_BYTES = 64
const AREA_RECORDS = 262_144
const AREA_BYTES = HEADER_BYTES + AREA_RECORDS * RECORD_BYTES
const READ_RECORDS = 4096

interface Area {
  generation: number
  bootId: string
  failed: boolean
  seed: number
  position: number
}

export interface FirstFormatLog {
  condition: 'same-boot' | 'other-boot' | 'failed'
  /** What was acknowledged, in order; nothing unless it is of this boot. */
  records: Iterable<LogRecord>
}

/** LAYER_CORRUPT, naming the file, for a wrong size or identity. */
export function readFirstFormatLog(file: LayerFile, identity: LayerIdentity, bootId: string): FirstFormatLog {
  checkSize(file, AREAS_OFFSET + 2 * AREA_BYTES)
  checkIdentity(file, 0, 'log', identity, FORMAT)
  const seed = checksumSeed(encodeIdentity('log', identity, FORMAT))
  const areas = [0, 1].map(place => readHeader(file, AREAS_OFFSET + place * AREA_BYTES, seed))
  const found = areas.filter(area => area !== undefined).sort((one, other) => one.generation - other.generation)
  const newest = found.at(-1)
  if (newest === undefined) return { condition: 'other-boot', records: [] }
  if (newest.failed) return { condition: 'failed', records: [] }
  if (newest.bootId !== bootId) return { condition: 'other-boot', records: [] }
  const counting = found.filter(area => area.bootId === bootId && !area.failed)
  return { condition: 'same-boot', records: readAreas(file, counting) }
}

/** checksum (4), failed (1), length of the boot id (1), generation (6), boot id (64), zeros. */
function readHeader(file: LayerFile, position: number, identitySeed: number): Area | undefined {
  const bytes = Buffer.alloc(HEADER_BYTES)
  file.readSync(bytes, 0, HEADER_BYTES, position)
  const seed = bytes.readUInt32LE(0)
  const bootIdLength = bytes.readUInt8(5)
  if (crc32(bytes.subarray(4), identitySeed) !== seed || bootIdLength > BOOT_ID_BYTES) return undefined
  return {
    failed: bytes.readUInt8(4) !== 0,
    bootId: bytes.toString('utf8', 12, 12 + bootIdLength),
    generation: bytes.readUIntLE(6, 6),
    seed,
    position
  }
}

function* readAreas(file: LayerFile, areas: Area[]): Iterable<LogRecord> {
  for (const area of areas) yield* readArea(file, area)
}

/** checksum of the rest (4), length (2), state (1), zero (1), index (4), first sector (6), zeros (2), sectors (4). */
function* readArea(file: LayerFile, { position, seed }: Area): Iterable<LogRecord> {
  const bytes = Buffer.alloc(READ_RECORDS * RECORD_BYTES)
  for (let index = 0; index < AREA_RECORDS; index++) {
    const at = (index % READ_RECORDS) * RECORD_BYTES
    if (at === 0) file.readSync(bytes, 0, bytes.length, position + HEADER_BYTES + index * RECORD_BYTES)
    const record = bytes.subarray(at, at + RECORD_BYTES)
    if (record.readUInt16LE(4) !== RECORD_BYTES || record.readUInt32LE(8) !== index) return
    if (crc32(record.subarray(4), seed) !== record.readUInt32LE(0)) return
    const state = record.readUInt8(6) as SectorState
    yield { state, start: record.readUIntLE(12, 6), count: record.readUInt32LE(20) }
  }
}
