/**
 * Whose file this is: the first 512 bytes of a layer's map and log, the last of its data file.
 *
 * They hold a line of JSON (so `head -c 512 map` tells a person) and its checksum. A file that is damaged, cut short,
 * of another machine, layer or image is refused with LAYER_CORRUPT before anything of it is believed. The checksum
 * also seeds the checksums of all that follows in the map and the log, so nothing of another layer can pass.
 */
import { crc32 } from 'node:zlib'
import { RowanError } from '../errors.ts'
import type { LayerFile } from './layer-files.ts'

export interface LayerIdentity {
  /** The machine's id (not its name, which can be given again). */
  machine: string
  /** The layer's name within the machine, as `0001`. */
  layer: string
  /** The id of the image at the bottom of the machine's layers. */
  image: string
  sizeBytes: number
}

export type LayerFileKind = 'data' | 'map' | 'log'

export const IDENTITY_BYTES = 512
/** Of each kind of file; first ones are taken over (layer-log-v1.ts, layer-map-file.ts). */
const FORMATS = { data: 1, map: 2, log: 2 } as const

const MAGIC = 'rowan-layer'
const CHECKSUM_BYTES = 4
const FIELDS = ['magic', 'format', 'kind', 'machine', 'layer', 'image', 'sizeBytes'] as const

/** @returns 512 bytes: CRC-32 of the rest (little-endian), JSON, zeros */
export function encodeIdentity(kind: LayerFileKind, identity: LayerIdentity, format: number = FORMATS[kind]): Buffer {
  const { machine, layer, image, sizeBytes } = identity
  const text = JSON.stringify({ magic: MAGIC, format, kind, machine, layer, image, sizeBytes })
  const bytes = Buffer.alloc(IDENTITY_BYTES)
  if (Buffer.byteLength(text) > IDENTITY_BYTES - CHECKSUM_BYTES) {
    throw new RowanError('LIMIT_EXCEEDED', `a layer's identity is longer than ${IDENTITY_BYTES} bytes: ${text}`)
  }
  bytes.write(text, CHECKSUM_BYTES)
  bytes.writeUInt32LE(crc32(bytes.subarray(CHECKSUM_BYTES)), 0)
  return bytes
}

/** Seed of the checksums in the file, from its identity. */
export function checksumSeed(identityBytes: Buffer): number {
  return identityBytes.readUInt32LE(0)
}

/** Throws LAYER_CORRUPT, naming the file and what is wrong, unless the bytes at `position` are this very identity. */
export function checkIdentity(
  file: LayerFile,
  position: number,
  kind: LayerFileKind,
  expected: LayerIdentity,
  format: number = FORMATS[kind]
): void {
  const found = readIdentity(file, position)
  if (found === undefined) throw new RowanError('LAYER_CORRUPT', `${file.path}: its header is damaged`)
  const wanted: Record<string, unknown> = { magic: MAGIC, format, kind, ...expected }
  for (const field of FIELDS) {
    if (found[field] === wanted[field]) continue
    const differs = `its ${field} is ${JSON.stringify(found[field])}, not ${JSON.stringify(wanted[field])}`
    throw new RowanError('LAYER_CORRUPT', `${file.path}: ${differs}`)
  }
}

/** The fields at `position` of a file; undefined if they are damaged or the file is too short. */
export function readIdentity(file: LayerFile, position: number): Record<string, unknown> | undefined {
  if (file.sizeBytes < position + IDENTITY_BYTES) return undefined
  const bytes = Buffer.alloc(IDENTITY_BYTES)
  file.readSync(bytes, 0, IDENTITY_BYTES, position)
  return decodeIdentity(bytes)
}

/** The fields as they stand there; undefined if the checksum or the JSON is wrong. */
export function decodeIdentity(bytes: Buffer): Record<string, unknown> | undefined {
  if (bytes.length !== IDENTITY_BYTES || crc32(bytes.subarray(CHECKSUM_BYTES)) !== checksumSeed(bytes)) return undefined
  const end = bytes.indexOf(0, CHECKSUM_BYTES)
  const text = bytes.toString('utf8', CHECKSUM_BYTES, end < 0 ? IDENTITY_BYTES : end)
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** Throws LAYER_CORRUPT unless the file has just the size that its format says. */
export function checkSize(file: LayerFile, expectedBytes: number): void {
  if (file.sizeBytes === expectedBytes) return
  const how = file.sizeBytes < expectedBytes ? 'cut short' : 'too long'
  throw new RowanError(
    'LAYER_CORRUPT',
    `${file.path}: it is ${how}: ${file.sizeBytes} bytes instead of ${expectedBytes}`
  )
}

/** Where a data file has its identity: behind the last byte of the disk. */
export function identityPosition(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 4096) * 4096
}
